"""Names of models: one that is written is one that is understood."""

import pytest

from fedvol.config.model_names import (
    BASELINES,
    ENSEMBLE,
    FEDERATED,
    NEW_SITE,
    PERSONALISED,
    POOLED,
    local_model,
    require_baselines,
    site_of,
)
from fedvol.errors import UsageError
from fedvol.federation import SiteState
from fedvol.report.wording import STATES


@pytest.mark.parametrize("site", ["a", "hospital_1", "local", "x/y"])
def test_a_local_model_names_its_site(site: str) -> None:
    assert site_of(local_model(site)) == site


@pytest.mark.parametrize("model", [FEDERATED, NEW_SITE, PERSONALISED, POOLED, ENSEMBLE, "local"])
def test_other_models_are_of_no_site(model: str) -> None:
    assert site_of(model) is None


def test_baselines_come_in_their_usual_order() -> None:
    assert require_baselines(reversed(BASELINES)) == BASELINES
    for wrong in (["best"], [POOLED, POOLED]):
        with pytest.raises(UsageError):
            require_baselines(wrong)


def test_the_report_has_words_for_every_state_of_a_site() -> None:
    assert set(STATES) == {*SiteState, "not_asked"}
