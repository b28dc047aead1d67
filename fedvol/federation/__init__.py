"""The round protocol: messages, strategies, what travels, sums and checks; numpy only, no I/O."""

from fedvol.federation.contribution_check import (
    UPDATE_DTYPE,
    check_evaluation,
    check_health,
    check_identity,
    check_norms,
    check_update,
)
from fedvol.federation.exchange import Exchange, build_exchange
from fedvol.federation.fingerprint_check import check_fingerprint
from fedvol.federation.link import Link
from fedvol.federation.messages import Action, Reply, Request
from fedvol.federation.metric_arrays import from_arrays, to_arrays
from fedvol.federation.reports import EvaluationReport, HealthReport, TrainReport
from fedvol.federation.selection import Candidate, best_round, is_better
from fedvol.federation.states import RoundState, RunState, SiteState
from fedvol.federation.statistics import MetricSums, PairedDifference, Stat, difference, merge
from fedvol.federation.strategy import Strategy, WeightedMean, build_strategy
from fedvol.federation.weighted_sum import TensorReader, average

__all__ = [
    "UPDATE_DTYPE",
    "Action",
    "Candidate",
    "EvaluationReport",
    "Exchange",
    "HealthReport",
    "Link",
    "MetricSums",
    "PairedDifference",
    "Reply",
    "Request",
    "RoundState",
    "RunState",
    "SiteState",
    "Stat",
    "Strategy",
    "TensorReader",
    "TrainReport",
    "WeightedMean",
    "average",
    "best_round",
    "build_exchange",
    "build_strategy",
    "check_evaluation",
    "check_fingerprint",
    "check_health",
    "check_identity",
    "check_norms",
    "check_update",
    "difference",
    "from_arrays",
    "is_better",
    "merge",
    "to_arrays",
]
