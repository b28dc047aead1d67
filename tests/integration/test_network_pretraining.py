"""A study that pretrains, and one that begins with the file it left: the weights of one process."""

import json
from pathlib import Path

import pytest
from network_study import (
    audit_of,
    expecting,
    networked,
    recorded,
    require_same,
    require_same_pretrained,
)
from pretraining import pretrained_text, started_text
from tiny import Federation

from fedvol.config import close_study
from fedvol.config.loading import parse_open_study
from fedvol.simulation.federate import make_plan
from fedvol.simulation.session import FEDERATED
from fedvol.store import CheckpointKind, find_weights


def test_pretraining_over_the_network_and_a_study_that_begins_with_what_came_of_it(
    tiny_data: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    study = parse_open_study(pretrained_text(), where="tiny.toml")
    with (
        expecting(study, data=tiny_data, folder=tmp_path_factory.mktemp("expected")) as expected,
        networked(
            expected.session, data=tiny_data, folder=tmp_path_factory.mktemp("network")
        ) as network,
    ):
        network.begin("pretrained")
        require_same(expected, network, "pretrained", network.finish())
        require_same_pretrained(expected, network, "pretrained")
        for site in expected.session.sites:
            lines = audit_of(network, site).read_text().splitlines()
            events = [json.loads(line)["event"] for line in lines]
            asked = [e["action"] for e in events if e["kind"] == "received"]
            assert asked.count("train.pretrain") == 2

        (held,) = expected.session.store.checkpoints(FEDERATED, kind=CheckpointKind.PRETRAINED)
        file = network.server / "blobs" / "pretrained" / f"{held.digest}.safetensors"
        opened = parse_open_study(started_text(file), where="tiny.toml")
        begun, weights = find_weights(opened, folder=tmp_path)
        plan, initial = make_plan(
            close_study(begun, {}, where="tiny.toml"),
            sites=expected.session.plan.sites,
            weights=weights,
        )
        here = Federation(plan=plan, initial=initial, cases=expected.session.cases, folder=tmp_path)
        outcome, _ = here.run()
        network.put(plan, initial)
        network.begin("started")
        assert network.finish()["release"] == outcome.release
        told = [(one.index, one.aggregate) for one in recorded(network, "started")[1]]
        assert told == [(one.index, one.aggregate) for one in here.rounds()]
