"""A whole made-up run: four sites, 20 rounds, three classes, every baseline."""

import json

import numpy as np
import pytest

from fedvol.config import Study
from fedvol.plan import NetworkDescription, Plan
from fedvol.report.pictures import CasePicture
from fedvol.report.pretext_pictures import PretextPlanes
from fedvol.report.result import Result

SITES = {"north": (41, 9), "east": (33, 7), "south": (18, 4), "west": (12, 3)}
CLASSES = ("liver", "spleen", "kidney")
NUM_ROUNDS = 20

STUDY = {
    "version": 1,
    "name": "abdomen-ct",
    "purpose": "Outline liver, spleen and kidneys on CT so that their volumes can be measured in "
    "retrospective research.",
    "seed": 7,
    "data": {
        "channels": ["ct"],
        "labels": {"liver": 1, "spleen": 2, "kidney": 3},
        "split": {"kind": "fold", "test": 0, "validation": 1},
    },
    "preprocessing": {
        "spacing_mm": [1.5, 1.5, 2.0],
        "normalisation": {"kind": "window", "window_hu": [-160, 240]},
    },
    "patches": {"size": [64, 64, 48], "batch_size": 2},
    "network": {"kind": "unet", "features": [16, 32, 64]},
    "task": {"kind": "segmentation"},
    "stages": [
        {
            "kind": "finetune",
            "strategy": {"kind": "fedavg"},
            "rounds": NUM_ROUNDS,
            "steps_per_round": 40,
            "training": {"optimiser": {"kind": "sgd"}},
        }
    ],
}


def make_plan(**changes):
    study = Study.model_validate_json(json.dumps(STUDY | changes))
    description = {
        "tensors": [
            {"name": "stem.weight", "shape": [16, 1, 3, 3, 3], "dtype": "float32", "kind": "stem"}
        ],
        "initial_digest": "a" * 64,
    }
    network = NetworkDescription.model_validate_json(json.dumps(description))
    return Plan(software="0.1.0", study=study, sites=tuple(sorted(SITES)), network=network)


def _stat(value, n, *, spread, undefined=0, penalised=0):
    return {
        "value": value,
        "n": n,
        "low": value - spread,
        "high": value + spread,
        "undefined": undefined,
        "penalised": penalised,
    }


def _metrics(quality, n, *, suffix="", wide=1.0, **counts):
    wide = wide * (2.6 / max(n, 1)) ** 0.5
    return {
        f"dice{suffix}": _stat(quality, n, spread=0.035 * wide, **counts),
        f"nsd{suffix}": _stat(quality + 0.031, n, spread=0.03 * wide, **counts),
        f"hd95_mm{suffix}": _stat(4.125 + 70 * (0.92 - quality), n, spread=1.9 * wide, **counts),
        f"assd_mm{suffix}": _stat(0.91 + 14 * (0.92 - quality), n, spread=0.31 * wide, **counts),
    }


def _evaluation(quality, worst_site=None):
    offsets = dict(zip(CLASSES, (0.045, 0.005, -0.05), strict=True))
    sites = dict(zip(SITES, (0.012, 0.004, -0.01, -0.028), strict=True))
    by_site = {}
    for site, (_, n) in SITES.items():
        base = quality + sites[site] + (0.05 if site == worst_site else 0.0)
        by_site[site] = _metrics(base, n)
        for name, offset in offsets.items():
            rare = site == "west" and name == "spleen"
            by_site[site] |= _metrics(
                base + offset,
                n - rare,
                suffix=f"/{name}",
                undefined=int(rare),
                penalised=int(site == "south" and name == "kidney"),
            )
    total = sum(n for _, n in SITES.values())
    return {
        "overall": _metrics(quality, total),
        "by_site": by_site,
        "by_class": {
            name: _metrics(
                quality + offset,
                total - (name == "spleen"),
                undefined=int(name == "spleen"),
                penalised=int(name == "kidney"),
            )
            for name, offset in offsets.items()
        },
    }


def _differences(quality, other):
    shift = 0.004 + 0.12 * abs(quality - other)
    out = []
    for metric, factor in (("dice", 1), ("nsd", 0.9), ("hd95_mm", -70), ("assd_mm", -14)):
        value = (quality - other) * factor
        out.append(
            {
                "metric": metric,
                "value": value,
                "low": value - shift * abs(factor),
                "high": value + shift * abs(factor),
                "n": 23,
            }
        )
    return out


def _site_round(site, cases, index):
    if site == "west" and index in (3, 4, 11):
        state = {"state": "silent", "code": "FV-FED-005", "reason": "time limit passed"}
        return state | {"bytes_down": 5_614_080}
    if site == "south" and index == 9:
        return {"state": "refused", "code": "FV-PRIV-001", "reason": "update not finite"}
    drift = sum(map(ord, site)) % 7 / 40
    return {
        "state": "contributed",
        "cases": cases,
        "steps": 40,
        "train_seconds": 11.25 + cases / 10,
        "bytes_up": 5_614_080,
        "bytes_down": 5_614_080,
        "loss": 1.6 * 0.86**index + 0.32 + drift + 0.02 * np.sin(index * 2.1 + cases),
    }


def _rounds():
    rounds = []
    for index in range(1, NUM_ROUNDS + 1):
        curve = 0.89 - 0.62 * 0.78**index - (0.012 if index > 17 else 0.0)
        sites = {
            site: _site_round(site, cases, index)
            for site, (cases, _) in SITES.items()
            if not (site == "west" and index == 12)
        }
        by_site = {
            site: {
                "dice": {
                    "value": curve + offset + 0.008 * np.sin(index * 1.7 + offset * 90),
                    "n": n,
                    "low": None,
                    "high": None,
                    "undefined": 0,
                }
            }
            for (site, (_, n)), offset in zip(
                SITES.items(), (0.018, 0.006, -0.012, -0.04), strict=True
            )
        }
        rounds.append(
            {
                "index": index,
                "attempts": 2 if index == 9 else 1,
                "started_s": 48.0 * (index - 1),
                "seconds": 47.5,
                "sites": sites,
                "validation": {
                    "dice": {"value": curve, "n": 22, "low": None, "high": None, "undefined": 0}
                },
                "validation_by_site": by_site,
            }
        )
    return rounds


def make_document(plan):
    qualities = {
        "federated": 0.871,
        "pooled": 0.8745,
        "ensemble": 0.846,
        "local/north": 0.832,
        "local/east": 0.8195,
        "local/south": 0.766,
        "local/west": 0.742,
    }
    num_cases = sum(cases for cases, _ in SITES.values())
    return {
        "schema": "fedvol.result/1",
        "status": "finished",
        "simulation": True,
        "study": {"name": "abdomen-ct", "digest": "1" * 64},
        "plan": {"name": "", "digest": plan.digest},
        "purpose": STUDY["purpose"],
        "seed": 7,
        "versions": {"fedvol": "0.1.0", "torch": "2.13.0", "python": "3.11.9"},
        "device": "cpu",
        "seconds": 961.4,
        "sites": {
            site: {
                "training_cases": cases,
                "training_subjects": cases - 2,
                "validation_cases": n - 1,
                "test_cases": n,
                "test_subjects": n,
            }
            for site, (cases, n) in SITES.items()
        },
        "stages": [
            {
                "name": "finetune",
                "kind": "segmentation",
                "strategy": "fedavg",
                "rounds": _rounds(),
                "select_by": "dice",
                "best_round": 17,
            }
        ],
        "models": {
            key: {
                "steps": 12_800 if key == "ensemble" else 3_200,
                "cases": SITES[key.removeprefix("local/")][0] if "/" in key else num_cases,
                "seconds": 911.3,
                "checkpoint": None if key == "ensemble" else f"checkpoints/{key}.safetensors",
                "digest": None if key == "ensemble" else "2" * 64,
            }
            for key in qualities
        },
        "evaluation": {
            key: _evaluation(quality, key.removeprefix("local/"))
            for key, quality in qualities.items()
        },
        "comparisons": {
            key: _differences(0.871, quality)
            for key, quality in qualities.items()
            if key != "federated"
        },
        "privacy": {
            "released": {
                "what": "model updates, case counts, mean losses, and sums of metrics over cases"
            },
            "secure_sum": {"state": "off", "words": "the server sees each site's update"},
            "differential_privacy": {
                "state": "off",
                "words": "an update can reveal things about training cases",
            },
            "suppression": {"state": "off", "words": "a simulation"},
            "ledger": {},
        },
        "skipped": {"north": {"FV-DATA-007": 2, "FV-DATA-009": 1}, "south": {"FV-DATA-012": 1}},
        "skipped_cases": {
            "north": {
                "n-0042": "FV-DATA-007 label grid is 1.0x1.0x3.0 mm, image grid is 1.0x1.0x1.0 mm",
                "n-0050": "FV-DATA-007 label grid is 1.0x1.0x3.0 mm, image grid is 1.0x1.0x1.0 mm",
                "n-0077": "FV-DATA-009 3 voxels are not finite",
            },
            "south": {"s-0003": "FV-DATA-012 background only"},
        },
        "overlap": "checked",
        "files": {"result.json": "3" * 64, "checkpoints/federated.safetensors": "2" * 64},
    }


def make_picture(label, *, seed, shift, shape=(72, 96), spacing_mm=(2.0, 1.5), **changes):
    generator = np.random.default_rng(seed)
    rows, columns = np.ogrid[: shape[0], : shape[1]]

    def ellipse(row, column, height, width):
        return ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1

    body = ellipse(shape[0] / 2, shape[1] / 2, shape[0] * 0.46, shape[1] * 0.47)
    truth = np.zeros(shape, dtype=np.uint8)
    prediction = np.zeros(shape, dtype=np.uint8)
    organs = ((30, 32, 16, 18), (28, 70, 9, 8), (50, 62, 7, 6))
    for index, (row, column, height, width) in enumerate(organs, start=1):
        truth[ellipse(row, column, height, width)] = index
        prediction[ellipse(row + shift, column - shift, height, width - shift / 2)] = index
    image = body * 90.0 + 45 * (truth == 1) + 65 * (truth == 2) + 80 * (truth == 3)
    image = np.clip(image + generator.normal(0, 9, shape) * body, 0, 255).astype(np.uint8)
    values = {
        "label": label,
        "site": "north",
        "case": "n-0007",
        "metric": "Dice 0.948",
        "image": image,
        "truth": truth,
        "prediction": prediction,
        "spacing_mm": spacing_mm,
        "view": "axial slice 31 of 60, the one with the largest labelled area",
    }
    return CasePicture(**(values | changes))


def make_pictures():
    return (
        make_picture("best", seed=1, shift=0),
        make_picture("median", seed=2, shift=2, site="east", case="e-0019", metric="Dice 0.879"),
        make_picture("worst", seed=3, shift=5, site="west", case="w-0002", metric="Dice 0.702"),
    )


def make_result(document):
    return Result.model_validate_json(json.dumps(document))


@pytest.fixture(scope="session")
def plan():
    return make_plan()


@pytest.fixture
def document(plan):
    return make_document(plan)


@pytest.fixture
def result(document):
    return make_result(document)


@pytest.fixture(scope="session")
def pretext_pictures():
    planes = np.random.default_rng(0).integers(0, 255, (3, 8, 12), dtype=np.uint8)
    named = dict(zip(("shown", "wanted", "given"), planes, strict=True))
    return tuple(
        PretextPlanes(
            site=site,
            case=case,
            spacing_mm=(3.0, 1.0),
            view="axial slice 5 of 16 of a patch",
            **named,
        )
        for site, case in (("east", "e-0001"), ("north", "n-0003"))
    )


@pytest.fixture(scope="session")
def pictures():
    return make_pictures()


@pytest.fixture(scope="session")
def whole_document():
    return make_document
