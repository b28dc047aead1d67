"""How a figure is printed, so that it cannot be misread: unit, interval and n always beside it."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from fedvol.config.metrics import METRICS, metric_name
from fedvol.report.result import Difference, StatResult

Better = Literal["higher", "lower", "unknown"]

NO_INTERVAL = "no interval"
NO_PAIRED_INTERVAL = "no interval (too few subjects)"

_MINUS = "\u2212"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """What a reader must know of one metric.

    Attributes:
        key: Its name in `result.json`, without a class.
        label: Its name in a table.
        unit: Printed behind each value; empty for a share between 0 and 1.
        scale: Range or unit, for a column's head.
        better: Which direction is better.
        decimals: Places printed, rounded half to even.
        meaning: One or two sentences for the footnotes.
    """

    key: str
    label: str
    unit: str
    scale: str
    better: Better
    decimals: int
    meaning: str

    @property
    def arrow(self) -> str:
        """Points to the better direction."""
        return {"higher": "\u2191", "lower": "\u2193", "unknown": ""}[self.better]

    @property
    def direction(self) -> str:
        """The same in words."""
        return "direction not known" if self.better == "unknown" else f"{self.better} is better"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One printed figure; `value` is never blank.

    Attributes:
        value: Value with its unit, or why there is none.
        interval: 95 % interval, or why there is none; empty without a value.
        n: `n=41`; empty where the value is withheld.
        notes: Counts of undefined and penalised cases, where there are any.
        is_given: Whether there is a value.
    """

    value: str
    interval: str
    n: str
    notes: tuple[str, ...]
    is_given: bool

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        if not self.is_given:
            return self.value
        return f"{self.value} ({self.interval_words}; {self.n})"

    @property
    def interval_words(self) -> str:
        """The interval, named as one."""
        return self.interval if self.interval == NO_INTERVAL else f"95 % interval {self.interval}"


def _known(key: str, label: str, *, decimals: int, meaning: str) -> MetricInfo:
    metric = METRICS[key]
    return MetricInfo(
        key=key,
        label=label,
        unit=metric.unit,
        scale="0 to 1" if metric.is_share else metric.unit or "no unit",
        better="higher" if metric.is_higher_better else "lower",
        decimals=decimals,
        meaning=meaning,
    )


_KNOWN = (
    _known(
        "dice",
        "Dice",
        decimals=3,
        meaning="Overlap of predicted and true voxels: twice the shared volume divided by the sum "
        "of both volumes. 1 is perfect, 0 is no overlap.",
    ),
    _known(
        "nsd",
        "NSD",
        decimals=3,
        meaning="Normalised surface distance (surface Dice): the share of both surfaces that lies "
        "within a stated tolerance of the other surface.",
    ),
    _known(
        "hd95_mm",
        "HD95",
        decimals=2,
        meaning="95th percentile of the distances from one surface to the other, in each "
        "direction; the larger of the two.",
    ),
    _known(
        "assd_mm",
        "ASSD",
        decimals=2,
        meaning="Average symmetric surface distance: the sum of both directed surface distances "
        "divided by the number of surface points of both.",
    ),
    _known(
        "pretext_loss",
        "pretext loss",
        decimals=3,
        meaning="Loss of the pretext task on patches of validation cases, the same after every "
        "round; it says nothing of how well structures are outlined.",
    ),
    _known(
        "pretext_body_loss",
        "pretext loss on body",
        decimals=3,
        meaning="The same over voxels of the body alone: what in some channel is above the lowest "
        "tenth of the patch's range. Air is easily restored, so the loss over all voxels flatters.",
    ),
    _known(
        "pretext_trivial_loss",
        "pretext loss without looking",
        decimals=3,
        meaning="Loss of the best answer that does not look at the input, on the same patches: a "
        "network that is not below it has learned nothing.",
    ),
    _known(
        "feature_variance",
        "feature variance",
        decimals=3,
        meaning="How far the encoder's features of different patches lie apart: their variance, "
        "summed, once they are brought to length 1. 0 is a network that gives the same for "
        "every patch; values of different networks are not comparable.",
    ),
    _known(
        "probe_dice",
        "Dice of a probe",
        decimals=3,
        meaning="Dice on labelled validation cases of heads that each site trained for a few steps "
        "on its own labelled cases, everything before them standing still. It tells how well "
        "structures can be read off what is learned so far. It can stay near 0, and is no "
        "forecast of what finetuning reaches.",
    ),
)

_WITHHELD = {
    "secure_sum": "withheld: only the sum over all sites is known (secure sum)",
    "suppressed": "withheld: too few cases (suppressed)",
}


def metric_info(key: str) -> MetricInfo:
    """What to say of a metric; `dice/liver` is described like `dice`."""
    base = metric_name(key)
    for info in _KNOWN:
        if info.key == base:
            return info
    return MetricInfo(
        key=base,
        label=base,
        unit="",
        scale="see the plan",
        better="unknown",
        decimals=3,
        meaning="This report has no description of this metric.",
    )


def metric_label(key: str) -> str:
    """A metric in words, with its class where it is of one: `Dice of liver`."""
    name = key.partition("/")[2]
    label = metric_info(key).label
    return f"{label} of {name}" if name else label


def metric_names(keys: Iterable[str]) -> tuple[str, ...]:
    """Metrics of a table without their classes: known ones in a fixed order, then the others."""
    bases = {metric_name(key) for key in keys}
    known = [info.key for info in _KNOWN if info.key in bases]
    return (*known, *sorted(bases.difference(known)))


def number(value: float, *, decimals: int, signed: bool = False) -> str:
    """A number in decimal, rounded half to even on its shortest decimal form."""
    rounded = Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN)
    if rounded == 0:
        return f"{abs(rounded)}"
    sign = _MINUS if rounded < 0 else "+" if signed else ""
    return f"{sign}{abs(rounded)}"


def quantity(value: float, *, metric: MetricInfo, signed: bool = False) -> str:
    """A metric's value with its unit."""
    text = number(value, decimals=metric.decimals, signed=signed)
    return f"{text}\u00a0{metric.unit}" if metric.unit else text


def interval(low: float, high: float, *, metric: MetricInfo, signed: bool = False) -> str:
    """Both ends of an interval, with the unit."""
    return (
        f"{number(low, decimals=metric.decimals, signed=signed)} to "
        f"{quantity(high, metric=metric, signed=signed)}"
    )


def paired_interval(found: Difference, *, metric: MetricInfo) -> str:
    """Both ends of a difference's interval, or that it has none."""
    if found.low is None or found.high is None:
        return NO_PAIRED_INTERVAL
    return interval(found.low, found.high, metric=metric, signed=True)


def figure(stat: StatResult | None, *, metric: MetricInfo) -> Figure:
    """A metric as printed: value, interval, n and counts, or the reason why there is no value."""
    if stat is None:
        return Figure(value="not reported", interval="", n="", notes=(), is_given=False)
    notes = _notes(stat)
    if stat.value is None:
        value = _WITHHELD.get(stat.withheld or "", f"not defined (n={stat.n})")
        return Figure(value=value, interval="", n="", notes=notes, is_given=False)
    return Figure(
        value=quantity(stat.value, metric=metric),
        interval=interval(stat.low, stat.high, metric=metric)
        if stat.low is not None and stat.high is not None
        else NO_INTERVAL,
        n=f"n={stat.n}",
        notes=notes,
        is_given=True,
    )


def duration(seconds: float) -> str:
    """Seconds in the unit a person would choose."""
    if seconds < 60:
        return f"{number(seconds, decimals=1)}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest:02d}\u00a0s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes:02d}\u00a0min"


def size(num_bytes: int) -> str:
    """Bytes in decimal units."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{number(value, decimals=0 if unit == 'B' else 1)}\u00a0{unit}"
        value /= 1000
    return f"{number(value, decimals=1)}\u00a0TB"


def count(num: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{num:,} {noun}{'' if num == 1 else 's'}"


def trained_on(labelled: int, pretraining: int) -> str:
    """`12 cases`, and of what was pretrained too `12 labelled, 40 for pretraining`."""
    if not pretraining:
        return count(labelled, "case")
    return f"{labelled:,} labelled, {pretraining:,} for pretraining"


def _notes(stat: StatResult) -> tuple[str, ...]:
    notes: list[str] = []
    if stat.undefined:
        notes.append(f"{stat.undefined} undefined")
    if stat.penalised:
        notes.append(f"{stat.penalised} penalised")
    return tuple(notes)
