"""`fedvol run propose`: from a study to a run's proposal, over fingerprints if need be."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedvol.cli.operator_access import Operators, run_path
from fedvol.cli.output import say
from fedvol.errors import RunRequestError, UsageError
from fedvol.types import SiteId

if TYPE_CHECKING:
    from fedvol.config import OpenStudy, Study
    from fedvol.plan import PlanningRecord
    from fedvol.store import PretrainedFile

_SUFFIX = "-fingerprint"
_MAX_STUDY_CHARS = 43
"""Of a study's name, so that the job's has at most the 64 characters of a name."""
_NEXT = {
    "proposed": "Start it once enough sites agreed: fedvol run start {job}",
    "running": "Wait for it: fedvol run watch {job}",
    "paused": "Let it go on: fedvol run resume {job}",
    "failed": "Mend what it names, then: fedvol run resume {job}; or ask anew with --name.",
    "stopped": "Ask anew with --name.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    """A study with nothing left open.

    Attributes:
        study: The study.
        planning: How its open values came about; None where it left none.
        sites: Who may take part.
    """

    study: "Study"
    planning: "PlanningRecord | None"
    sites: tuple[SiteId, ...]


def propose_study(
    opened: "OpenStudy",
    *,
    operators: Operators,
    sites: Sequence[str],
    name: str,
    weights: "PretrainedFile | None" = None,
) -> dict[str, Any]:
    """Put a study to its sites: as a run, or first as a question for their fingerprints.

    Args:
        opened: The study as written.
        operators: The server.
        sites: Who is asked; empty: all that take part.
        name: The run's name; empty: made from study and plan.
        weights: The file of pretrained weights that the study names; what of it is taken over
            goes to the server with the initial weights.

    Returns:
        The run, or the fingerprint job, as the server shows it.

    Raises:
        RunRequestError: The fingerprints are not there yet, or the server refuses.
        UsageError: No site takes part, or not all of those named.
        TransferError: The pretrained weights do not fit; carries every reason.
    """
    from fedvol.config import close_study

    if not opened.open_keys:
        closed = _Closed(
            study=close_study(opened, {}, where=opened.name),
            planning=None,
            sites=_taking_part(operators, sites),
        )
        return _propose_run(closed, operators=operators, name=name, weights=weights)
    job = f"{name}{_SUFFIX}" if name else _job_of(opened)
    if all(one["run"] != job for one in operators.get("runs")["runs"]):
        return _ask_fingerprints(opened, operators=operators, job=job, sites=sites)
    closed = _planned(opened, operators=operators, job=job, sites=sites)
    return _propose_run(closed, operators=operators, name=name, weights=weights)


def _taking_part(operators: Operators, sites: Sequence[str]) -> tuple[SiteId, ...]:
    found = operators.get("sites")["sites"]
    chosen = sites or [one["site"] for one in found if one.get("takes_part")]
    if not chosen:
        raise UsageError(
            "fedvol run propose", "no site takes part yet", "See: fedvol site-admin list."
        )
    return tuple(map(SiteId, chosen))


def _job_of(opened: "OpenStudy") -> str:
    from fedvol.plan import digest_json

    digest = digest_json(opened.model_dump(mode="json"))
    return f"{opened.name[:_MAX_STUDY_CHARS]}-{digest[:8]}{_SUFFIX}"


def _ask_fingerprints(
    opened: "OpenStudy", *, operators: Operators, job: str, sites: Sequence[str]
) -> dict[str, Any]:
    import fedvol
    from fedvol.plan import Proposal

    asked = Proposal(
        software=fedvol.__version__,
        study=opened,
        sites=tuple(sorted(_taking_part(operators, sites))),
    )
    num = len(opened.open_keys)
    say(
        f"The study leaves {num} {'value' if num == 1 else 'values'} to the data: sites are asked "
        f"for a fingerprint first ({', '.join(opened.open_keys)})."
    )
    shown = operators.send(
        "POST", f"{run_path(job)}/fingerprint", {"proposal": asked.model_dump_json()}
    )
    say(f"{job}: proposed to {', '.join(asked.sites)}.")
    say(f"When enough sites agree: fedvol run start {job}")
    say("Once it has finished, type this command again: the plan is made and put to the sites.")
    return shown


def _planned(
    opened: "OpenStudy", *, operators: Operators, job: str, sites: Sequence[str]
) -> _Closed:
    """The study as planned from the fingerprints that the server holds.

    Raises:
        RunRequestError: They are not there.
        UsageError: They are of another study, or a site named was not counted.
    """
    from fedvol.cli.summary import settings_text
    from fedvol.config import OpenStudy, Study
    from fedvol.plan import PlanningRecord, settings_of

    held = operators.get(f"{run_path(job)}/fingerprint")
    if OpenStudy.model_validate_json(held["asked"]) != opened:
        raise UsageError(f"fingerprint {job}", "it is of another study", "Choose another --name.")
    if held["study"] is None:
        why = f": {held['reason']}" if held["reason"] else ""
        fix = _NEXT.get(held["state"], "Look at it: fedvol run show {job}").format(job=job)
        raise RunRequestError(f"fingerprint {job}", f"it is {held['state']}{why}", fix)
    counted = [one["site"] for one in held["sites"] if one["state"] == "counted"]
    if strangers := [site for site in sites if site not in counted]:
        raise UsageError(
            "--sites",
            f"not among the sites that were counted: {', '.join(strangers)}",
            "Leave them out, or ask anew with --name.",
        )
    study = Study.model_validate_json(held["study"])
    planning = PlanningRecord.model_validate_json(held["planning"])
    say(f"Planned from the fingerprints of {', '.join(counted)}.")
    for one in held["sites"]:
        if one["state"] != "counted":
            why = " ".join(filter(None, (one["code"], one["title"])))
            say(f"Left out: {one['site']} ({why})")
    say(settings_text(settings_of(opened, study, planning)))
    return _Closed(study=study, planning=planning, sites=tuple(map(SiteId, sites or counted)))


def _propose_run(
    closed: _Closed, *, operators: Operators, name: str, weights: "PretrainedFile | None"
) -> dict[str, Any]:
    from fedvol.data.few_labels import require_known_sites
    from fedvol.simulation.federate import make_plan
    from fedvol.store import write_state

    require_known_sites(closed.study.data.few_labels, sites=closed.sites)
    say("Building the network and its initial weights ...")
    plan, initial = make_plan(
        closed.study, sites=closed.sites, planning=closed.planning, weights=weights
    )
    run = name or f"{closed.study.name}-{plan.digest[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "initial.safetensors"
        write_state(file, initial.items(), metadata={})
        operators.send("PUT", f"{run_path(run)}/initial", file)
    shown = operators.send("POST", f"{run_path(run)}/propose", {"plan": plan.model_dump_json()})
    say(f"{run}: proposed to {', '.join(plan.sites)}. Plan {plan.digest[:12]}.")
    say(f"When enough sites agree, start it: fedvol run start {run}")
    return shown
