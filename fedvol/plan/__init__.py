"""The frozen, hashed description of what a run does, derived from a study."""

from fedvol.plan.canonical import canonical_json, digest_bytes, digest_json, state_digest
from fedvol.plan.names import class_names, metric_keys, selection_metrics
from fedvol.plan.plan import NetworkDescription, Plan, TensorKind, TensorSpec
from fedvol.plan.seeding import derive_seed

__all__ = [
    "NetworkDescription",
    "Plan",
    "TensorKind",
    "TensorSpec",
    "canonical_json",
    "class_names",
    "derive_seed",
    "digest_bytes",
    "digest_json",
    "metric_keys",
    "selection_metrics",
    "state_digest",
]
