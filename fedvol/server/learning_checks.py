"""Whether a pretraining learns anything: collapsed features end it, a loss of no worth is told."""

from collections.abc import Sequence

from fedvol.config.metrics import FEATURE_VARIANCE, PRETEXT_LOSS, PRETEXT_TRIVIAL_LOSS
from fedvol.config.strategy import Pretrain
from fedvol.errors import FeaturesCollapsedError
from fedvol.server.stage_run import StageRun
from fedvol.store import ALL_SITES, RoundRecord


def require_spread(stage: StageRun, *, up_to: int) -> None:
    """Refuse to go on with a pretraining whose features have been collapsed for some rounds.

    It follows from the record alone, so a run that is resumed ends where it ended.

    Args:
        stage: Any stage.
        up_to: The last round looked at.

    Raises:
        FeaturesCollapsedError: In so many rounds in a row, this one included, the variance over
            all sites was below the study's.
    """
    settings = stage.plan.study.stages[stage.stage]
    if not isinstance(settings, Pretrain):
        return
    rounds, least = settings.collapse.rounds, settings.collapse.least_variance
    variances = [_figure(one, FEATURE_VARIANCE) for one in stage.closed(before=up_to + 1)]
    if is_collapsed(variances, rounds=rounds, least=least):
        raise FeaturesCollapsedError(
            f"run {stage.run} stage {stage.stage + 1} round {up_to}",
            f"the encoder gives nearly the same for every patch: in {rounds} rounds in a row the "
            f"variance of its features was below {least:g}, at last {variances[-1]:.2g}",
            "Propose the study with a smaller learning rate or another pretext task; with "
            f"stages[{stage.stage}].collapse.rounds = 0 it goes on all the same.",
        )


def is_collapsed(variances: Sequence[float | None], *, rounds: int, least: float) -> bool:
    """Whether the last so many rounds all had a variance, and a smaller one than the least.

    Args:
        variances: Of each round, in order; None where a round has none.
        rounds: How many in a row; 0: never.
        least: Smallest variance of features that are not collapsed.
    """
    last = variances[-rounds:] if rounds else ()
    low = [value for value in last if value is not None and value < least]
    return rounds > 0 and len(low) == rounds


def tell_if_trivial(stage: StageRun, best: RoundRecord) -> None:
    """Tell where a pretraining's best loss is none that needs a look at the input."""
    loss, trivial = _figure(best, PRETEXT_LOSS), _figure(best, PRETEXT_TRIVIAL_LOSS)
    if loss is not None and trivial is not None and loss >= trivial:
        stage.observer.event(
            "pretraining.trivial",
            stage=stage.stage,
            round=best.index,
            loss=loss,
            trivial_loss=trivial,
        )


def _figure(record: RoundRecord, key: str) -> float | None:
    stat = record.metrics.get(ALL_SITES, {}).get(key)
    return stat.value if stat is not None else None
