"""A proposal in plain language: what a hospital agrees to if it approves."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from fedvol.config import SiteConfig
from fedvol.config.stage_words import labels_words, weights_words
from fedvol.config.strategy import Personalise, Scaffold, Stage
from fedvol.errors import NoDataSourceError, Problem
from fedvol.plan import Plan, class_names
from fedvol.site.estimates import RunTraffic, StageTraffic, plain_bytes, run_traffic
from fedvol.site.policy import violations
from fedvol.site.preparing import fitting_source
from fedvol.site.proposals import Proposed
from fedvol.telemetry import printable

_QUOTED_LETTERS = 72
"""Fewer than a terminal has, so that it breaks no quoted line where the mark would be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `consent show` says.

    Attributes:
        lines: The text, line by line.
        against: Rules of the site that it is against.
        source: The data source that it would use; empty where none fits.
        bytes_up: Weights that would leave, bytes.
        bytes_down: Weights that would arrive, bytes.
        hours: Estimated hours of the device; None: not known.
    """

    lines: tuple[str, ...]
    against: tuple[Problem, ...]
    source: str
    bytes_up: int
    bytes_down: int
    hours: float | None


def explain(
    proposed: Proposed,
    config: SiteConfig,
    *,
    steps_s: Sequence[float] | None,
    source: str | None = None,
) -> Explanation:
    """Say in plain language what a proposal asks for.

    Args:
        proposed: The proposal.
        config: The site's own file.
        steps_s: Seconds of one gradient step of each stage, as measured on this machine; None: not
            measured.
        source: The data source that a person chose; None: the one that fits.
    """
    study = proposed.study
    against = violations(proposed.content, config)
    try:
        chosen = fitting_source(config, study.data, name=source)
        data, name = f"source {chosen.name}, folder {chosen.folder}", chosen.name
    except NoDataSourceError as error:
        data, name = f"NONE FITS: {error.what}. {error.fix}", ""
    few = study.data.few_labels
    lines = [
        f"Proposal {proposed.id}: study {study.name}",
        f"Proposed on {proposed.created} by:",
        *_quoted(proposed.operator),
        *(["They write:", *_quoted(proposed.words)] if proposed.words else []),
        "Purpose:",
        *_quoted(study.purpose),
        f"Sites asked: {', '.join(proposed.content.sites)}",
        "",
        f"Your data: {data}",
        f"  channels {', '.join(study.data.channels)}",
        f"  classes {', '.join(class_names(study.data))}",
        *([] if few is None else [f"  {labels_words(few, site=config.site)}"]),
        "",
    ]
    plan = proposed.plan
    traffic = run_traffic(plan) if plan is not None else None
    hours = None if traffic is None or steps_s is None else traffic.seconds(steps_s) / 3600
    if plan is None or traffic is None:
        lines += _fingerprint_lines(config)
    else:
        lines += _run_lines(plan, traffic, config, hours=hours, steps_s=steps_s)
    lines += ["", *_policy_lines(against)]
    return Explanation(
        lines=tuple(lines),
        against=tuple(against),
        source=name,
        bytes_up=0 if traffic is None else traffic.bytes_up,
        bytes_down=0 if traffic is None else traffic.bytes_down,
        hours=hours,
    )


def _quoted(text: str) -> list[str]:
    """What others wrote, marked so that no line of it can pass for one of ours."""
    return [
        f"  > {part}"
        for line in text.splitlines()
        for part in textwrap.wrap(printable(line), width=_QUOTED_LETTERS) or [""]
    ]


def _fingerprint_lines(config: SiteConfig) -> list[str]:
    floor = config.policy.floor
    return [
        "What is computed: your training cases are read and counted; nothing is trained.",
        "What leaves, once: coarse counts of voxel sizes, extents, intensities and class sizes",
        "  over all training cases together, some kilobytes. No image, no case, no name.",
        f"  Below {floor} patients nothing leaves (policy.min_group, policy.min_cohort).",
        "What it is for: planning voxel size, patches and network. The run is proposed on its own.",
    ]


def _run_lines(
    plan: Plan,
    traffic: RunTraffic,
    config: SiteConfig,
    *,
    hours: float | None,
    steps_s: Sequence[float] | None,
) -> list[str]:
    policy = config.policy
    evaluation = plan.study.evaluation
    lines = [f"What is computed: network {plan.study.network.kind}, {_weights(plan)} weights."]
    lines += [
        f"  {_stage_words(part, stage)}"
        for part, stage in zip(traffic.stages, plan.study.stages, strict=True)
    ]
    lines += [
        "  After each round the new model is judged on your validation cases, at the end on your",
        f"  test cases ({', '.join(evaluation.metrics)}).",
        "What leaves:",
    ]
    for stage, asked in zip(traffic.stages, plan.study.stages, strict=True):
        if stage.bytes_up:
            lines.append(
                f"  {stage.rounds} rounds x {stage.tensors_up} tensors, "
                f"{plain_bytes(stage.bytes_up)} a round: how your cases would change the weights"
                f"{_with_controls(asked)}."
            )
        else:
            lines.append(f"  {stage.rounds} rounds of figures only; the personal model stays here.")
        if stage.norms_up:
            lines.append(f"  once, at the end: norm layers, {plain_bytes(stage.norms_up)}.")
    lines += [
        "  with each: number of cases and steps, mean loss, sums of the metrics over your cases;",
        f"  figures with fewer than {policy.min_group} patients behind them are withheld.",
        *(
            ["  every 5 s while it trains: its step and seconds a step (policy.tell_progress)."]
            if policy.tell_progress
            else []
        ),
        f"Bytes up in all: {plain_bytes(traffic.bytes_up)}.",
        f"Bytes down in all: {plain_bytes(traffic.bytes_down)}.",
        "Privacy: the server sees this site's updates singly (no secure sum in this version), and",
        "  no noise is added (no differential privacy). "
        + (
            f"An update's norm is at most {policy.max_update_norm:g}."
            if policy.max_update_norm is not None
            else "The norm of an update is not bounded (policy.max_update_norm)."
        ),
        f"Computing time on this {config.resources.device}: {_time_words(traffic, hours, steps_s)}",
    ]
    if any(isinstance(stage, Personalise) for stage in plan.study.stages):
        lines.append("A personalise stage trains a model for this site alone; it never leaves.")
    return lines


def _stage_words(part: StageTraffic, stage: Stage) -> str:
    cases = ", on all training cases, labelled or not" if part.kind == "pretrain" else ""
    weights = weights_words(stage)
    how = f"; {weights}" if weights else ""
    return f"{part.kind}: {part.rounds} rounds of {part.steps} training steps each{cases}{how}."


def _with_controls(stage: Stage) -> str:
    controlled = not isinstance(stage, Personalise) and isinstance(stage.strategy, Scaffold)
    return ",\n  and their control variates (the gradients of your cases)" if controlled else ""


def _time_words(traffic: RunTraffic, hours: float | None, steps_s: Sequence[float] | None) -> str:
    if hours is None or steps_s is None:
        return f"not known; {traffic.steps} steps. Measure one here: fedvol consent show --measure"
    each = ", ".join(
        f"{stage.rounds * stage.steps} steps of {step_s:.2f} s ({stage.kind})"
        for stage, step_s in zip(traffic.stages, steps_s, strict=True)
    )
    return (
        f"about {hours:.1f} hours for training: {each}, measured here on random patches; judging "
        "comes on top."
    )


def _policy_lines(against: Sequence[Problem]) -> list[str]:
    if not against:
        return ["Your policy allows it."]
    return ["YOUR POLICY FORBIDS IT:", *(f"  {problem}" for problem in against)]


def _weights(plan: Plan) -> str:
    return f"{sum(spec.size for spec in plan.network.tensors):,}"
