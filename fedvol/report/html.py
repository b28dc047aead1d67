"""`report.html`: one file, no script, no address outside itself."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from fedvol.config.model_names import BASELINES
from fedvol.files import write_atomic
from fedvol.plan import Plan
from fedvol.report import charts, view, wording
from fedvol.report.figures import MetricInfo, metric_info
from fedvol.report.forest import forest
from fedvol.report.participation import legend_mark, participation_grid, states_seen
from fedvol.report.pictures import CasePicture, data_uri, picture_size, render_png
from fedvol.report.pretext_pictures import PLANES, PretextPlanes, plane_png, pretext_words
from fedvol.report.rendering import html_templates
from fedvol.report.result import Result, StageResult
from fedvol.report.settings import plan_settings, planned_choices, tolerance_words


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    result: StageResult
    validation: Markup
    num_cases: str
    loss: Markup
    further: tuple[tuple[Markup, MetricInfo], ...]
    trivial: str
    grid: Markup
    legend: tuple[tuple[Markup, str], ...]
    pictures: tuple["_PretextPicture", ...]
    pictures_words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _PretextPicture:
    picture: PretextPlanes
    uris: tuple[str, ...]
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    picture: CasePicture
    uri: str
    width: int
    height: int


def write_report(
    path: Path,
    *,
    result: Result,
    plan_json: str,
    pictures: Sequence[CasePicture],
    pretext_pictures: Sequence[PretextPlanes] = (),
) -> None:
    """Write the page whole or not at all.

    Args:
        path: Where.
        result: What happened; a failed or stopped run shows what there is.
        plan_json: The plan as JSON; empty where the run ended before it had one.
        pictures: Slices of test cases, in the order in which they are shown.
        pretext_pictures: Slices of what a pretext task was about, in the order as well.

    Raises:
        PlanMismatchError: `plan_json` is not the plan of `result`.
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    text = render_report(
        result, plan_json=plan_json, pictures=pictures, pretext_pictures=pretext_pictures
    )
    write_atomic(path, text.encode())


def render_report(
    result: Result,
    *,
    plan_json: str,
    pictures: Sequence[CasePicture],
    pretext_pictures: Sequence[PretextPlanes] = (),
) -> str:
    """The page as text; the same result, plan and pictures give the same bytes."""
    plan = read_plan(plan_json, result=result)
    sites = site_order(result)
    classes = view.class_order(result, study=plan.study if plan else None)
    metrics, models = view.model_rows(result)
    compared, comparisons = view.comparison_rows(result)
    primary = view.primary_metric(result)
    others = [info.key for info in metrics if info.key != primary]
    has_figures = bool(result.evaluation)
    return (
        html_templates()
        .get_template("report.html.j2")
        .render(
            result=result,
            sites=sites,
            classes=classes,
            headline=view.headline(result),
            tested_on=view.tested_on(result),
            metrics=metrics,
            models=models,
            has_others=len(models) > 1,
            compared=compared,
            comparisons=comparisons,
            forests=[forest(result, metric=k, sites=sites) for k in (primary, *others)]
            if has_figures
            else [],
            tables=view.model_tables(result, sites=sites, classes=classes),
            stages=[_stage(stage, sites, pretext_pictures) for stage in result.stages],
            max_named_sites=charts.MAX_NAMED_SITES,
            pictures=[_picture(item) for item in pictures],
            skipped=view.skipped_rows(result),
            traffic=view.traffic(result, sites=sites),
            privacy=wording.privacy_words(result.privacy),
            settings=plan_settings(plan) if plan else (),
            choices=planned_choices(plan) if plan else (),
            fingerprint=plan.planning.fingerprint if plan and plan.planning else "",
            tolerance=tolerance_words(plan) if plan else "stated in the plan",
            replicates=plan.study.evaluation.bootstrap_replicates if plan else None,
            plan_text=json.dumps(json.loads(plan_json), indent=2, ensure_ascii=False)
            if plan
            else "",
            command=simulate_command(result),
        )
    )


def read_plan(plan_json: str, *, result: Result) -> Plan | None:
    """The plan behind a result; None where the run ended before it had one.

    Raises:
        PlanMismatchError: It is another run's plan.
    """
    if not plan_json:
        return None
    plan = Plan.model_validate_json(plan_json)
    plan.require_same(result.plan.digest, where="report")
    return plan


def site_order(result: Result) -> tuple[str, ...]:
    """Every site the result names, by name."""
    asked = {site for stage in result.stages for item in stage.rounds for site in item.sites}
    return tuple(sorted(asked.union(result.sites)))


def simulate_command(result: Result) -> str:
    """The command that remakes a simulated run."""
    kinds = {key.partition("/")[0] for key in result.models}
    baselines = ",".join(kind for kind in BASELINES if kind in kinds)
    options = [f"--baselines {baselines}"] if baselines else []
    options.append(f"--device {result.device}")
    if result.engine != "in-process":
        options.append(f"--engine {result.engine}")
    return f"fedvol simulate STUDY.toml --data DIR --out DIR {' '.join(options)}"


def _stage(
    stage: StageResult, sites: Sequence[str], pretext_pictures: Sequence[PretextPlanes]
) -> _Stage:
    pictures = pretext_pictures if stage.is_pretraining else ()
    return _Stage(
        result=stage,
        validation=charts.validation_chart(stage, sites=sites),
        num_cases=_validation_cases(stage),
        loss=charts.loss_chart(stage, sites=sites),
        further=tuple(
            (charts.validation_chart(stage, sites=sites, metric=key), metric_info(key))
            for key in view.further_metrics(stage)
        ),
        trivial=view.trivial_words(stage),
        grid=participation_grid(stage, sites=sites),
        legend=tuple(
            (legend_mark(state), wording.STATES.get(state, ("?", state))[1])
            for state in states_seen(stage, sites=sites)
        ),
        pictures=tuple(map(_pretext_picture, pictures)),
        pictures_words=pretext_words(stage.kind) if pictures else "",
    )


def _validation_cases(stage: StageResult) -> str:
    given = [item.validation.get(stage.select_by) for item in stage.rounds]
    nums = {stat.n for stat in given if stat is not None and stat.value is not None}
    if not nums:
        return ""
    return f"n={min(nums)}" if len(nums) == 1 else f"n={min(nums)} to {max(nums)}"


def _picture(picture: CasePicture) -> _Picture:
    width, height = picture_size(picture.image, spacing_mm=picture.spacing_mm)
    return _Picture(picture=picture, uri=data_uri(render_png(picture)), width=width, height=height)


def _pretext_picture(picture: PretextPlanes) -> _PretextPicture:
    planes = [getattr(picture, name) for name in PLANES]
    width, height = picture_size(picture.shown, spacing_mm=picture.spacing_mm)
    return _PretextPicture(
        picture=picture,
        uris=tuple(data_uri(plane_png(one, spacing_mm=picture.spacing_mm)) for one in planes),
        width=width,
        height=height,
    )
