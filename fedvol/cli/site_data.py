"""`fedvol data add|list|check|show`: the folders of volumes of one hospital."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedvol.cli.output import AsJson, emit, say
from fedvol.cli.site_options import HERE, SiteFolderOption
from fedvol.types import Json

if TYPE_CHECKING:
    from fedvol.site.pretext_cases import PretextCases

StudyArgument = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A study file, a plan's JSON, or a proposal."),
]
SourceOption = Annotated[str | None, typer.Option("--data", help="Data source, where several fit.")]


def add_commands(app: typer.Typer) -> None:
    """Put the commands into `fedvol data`."""
    app.command()(add)
    app.command("list")(list_sources)
    app.command()(check)
    app.command()(show)


def add(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder of NIfTI volumes.")],
    name: Annotated[str, typer.Option(help="How the source is called.")],
    channels: Annotated[str, typer.Option(help="Image channels in order: CT, or T1,FLAIR.")],
    labels: Annotated[
        str, typer.Option(help="Classes in the label volumes: liver=1,lesion=2; else not stated.")
    ] = "",
    folder: SiteFolderOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Add a folder of volumes to site.toml; it is only ever read.

    DATA holds volumes with a case table (cases.csv: case, subject) beside imagesTr and labelsTr,
    or a folder as of the Medical Segmentation Decathlon.
    """
    from fedvol.site import SiteFolder
    from fedvol.site.sources import add_source, parse_labels

    source, cases = add_source(
        SiteFolder(folder=folder),
        name=name,
        data=data,
        channels=tuple(part.strip() for part in channels.split(",")),
        labels=parse_labels(labels),
    )
    say(f"Source {source.name}: {cases} cases listed in {source.folder}; none was opened yet.")
    say("See what a study would find: fedvol data check STUDY.toml")
    if as_json:
        emit({"name": source.name, "folder": source.folder, "cases": cases})


def list_sources(folder: SiteFolderOption = HERE, as_json: AsJson = False) -> None:
    """List the site's data sources."""
    from fedvol.site import SiteFolder

    held = SiteFolder(folder=folder)
    rows: list[Json] = []
    for source in held.config().data:
        classes = ", ".join(source.labels or ()) or "not stated"
        say(f"{source.name}: {source.folder}; channels {', '.join(source.channels)}; {classes}")
        rows.append(
            {
                "name": source.name,
                "folder": source.folder,
                "channels": list[Json](source.channels),
                "labels": None if source.labels is None else dict[str, Json](source.labels),
            }
        )
    if not rows:
        say("No source yet: fedvol data add DATA --name NAME --channels CT")
    if as_json:
        emit({"sources": rows})


def check(
    study: StudyArgument,
    data: SourceOption = None,
    is_prepared: Annotated[
        bool,
        typer.Option("--prepared", help="Also read what is prepared for this plan or proposal."),
    ] = False,
    folder: SiteFolderOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Read and check every case as a study would find it; nothing is prepared or written.

    STUDY is a study file, a plan's JSON, or the name of a proposal. The exit status is 3 if the
    site could not take part with these cases, or a prepared copy is damaged.
    """
    from fedvol.cli.site_view import content_of
    from fedvol.config import OpenStudy, Study
    from fedvol.data.verdicts import require_enough_cases
    from fedvol.errors import UsageError
    from fedvol.site import SiteFolder
    from fedvol.site.prepared_check import check_prepared
    from fedvol.site.preparing import (
        Findings,
        check_source,
        fitting_source,
        is_enough,
        require_floor,
        require_prepared,
    )
    from fedvol.site.pretext_cases import PretextCases

    held = SiteFolder(folder=folder)
    content = content_of(held, study)
    asked = content if isinstance(content, OpenStudy) else content.study
    source = fitting_source(held.config(), asked.data, name=data)
    if is_prepared and not isinstance(asked, Study):
        raise UsageError(
            "--prepared",
            "nothing is prepared for a study file, nor for a proposal to be counted",
            "Name a plan's JSON, or the proposal of a run.",
        )
    copies = check_prepared(require_prepared(held, source, asked)) if is_prepared else None
    records = check_source(held, source, asked)
    found = Findings.of(records)
    policy = held.config().policy
    say(f"Source {source.name} for study {asked.name}: {len(records)} cases")
    for split, count in sorted(found.by_split.items()):
        say(f"  {split}: {count}")
    if found.unlabelled:
        say(f"  without a label: {found.unlabelled}")
    for code, count in sorted(found.by_code.items()):
        say(f"  left out, {code}: {count}")
    say(f"  patients to train on: {found.training_subjects}; the site's floor is {policy.floor}")
    pretext = PretextCases.of(records, study=asked, floor=policy.floor)
    said: dict[str, Json] = {
        "source": source.name,
        "study": asked.name,
        "cases": len(records),
        "by_split": dict[str, Json](found.by_split),
        "unlabelled": found.unlabelled,
        "by_code": dict[str, Json](found.by_code),
        "training_subjects": found.training_subjects,
        **_of_pretraining(pretext),
        "is_enough": is_enough(found, policy, pretext=pretext),
    }
    if copies is not None:
        say(f"  prepared copies: {copies.num_cases}")
        for case, what in sorted(copies.damaged.items()):
            say(f"  damaged, {case}: {what}")
        said["prepared"] = copies.num_cases
        said["damaged"] = {str(case): what for case, what in copies.damaged.items()}
    if as_json:
        emit(said)
    if copies is not None:
        copies.require_whole()
    pretrains = asked.pretrain is not None
    require_enough_cases(records, requirement=asked.data, pretrains=pretrains, is_whole=False)
    require_floor(found, policy, pretext=pretext)


def show(
    study: StudyArgument,
    data: SourceOption = None,
    folder: SiteFolderOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Name every case that a study would leave out, and why; for eyes at the site alone.

    STUDY is a study file, a plan's JSON, or the name of a proposal.
    """
    from fedvol.cli.site_view import content_of
    from fedvol.config import OpenStudy
    from fedvol.site import SiteFolder
    from fedvol.site.preparing import Findings, check_source, fitting_source

    held = SiteFolder(folder=folder)
    content = content_of(held, study)
    asked = content if isinstance(content, OpenStudy) else content.study
    source = fitting_source(held.config(), asked.data, name=data)
    records = check_source(held, source, asked)
    reasons = Findings.of(records).reasons
    for reason in reasons.values():
        say(reason)
    if not reasons:
        say(f"None of the {len(records)} cases of {source.name} is left out.")
    if as_json:
        emit({"source": source.name, "left_out": dict[str, Json](reasons)})


def _of_pretraining(pretext: "PretextCases | None") -> dict[str, Json]:
    """Say what a source holds for a study's pretraining, and give the figures."""
    if pretext is None:
        return {"pretraining_subjects": 0, "pretraining_lacks": "", "too_small": 0}
    say(f"  patients to pretrain on, labelled or not: {pretext.subjects}")
    if pretext.patch:
        say(f"  too small for a patch of {pretext.patch} voxels: {pretext.too_small}")
    if pretext.lacks:
        say(f"  the site would sit the pretraining out: {pretext.lacks}")
    return {
        "pretraining_subjects": pretext.subjects,
        "pretraining_lacks": pretext.lacks,
        "too_small": pretext.too_small,
    }
