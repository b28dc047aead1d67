"""A linear probe: what labels can be read off by heads alone, everything before them frozen."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from fedvol.client.cases import SiteCase
from fedvol.client.judging import inference_window
from fedvol.config.learning import AdamW, Training
from fedvol.config.strategy import Pretrain
from fedvol.data.sampling import PatchSource
from fedvol.models import initial_network, load_arrays, to_arrays
from fedvol.models.state import parts_of
from fedvol.plan import Plan, TensorKind, class_names, num_classes
from fedvol.tasks import build_objective
from fedvol.training import Watch, Window, only_trained, place, threads, train
from fedvol.types import CaseId, SiteId
from fedvol.validation import CaseMetrics, evaluate_cases, single


def probe(
    pretext: nn.Module,
    *,
    train_on: Sequence[SiteCase],
    judge_on: Sequence[SiteCase],
    site: SiteId,
    plan: Plan,
    stage: int,
    device: torch.device,
    should_stop: Callable[[], bool],
) -> dict[CaseId, CaseMetrics]:
    """Train new heads on a pretext network's features, and measure Dice with them.

    The network is a copy in the study's shape, so that the pretext network stays as it is. Heads
    begin and patches are drawn alike after every round: what differs is what was pretrained.

    Args:
        pretext: The pretext network, which has all of the study's tensors but those of heads.
        train_on: Labelled cases of the training split.
        judge_on: Labelled cases of the validation split.
        site: Whose cases.
        plan: The plan.
        stage: Index of its pretrain stage, which probes.
        device: Where to train.
        should_stop: Asked after each step and before each case; if true, the probe is left.

    Returns:
        Per case its Dice, over classes and of each.

    Raises:
        CaseStoreError: A case that is read for the first time is damaged.
        TimeLimitError: `should_stop` said so.
        TrainingDivergedError: The loss became NaN or infinite.
    """
    study = plan.study
    settings = study.stages[stage]
    assert isinstance(settings, Pretrain)
    assert settings.probe is not None
    steps, training = settings.probe.steps, _training(settings)
    net = initial_network(study)
    heads = {name for name, part in parts_of(net).items() if part is TensorKind.HEAD}
    body = [name for name in net.state_dict() if name not in heads]
    load_arrays(net, to_arrays(pretext, body))
    place(net, training=training, device=device)
    batches = PatchSource(
        [case.stored for case in train_on],
        patches=study.patches,
        augmentation=None,
        num_classes=num_classes(study.data),
        plan=plan.digest,
        scope=(site, "probe", stage),
        device=device,
    )
    with threads(training.num_threads):
        with only_trained(net, heads):
            train(
                net,
                objective=build_objective(study.task, num_classes=num_classes(study.data)),
                batches=batches,
                config=training,
                window=Window(first_step=0, num_steps=steps, total_steps=steps),
                device=device,
                watch=Watch(should_stop=should_stop),
            )
        mirror = study.evaluation.validation_mirror
        rows = evaluate_cases(
            single(net, window=inference_window(plan, device=device, mirror=mirror)),
            [(case.stored, case.subject) for case in judge_on],
            classes=class_names(study.data),
            evaluation=study.evaluation,
            metrics=("dice",),
            should_stop=should_stop,
        )
    return {row.case: row for row in rows}


def _training(stage: Pretrain) -> Training:
    """How heads learn: precision, layout and threads are the stage's."""
    assert stage.probe is not None
    optimiser = AdamW(kind="adamw", learning_rate=stage.probe.learning_rate)
    return stage.training.model_copy(update={"optimiser": optimiser, "compile": False})
