"""Pretrained weights in real networks."""

from typing import Any

import numpy as np
import pytest
import torch
from every_network import EVERY, network_shape
from torch import nn

from fedvol.config.data import ZScore
from fedvol.config.name_map import NameMap
from fedvol.config.network import Network, UNet
from fedvol.errors import TransferError
from fedvol.federation import TransferTerms
from fedvol.models import build_network, describe, describe_parts, to_arrays, transfer
from fedvol.models.encoders import encoder_of
from fedvol.plan import AdaptationRecord, TensorKind, encoder_architecture

Z_SCORE = ZScore(kind="z_score")
PLAIN = UNet(kind="unet", features=(4, 6, 8), norm="batch")


def build(
    config: Network = PLAIN, *, in_channels: int = 1, num_classes: int = 2, seed: int = 0
) -> nn.Module:
    return build_network(
        config, in_channels=in_channels, num_classes=num_classes, patch=(16, 16, 16), seed=seed
    )


def record(net: nn.Module, **keys: Any) -> AdaptationRecord:
    values: dict[str, Any] = {
        "architecture": encoder_architecture(describe_parts(net)),
        "task": "mae",
        "transfers": "whole",
        "channels": ("CT",),
        "patch": (16, 16, 16),
        "spacing_mm": (1.0, 1.0, 1.0),
        "normalisation": Z_SCORE,
    }
    return AdaptationRecord(**values | keys)


def terms(**keys: Any) -> TransferTerms:
    return TransferTerms(**{"channels": ("CT",), "normalisation": Z_SCORE} | keys)


def equal_parts(net: nn.Module, other: nn.Module) -> set[TensorKind]:
    """Parts all of whose tensors two networks of one shape have in common."""
    ours, theirs = to_arrays(net), to_arrays(other)
    different = {
        spec.kind
        for spec in describe_parts(net)
        if not np.array_equal(ours[spec.name], theirs[spec.name])
    }
    return {TensorKind.STEM, TensorKind.ENCODER, TensorKind.DECODER, TensorKind.HEAD} - different


@pytest.mark.parametrize("name", EVERY)
def test_every_tensor_lies_in_a_part_norms_and_buffers_too(name: str) -> None:
    net = network_shape(EVERY[name].config, patch=EVERY[name].patch)
    specs, parts = describe(net), describe_parts(net)
    for spec, part in zip(specs, parts, strict=True):
        assert part.kind not in (TensorKind.NORM, TensorKind.BUFFER)
        assert spec.kind in (part.kind, TensorKind.NORM, TensorKind.BUFFER)
        assert spec.model_copy(update={"kind": part.kind}) == part


def test_norms_of_an_encoder_are_the_encoders() -> None:
    parts = {spec.name: spec.kind for spec in describe_parts(build())}
    assert parts["stem.norm.running_mean"] is TensorKind.STEM
    assert parts["encoder.1.0.norm.num_batches_tracked"] is TensorKind.ENCODER
    assert parts["decoder.0.convs.0.norm.weight"] is TensorKind.DECODER


def test_a_norm_outside_of_every_part_belongs_to_what_is_before_it() -> None:
    small = EVERY["resnet3d"]
    parts = {
        spec.name: spec.kind
        for spec in describe_parts(network_shape(small.config, patch=small.patch))
    }
    assert parts["net.bn1.weight"] is TensorKind.STEM
    small = EVERY["segresnet"]
    parts = {
        spec.name: spec.kind
        for spec in describe_parts(network_shape(small.config, patch=small.patch))
    }
    assert parts["net.conv_final.0.weight"] is TensorKind.DECODER


@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        ("encoder", {TensorKind.STEM, TensorKind.ENCODER}),
        ("whole", {TensorKind.STEM, TensorKind.ENCODER, TensorKind.DECODER}),
    ],
)
def test_a_pretrained_network_with_another_head(parts: Any, taken: set[TensorKind]) -> None:
    pretrained = build(num_classes=5, seed=1)
    net, untouched = build(seed=2), build(seed=2)
    state = to_arrays(pretrained)
    state["encoder.1.0.norm.num_batches_tracked"] = np.array(7)
    report = transfer(net, state, record(pretrained), terms=terms(parts=parts))
    ours = to_arrays(net)
    for spec in describe_parts(net):
        source = state if spec.kind in taken else to_arrays(untouched)
        np.testing.assert_array_equal(ours[spec.name], source[spec.name])
    assert set(report.loaded) | set(report.left_out) == set(ours)
    assert report.loaded["encoder.1.0.conv.weight"] == 6 * 4 * 27
    assert (report.missing, report.reshaped, report.unexpected) == ({}, {}, {})


@pytest.mark.parametrize("config", [PLAIN, EVERY["pct_net"].config], ids=lambda one: one.kind)
def test_an_encoder_that_was_trained_alone(config: Network) -> None:
    body = encoder_of(build(config, seed=1))
    state = {f"body.{name}": array for name, array in to_arrays(body).items()}
    state["head.weight"] = np.zeros((5, 3), dtype=np.float32)
    kept = record(body, transfers="encoder", names=NameMap(prefix="body."))
    net = build(config, seed=2)
    report = transfer(net, state, kept, terms=terms())
    for name, array in to_arrays(body).items():
        np.testing.assert_array_equal(to_arrays(net)[name], array)
    assert report.unexpected == {"head.weight": 15}
    assert report.shares == {"encoder": 1}
    with pytest.raises(TransferError, match="the encoder alone was trained"):
        transfer(net, state, kept, terms=terms(parts="whole"))


def test_a_copied_stem_sees_copies_of_the_image_as_the_image() -> None:
    pretrained = build(seed=1).eval()
    net = build(in_channels=4, seed=2).eval()
    transfer(
        net,
        to_arrays(pretrained),
        record(pretrained),
        terms=terms(channels=("FLAIR", "T1", "T1c", "T2"), new_stem="copy"),
    )
    x = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    found = encoder_of(net)(x.expand(1, 4, 16, 16, 16))
    for ours, theirs in zip(found, encoder_of(pretrained)(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_what_is_refused_changes_nothing() -> None:
    pretrained = build(seed=1)
    other = UNet(kind="unet", features=(4, 6, 10), norm="batch")
    net, before = build(other, seed=2), build(other, seed=2)
    with pytest.raises(TransferError) as caught:
        transfer(
            net,
            to_arrays(pretrained),
            record(pretrained),
            terms=terms(
                channels=("MR",), normalisation=ZScore(kind="z_score", foreground_only=True)
            ),
        )
    assert [problem.where for problem in caught.value.problems] == [
        "architecture", "normalisation", "channels", "encoder",
    ]  # fmt: skip
    assert str(caught.value).startswith("FV-CONF-011 weights of mae: 4 problems")
    assert equal_parts(net, before) == {
        TensorKind.STEM, TensorKind.ENCODER, TensorKind.DECODER, TensorKind.HEAD,
    }  # fmt: skip
