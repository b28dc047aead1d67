"""`model-card.md`: what the run knows of its model, and what only people can add."""

import re
from pathlib import Path

from fedvol.files import write_atomic
from fedvol.report import view, wording
from fedvol.report.html import read_plan
from fedvol.report.rendering import markdown_templates
from fedvol.report.result import Result
from fedvol.report.settings import plan_settings

HUMAN_ITEMS = (
    "Clinical question and role of the output in a decision; who acts on it and how",
    "Study design: retrospective or prospective; period; ethics approval or waiver",
    "Eligibility of patients: inclusion, exclusion, selection; age, sex and disease distribution",
    "Scanners, protocols and field strengths at each site; how poor image quality is handled",
    "Reference standard: who annotated, with which experience, how disagreement was settled",
    "Agreement between annotators",
    "Subgroups in which performance must be known before use",
    "Failure analysis by a reader: what the worst cases have in common",
    "External validation at sites that never trained",
    "Known risks and who monitors drift after release",
    "Funding, conflicts of interest, contact, licence, where code and weights are",
)
"""Items of CLAIM (Mongan et al. 2020) and CONSORT-AI (Liu et al. 2020) that no run can fill in."""


def write_model_card(path: Path, *, result: Result, plan_json: str) -> None:
    """Write the card whole or not at all.

    Raises:
        PlanMismatchError: `plan_json` is not the plan of `result`.
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    write_atomic(path, render_model_card(result, plan_json=plan_json).encode())


def render_model_card(result: Result, *, plan_json: str) -> str:
    """The card as Markdown; names and free text are escaped."""
    plan = read_plan(plan_json, result=result)
    metrics, rows = view.model_rows(result)
    headline = view.headline(result)
    text = (
        markdown_templates()
        .get_template("model-card.md.j2")
        .render(
            result=result,
            kind="Simulated federated training" if result.simulation else "Federated training",
            settings=plan_settings(plan) if plan else (),
            tested_on=view.tested_on(result),
            metrics=metrics,
            rows=rows,
            comparisons=headline.comparisons if headline else (),
            privacy=wording.privacy_words(result.privacy),
            human_items=HUMAN_ITEMS,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
