"""The report's words for models, differences, states of a site, error codes and protections."""

from collections.abc import Iterable
from dataclasses import dataclass

from fedvol.config.model_names import (
    ENSEMBLE,
    FEDERATED,
    NEW_SITE,
    PERSONALISED,
    POOLED,
    site_of,
)
from fedvol.errors import classes_by_code
from fedvol.report.figures import (
    NO_PAIRED_INTERVAL,
    count,
    metric_info,
    paired_interval,
    quantity,
)
from fedvol.report.result import Difference, PrivacyResult, Protection, Result, SpentResult

STATES = {
    "contributed": ("C", "contributed: its update is in the round's model"),
    "personalised": ("P", "personalised: trained a model of its own, which stays there"),
    "trained": ("T", "trained, but its update was not used"),
    "asked": ("A", "asked; the round ended before it answered"),
    "silent": ("S", "silent: no answer within the time limit"),
    "refused": ("R", "refused or failed, with a code"),
    "no_labels": ("N", "no labels: sat this stage out"),
    "not_asked": ("–", "not asked in this round"),
}
"""Letter and meaning of each state of a site in a round."""

_ORDER = (FEDERATED, NEW_SITE, PERSONALISED, POOLED, ENSEMBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWords:
    """How a model is called.

    Attributes:
        key: Its name in `result.json`.
        label: Its name in tables and charts.
        phrase: Its name inside a sentence, such as `the pooled model`.
        meaning: How it was trained.
    """

    key: str
    label: str
    phrase: str
    meaning: str

    @property
    def is_federated(self) -> bool:
        """Whether it is the run's own product."""
        return self.key == FEDERATED


def model_words(key: str, *, result: Result) -> ModelWords:
    """Name and explanation of one model, with how many gradient steps it got."""
    num_sites = count(len(result.sites), "site")
    if key == FEDERATED:
        label, phrase, meaning = (
            "Federated",
            "the federated model",
            f"trained by {num_sites} together",
        )
        if NEW_SITE in result.models:
            meaning += "; each site judged it with norm layers of its own, not in the released file"
    elif key == NEW_SITE:
        label, phrase = "Federated, as released", "the released file"
        meaning = (
            "the same model with the mean of the sites' norm layers, as a new site would use it"
        )
    elif key == PERSONALISED:
        label, phrase = "Personalised", "the personalised models"
        meaning = (
            "each site's own model, trained on at that site from the federated one; judged on that "
            "site's own test cases only, and in no released file. A site that trained none "
            "uses the federated model"
        )
    elif key == POOLED:
        label, phrase = "Pooled", "the pooled model"
        meaning = "trained on all sites' cases gathered in one place"
    elif key == ENSEMBLE:
        label, phrase = "Ensemble", "the ensemble"
        meaning = "predictions of the models trained at one site alone, averaged"
    elif site := site_of(key):
        label, phrase = f"{site} alone", f"the model trained at {site} alone"
        meaning = f"trained at {site} alone"
    else:
        label, phrase, meaning = key, f"the model “{key}”", "this report has no description of it"
    return ModelWords(key=key, label=label, phrase=phrase, meaning=meaning + _steps(key, result))


def model_order(keys: Iterable[str]) -> tuple[str, ...]:
    """Federated, pooled, ensemble, then the others by name."""
    names = set(keys)
    first = [key for key in _ORDER if key in names]
    return (*first, *sorted(names.difference(first)))


def verdict(difference: Difference) -> str:
    """`better`, `worse` or `none`; `higher` or `lower` where the direction is not known.

    Without an interval it is `open`: a difference alone shows nothing.
    """
    if difference.low is None or difference.high is None:
        return "open"
    if difference.low <= 0 <= difference.high:
        return "none"
    better = metric_info(difference.metric).better
    if better == "unknown":
        return "higher" if difference.value > 0 else "lower"
    return "better" if (difference.value > 0) == (better == "higher") else "worse"


def verdict_words(difference: Difference) -> str:
    """What an interval shows, in words that cannot be taken for more."""
    words = verdict(difference)
    if words == "open":
        return "too few subjects to say"
    return "no difference shown" if words == "none" else f"federated is {words}"


def difference_words(difference: Difference) -> str:
    """Difference, interval and n in one line."""
    info = metric_info(difference.metric)
    cases = f"; {cases_words(difference)}" if difference.n is not None else ""
    value = quantity(difference.value, metric=info, signed=True)
    ends = paired_interval(difference, metric=info)
    named = ends if ends == NO_PAIRED_INTERVAL else f"95 % interval {ends}"
    return f"{value} {info.label} ({named}{cases})"


def unequal_steps(key: str, *, result: Result) -> str:
    """That a model took other numbers of gradient steps than the federated one; empty if not."""
    model, federated = result.models.get(key), result.models.get(FEDERATED)
    if model is None or federated is None or model.steps == federated.steps:
        return ""
    return f"unequal gradient steps: federated {federated.steps:,}, the other {model.steps:,}"


def cases_words(difference: Difference) -> str:
    """`n=41`, or `n=41 against 40` where the means are over other numbers of cases."""
    if difference.n is None:
        return ""
    has_other = difference.other_n not in (None, difference.n)
    return f"n={difference.n}" + (f" against {difference.other_n}" if has_other else "")


def code_title(code: str) -> str:
    """The fixed words of an error code, or that they are unknown."""
    kind = classes_by_code().get(code)
    return kind.title if kind is not None else "a code this version does not know"


def privacy_words(privacy: PrivacyResult) -> tuple[tuple[str, str], ...]:
    """Each protection with its state; what the run did not record is said to be absent."""
    protections = (
        ("Secure sum", privacy.secure_sum),
        ("Differential privacy", privacy.differential_privacy),
        ("Suppression of small groups", privacy.suppression),
    )
    lines = [("What left each site", privacy.released.what)] if privacy.released else []
    lines += [(label, _protection(found)) for label, found in protections if found is not None]
    lines += [
        (
            f"Privacy spent at {site}",
            _spent(spent),
        )
        for site, spent in sorted(privacy.ledger.items())
    ]
    return tuple(lines)


def _spent(spent: SpentResult) -> str:
    bound = f"epsilon {spent.epsilon:g} at delta {spent.delta:g}"
    return f"{bound} per {spent.unit}, by {spent.accountant}"


def _protection(found: Protection) -> str:
    if found.state == "not_recorded":
        return "not recorded for this run: take it as absent"
    return f"{found.state}: {found.words}" if found.words else found.state


def _steps(key: str, result: Result) -> str:
    model = result.models.get(key)
    federated = result.models.get(FEDERATED)
    if model is None:
        return ""
    steps = count(model.steps, "gradient step")
    if key == FEDERATED or federated is None:
        return f" ({steps} over all sites)"
    if key == ENSEMBLE:
        return f" ({steps} over all of them)"
    if key == PERSONALISED:
        return f" ({steps} over all sites, the federated model's {federated.steps:,} among them)"
    if model.steps == federated.steps:
        return f" (same number of gradient steps as the federated model: {model.steps:,})"
    personal = result.models.get(PERSONALISED)
    total = f", and with the personalised models {personal.steps:,}" if personal else ""
    return f" ({steps}; the federated model took {federated.steps:,} over all sites{total})"
