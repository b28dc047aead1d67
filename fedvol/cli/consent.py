"""`fedvol consent`: what is proposed to this hospital, in plain language, and its answer."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fedvol.cli.output import AsJson, ask_yes, emit, say
from fedvol.cli.site_options import HERE, ByOption, ReasonOption, SiteFolderOption
from fedvol.types import Json

if TYPE_CHECKING:
    from pathlib import Path

    from fedvol.site import Answering

app = typer.Typer(help="See and answer what is proposed.", no_args_is_help=True)

ProposalArgument = Annotated[
    str, typer.Argument(metavar="PROPOSAL", help="Its name, or how it begins.")
]


@app.callback()
def group() -> None:
    """See and answer what is proposed."""


@app.command("list")
def list_proposals(folder: SiteFolderOption = HERE, as_json: AsJson = False) -> None:
    """List what was proposed, and what this site answered."""
    from fedvol.site.proposals import study_name

    rows: list[Json] = []
    with _answering(folder) as answering:
        for record in answering.store.proposals():
            study = study_name(record)
            answer = answering.store.consent(record.id)
            decision = "waits for your answer" if answer is None else answer.decision.value
            say(
                f"{record.id}  {record.kind}  "
                + (f"study {study}" if study else "cannot be read by this version of fedvol")
                + f"  at the server {record.state}  here: {decision}"
            )
            rows.append(
                {
                    "id": record.id,
                    "kind": record.kind,
                    "run": record.run,
                    "study": study,
                    "digest": record.digest,
                    "state": record.state,
                    "decision": None if answer is None else answer.decision.value,
                    "delivered": answer is not None and answer.delivered is not None,
                }
            )
    if not rows:
        say("Nothing was proposed yet. `fedvol site start` asks the server for proposals.")
    if as_json:
        emit({"proposals": rows})


@app.command()
def show(
    proposal: ProposalArgument,
    folder: SiteFolderOption = HERE,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time three training steps of each stage here.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="Data source, where several fit.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say in plain language what a proposal computes, what leaves, and what the policy says.

    PROPOSAL is its name, or how it begins.
    """
    from fedvol.site import explain

    with _answering(folder) as answering:
        record, proposed = answering.find(proposal)
        config, steps_s = answering.folder.config(), None
        if measure and proposed.plan is not None:
            from fedvol.client.step_time import seconds_per_step

            steps_s = seconds_per_step(proposed.plan, device=config.resources.device)
        said = explain(proposed, config, steps_s=steps_s, source=data)
        answers = answering.store.consents(record.id)
    say("\n".join(said.lines))
    for answer in answers:
        at = answer.at.isoformat()
        sent = "" if answer.delivered else ", not yet with the server"
        code = f", which did not take it ({answer.answer})" if answer.answer else ""
        say(f"Answer: {answer.decision.value} by {answer.by} at {at}{sent}{code}")
    if not answers:
        say(f"To answer: fedvol consent approve {record.id}, or: fedvol consent refuse {record.id}")
    if as_json:
        emit(
            {
                "id": record.id,
                "kind": record.kind,
                "digest": record.digest,
                "study": proposed.study.name,
                "operator": proposed.operator,
                "source": said.source,
                "bytes_up": said.bytes_up,
                "bytes_down": said.bytes_down,
                "hours": said.hours,
                "against": [{"where": p.where, "what": p.what, "fix": p.fix} for p in said.against],
                "text": "\n".join(said.lines),
            }
        )


@app.command()
def approve(
    proposal: ProposalArgument,
    folder: SiteFolderOption = HERE,
    data: Annotated[str | None, typer.Option(help="Data source, where several fit.")] = None,
    by: ByOption = "",
    reason: ReasonOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Agree to a proposal; refused where the site's own policy forbids it.

    PROPOSAL is its name, or how it begins.
    """
    from fedvol.site import explain, user_name

    with _answering(folder) as answering:
        record, proposed = answering.find(proposal)
        if not yes:
            shown = explain(proposed, answering.folder.config(), steps_s=None, source=data)
            say("\n".join(shown.lines))
            ask_yes(f"Approve {record.id}?", command="fedvol consent approve")
        answer = answering.approve(
            record.id, by=by or user_name(), reason=reason, source=data, now=datetime.now(UTC)
        )
    say(f"{record.id} is approved, with data source {answer.source}. To end it at any time:")
    say(f"  fedvol consent withdraw {record.id} --folder {folder}")
    if as_json:
        emit({"id": record.id, "decision": "approve", "source": answer.source})


@app.command()
def refuse(
    proposal: ProposalArgument,
    folder: SiteFolderOption = HERE,
    by: ByOption = "",
    reason: ReasonOption = "",
    as_json: AsJson = False,
) -> None:
    """Decline a proposal; the server learns that, and no reason but a rule's code.

    PROPOSAL is its name, or how it begins.
    """
    from fedvol.site import user_name

    with _answering(folder) as answering:
        answer = answering.refuse(
            proposal, by=by or user_name(), reason=reason, now=datetime.now(UTC)
        )
    say(f"{answer.proposal} is refused.")
    if as_json:
        emit({"id": answer.proposal, "decision": "refuse", "code": answer.code})


@app.command()
def withdraw(
    proposal: ProposalArgument,
    folder: SiteFolderOption = HERE,
    by: ByOption = "",
    reason: ReasonOption = "",
    as_json: AsJson = False,
) -> None:
    """Take an approval back; it holds before the next answer leaves.

    PROPOSAL is its name, or how it begins. What left before cannot be called back.
    """
    from fedvol.site import user_name

    with _answering(folder) as answering:
        answer = answering.withdraw(
            proposal, by=by or user_name(), reason=reason, now=datetime.now(UTC)
        )
    say(f"{answer.proposal} is withdrawn: nothing of it leaves from now on.")
    if as_json:
        emit({"id": answer.proposal, "decision": "withdraw"})


@contextmanager
def _answering(folder: "Path") -> "Generator[Answering]":
    from fedvol.site import Answering, SiteFolder
    from fedvol.store import SiteStore

    held = SiteFolder(folder=folder)
    held.require_site()
    key = held.identity()
    with SiteStore(held.store_file) as store:
        yield Answering(folder=held, store=store, key=key)
