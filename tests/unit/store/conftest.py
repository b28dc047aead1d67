"""A run's plan and store, without a network."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedvol.config import Study
from fedvol.plan import NetworkDescription, Plan, TensorKind, TensorSpec
from fedvol.store import RunStore, open_engine
from fedvol.types import Digest, SiteId

STUDY = {
    "version": 1,
    "name": "tiny",
    "purpose": "A study small enough for a test.",
    "data": {"channels": ["CT"], "labels": {"liver": 1}, "split": {"kind": "hash"}},
    "preprocessing": {"spacing_mm": [1.0, 1.0, 1.0], "normalisation": {"kind": "z_score"}},
    "patches": {"size": [8, 8, 8], "batch_size": 2},
    "network": {"kind": "unet", "features": [4, 8]},
    "task": {"kind": "segmentation"},
    "stages": [
        {
            "kind": "finetune",
            "strategy": {"kind": "fedavg"},
            "rounds": 2,
            "steps_per_round": 1,
            "training": {"optimiser": {"kind": "sgd"}},
        }
    ],
}


@pytest.fixture
def plan() -> Plan:
    return Plan(
        software="0.1.0",
        study=Study.model_validate_json(json.dumps(STUDY)),
        sites=(SiteId("a"), SiteId("b")),
        network=NetworkDescription(
            tensors=(TensorSpec(name="w", shape=(2,), dtype="float32", kind=TensorKind.ENCODER),),
            initial_digest=Digest("0" * 64),
        ),
    )


@pytest.fixture
def store(database: str | Path) -> Iterator[RunStore]:
    engine = open_engine(database)
    yield RunStore(engine)
    engine.dispose()
