"""What the commands of a hospital show, from what lies in its folder."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from fedvol.cli.output import say
from fedvol.config import OpenStudy, load_open_study
from fedvol.data.verdicts import require_enough_cases
from fedvol.errors import DataError, FedvolError, UsageError
from fedvol.plan import Plan, Proposal
from fedvol.site import (
    Answering,
    SiteFolder,
    held_roster,
    read_status,
    site_identity,
)
from fedvol.site.doctor import Finding, Verdict, examine
from fedvol.site.preparing import Findings, check_source, fitting_source, require_floor
from fedvol.site.pretext_cases import PretextCases
from fedvol.store import Decision, SiteStore
from fedvol.types import Json

_MAX_PLAN_BYTES = 16 << 20


class Told:
    """Tells a person at the terminal what is worth a line."""

    def event(self, name: str, /, **fields: Json) -> None:
        """Print the events that matter; the rest is in the site's files."""
        text = _SAID.get(name)
        if text is not None:
            say(text.format(**fields))


_SAID = {
    "link.up": "Connected with the server.",
    "link.down": "Not connected: {what} ({code}). It is tried again.",
    "sync.failed": "Roster and proposals: {what} ({code}). It is tried again.",
    "audit.failed": "Audit log: {what} ({code}). Nothing leaves until it is mended.",
    "roster.accepted": "Roster {version} of the consortium holds.",
    "proposal.arrived": "Proposal {proposal}: study {study}. See: fedvol consent show {proposal}",
    "proposal.approved": "Proposal {proposal} is approved by {by}.",
    "proposal.refused": "A proposal was left out: {what} ({code}).",
    "prepare.done": "Cases for {proposal} are ready: {by_split}, left out {by_code}.",
    "prepare.failed": "Cases for {proposal} are not ready: {what} ({code}).",
    "site.answered": "Run {run}, round {round}: {action} answered {code}",
    "worker.lost": "The worker ended: {what}. It is started again.",
}


def site_status(folder: SiteFolder, *, now: datetime) -> dict[str, Json]:
    """How a site stands, for scripts and for `status_lines`.

    Raises:
        SiteFileError: `site.toml` is wrong; carries every problem.
        KeyFileError: A key cannot be read.
        StoreError: Something in the folder is damaged.
    """
    who = site_identity(folder)
    said: dict[str, Json] = {
        "site": who.site,
        "server": who.server,
        "fingerprint": who.fingerprint,
        "enrolled": not folder.token_file.exists(),
        "paused": folder.paused_file.exists(),
        "roster": _roster(folder, who.site, now=now),
    }
    waiting, approved, undelivered = 0, 0, 0
    if folder.store_file.exists():
        with SiteStore(folder.store_file) as store:
            for record in store.proposals():
                answer = store.consent(record.id)
                waiting += answer is None and record.state == "open"
                approved += answer is not None and answer.decision is Decision.APPROVE
            undelivered = len(store.undelivered())
    said |= {"waiting": waiting, "approved": approved, "undelivered": undelivered}
    process: Any = read_status(folder)
    return {**said, "process": process}


def status_lines(said: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [
        f"Site {said['site']}; server {said['server']}",
        f"Fingerprint: {said['fingerprint']}",
        _roster_line(said),
        f"Proposals: {said['waiting']} wait for your answer, {said['approved']} approved"
        + (f", {said['undelivered']} answers not yet with the server" * bool(said["undelivered"])),
    ]
    if said["paused"]:
        lines.append("PAUSED: nothing is answered. Go on with: fedvol site resume")
    process = said["process"]
    if process is None or not process["is_running"]:
        return [*lines, "Not running. Start it with: fedvol site start"]
    lines.append(f"Running since {process['since']}, process {process['process']}")
    for part, label in (
        ("link", "Link"),
        ("sync", "Roster and proposals"),
        ("preparing", "Cases"),
        ("working", "Work"),
        ("refused", "Last refusal"),
        ("worker", "Worker"),
    ):
        if part in process:
            lines.append(f"{label}: {_event_words(process[part])}")
    return lines


def content_of(folder: SiteFolder, name: str) -> OpenStudy | Plan | Proposal:
    """What a person means by a study: a file, a plan's JSON, or a proposal.

    Raises:
        ConfigFileError: A file cannot be read.
        StudyError: A study is wrong; carries every problem.
        UsageError: It is none of the three.
    """
    path = Path(name)
    if path.suffix == ".toml":
        return load_open_study(path)
    if path.suffix == ".json":
        try:
            with path.open("rb") as file:
                return Plan.model_validate_json(file.read(_MAX_PLAN_BYTES))
        except (OSError, ValueError, FedvolError) as error:
            raise UsageError(
                name, "this is no plan of this version", "Name the JSON of `fedvol study plan`."
            ) from error
    with SiteStore(folder.store_file) as store:
        _, proposed = _answering(folder, store).find(name)
    return proposed.content


def examine_site(folder: SiteFolder, *, study: str | None, now: datetime) -> Iterator[Finding]:
    """Every check of a site, those of its device and its cases last.

    Args:
        folder: The site's folder.
        study: Whose cases are checked: a study file, a plan's JSON, or a proposal; None: none.
        now: The time.
    """
    from fedvol.client.device_check import check_device

    config = folder.config()
    yield from examine(folder, config, now=now)
    yield check_device(config.resources.device)
    if study is None:
        return
    content = content_of(folder, study)
    asked = content if isinstance(content, OpenStudy) else content.study
    name = f"cases for {asked.name}"
    try:
        source = fitting_source(config, asked.data)
        records = check_source(folder, source, asked)
        pretrains = asked.pretrain is not None
        require_enough_cases(records, requirement=asked.data, pretrains=pretrains, is_whole=False)
        found = Findings.of(records)
        pretext = PretextCases.of(records, study=asked, floor=config.policy.floor)
        require_floor(found, config.policy, pretext=pretext)
    except DataError as error:
        yield Finding(name=name, verdict=Verdict.WRONG, what=error.what, fix=error.fix)
        return
    said = f"{found.training_subjects} patients to train on"
    if pretext is not None:
        said += f", {pretext.subjects} to pretrain on"
        if pretext.lacks:
            yield Finding(
                name=name,
                verdict=Verdict.SOON,
                what=f"{said}: {pretext.lacks}",
                fix="Add cases, or the site sits the pretraining out.",
            )
            return
    yield Finding(name=name, verdict=Verdict.FINE, what=said)


def _answering(folder: SiteFolder, store: SiteStore) -> Answering:
    return Answering(folder=folder, store=store, key=folder.identity())


def _roster(folder: SiteFolder, site: str, *, now: datetime) -> dict[str, Json] | None:
    roster = held_roster(folder)
    if roster is None:
        return None
    status = next((entry.status.value for entry in roster.sites if entry.site == site), "absent")
    return {
        "version": roster.version,
        "consortium": roster.consortium,
        "site": status,
        "holds": roster.not_before <= now < roster.not_after,
        "days_left": (roster.not_after - now).days,
    }


def _roster_line(said: dict[str, Any]) -> str:
    roster = said["roster"]
    if not said["enrolled"]:
        return "Not enrolled yet: fedvol site enrol"
    if roster is None:
        return "Enrolled; no roster yet: the operator compares fingerprints, then the root signs."
    held = f"holds {roster['days_left']} days more" if roster["holds"] else "DOES NOT HOLD NOW"
    return (
        f"Roster {roster['version']} of {roster['consortium']} {held}; "
        f"in it this site is {roster['site']}"
    )


def _event_words(event: dict[str, Any]) -> str:
    rest: Iterable[str] = (
        f"{key} {value}"
        for key, value in event.items()
        if key not in ("event", "at", "site") and value not in ("", None)
    )
    return f"{event['event']} at {event['at']}: {', '.join(rest)}".rstrip(": ")
