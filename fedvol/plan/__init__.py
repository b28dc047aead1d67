"""The frozen, hashed description of what a run does: a study, its open values planned."""

from fedvol.plan.adaptation import (
    AdaptationRecord,
    StartingWeights,
    TransferReport,
    encoder_architecture,
)
from fedvol.plan.canonical import canonical_json, digest_bytes, digest_json, state_digest
from fedvol.plan.choices import Choice, PlanningRecord
from fedvol.plan.facts import CaseFacts, Intensities
from fedvol.plan.fingerprint import (
    ChannelFingerprint,
    ClassFingerprint,
    Fingerprint,
    merge_fingerprints,
)
from fedvol.plan.histogram import Histogram
from fedvol.plan.initial import join_initial, network_part, pretext_part
from fedvol.plan.names import (
    class_names,
    metric_keys,
    num_classes,
    pretext_metrics,
    selection_metrics,
)
from fedvol.plan.plan import Plan, Pretraining, Proposal, Taken
from fedvol.plan.planner import plan_over_sites, plan_study
from fedvol.plan.scales import EXTENT, INTENSITY, SPACING, Scale, exact_sums
from fedvol.plan.seeding import derive_seed
from fedvol.plan.settings import SETTINGS, Setting, settings_of
from fedvol.plan.spacing import require_comparable
from fedvol.plan.tensors import NetworkDescription, TensorKind, TensorSpec

__all__ = [
    "EXTENT",
    "INTENSITY",
    "SETTINGS",
    "SPACING",
    "AdaptationRecord",
    "CaseFacts",
    "ChannelFingerprint",
    "Choice",
    "ClassFingerprint",
    "Fingerprint",
    "Histogram",
    "Intensities",
    "NetworkDescription",
    "Plan",
    "PlanningRecord",
    "Pretraining",
    "Proposal",
    "Scale",
    "Setting",
    "StartingWeights",
    "Taken",
    "TensorKind",
    "TensorSpec",
    "TransferReport",
    "canonical_json",
    "class_names",
    "derive_seed",
    "digest_bytes",
    "digest_json",
    "encoder_architecture",
    "exact_sums",
    "join_initial",
    "merge_fingerprints",
    "network_part",
    "metric_keys",
    "num_classes",
    "plan_over_sites",
    "pretext_part",
    "plan_study",
    "require_comparable",
    "pretext_metrics",
    "selection_metrics",
    "settings_of",
    "state_digest",
]
