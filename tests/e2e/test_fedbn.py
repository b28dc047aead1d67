"""FedBN: norm layers stay at their site, and only there."""

import json
from collections import UserDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import RUN, Events, Federation, make_federation, tiny_study, tiny_text

from fedvol.client.agent import SiteAgent
from fedvol.federation import Action, Link, Reply, Request
from fedvol.models import to_arrays
from fedvol.plan import TensorKind
from fedvol.server import Outcome
from fedvol.transport import Fault
from fedvol.types import Json, SiteId, State

FEDBN = 'kind = "fedbn"'


class Fleeting(UserDict[str, Any]):
    """Tensors that can be read until they are gone."""

    is_gone = False

    def __getitem__(self, name: str) -> Any:
        assert not self.is_gone, "read after the next answer was taken"
        return super().__getitem__(name)


class Listening:
    """A link that notes the names of every tensor that travels, by action and direction.

    As over a network, norm layers lie in a file that goes once the next answer is taken.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.down: dict[Action, set[str]] = {}
        self.up: dict[Action, set[str]] = {}
        self.asked: dict[Action, set[SiteId]] = {}
        self.norms: dict[SiteId, State] = {}

    def sites(self) -> tuple[SiteId, ...]:
        return self._link.sites()

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in requests:
            self.down.setdefault(request.action, set()).update(request.state)
            self.asked.setdefault(request.action, set()).add(request.site)
        for reply in self._link.ask(requests):
            self.up.setdefault(reply.action, set()).update(reply.tensors)
            if reply.action is not Action.NORMS:
                yield reply
                continue
            self.norms[reply.site] = reply.tensors
            fleeting = Fleeting(reply.tensors)
            yield replace(reply, tensors=fleeting)
            fleeting.is_gone = True


class BlobNames(Events):
    """Looks at every blob while a round's contributions are still there."""

    def __init__(self, folder: Path, *, whole: set[str]) -> None:
        super().__init__()
        self.folder, self._whole = folder, whole
        self.names: set[str] = set()
        self.most = 0

    def event(self, name: str, /, **fields: Json) -> None:
        super().event(name, **fields)
        if name == "round.closed":
            blobs = list(self.folder.glob("*.safetensors"))
            self.most = max(self.most, len(blobs))
            for path in blobs:
                tensors = load_file(path)
                if set(tensors) != self._whole:  # not the initial weights
                    self.names |= set(tensors)


@dataclass(kw_only=True)
class Played:
    federation: Federation
    outcome: Outcome
    link: Listening
    blobs: BlobNames
    norms: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def played(tiny_cases, tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("fedbn")
    federation = make_federation(tiny_study(strategy=FEDBN), cases=tiny_cases, folder=folder)
    blobs = BlobNames(folder / "blobs", whole=set(federation.initial))
    federation.observer = blobs
    links: list[Listening] = []

    def listen(link: Link) -> Link:
        links.append(Listening(link))
        return links[0]

    outcome, _ = federation.run(through=listen)
    norms = {spec.name for spec in federation.plan.network.tensors if spec.kind is TensorKind.NORM}
    return Played(federation=federation, outcome=outcome, link=links[0], blobs=blobs, norms=norms)


def test_norms_travel_once_at_the_end(played: Played) -> None:
    shared = set(played.federation.initial) - played.norms
    assert len(played.norms) == 2 * 6  # weight and bias of six layers
    link = played.link
    assert link.down[Action.FINETUNE] == link.up[Action.FINETUNE] == shared
    assert link.down[Action.VALIDATE] == shared
    assert link.up[Action.NORMS] == played.norms
    assert link.down[Action.NORMS] == set()


def test_no_contribution_or_global_state_holds_norms(played: Played) -> None:
    assert played.blobs.most >= 4  # three updates and a global state lay there
    assert played.blobs.names == set(played.federation.initial) - played.norms


def test_audit_logs_count_the_shared_tensors(played: Played) -> None:
    num_shared = len(played.federation.initial) - len(played.norms)
    for site in played.federation.plan.sites:
        lines = (played.federation.site(site) / "audit.jsonl").read_text().splitlines()
        left = [json.loads(line)["event"] for line in lines]
        assert {one["num_tensors"] for one in left if one["kind"] == "update"} == {num_shared}
        norms = [one for one in left if one["kind"] == "norms"]
        assert [one["num_tensors"] for one in norms] == [len(played.norms)]
        assert left[-1]["kind"] == "norms"


def local_norms(played: Played, site: str, number: int) -> State:
    folder = played.federation.site(site) / "state" / RUN / "stage-0"
    return load_file(folder / f"local-{number:06d}.safetensors")


def test_norms_differ_between_sites_and_from_the_start(played: Played) -> None:
    held = {site: local_norms(played, site, 3) for site in played.federation.plan.sites}
    one, two, three = held.values()
    assert set(one) == played.norms
    for a, b in ((one, two), (one, three), (two, three), (one, played.federation.initial)):
        assert any(not np.array_equal(a[name], b[name]) for name in played.norms)


def test_release_holds_the_mean_norms(played: Played) -> None:
    release = played.federation.state(played.outcome.release)
    assert list(release) == list(played.federation.initial)
    best = played.outcome.best_round
    cases = {s: len(c.train) for s, c in played.federation.cases.items()}
    for name in played.norms:
        mean = sum(
            num / sum(cases.values()) * local_norms(played, site, best)[name].astype(np.float64)
            for site, num in cases.items()
        )
        np.testing.assert_allclose(release[name], mean, rtol=1e-6)
    held = {site: local_norms(played, site, best) for site in cases}
    assert {s: t.keys() for s, t in played.link.norms.items()} == {
        s: t.keys() for s, t in held.items()
    }


def test_sites_share_all_but_norms_when_they_judge(played: Played) -> None:
    release = played.federation.state(played.outcome.release)
    shared_only = {name: array for name, array in release.items() if name not in played.norms}
    nets: dict[SiteId, State] = {}
    for site, agent in played.federation.agents().items():
        nets[site] = network_of(agent, shared_only, played.outcome.best_round)
    for net in nets.values():
        for name, array in shared_only.items():
            np.testing.assert_array_equal(net[name], array)
    for site, net in nets.items():
        held = local_norms(played, site, played.outcome.best_round)
        for name in played.norms:
            np.testing.assert_array_equal(net[name], held[name])


def network_of(agent: SiteAgent, state: State, best: int) -> State:
    agent.released_predictor(state, run=RUN, stage=0, best_round=best)
    return to_arrays(agent.network.net)


def test_a_site_that_loses_its_norms_reply_is_left_out_of_the_mean(
    played: Played, tmp_path: Path
) -> None:
    """Two of three suffice; one is too few, and the run says so."""
    study = tiny_study(strategy=FEDBN, rounds="rounds = 1", steps_per_round="steps_per_round = 1")
    federation = make_federation(study, cases=played.federation.cases, folder=tmp_path)

    def lost(*sites: str) -> Callable[[Request], Fault | None]:
        return lambda request: (
            Fault.LOST if request.action is Action.NORMS and request.site in sites else None
        )

    with pytest.raises(Exception, match="1 sites returned their norm layers"):
        federation.run(faults=lost("hospital_1", "hospital_2"))
    outcome, _ = federation.run(faults=lost("hospital_1"))
    release = federation.state(outcome.release)
    assert set(release) == set(federation.initial)


def test_norms_of_a_round_before_a_site_fell_silent_still_make_a_release(
    played: Played, tmp_path: Path
) -> None:
    """Another site is silent in each of two rounds; those that are there give theirs."""
    study = tiny_study(strategy=FEDBN, rounds="rounds = 2")
    federation = make_federation(study, cases=played.federation.cases, folder=tmp_path)

    def faults(request: Request) -> Fault | None:
        absent = {1: "hospital_2", 2: "hospital_3"}.get(request.round)
        trains = request.action is Action.FINETUNE
        return Fault.LOST if trains and request.site == absent else None

    outcome, _ = federation.run(faults=faults)
    assert set(federation.state(outcome.release)) == set(federation.initial)


def test_a_site_whose_norms_left_trains_no_more(played: Played, tmp_path: Path) -> None:
    federation = make_federation(
        tiny_study(strategy=FEDBN), cases=played.federation.cases, folder=tmp_path
    )
    agent = federation.agents()[SiteId("hospital_1")]

    def ask(action: Action, round_index: int, state: State) -> str:
        request = Request(
            run=RUN,
            plan=federation.plan.digest,
            stage=0,
            round=round_index,
            site=SiteId("hospital_1"),
            action=action,
            state=state,
            arguments={},
            limit_s=600.0,
        )
        return agent.handle(request).code

    shared = {n: a for n, a in federation.initial.items() if n not in played.norms}
    assert ask(Action.FINETUNE, 1, shared) == ""
    assert ask(Action.NORMS, 1, {}) == ""
    assert ask(Action.NORMS, 1, {}) == ""
    assert ask(Action.NORMS, 2, {}) == "FV-PRIV-002"
    assert ask(Action.FINETUNE, 2, shared) == "FV-PRIV-002"


def test_a_round_asked_again_starts_from_the_same_norms(played: Played, tmp_path: Path) -> None:
    """Two sites finished the round and kept its norms, but their replies were lost."""
    again = make_federation(
        tiny_study(strategy=FEDBN), cases=played.federation.cases, folder=tmp_path
    )
    lost: list[SiteId] = []

    def faults(request: Request) -> Fault | None:
        hit = request.action is Action.FINETUNE and request.round == 2
        if not hit or request.site == "hospital_3" or len(lost) == 2:
            return None
        lost.append(request.site)
        return Fault.LOST

    outcome, _ = again.run(faults=faults)
    assert [record.attempt for record in again.rounds()] == [1, 1, 2, 1]
    assert outcome.release == played.outcome.release
    for site in again.plan.sites:
        folder = again.site(site) / "state" / RUN / "stage-0"
        for name, array in load_file(folder / "local-000003.safetensors").items():
            np.testing.assert_array_equal(array, local_norms(played, site, 3)[name])


def test_running_statistics_of_batch_norm_leave_once_and_only_sites_that_have_some_vote(
    played: Played, tmp_path: Path
) -> None:
    """hospital_3 has cases to judge on and none to train on, so no norm layers of its own."""
    cases = dict(played.federation.cases)
    cases[SiteId("hospital_3")] = replace(cases[SiteId("hospital_3")], train=())
    study = tiny_study(
        strategy=FEDBN,
        features='features = [4, 8]\nnorm = "batch"',
        rounds="rounds = 2",
        steps_per_round="steps_per_round = 2",
    )
    federation = make_federation(study, cases=cases, folder=tmp_path)
    links: list[Listening] = []

    def listen(link: Link) -> Link:
        links.append(Listening(link))
        return links[0]

    outcome, tests = federation.run(through=listen, test=True)
    statistics = {name for name in federation.initial if "running" in name}
    assert len(statistics) == 2 * 6
    norms = {s.name for s in federation.plan.network.tensors if s.kind is TensorKind.NORM}
    assert statistics < norms
    link = links[0]
    assert not norms & (link.up[Action.FINETUNE] | link.down[Action.VALIDATE])
    assert link.up[Action.NORMS] == norms
    trained = {SiteId("hospital_1"), SiteId("hospital_2")}
    assert link.asked[Action.VALIDATE] == trained
    assert set(tests) == {*trained, SiteId("hospital_3")}
    held = {site: link.norms[site] for site in trained}
    total = sum(len(cases[site].train) for site in trained)
    release = federation.state(outcome.release)
    for name in statistics:
        assert not np.array_equal(*(held[site][name] for site in sorted(trained)))
        mean = sum(len(cases[site].train) / total * held[site][name] for site in trained)
        np.testing.assert_allclose(release[name], mean, rtol=1e-5, atol=1e-7)


def test_through_the_command(fedvol, tiny_data: Path, tmp_path: Path) -> None:
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(tiny_text(strategy=FEDBN, rounds="rounds = 1"))
    ended = fedvol("simulate", study, "--data", tiny_data, "--out", out, "--device", "cpu")
    assert ended.status == 0, ended.err
    result = json.loads((out / "result.json").read_text())
    assert result["stages"][0]["strategy"] == "fedbn"
    released = load_file(out / "checkpoints" / "federated.safetensors")
    norms = [load_file(p) for p in out.glob("sites/*/state/federated/stage-0/local-*.safetensors")]
    assert len(norms) == 3
    assert set(norms[0]) < set(released)


def test_a_network_without_norms_is_refused(fedvol, tiny_data: Path, tmp_path: Path) -> None:
    study, out = tmp_path / "study.toml", tmp_path / "out"
    features = 'features = [4, 8]\nnorm = "none"'
    study.write_text(tiny_text(strategy=FEDBN, features=features))
    ended = fedvol("simulate", study, "--data", tiny_data, "--out", out, "--device", "cpu")
    assert ended.status == 2
    assert "norm" in ended.err
    assert not out.exists()
