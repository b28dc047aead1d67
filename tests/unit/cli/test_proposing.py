"""What `run propose` does with a study that leaves values to the sites' data."""

from pathlib import Path
from typing import Any, cast

import pytest
from case_facts import CHANNELS, CLASSES, OPEN_STUDY, make_case
from pretraining import started_text, write_weights
from tiny import tiny_study

from fedvol.cli.operator_access import Operators
from fedvol.cli.proposing import propose_study
from fedvol.config.loading import parse_open_study
from fedvol.errors import RunRequestError, UsageError
from fedvol.plan import Plan, Proposal, plan_over_sites, state_digest
from fedvol.privacy.fingerprints import fingerprint
from fedvol.server.proposing import proposal_words
from fedvol.simulation.federate import make_plan
from fedvol.store import StateFile, find_weights
from fedvol.types import SiteId

SMALL = OPEN_STUDY.replace(
    'network = { kind = "unet" }',
    'network = { kind = "unet", features = [4, 8] }\npatches = { size = [16, 16, 16] }',
)
STUDY = parse_open_study(SMALL, where="study.toml")
JOB = "first-fingerprint"


class Server:
    """Answers as the operators' interface does, and keeps what was sent."""

    def __init__(self, *, job: dict[str, Any] | None = None) -> None:
        self.job = job
        self.sent: list[tuple[str, str, Any]] = []

    def get(self, path: str) -> dict[str, Any]:
        if path == "sites":
            names = (("a", True), ("b", True), ("c", True), ("gone", False))
            return {"sites": [{"site": site, "takes_part": takes} for site, takes in names]}
        if path == "runs":
            return {"runs": [{"run": JOB}] if self.job else []}
        assert path == f"runs/{JOB}/fingerprint"
        assert self.job is not None
        return self.job

    def send(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self.sent.append((method, path, body))
        return {"run": path.split("/")[1]}


def propose(server: Server, *sites: str, name: str = "first") -> dict[str, Any]:
    return propose_study(STUDY, operators=cast(Operators, server), sites=sites, name=name)


def held(state: str = "finished", **changes: Any) -> dict[str, Any]:
    return {
        "run": JOB,
        "state": state,
        "reason": "",
        "asked": STUDY.model_dump_json(),
        "sites": [],
        "study": None,
        "planning": None,
        **changes,
    }


def test_an_open_study_asks_for_fingerprints_first(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    assert propose(server) == {"run": JOB}
    ((method, path, body),) = server.sent
    assert (method, path) == ("POST", f"runs/{JOB}/fingerprint")
    asked = Proposal.model_validate_json(body["proposal"])
    assert (asked.study, asked.sites) == (STUDY, ("a", "b", "c"))
    told = capsys.readouterr().err
    assert "leaves 3 values to the data" in told
    assert f"fedvol run start {JOB}" in told


def test_a_job_s_name_follows_from_the_study_and_is_a_name() -> None:
    long = STUDY.model_copy(update={"name": "x" * 64})
    server = Server()
    for _ in range(2):
        propose_study(long, operators=cast(Operators, server), sites=(), name="")
    first, second = (path.split("/")[1] for _, path, _ in server.sent)
    assert first == second
    assert len(first) == 64
    assert first.endswith("-fingerprint")


@pytest.mark.parametrize(
    ("state", "fix"),
    [
        ("proposed", f"fedvol run start {JOB}"),
        ("running", f"fedvol run watch {JOB}"),
        ("failed", f"fedvol run resume {JOB}"),
        ("stopped", "--name"),
    ],
)
def test_fingerprints_that_are_not_there_yet(state: str, fix: str) -> None:
    with pytest.raises(RunRequestError) as caught:
        propose(Server(job=held(state, reason="too few")))
    assert caught.value.what == f"it is {state}: too few"
    assert fix in caught.value.fix


def test_the_plan_of_the_fingerprints_is_proposed_to_those_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cases = [
        make_case(f"S{n}", shape=(32, 32, 32), spacing_mm=(1, 1, 1), voxels=([40.0], [60.0]))
        for n in range(30)
    ]
    part = fingerprint(cases, channels=CHANNELS, classes=CLASSES, floor=1)
    study, planning = plan_over_sites(STUDY, {SiteId("a"): part, SiteId("b"): part})
    job = held(
        sites=[
            {"site": "a", "state": "counted", "code": "", "title": ""},
            {"site": "b", "state": "counted", "code": "", "title": ""},
            {"site": "c", "state": "absent", "code": "", "title": "it did not agree"},
        ],
        study=study.model_dump_json(),
        planning=planning.model_dump_json(),
    )
    server = Server(job=job)
    propose(server)
    (_, brought, _), (method, path, body) = server.sent
    assert (brought, method, path) == ("runs/first/initial", "POST", "runs/first/propose")
    expected, _ = make_plan(study, sites=(SiteId("a"), SiteId("b")), planning=planning)
    assert Plan.model_validate_json(body["plan"]).digest == expected.digest
    told = capsys.readouterr().err
    assert "Left out: c (it did not agree)" in told
    assert "preprocessing.spacing_mm" in told
    with pytest.raises(UsageError, match="not among the sites that were counted: c"):
        propose(Server(job=job), "a", "c")


def test_the_fingerprints_of_another_study() -> None:
    other = STUDY.model_copy(update={"seed": STUDY.seed + 1})
    with pytest.raises(UsageError, match="it is of another study"):
        propose(Server(job=held(asked=other.model_dump_json())))


def test_pretrained_weights_go_to_the_server_within_the_initial_ones(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", like=tiny_study())
    opened = parse_open_study(started_text("w.safetensors"), where="study.toml")
    opened, weights = find_weights(opened, folder=tmp_path)
    brought: list[str] = []

    class Keeping(Server):
        def send(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
            if path.endswith("/initial"):
                with StateFile(body) as file:
                    brought.append(state_digest(file.read_all()))
            return super().send(method, path, body)

    server = Keeping()
    propose_study(
        opened, operators=cast(Operators, server), sites=(), name="first", weights=weights
    )
    plan = Plan.model_validate_json(server.sent[-1][2]["plan"])
    assert plan.start is not None
    assert weights is not None
    assert plan.start.digest == weights.digest
    assert brought == [plan.network.initial_digest]
    plain, _ = make_plan(tiny_study(), sites=(SiteId("a"),))
    assert plain.network.initial_digest != plan.network.initial_digest
    assert "weights that volume_fusion trained before this run" in proposal_words(plan)
