"""What is known of a run at this moment, gathered from its events."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedvol.types import Json


@dataclass(slots=True)
class SiteView:
    """One site in the present round: its state, how far it is, its latest loss."""

    state: str = "asked"
    done: int = 0
    total: int = 0
    loss: float | None = None


@dataclass(slots=True)
class RunView:
    """A run as its events tell it.

    Attributes:
        title: Which run or model is worked on.
        stages: Names of the run's stages.
        stage: The present one.
        round: Present round, 1 for the first; 0 before it.
        closed: Last round that closed.
        rounds: Rounds of the stage.
        sites: Each site's view, in order.
        seconds: Duration of each round closed while watching.
        metric: Validation metric of the last closed round.
        value: Its value.
        further: Other metrics of that round, by name.
        best_round: Best round so far.
        planned: Names of every run of the simulation, in order.
        skipped: Cases left out by code, per event and site.
    """

    title: str = "preparing"
    stages: list[str] = field(default_factory=list[str])
    stage: str = ""
    round: int = 0
    closed: int = 0
    rounds: int = 0
    sites: dict[str, SiteView] = field(default_factory=dict[str, SiteView])
    seconds: list[float] = field(default_factory=list[float])
    metric: str = ""
    value: float | None = None
    further: dict[str, float | None] = field(default_factory=dict[str, float | None])
    best_round: int | None = None
    planned: list[str] = field(default_factory=list[str])
    skipped: dict[tuple[str, str], dict[str, int]] = field(
        default_factory=dict[tuple[str, str], dict[str, int]]
    )

    @property
    def seconds_left(self) -> float | None:
        """Estimate for the rest of this model's stage, from its rounds closed so far."""
        return self._rounds_take(self.rounds - self.closed)

    @property
    def following(self) -> int:
        """How many models are trained after this one."""
        if self.title not in self.planned:
            return 0
        return len(self.planned) - 1 - self.planned.index(self.title)

    @property
    def seconds_left_in_all(self) -> float | None:
        """The same with the models that follow: each takes as many steps, in as many rounds."""
        return self._rounds_take(self.rounds - self.closed + self.following * self.rounds)

    def _rounds_take(self, num_rounds: int) -> float | None:
        if not self.seconds or not self.rounds:
            return None
        return sum(self.seconds) / len(self.seconds) * num_rounds

    def take(self, name: str, fields: Mapping[str, Json]) -> None:
        """Change by one event; an event that is unknown here changes nothing."""
        match name:
            case "check.case":
                self._case(name, fields)
                self._site(fields, state="checking")
            case "prepare.case":
                self._case(name, fields)
                self._site(fields, state="preparing")
            case "runs.planned":
                self.planned = names(fields, "names")
            case "run.started":
                self._start(text(fields, "name"), stages=names(fields, "stages"))
                self.sites = {site: SiteView(state="waiting") for site in names(fields, "sites")}
            case "round.opened":
                self._open(fields)
            case "site.training":
                self._site(fields, state="training", done="step", total="steps")
            case "site.contributed" | "site.personalised":
                state = name.removeprefix("site.")
                self._site(fields, state=state, done="steps", total="steps")
            case "site.refused":
                self._site(fields, state=f"refused {text(fields, 'code')}")
            case "site.silent" | "site.absent":
                self._site(fields, state=name.removeprefix("site."))
            case "site.evaluating":
                self._site(fields, state="evaluating")
            case "round.closed":
                self._close(fields)
            case "model.evaluating":
                self._model(fields)
            case _:
                pass

    def stage_name(self, fields: Mapping[str, Json]) -> str:
        """The stage an event names, by name or by its place in the run."""
        stage = fields.get("stage")
        if isinstance(stage, int) and stage < len(self.stages):
            return self.stages[stage]
        return text(fields, "stage")

    def _case(self, name: str, fields: Mapping[str, Json]) -> None:
        """Count a case that is left out; the first of a site begins its count anew."""
        key = name, text(fields, "site")
        codes = self.skipped.setdefault(key, {})
        if whole(fields, "done") == 1:
            codes.clear()
        if code := text(fields, "code"):
            codes[code] = codes.get(code, 0) + 1

    def _start(self, title: str, *, stages: list[str]) -> None:
        self.title, self.stages, self.stage = title, stages, ""
        self.round, self.closed, self.rounds, self.seconds = 0, 0, 0, []
        self.metric, self.value, self.further, self.best_round = "", None, {}, None
        self.sites = {}

    def _open(self, fields: Mapping[str, Json]) -> None:
        stage = self.stage_name(fields)
        if stage != self.stage:
            self.seconds, self.closed = [], 0
        self.stage = stage
        self.round, self.rounds = whole(fields, "round"), whole(fields, "rounds")
        losses = {site: view.loss for site, view in self.sites.items()}
        self.sites = {site: SiteView(loss=losses.get(site)) for site in names(fields, "sites")}

    def _close(self, fields: Mapping[str, Json]) -> None:
        self.stage = self.stage_name(fields)
        self.round = self.closed = whole(fields, "round")
        self.rounds = whole(fields, "rounds")
        if (seconds := number(fields, "seconds")) is not None:
            self.seconds.append(seconds)
        self.metric, self.value = text(fields, "metric"), number(fields, "value")
        further = fields.get("further")
        others = further if isinstance(further, dict) else {}
        self.further = {key: number(others, key) for key in others}
        best = fields.get("best_round")
        self.best_round = best if isinstance(best, int) else None

    def _model(self, fields: Mapping[str, Json]) -> None:
        model = text(fields, "model")
        if self.title != model:
            self._start(model, stages=[])
        row = text(fields, "site") or model
        self._row(row, fields, state="evaluating", done="done", total="total")

    def _site(
        self, fields: Mapping[str, Json], *, state: str, done: str = "done", total: str = "total"
    ) -> None:
        self._row(text(fields, "site"), fields, state=state, done=done, total=total)

    def _row(
        self, name: str, fields: Mapping[str, Json], *, state: str, done: str, total: str
    ) -> None:
        view = self.sites.setdefault(name, SiteView())
        view.state = state
        view.done, view.total = whole(fields, done), whole(fields, total)
        if (loss := number(fields, "loss")) is not None:
            view.loss = loss


def codes_in_words(codes: Mapping[str, int]) -> str:
    """How often each error code was met, such as `FV-DATA-003 2, FV-DATA-007 1`."""
    return ", ".join(f"{code} {num}" for code, num in sorted(codes.items()))


def text(fields: Mapping[str, Json], name: str) -> str:
    """A field as text; empty where it is absent."""
    value = fields.get(name)
    return "" if value is None else str(value)


def whole(fields: Mapping[str, Json], name: str) -> int:
    """A field as a whole number; 0 where it is none."""
    value = fields.get(name)
    return value if isinstance(value, int) else 0


def number(fields: Mapping[str, Json], name: str) -> float | None:
    """A field as a number; None where it is none."""
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else None


def names(fields: Mapping[str, Json], name: str) -> list[str]:
    """A field as a list of names; empty where it is none."""
    value = fields.get(name)
    return [str(item) for item in value] if isinstance(value, list) else []
