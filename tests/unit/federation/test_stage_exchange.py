"""What a personalise stage trains at a site, and networks that have no such part."""

import pytest

from fedvol.config.strategy import FedAvg, Personalise, Travels
from fedvol.errors import NetworkConfigError
from fedvol.federation import build_exchange, stage_exchange
from fedvol.plan import NetworkDescription, Pretraining, TensorKind, TensorSpec
from fedvol.types import Digest


def network(*kinds: TensorKind) -> NetworkDescription:
    return NetworkDescription(
        tensors=tuple(
            TensorSpec(name=kind.value, shape=(1,), dtype="float32", kind=kind) for kind in kinds
        ),
        initial_digest=Digest("0" * 64),
    )


def stage(parts: str) -> Personalise:
    return Personalise.model_validate_json(
        f"""{{
            "kind": "personalise", "rounds": 1, "steps_per_round": 1,
            "method": {{"kind": "finetune", "parts": "{parts}"}},
            "training": {{"optimiser": {{"kind": "adamw", "learning_rate": 0.001}}}}
        }}"""
    )


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ("all", {"encoder", "decoder", "norm", "head"}),
        ("decoder", {"decoder", "head"}),
        ("head", {"head"}),
        ("norms", {"norm"}),
    ],
)
def test_parts(parts: str, names: set[str]) -> None:
    net = network(TensorKind.ENCODER, TensorKind.DECODER, TensorKind.NORM, TensorKind.HEAD)
    exchange = stage_exchange(net, stage=stage(parts))
    assert {spec.name for spec in exchange.local} == names


def test_a_decoder_that_is_not_there_is_refused() -> None:
    with pytest.raises(NetworkConfigError, match=r"parts.*no such tensor"):
        stage_exchange(network(TensorKind.ENCODER, TensorKind.HEAD), stage=stage("decoder"))


@pytest.mark.parametrize(
    ("travels", "stay"),
    [
        ("whole", set[str]()),
        ("all_but_norms", {"encoder.norm", "decoder.norm", "head.norm"}),
        ("all_but_heads", {"head", "head.norm"}),
        ("encoder", {"decoder", "decoder.norm", "head", "head.norm"}),
    ],
)
def test_a_part_stays_with_the_norm_layers_in_it(travels: Travels, stay: set[str]) -> None:
    """Else norm layers that were averaged would meet convolutions that were not."""
    parts = (TensorKind.ENCODER, TensorKind.DECODER, TensorKind.HEAD)
    tensors = tuple(
        TensorSpec(name=f"{part.value}{end}", shape=(1,), dtype="float32", kind=kind)
        for part in parts
        for end, kind in (("", part), (".norm", TensorKind.NORM))
    )
    net = NetworkDescription(tensors=tensors, initial_digest=Digest("0" * 64))
    pretraining = Pretraining.model_construct(
        network=net, encoder=("encoder", "encoder.norm"), heads=("head", "head.norm"), taken=()
    )
    exchange = build_exchange(
        net, strategy=FedAvg(kind="fedavg"), travels=travels, pretraining=pretraining
    )
    assert {spec.name for spec in exchange.local} == stay
    assert {spec.name for spec in exchange.shared} == {spec.name for spec in tensors} - stay
