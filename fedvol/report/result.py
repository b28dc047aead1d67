"""`result.json`, version 1: additive changes only. A value not given is null, with a reason."""

from typing import Literal, Self

from pydantic import Field

from fedvol.config.base import Section
from fedvol.federation import Stat
from fedvol.types import Digest

Reason = Literal["secure_sum", "suppressed", "undefined"]


class StatResult(Section):
    """One figure: mean over cases with its 95 % bootstrap interval by subject."""

    value: float | None
    """Mean; null with `withheld`."""
    n: int
    """Cases behind it."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""
    undefined: int
    """Cases left out because neither mask holds the class."""
    penalised: int = 0
    """Cases among n where one mask alone is empty (Dice 0, distance = volume diagonal)."""
    withheld: Reason | None = None
    """Why a value is null."""

    @classmethod
    def of(cls, stat: Stat) -> Self:
        """A figure as it was summed."""
        return cls(
            value=stat.value,
            n=stat.n,
            low=stat.low,
            high=stat.high,
            undefined=stat.undefined,
            penalised=stat.penalised,
            withheld="undefined" if stat.value is None else None,
        )


Metrics = dict[str, StatResult]


class EvaluationResult(Section):
    """One model judged on the test cases of every site."""

    overall: Metrics
    """All sites together; the mean over classes per case."""
    by_site: dict[str, Metrics]
    """Each site alone; with `metric/class` keys too."""
    by_class: dict[str, Metrics]
    """Each class alone, all sites together."""
    by_group: dict[str, Metrics] = Field(default_factory=dict)
    """Each subgroup alone."""


class Difference(Section):
    """Federated minus another model on the same resampled subjects (paired)."""

    metric: str
    """Which metric."""
    value: float
    """Difference of the means."""
    low: float | None
    """Lower end of its 95 % interval; null where too few subjects give none."""
    high: float | None
    """Upper end of its 95 % interval; null where too few subjects give none."""
    n: int | None = None
    """Cases behind the federated model's mean."""
    other_n: int | None = None
    """Cases behind the other model's mean, which may be others where a class is missing in the
    truth: then it is defined for a model that finds it. Null: as many as n."""


class SiteRound(Section):
    """What one site did in one round."""

    state: str
    """contributed, personalised, silent, refused, no_labels, trained or asked."""
    code: str = ""
    """Error code where it did not contribute."""
    reason: str = ""
    """Fixed words that belong to the code."""
    cases: int | None = None
    """Training cases."""
    steps: int | None = None
    """Gradient steps."""
    train_seconds: float | None = None
    """Seconds of training."""
    bytes_up: int | None = None
    """Bytes that left the site."""
    bytes_down: int | None = None
    """Bytes that reached it."""
    loss: float | None = None
    """Mean training loss."""


class RoundResult(Section):
    """One closed round."""

    index: int
    """1 for the first."""
    attempts: int = 1
    """How often it was tried."""
    started_s: float
    """Seconds after the run began."""
    seconds: float
    """How long it took."""
    sites: dict[str, SiteRound]
    """Each site asked."""
    validation: Metrics
    """The new global state, or the sites' personal models, on the validation cases."""
    validation_by_site: dict[str, Metrics] = Field(default_factory=dict)
    """The same, each site alone."""
    mu: float | None = None
    """Adaptive FedProx: pull towards the global weights in this round."""


class StageResult(Section):
    """One stage of the run."""

    name: str
    """pretrain, finetune or personalise."""
    kind: str
    """Kind of what is learned: segmentation, or the pretext task."""
    strategy: str
    """Kind of its strategy or method in the study: fedavg, scaffold, ditto and so on."""
    rounds: list[RoundResult]
    """Closed rounds in order."""
    select_by: str
    """Validation metric that named the best round."""
    best_round: int | None
    """Round whose global state was released or finetuned from, or whose personal models were
    tested."""
    release: Literal["best", "last"] = "best"
    """Whether that is the best round, or the last whatever its figures."""

    @property
    def is_pretraining(self) -> bool:
        """Whether it learned a pretext task."""
        return self.name == "pretrain"

    @property
    def is_personal(self) -> bool:
        """Whether its models stay at their sites."""
        return self.name == "personalise"

    @property
    def is_released(self) -> bool:
        """Whether its best round is the model that is given away."""
        return self.name == "finetune"

    @property
    def chosen_as(self) -> str:
        """What its best round was chosen to be."""
        if self.is_personal:
            return "tested"
        return "released" if self.is_released else "finetuned from"


class ModelResult(Section):
    """One model that was judged."""

    steps: int
    """Gradient steps of its run, over all sites; those after the best round are among them."""
    cases: int
    """Labelled training cases behind it."""
    pretraining_cases: int = 0
    """Cases it was pretrained on, labelled or not; 0 where nothing was pretrained."""
    seconds: float
    """Seconds of training."""
    checkpoint: str | None
    """Path of its weights under the output folder."""
    digest: Digest | None
    """SHA-256 of that file."""


class SiteResult(Section):
    """A site's data as counted at the site."""

    training_cases: int
    """Labelled cases trained on."""
    training_subjects: int
    """Subjects behind them."""
    pretraining_cases: int = 0
    """Cases to pretrain on, labelled or not; 0 where the site pretrains nothing."""
    pretraining_subjects: int = 0
    """Subjects behind them."""
    validation_cases: int
    """Cases that chose the best round."""
    test_cases: int
    """Cases behind the final figures."""
    test_subjects: int = 0
    """Subjects behind them."""


class DigestOf(Section):
    """Name and digest of a document."""

    name: str = ""
    """Its name."""
    digest: Digest
    """SHA-256 of its canonical JSON."""


class Released(Section):
    """What left the sites."""

    what: str
    """In words."""


class Protection(Section):
    """One protection of the run."""

    state: Literal["on", "off", "not_recorded"]
    """Whether it was in force; what was not recorded counts as absent."""
    words: str = ""
    """How, or why not."""


_NOT_RECORDED = Protection(state="not_recorded")


class SpentResult(Section):
    """What one site's training cost of its privacy budget."""

    epsilon: float
    """Spent so far."""
    delta: float
    """At this probability of failure."""
    unit: str
    """Whom the bound protects: subject or case."""
    accountant: str
    """How it was added up."""


class PrivacyResult(Section):
    """What protected the run, and what did not; every entry is an object, so that it can grow."""

    released: Released | None = None
    """What left the sites; null where nothing is recorded."""
    secure_sum: Protection = _NOT_RECORDED
    """Whether the server saw sums only."""
    differential_privacy: Protection = _NOT_RECORDED
    """Whether updates were clipped and noised."""
    suppression: Protection | None = None
    """Whether figures of small groups were withheld."""
    ledger: dict[str, SpentResult] = Field(default_factory=dict)
    """Each site's spending; empty without differential privacy."""


class Result(Section):
    """A whole run."""

    schema_: Literal["fedvol.result/1"] = Field(default="fedvol.result/1", alias="schema")
    """Name and version of this schema (`schema` in the file)."""
    status: Literal["finished", "failed", "stopped"]
    """How the run ended."""
    reason: str = ""
    """Why, where it did not finish."""
    simulation: bool
    """Whether all sites were one machine; suppression is off then."""
    study: DigestOf
    """The study."""
    plan: DigestOf
    """The plan."""
    purpose: str
    """The study's purpose."""
    seed: int
    """The study's seed."""
    versions: dict[str, str]
    """Software behind the figures."""
    device: str
    """Where the networks ran."""
    engine: str = "in-process"
    """What carried the sites' work: in-process or ray; changes no figure."""
    workers: int = 1
    """Sites that worked at one time."""
    seconds: float
    """Wall time of the federated run's stages, resumed parts included."""
    sites: dict[str, SiteResult]
    """Each site's data."""
    stages: list[StageResult]
    """Stages in order."""
    models: dict[str, ModelResult]
    """Each model judged: federated, personalised, local/SITE, ensemble, pooled."""
    evaluation: dict[str, EvaluationResult]
    """The same models on the test cases."""
    comparisons: dict[str, list[Difference]]
    """Federated minus each other model, paired by subject."""
    privacy: PrivacyResult
    """What protected the run, and what did not."""
    skipped: dict[str, dict[str, int]]
    """Cases left out, per site and error code."""
    skipped_cases: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Simulation only: each case left out and why."""
    overlap: Literal["checked", "not checked"]
    """Whether subjects were compared across sites, by their pseudonyms and images."""
    has_subjects: bool = True
    """Whether a table names subjects; if not, every case counts as a subject of its own."""
    files: dict[str, Digest]
    """Files under the output folder and their digests."""
