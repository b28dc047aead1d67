"""Error locations become the keys a person wrote."""

import pytest

from fedvol.config.places import key_path, kinds, locate
from fedvol.config.study import Study


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (("stages", 0, "finetune", "strategy", "fedprox", "mu"), "stages[0].strategy.mu"),
        (("network", "unet", "strides", 1, 2), "network.strides[1][2]"),
        (("network",), "network"),
        (("data", "labels", "a b", "[key]"), 'data.labels."a b"'),
        (
            ("evaluation", "nsd_tolerance_mm", "dict[constrained-str,constrained-float]", "x"),
            "evaluation.nsd_tolerance_mm.x",
        ),
        (("evaluation", "nsd_tolerance_mm", "constrained-float"), "evaluation.nsd_tolerance_mm"),
        (("unknown",), "unknown"),
        ((), "the file"),
    ],
)
def test_path(location: tuple[str | int, ...], path: str) -> None:
    assert locate(Study, location).path == path


def test_a_key_named_like_a_kind_stays() -> None:
    assert locate(Study, ("network", "unet", "unet")).path == "network.unet"


def test_meaning_and_section() -> None:
    place = locate(Study, ("stages", 0, "finetune", "strategy", "fedprox", "mu"))
    assert place.meaning.startswith("Pull towards the global weights")
    assert place.section is not None
    assert place.section.__name__ == "FedProx"


def test_kinds() -> None:
    networks = list(kinds(Study.model_fields["network"].annotation))
    assert networks[:4] == ["unet", "resenc_unet", "resenc_preset", "pct_net"]
    assert kinds(int) == {}


def test_key_path() -> None:
    assert key_path(("a", 0, "b c", 1)) == 'a[0]."b c"[1]'
