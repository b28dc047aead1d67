"""A study and hospitals small enough that a whole federation takes seconds, and ways to run it."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedvol.audit import AuditLog
from fedvol.client.agent import SiteAgent
from fedvol.client.app import client_app
from fedvol.client.cases import SiteCases, open_cases
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.prepare import prepare_sites
from fedvol.config import SIMULATION_POLICY, Study
from fedvol.config.loading import parse_study
from fedvol.data.phantom import default_hospitals, generate_hospitals
from fedvol.federation import Action, Link, MetricSums, Reply, Request
from fedvol.plan import Plan, state_digest
from fedvol.server import Coordinator, Outcome, SystemClock
from fedvol.simulation.federate import make_plan
from fedvol.store import BlobStore, RoundRecord, RunStore, open_engine
from fedvol.transport import Fault, make_server_app, run_in_process
from fedvol.types import Digest, Json, RunId, SiteId, State

RUN = RunId("federated")
CPU = torch.device("cpu")

TINY_STUDY = """
version = 1
name = "tiny"
purpose = "A federation small enough for a test."
seed = 7

[data]
channels = ["CT"]
labels = { liver = 1, kidney = 2, lesion = 3 }
split = { kind = "fold", test = 0, validation = 1 }

[preprocessing]
spacing_mm = [4.0, 4.0, 4.0]
normalisation = { kind = "window", window_hu = [-200.0, 300.0] }

[patches]
size = [16, 16, 16]
batch_size = 2

[network]
kind = "unet"
features = [4, 8]

[task]
kind = "segmentation"

[[stages]]
kind = "finetune"
rounds = 3
steps_per_round = 3

[stages.strategy]
kind = "fedavg"

[stages.training]
optimiser = { kind = "adamw", learning_rate = 5e-3 }
num_threads = 1

[evaluation]
metrics = ["dice", "hd95_mm", "nsd"]
mirror_axes = []
bootstrap_replicates = 100
"""


def tiny_study(*, strategy: str = "", more: str = "", **changes: str) -> Study:
    """The tiny study, changed as `tiny_text` says."""
    return parse_study(tiny_text(strategy=strategy, more=more, **changes), where="tiny.toml")


def tiny_text(*, strategy: str = "", more: str = "", **changes: str) -> str:
    """The tiny study's text, changed.

    Args:
        strategy: Lines in place of the strategy's.
        more: Further tables.
        changes: Per key, what its whole line becomes.
    """
    text = TINY_STUDY
    for key, line in changes.items():
        lines = [
            line if existing.split("=")[0].strip() == key else existing
            for existing in text.splitlines()
        ]
        assert line in lines, f"no key {key} in the tiny study"
        text = "\n".join(lines) + "\n"
    return text.replace('kind = "fedavg"', strategy or 'kind = "fedavg"') + more


def personalise(method: str, *, rounds: int = 2, steps: int = 3, optimiser: str = "") -> str:
    """A personalise stage for `more`."""
    adamw = '{ kind = "adamw", learning_rate = 5e-3 }'
    return f"""
[[stages]]
kind = "personalise"
method = {{ {method} }}
rounds = {rounds}
steps_per_round = {steps}

[stages.training]
optimiser = {optimiser or adamw}
num_threads = 1
"""


def make_hospitals(folder: Path, *, num_sites: int = 3, num_cases: int = 6) -> Path:
    """Generated hospitals in `folder`."""
    generate_hospitals(folder, hospitals=default_hospitals(num_sites, num_cases), seed=3)
    return folder


def fedvol_command(*words: str | Path) -> list[str]:
    """The installed command, as a process of its own is started."""
    return [sys.executable, "-m", "fedvol", *map(str, words)]


def without_training_labels(home: Path, *, but: int = 0) -> None:
    """Take the labels of training cases out of a generated hospital's table, but for some."""
    table = home / "cases.csv"
    header, *rows = table.read_text().splitlines()
    fold = header.split(",").index("fold")
    training = [row for row in rows if row.split(",")[fold] not in ("0", "1")]
    bare = {row.split(",")[0] for row in training[but:]}
    labels = {row.split(",")[0]: f"labels/{row.split(',')[0]}.nii.gz" for row in rows}
    lines = [f"{row},{'' if (case := row.split(',')[0]) in bare else labels[case]}" for row in rows]
    table.write_text("\n".join([f"{header},label", *lines]) + "\n")


def prepare(data: Path, *, folder: Path, study: Study) -> dict[SiteId, SiteCases]:
    """The usable cases of every hospital in a folder."""
    prepared = prepare_sites(
        data,
        study=study,
        folder_of=lambda site: folder / site,
        workers=2,
        on_case=lambda record, done, total: None,
    )
    return {site: open_cases(one.records, store=one.store) for site, one in prepared.items()}


# --- what a finished run left ---------------------------------------------------------------

_CLOCK_KEYS = frozenset({"seconds", "started_s", "train_seconds", "bytes_up"})


def figures(path: Path) -> Any:
    """A `result.json` without what the clock says; `bytes_up` counts the digits of seconds."""

    def timeless(value: Any) -> Any:
        match value:
            case dict():
                return {k: timeless(v) for k, v in value.items() if k not in _CLOCK_KEYS}
            case list():
                return [timeless(item) for item in value]
            case _:
                return value

    return timeless(json.loads(path.read_text()))


def events(out: Path) -> list[dict[str, Any]]:
    """Every event of a run; each line is whole."""
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


def half_written(folder: Path) -> list[str]:
    """Names of files that a killed process would leave."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if ".part" in path.name or "incoming" in path.name or path.suffix == ".progress"
    )


# --- one federation, taken apart ------------------------------------------------------------


@dataclass
class Events:
    """Keeps every event."""

    seen: list[tuple[str, dict[str, Json]]] = field(default_factory=list)

    def event(self, name: str, /, **fields: Json) -> None:
        self.seen.append((name, fields))

    def named(self, *names: str) -> list[dict[str, Json]]:
        return [fields for name, fields in self.seen if name in names]


@dataclass(kw_only=True)
class Federation:
    """A coordinator over its folder, and the agents it may ask."""

    plan: Plan
    initial: State
    cases: Mapping[SiteId, SiteCases]
    folder: Path
    observer: Events = field(default_factory=Events)
    personal_tests: Mapping[SiteId, MetricSums] = field(default_factory=dict)

    def agents(self) -> dict[SiteId, SiteAgent]:
        """The sites, their own folders beside the server's."""
        return {
            SiteId(site): SiteAgent(
                site=SiteId(site),
                plan=self.plan,
                cases=self.cases[SiteId(site)],
                folder=self.site(site),
                policy=SIMULATION_POLICY,
                audit=AuditLog(self.site(site) / "audit.jsonl"),
                resampling_key=self.plan.digest,
                network=PlanNetwork(self.plan, device=CPU),
                observer=self.observer,
            )
            for site in self.plan.sites
        }

    def site(self, site: str) -> Path:
        """A site's folder."""
        return self.folder / "sites" / site

    @property
    def blobs(self) -> BlobStore:
        """The server's weights."""
        return BlobStore(self.folder / "blobs")

    def conduct(
        self,
        link: Link,
        *,
        store: RunStore | None = None,
        blobs: BlobStore | None = None,
        test: bool = False,
    ) -> tuple[Outcome, dict[SiteId, MetricSums]]:
        """Bring the run to its end over a link; personal models are tested too."""
        opened = RunStore(open_engine(self.folder / "run.db")) if store is None else store
        coordinator = Coordinator(
            run=RUN,
            plan=self.plan,
            initial=self.initial,
            store=opened,
            blobs=blobs or self.blobs,
            clock=SystemClock(),
            observer=self.observer,
        )
        try:
            outcome = coordinator.conduct(link)
            tests = coordinator.test(link, outcome) if test else {}
            if test and outcome.personal_round is not None:
                self.personal_tests = coordinator.test_personal(link, outcome)
            return outcome, tests
        finally:
            opened._engine.dispose()

    def run(
        self,
        *,
        faults: Callable[[Request], Fault | None] | None = None,
        through: Callable[[Link], Link] = lambda link: link,
        test: bool = False,
    ) -> tuple[Outcome, dict[SiteId, MetricSums]]:
        """Bring the run to its end with real sites.

        Args:
            faults: What goes wrong on the way.
            through: What the server's link is wrapped in.
            test: Whether sites judge the release.
        """
        ends: list[tuple[Outcome, dict[SiteId, MetricSums]]] = []
        handlers = {site: agent.handle for site, agent in self.agents().items()}
        run_in_process(
            make_server_app(lambda link: ends.append(self.conduct(through(link), test=test))),
            client_app(handlers),
            sites=[SiteId(site) for site in self.plan.sites],
            faults=faults,
        )
        return ends[0]

    def rounds(self) -> tuple[RoundRecord, ...]:
        """The record of every attempt at a round."""
        engine = open_engine(self.folder / "run.db")
        try:
            return RunStore(engine).rounds(RUN)
        finally:
            engine.dispose()

    def state(self, digest: Digest) -> State:
        """Weights by their digest."""
        with self.blobs.open(digest) as file:
            return file.read_all()


class LastState(Events):
    """Reads the newest global state, companions included, before the run tidies up."""

    def __init__(self, federation: Federation) -> None:
        super().__init__()
        self._federation = federation
        self.state: State = {}
        federation.observer = self

    def event(self, name: str, /, **fields: Json) -> None:
        super().event(name, **fields)
        if name == "round.closed":
            aggregate = self._federation.rounds()[-1].aggregate
            assert aggregate is not None
            self.state = self._federation.state(aggregate)


def make_federation(
    study: Study, *, cases: Mapping[SiteId, SiteCases], folder: Path, digest: str = ""
) -> Federation:
    """A federation of the sites given.

    Args:
        study: What it does.
        cases: Who takes part, with which cases.
        folder: Where everything lies.
        digest: Stands in for the plan's own digest, from which every seed follows: two plans
            that differ in one setting then draw the same random numbers.
    """
    plan, initial = make_plan(study, sites=tuple(cases))
    if digest:
        vars(plan)["digest"] = Digest(digest)
    return Federation(plan=plan, initial=initial, cases=cases, folder=folder)


# --- replies that were recorded, and given again without a site -----------------------------

Key = tuple[Action, int, int, SiteId]
"""Action, stage, round, site."""


@dataclass
class Recording:
    """A link that keeps each reply with the state it answers."""

    replies: dict[Key, tuple[Digest, Reply]] = field(default_factory=dict)
    sites_there: tuple[SiteId, ...] = ()
    _link: Link | None = None

    def over(self, link: Link) -> "Recording":
        self._link, self.sites_there = link, link.sites()
        return self

    def sites(self) -> tuple[SiteId, ...]:
        return self.sites_there

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        assert self._link is not None
        asked = {request.site: request for request in requests}
        for reply in self._link.ask(requests):
            request = asked[reply.site]
            key = (request.action, request.stage, request.round, request.site)
            self.replies[key] = (state_digest(request.state), reply)
            yield reply


Change = Callable[[Request, Reply], Reply | None]


@dataclass
class Replay:
    """A link that answers from a recording; no site computes anything.

    Attributes:
        recording: What was answered once.
        order: How the requests of one question are answered.
        change: What becomes of a reply; None: it never arrives.
        any_state: Whether a reply stands for one to another state.
        asked: Everything that was asked.
    """

    recording: Recording
    order: Callable[[list[Request]], Sequence[Request]] = lambda requests: requests
    change: Change = lambda request, reply: reply
    any_state: bool = False
    asked: list[Key] = field(default_factory=list)

    def sites(self) -> tuple[SiteId, ...]:
        return self.recording.sites_there

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in self.order(list(requests)):
            key = (request.action, request.stage, request.round, request.site)
            self.asked.append(key)
            state, reply = self.recording.replies[key]
            assert self.any_state or state == state_digest(request.state), f"{key} of another state"
            changed = self.change(request, reply)
            if changed is not None:
                yield changed


@dataclass(kw_only=True)
class Recorded:
    """A federation that was played once, with every reply."""

    federation: Federation
    recording: Recording
    outcome: Outcome
    tests: Mapping[SiteId, MetricSums]

    def again(self, folder: Path) -> Federation:
        """The same federation from its beginning, in another folder."""
        before = self.federation
        return Federation(
            plan=before.plan, initial=before.initial, cases=before.cases, folder=folder
        )


def record(federation: Federation) -> Recorded:
    """Play a federation with its sites, and keep what they say."""
    recording = Recording()
    outcome, tests = federation.run(through=recording.over, test=True)
    return Recorded(federation=federation, recording=recording, outcome=outcome, tests=tests)
