"""One site for one round is local training; one site for all rounds nearly is."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tiny import CPU, Federation, LastState, make_federation, tiny_study

from fedvol.client.cases import SiteCases
from fedvol.data.sampling import PatchSource
from fedvol.models import initial_network, to_arrays
from fedvol.plan import class_names
from fedvol.tasks import build_objective
from fedvol.training import Window, threads, train
from fedvol.types import SiteId, State

SITE = SiteId("hospital_1")
ALONE = "\n[federation]\nmin_sites = 1\n"


def alone(
    cases: Mapping[SiteId, SiteCases], folder: Path, *, rounds: int, **changes: str
) -> Federation:
    study = tiny_study(rounds=f"rounds = {rounds}", more=ALONE, **changes)
    return make_federation(study, cases={SITE: cases[SITE]}, folder=folder)


def local_training(federation: Federation) -> State:
    """The same steps without server, link, update or sum."""
    study = federation.plan.study
    stage, num_classes = study.stages[0], 1 + len(class_names(study.data))
    net = initial_network(study)
    steps = stage.rounds * stage.steps_per_round
    with threads(1):
        train(
            net,
            objective=build_objective(study.task, num_classes=num_classes),
            batches=PatchSource(
                [case.stored for case in federation.cases[SITE].train],
                patches=study.patches,
                augmentation=study.augmentation,
                num_classes=num_classes,
                plan=federation.plan.digest,
                scope=(SITE, "patches", 0),
                device=CPU,
            ),
            config=stage.training,
            window=Window(first_step=0, num_steps=steps, total_steps=steps),
            device=CPU,
        )
    return to_arrays(net)


STRATEGIES = (
    "fedavg",
    "fedavgm",  # its first momentum is the update
    "scaffold",  # the one site's variate is the mean of all
)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_one_site_for_one_round_is_local_training(
    kind: str, tiny_cases: Mapping[SiteId, SiteCases], tmp_path: Path
) -> None:
    federation = alone(tiny_cases, tmp_path, rounds=1, strategy=f'kind = "{kind}"')
    outcome, _ = federation.run()
    released, trained = federation.state(outcome.release), local_training(federation)
    assert released.keys() == trained.keys()
    for name, local in trained.items():
        start = federation.initial[name]
        update = np.subtract(local, start, dtype=np.float32)
        # Nothing but the rounding of the update, and of the sum, lies between the two.
        expected = (start.astype(np.float64) + update).astype(np.float32)
        np.testing.assert_array_equal(released[name], expected)
        largest = np.maximum(np.maximum(np.abs(local), np.abs(update)), np.abs(released[name]))
        assert np.all(np.abs(released[name] - local) <= np.spacing(largest)), name
    moved = max(float(np.abs(trained[n] - federation.initial[n]).max()) for n in trained)
    assert moved > 1e-3  # or the test would compare initial weights with themselves


@pytest.mark.parametrize("strategy", ["", 'kind = "scaffold"'])
def test_one_site_for_three_rounds_is_local_training_to_rounding(
    strategy: str, tiny_cases: Mapping[SiteId, SiteCases], tmp_path: Path
) -> None:
    """Plain SGD: Adam divides a gradient that is zero but for rounding by its own size."""
    sgd = 'optimiser = { kind = "sgd", learning_rate = 1e-2, momentum = 0.9 }'
    federation = alone(tiny_cases, tmp_path, rounds=3, optimiser=sgd, strategy=strategy)
    last = LastState(federation)
    federation.run()
    trained, state = local_training(federation), last.state
    for name, local in trained.items():
        np.testing.assert_allclose(state[name], local, rtol=0, atol=1e-5, err_msg=name)
    moved = max(float(np.abs(trained[n] - federation.initial[n]).max()) for n in trained)
    assert moved > 1e-2
