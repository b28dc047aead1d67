"""The round protocol: messages, strategies, what travels, sums and checks; numpy only, no I/O."""

from fedvol.federation.aggregate import next_global
from fedvol.federation.arguments import RoundArguments
from fedvol.federation.build import build_strategy
from fedvol.federation.companions import companion_name, companion_specs
from fedvol.federation.contribution_check import (
    UPDATE_DTYPE,
    check_evaluation,
    check_health,
    check_identity,
    check_norms,
    check_update,
)
from fedvol.federation.exchange import (
    CONTROL,
    Exchange,
    build_exchange,
    plan_exchange,
    stage_exchange,
)
from fedvol.federation.fingerprint_check import check_fingerprint
from fedvol.federation.link import Link
from fedvol.federation.messages import TRAINING, Action, Reply, Request
from fedvol.federation.metric_arrays import from_arrays, to_arrays
from fedvol.federation.reports import EvaluationReport, HealthReport, TrainReport
from fedvol.federation.selection import Candidate, best_round, is_better
from fedvol.federation.states import TOOK_PART, RoundState, RunState, SiteState
from fedvol.federation.statistics import MetricSums, PairedDifference, Stat, difference, merge
from fedvol.federation.strategy import Mean, ServerOptimiser, Stepped, Strategy
from fedvol.federation.transfer import (
    TransferTerms,
    is_account_of,
    match_state,
    taken_shares,
    terms_of,
    transfer_problems,
)
from fedvol.federation.weighted_sum import TensorReader, average

__all__ = [
    "CONTROL",
    "TOOK_PART",
    "TRAINING",
    "UPDATE_DTYPE",
    "Action",
    "Candidate",
    "EvaluationReport",
    "Exchange",
    "HealthReport",
    "Link",
    "Mean",
    "MetricSums",
    "PairedDifference",
    "Reply",
    "Request",
    "RoundArguments",
    "RoundState",
    "RunState",
    "ServerOptimiser",
    "SiteState",
    "Stat",
    "Stepped",
    "Strategy",
    "TensorReader",
    "TrainReport",
    "TransferTerms",
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
    "companion_name",
    "companion_specs",
    "difference",
    "from_arrays",
    "is_better",
    "is_account_of",
    "match_state",
    "merge",
    "next_global",
    "plan_exchange",
    "stage_exchange",
    "to_arrays",
    "taken_shares",
    "terms_of",
    "transfer_problems",
]
