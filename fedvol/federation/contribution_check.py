"""Is a reply what was asked for? One bad reply costs its site the round, never the run the rest."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from fedvol.config.base import Section
from fedvol.config.metrics import METRICS, metric_name
from fedvol.errors import ContributionError
from fedvol.federation.messages import Reply, Request
from fedvol.federation.metric_arrays import from_arrays
from fedvol.federation.reports import EvaluationReport, HealthReport, TrainReport
from fedvol.federation.statistics import MetricSums
from fedvol.plan import TensorSpec
from fedvol.types import State

UPDATE_DTYPE = "float32"
"""Type in which every update travels."""

_MAX_NAMED = 3
_ReportT = TypeVar("_ReportT", bound=Section)


def check_identity(reply: Reply, *, request: Request) -> None:
    """Refuse an answer to another question.

    The plan is no part of a reply: the link compares it when it reads the message.

    Raises:
        ContributionError: Run, stage, round, site or action differ.
    """
    asked = (request.run, request.stage, request.round, request.site, request.action)
    answered = (reply.run, reply.stage, reply.round, reply.site, reply.action)
    if asked != answered:
        raise _bad(
            request,
            "the reply answers another question than was asked",
            "Look at the site's log; it may hold messages of an earlier run.",
        )


def check_health(reply: Reply, *, request: Request) -> HealthReport:
    """A site's state; the reply has no code.

    Raises:
        ContributionError: The reply is malformed.
    """
    return check_report(reply, HealthReport, request=request)


def check_report(reply: Reply, kind: type[_ReportT], *, request: Request) -> _ReportT:
    """An answer without tensors, by its strict schema; the reply has no code.

    Raises:
        ContributionError: It answers another question, or does not follow the schema.
    """
    _require_answer(reply, request)
    if reply.tensors:
        raise _bad(request, f"a {kind.__name__} came with tensors", _VERSION_FIX)
    return _report(reply.values, kind, request=request)


def check_update(
    reply: Reply,
    *,
    request: Request,
    travelling: Sequence[TensorSpec],
    steps: int,
    cases: int | None = None,
) -> TrainReport:
    """The report of a training whose update may enter the sum; the reply has no code.

    Args:
        reply: The answer, with the update as `tensors`.
        request: What was asked.
        travelling: What comes up; the reply holds exactly these, in float32.
        steps: Gradient steps that were asked for.
        cases: Training cases the site stated before; None where it was not asked.

    Raises:
        ContributionError: Anything differs from what was asked, or a value is not finite.
    """
    _require_answer(reply, request)
    report = _report(reply.values, TrainReport, request=request)
    if report.cases < 1:
        raise _bad(request, "it trained on no case", "Leave the site out until it has labels.")
    if cases is not None and report.cases != cases:
        raise _bad(
            request,
            f"it counts {report.cases} training cases and stated {cases} before",
            "Ask the site whether its data changed, and start a new run.",
        )
    if report.steps != steps:
        raise _bad(request, f"it took {report.steps} steps instead of {steps}", _VERSION_FIX)
    _check_tensors(reply.tensors, travelling, dtype=UPDATE_DTYPE, request=request)
    return report


def check_norms(reply: Reply, *, request: Request, local: Sequence[TensorSpec]) -> State:
    """The tensors that stayed at a site; the reply has no code.

    Raises:
        ContributionError: Names, shapes or types differ, or a value is not finite.
    """
    _require_answer(reply, request)
    if reply.values:
        raise _bad(request, "local tensors came with further values", _VERSION_FIX)
    _check_tensors(reply.tensors, local, dtype=None, request=request)
    return reply.tensors


def check_evaluation(
    reply: Reply, *, request: Request, keys: Sequence[str], replicates: int
) -> tuple[EvaluationReport, MetricSums]:
    """What a site says of a model on its cases; the reply has no code.

    A suppressed metric comes back with sum 0 and count 0, so that it adds nothing when sites are
    merged; `report.suppressed` says which they are.

    Args:
        reply: The answer.
        request: What was asked.
        keys: The metrics that were asked for, in order.
        replicates: Bootstrap replicates that were asked for; 0 for none.

    Raises:
        ContributionError: Metrics, shapes, counts or sums are not what can be.
    """
    _require_answer(reply, request)
    report = _report(reply.values, EvaluationReport, request=request)
    if report.keys != tuple(keys):
        raise _bad(request, "it reports other metrics than were asked for", _VERSION_FIX)
    if not set(report.suppressed) <= set(keys):
        raise _bad(request, "it suppresses metrics it was not asked for", _VERSION_FIX)
    if not reply.tensors and set(report.suppressed) == set(keys):
        return report, _nothing(report.keys, replicates=replicates)
    try:
        sums = from_arrays(reply.tensors, keys=report.keys)
    except ContributionError as error:
        raise _bad(request, error.what, error.fix) from error
    if sums.sums.shape[1] != 1 + replicates:
        raise _bad(
            request,
            f"it sends {sums.sums.shape[1] - 1} replicates instead of {replicates}",
            _VERSION_FIX,
        )
    return report, _checked_sums(sums, report, request=request)


_VERSION_FIX = "Bring the site to the run's fedvol version, or leave it out."


def _checked_sums(sums: MetricSums, report: EvaluationReport, *, request: Request) -> MetricSums:
    hidden = np.array([key in report.suppressed for key in sums.keys], dtype=np.bool_)
    counted = (sums.counts, sums.undefined, sums.penalised, sums.lone_sites)
    if not np.all(np.isnan(sums.sums[hidden])) or any(np.any(part[hidden]) for part in counted):
        raise _bad(request, "a suppressed metric carries values", _VERSION_FIX)
    values = np.where(hidden[:, np.newaxis], 0.0, sums.sums)
    n, undefined, penalised = sums.counts[:, 0], sums.undefined, sums.penalised
    if not np.all(np.isfinite(values)) or not np.all(np.isfinite(sums.counts)):
        raise _bad(request, "a sum or a count is NaN or infinite", "Look at the site's log.")
    if np.any(n != np.floor(n)):
        raise _bad(request, "a number of cases is not whole", _VERSION_FIX)
    if any(np.any(part < 0) for part in counted) or np.any(values < 0):
        raise _bad(request, "a sum or a count is negative", "Look at the site's log.")
    if np.any(n + undefined > report.cases) or np.any(penalised > n):
        raise _bad(
            request, "a metric counts more cases than were judged", "Look at the site's log."
        )
    if np.any(sums.lone_sites > np.minimum(n, 1)) or np.any(sums.lone_sites < (n == 1)):
        raise _bad(request, "a metric's subjects do not fit its cases", _VERSION_FIX)
    if np.any(values[sums.counts == 0] != 0):
        raise _bad(request, "a sum over no case is not zero", "Look at the site's log.")
    shares = np.array([METRICS[metric_name(key)].is_share for key in sums.keys], dtype=np.bool_)
    if np.any(values[shares] > sums.counts[shares] * (1 + 1e-9)):
        raise _bad(request, "a mean of values up to 1 is above 1", "Look at the site's log.")
    return replace(sums, sums=values)


def _nothing(keys: tuple[str, ...], *, replicates: int) -> MetricSums:
    shape = (len(keys), 1 + replicates)
    return MetricSums(
        keys=keys,
        sums=np.zeros(shape, dtype=np.float64),
        counts=np.zeros(shape, dtype=np.float64),
        undefined=np.zeros(len(keys), dtype=np.int64),
        penalised=np.zeros(len(keys), dtype=np.int64),
        lone_sites=np.zeros(len(keys), dtype=np.int64),
    )


def _check_tensors(
    tensors: State, specs: Sequence[TensorSpec], *, dtype: str | None, request: Request
) -> None:
    wanted = {spec.name for spec in specs}
    missing, unknown = wanted - set(tensors), set(tensors) - wanted
    if missing:
        raise _bad(request, f"it lacks {len(missing)} tensors: {_some(missing)}", _VERSION_FIX)
    if unknown:
        raise _bad(request, f"it holds {len(unknown)} unknown tensors", _VERSION_FIX)
    for spec in specs:
        tensor, wanted_dtype = tensors[spec.name], dtype or spec.dtype
        if tensor.shape != spec.shape:
            what = f"tensor {spec.name} has shape {tensor.shape} instead of {spec.shape}"
            raise _bad(request, what, _VERSION_FIX)
        if tensor.dtype != np.dtype(wanted_dtype):
            what = f"tensor {spec.name} has type {tensor.dtype} instead of {wanted_dtype}"
            raise _bad(request, what, _VERSION_FIX)
        if not np.all(np.isfinite(tensor)):
            what = f"tensor {spec.name} holds NaN or infinite values"
            raise _bad(request, what, "Lower the learning rate, or look at the site's data.")


def _report(values: Mapping[str, object], kind: type[_ReportT], *, request: Request) -> _ReportT:
    try:
        return kind.model_validate_json(json.dumps(dict(values)))
    except (ValidationError, TypeError, ValueError) as error:
        # The values themselves are the site's and are not repeated here.
        raise _bad(request, f"its values are no {kind.__name__}", _VERSION_FIX) from error


def _require_answer(reply: Reply, request: Request) -> None:
    if reply.code:
        raise ValueError(f"a reply with code {reply.code} carries nothing to check")
    check_identity(reply, request=request)


def _some(names: set[str]) -> str:
    named = sorted(names)[:_MAX_NAMED]
    return ", ".join(named) + (" and more" if len(names) > _MAX_NAMED else "")


def _bad(request: Request, what: str, fix: str) -> ContributionError:
    where = f"site {request.site}, round {request.round}, {request.action.value}"
    return ContributionError(where, what, fix)
