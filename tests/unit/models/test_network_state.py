"""Tensors of a network: description, copies, strict loading."""

import numpy as np
import pytest
import torch
from torch import nn

from fedvol.config.network import Network, ResidualEncoderUNet, UNet
from fedvol.errors import CheckpointError, PlanMismatchError
from fedvol.models import build_network, describe, load_arrays, require_architecture, to_arrays
from fedvol.plan import NetworkDescription, TensorKind
from fedvol.types import Digest


def tiny(norm: str = "instance", seed: int = 0, features: tuple[int, ...] = (4, 6)) -> nn.Module:
    config = UNet.model_validate({"kind": "unet", "features": features, "norm": norm})
    return build_network(config, in_channels=1, num_classes=2, seed=seed)


@pytest.mark.parametrize("norm", ["instance", "group", "batch", "none"])
@pytest.mark.parametrize("kind", ["unet", "resenc_unet"])
def test_kinds_follow_module_types_then_parts(norm: str, kind: str) -> None:
    config: Network = (
        UNet.model_validate({"kind": kind, "features": (4, 6, 8), "norm": norm})
        if kind == "unet"
        else ResidualEncoderUNet.model_validate(
            {"kind": kind, "features": (4, 6, 8), "norm": norm, "blocks_per_stage": (1, 1, 1)}
        )
    )
    specs = describe(build_network(config, in_channels=1, num_classes=2))
    for spec in specs:
        if spec.name.endswith("num_batches_tracked"):
            assert spec.kind is TensorKind.BUFFER
        elif ".norm." in spec.name:
            assert spec.kind is TensorKind.NORM
        else:
            part = spec.name.partition(".")[0].removesuffix("s")
            assert spec.kind.value == part, spec
    kinds = {spec.kind for spec in specs}
    assert (TensorKind.NORM in kinds) == (norm != "none")
    assert (TensorKind.BUFFER in kinds) == (norm == "batch")
    assert {"stem", "encoder", "decoder", "head"} <= {kind.value for kind in kinds}


def test_norm_layers_are_found_by_type_not_by_name() -> None:
    class Custom(nn.GroupNorm):
        pass

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv3d(1, 4, 1), Custom(2, 4), nn.LayerNorm(4))
            self.norm = nn.Conv3d(4, 2, 1)

        def parts(self) -> dict[str, TensorKind]:
            return {"body": TensorKind.ENCODER, "norm": TensorKind.HEAD}

    kinds = {spec.name: spec.kind for spec in describe(Net())}
    assert kinds["body.1.weight"] is TensorKind.NORM
    assert kinds["body.2.bias"] is TensorKind.NORM
    assert kinds["body.0.weight"] is TensorKind.ENCODER
    assert kinds["norm.weight"] is TensorKind.HEAD


def test_running_statistics_are_of_kind_norm() -> None:
    kinds = {spec.name: (spec.kind, spec.dtype) for spec in describe(tiny("batch"))}
    assert kinds["stem.norm.running_var"] == (TensorKind.NORM, "float32")
    assert kinds["stem.norm.num_batches_tracked"] == (TensorKind.BUFFER, "int64")


def test_description_matches_the_arrays() -> None:
    net = tiny("batch").to(memory_format=torch.channels_last_3d)
    arrays = to_arrays(net)
    specs = describe(net)
    assert [spec.name for spec in specs] == list(arrays)
    for spec in specs:
        assert arrays[spec.name].shape == spec.shape
        assert arrays[spec.name].dtype.name == spec.dtype
        assert arrays[spec.name].flags.c_contiguous


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_arrays_there_and_back(norm: str) -> None:
    source = tiny(norm, seed=1).to(memory_format=torch.channels_last_3d)
    target = tiny(norm, seed=2)
    load_arrays(target, to_arrays(source))
    ours = target.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in source.state_dict().items())


def test_arrays_are_copies() -> None:
    net = tiny()
    held = to_arrays(net)["stem.conv.weight"]
    before = held.copy()
    with torch.no_grad():
        net.stem.conv.weight.zero_()
    np.testing.assert_array_equal(held, before)
    held[...] = 9
    assert net.stem.conv.weight.abs().max() == 0


def test_arrays_that_cannot_be_written_are_loaded_too() -> None:
    state = to_arrays(tiny(seed=1))
    for array in state.values():
        array.setflags(write=False)
    net = tiny(seed=2)
    load_arrays(net, state)
    with torch.no_grad():
        net.stem.conv.weight.add_(1)
    np.testing.assert_array_equal(state["stem.conv.weight"] + 1, to_arrays(net)["stem.conv.weight"])


def test_a_subset_leaves_the_rest_alone() -> None:
    net = tiny(seed=1)
    before = to_arrays(net)
    load_arrays(net, {"stem.conv.weight": np.zeros((4, 1, 3, 3, 3), dtype=np.float32)})
    after = to_arrays(net)
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {"stem.conv.weight"}
    assert list(to_arrays(net, ["heads.0.bias", "stem.conv.bias"])) == [
        "heads.0.bias",
        "stem.conv.bias",
    ]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("stem.conv.wait", np.zeros(4, dtype=np.float32)),
        ("stem.conv.bias", np.zeros(5, dtype=np.float32)),
        ("stem.conv.bias", np.zeros((4, 1), dtype=np.float32)),
        ("stem.conv.bias", np.zeros(4, dtype=np.float64)),
        ("stem.conv.bias", np.zeros(4, dtype=np.int32)),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(name: str, array: np.ndarray) -> None:
    net = tiny()
    before = to_arrays(net)
    good = np.full((4, 1, 3, 3, 3), 7, dtype=np.float32)
    with pytest.raises(CheckpointError, match=name):
        load_arrays(net, {"stem.conv.weight": good, name: array})
    after = to_arrays(net)
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)


def test_arrays_of_an_unknown_name_are_refused() -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        to_arrays(tiny(), ["nowhere"])


def test_another_architecture_is_refused() -> None:
    net = tiny()
    description = NetworkDescription(tensors=describe(net), initial_digest=Digest("0" * 64))
    require_architecture(tiny(seed=5), description)
    for other in (tiny("none"), tiny("batch"), tiny(features=(4, 8)), tiny(features=(4, 6, 8))):
        with pytest.raises(PlanMismatchError, match="first difference"):
            require_architecture(other, description)
