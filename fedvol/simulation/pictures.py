"""Best, median and worst test case of the federated model; a simulation may show pictures."""

import json
from typing import Literal

import numpy as np

from fedvol.client import rows_path
from fedvol.federation import is_smaller_better
from fedvol.report import CasePicture, metric_info, metric_label, quantity
from fedvol.simulation.judged import Judged
from fedvol.simulation.session import FEDERATED, Session
from fedvol.types import CaseId, SiteId
from fedvol.validation import reference_image, segment, slice_panel


def case_pictures(session: Session, federated: Judged) -> tuple[CasePicture, ...]:
    """Predict the best, median and worst test case again, and take a slice of each.

    They are ranked by the metric that names the best round.
    """
    metric = session.study.evaluation.select_by
    sign = -1.0 if is_smaller_better(metric) else 1.0
    rows = sorted(_rows(session, metric), key=lambda row: (sign * row[0], *row[1:]))
    if not rows:
        return ()
    chosen: dict[Literal["best", "median", "worst"], tuple[float, SiteId, CaseId]] = {
        "best": rows[-1],
        "median": rows[len(rows) // 2],
        "worst": rows[0],
    }
    return tuple(_picture(session, federated, label, *row) for label, row in chosen.items())


def _rows(session: Session, metric: str) -> list[tuple[float, SiteId, CaseId]]:
    found: list[tuple[float, SiteId, CaseId]] = []
    for site in session.sites:
        path = rows_path(session.output.site(site), FEDERATED)
        for line in path.read_text().splitlines() if path.exists() else []:
            row = json.loads(line)
            if row["values"][metric] is not None:
                found.append((float(row["values"][metric]), site, CaseId(row["case"])))
    return found


def _picture(
    session: Session,
    federated: Judged,
    label: Literal["best", "median", "worst"],
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
        release, run=FEDERATED, stage=0, best_round=federated.best_round
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
        image=_page(panel.image),
        truth=_page(panel.truth),
        prediction=_page(panel.prediction),
        spacing_mm=(panel.spacing_mm[1], panel.spacing_mm[0]),
        view=f"axial slice {panel.k + 1} of {truth.shape[2]}",
    )


def _page(plane: np.ndarray) -> np.ndarray:
    """From (i right, j front) to page rows and columns, radiological view."""
    return np.ascontiguousarray(plane.T[::-1, ::-1])
