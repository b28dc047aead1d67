"""Best, median and worst test case of the federated model; a simulation may show pictures."""

import json
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from fedvol.client.judging import rows_path
from fedvol.config.metrics import METRICS, metric_name
from fedvol.report import CasePicture, metric_info, metric_label, quantity
from fedvol.simulation.judged import Judged
from fedvol.simulation.session import FEDERATED, Session
from fedvol.types import CaseId, SiteId
from fedvol.validation import reference_image, segment, slice_panel

Label = Literal["best", "median", "worst"]
Row = tuple[float, SiteId, CaseId]


def case_pictures(session: Session, federated: Judged) -> tuple[CasePicture, ...]:
    """Predict the best, median and worst test case again, and take a slice of each.

    They are ranked by the metric that names the best round.
    """
    metric = session.study.evaluation.select_by
    chosen = best_median_worst(_rows(session, metric), metric=metric)
    return tuple(_picture(session, federated, label, *row) for label, row in chosen.items())


def best_median_worst(rows: Iterable[Row], *, metric: str) -> Mapping[Label, Row]:
    """Three cases of all; of an even number the better one in the middle. None of none.

    Args:
        rows: Value, site and name of each case; equal values are in the order of sites and names.
        metric: What the values are, with `/class` or without.
    """
    upwards = sorted(rows, reverse=not METRICS[metric_name(metric)].is_higher_better)
    if not upwards:
        return {}
    return {"best": upwards[-1], "median": upwards[len(upwards) // 2], "worst": upwards[0]}


def as_page(plane: np.ndarray) -> np.ndarray:
    """From (i right, j front) to page rows and columns, radiological view."""
    return np.ascontiguousarray(plane.T[::-1, ::-1])


def _rows(session: Session, metric: str) -> list[Row]:
    found: list[Row] = []
    for site in session.sites:
        path = rows_path(session.output.site(site), FEDERATED, stage=session.study.finetune_index)
        for line in path.read_text().splitlines() if path.exists() else []:
            row = json.loads(line)
            if row["values"][metric] is not None:
                found.append((float(row["values"][metric]), site, CaseId(row["case"])))
    return found


def _picture(
    session: Session,
    federated: Judged,
    label: Label,
    value: float,
    site: SiteId,
    case_name: CaseId,
) -> CasePicture:
    case = next(c for c in session.cases[site].test if c.stored.case == case_name)
    metric = session.study.evaluation.select_by
    assert federated.release is not None
    assert federated.best_round is not None
    with session.blobs(FEDERATED).open(federated.release) as file:
        release = file.read_all()
    predictor = session.agent(site).released_predictor(
        release,
        run=FEDERATED,
        stage=session.study.finetune_index,
        best_round=federated.best_round,
    )
    truth = case.stored.reference_label()
    assert truth is not None
    panel = slice_panel(
        reference_image(case.stored),
        truth=truth,
        prediction=segment(predictor, case=case.stored),
        spacing_mm=case.stored.reference_spacing_mm,
    )
    # Rows from the top of the page: front of the patient up, patient's right on the left.
    return CasePicture(
        label=label,
        site=site,
        case=case_name,
        metric=f"{metric_label(metric)} {quantity(value, metric=metric_info(metric))}",
        image=as_page(panel.image),
        truth=as_page(panel.truth),
        prediction=as_page(panel.prediction),
        spacing_mm=(panel.spacing_mm[1], panel.spacing_mm[0]),
        view=f"axial slice {panel.k + 1} of {truth.shape[2]}",
    )
