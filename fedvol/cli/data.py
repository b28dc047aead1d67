"""`fedvol data`: what a hospital does with volumes."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fedvol.cli.output import AsJson, emit, say
from fedvol.types import Json


class Difference(StrEnum):
    """What sets generated hospitals apart."""

    LABEL = "label"
    SIZE = "size"
    SCANNER = "scanner"


app = typer.Typer(help="Work with folders of volumes.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Work with folders of volumes."""


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="New or empty folder for the volumes.")],
    sites: Annotated[int, typer.Option(min=1, max=64, help="Number of hospitals.")] = 3,
    cases: Annotated[int, typer.Option(min=6, max=1000, help="Cases of the largest.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same volumes.")] = 0,
    differ_in: Annotated[
        Difference | None,
        typer.Option(help="Alike but for one thing, strongly; --cases are then training cases."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make hospitals of generated bodies with organs and lesions, each with its own scanner."""
    from fedvol.cli.folders import new_folder
    from fedvol.data.phantom import default_hospitals, generate_hospitals
    from fedvol.data.phantom_shifts import shifted_hospitals

    if differ_in is None:
        hospitals = default_hospitals(sites, cases)
    else:
        hospitals = shifted_hospitals(differ_in.value, num_sites=sites, num_cases=cases)
    with new_folder(out) as working:
        generate_hospitals(working, hospitals=hospitals, seed=seed)
    counts: dict[str, Json] = {hospital.name: hospital.num_cases for hospital in hospitals}
    say("\n".join(f"{out / name}: {count} cases" for name, count in counts.items()))
    if as_json:
        emit({"out": str(out), "seed": seed, "cases": counts})


@app.command()
def shift(
    data: Annotated[Path, typer.Option(help="Folder of volumes with their case table.")],
    out: Annotated[Path, typer.Option(help="Folder to be made for the changed copy.")],
    site: Annotated[str, typer.Option(help="The hospital whose images change.")],
    scale: Annotated[float, typer.Option(min=1e-6, help="Factor on intensities.")] = 1.0,
    gamma: Annotated[float, typer.Option(min=0.05, max=20.0, help="Exponent on them.")] = 1.0,
    blur_mm: Annotated[float, typer.Option(min=0.0, help="Gaussian blur, millimetres.")] = 0.0,
    noise: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the range.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Copy a data folder with one hospital's images made different; labels stay."""
    from fedvol.data.shift import shift_site

    changed = shift_site(
        data,
        out,
        site=site,
        scale=scale,
        gamma=gamma,
        blur_mm=blur_mm,
        noise=noise,
        seed=seed,
    )
    say(f"{out}: {changed} images of {site} changed")
    if as_json:
        emit({"out": str(out), "site": site, "changed": changed})
