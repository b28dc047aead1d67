import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedvol.config import SIMULATION_POLICY
from fedvol.errors import MessageError
from fedvol.federation import Action, Exchange, Request, TrainReport
from fedvol.plan import TensorKind, TensorSpec
from fedvol.privacy import Contribution, Releaser, Update
from fedvol.transport import wire
from fedvol.types import Digest, RunId, SiteId

PLAN = Digest("a" * 64)
SPEC = TensorSpec(name="w", shape=(2, 2), dtype="float32", kind=TensorKind.ENCODER)


class Nowhere:
    def append(self, record) -> None:
        pass


def request(**changes) -> Request:
    fields = {
        "run": RunId("r1"),
        "plan": PLAN,
        "stage": 0,
        "round": 2,
        "site": SiteId("a"),
        "action": Action.FINETUNE,
        "state": {"w": np.arange(4, dtype="f4").reshape(2, 2)},
        "arguments": {"seed": 2**62 + 1, "share": 0.1, "names": ["x", None]},
        "limit_s": 30.5,
    }
    return Request(**{**fields, **changes})


def encoded(one: Request) -> RecordDict:
    return wire.encode_request(one, tensors=wire.encode_state(one.state))


def contribution() -> Contribution:
    gate = Releaser(site=SiteId("a"), plan=PLAN, policy=SIMULATION_POLICY, audit=Nowhere())
    report = TrainReport(cases=3, steps=2, train_seconds=0.1, loss=1 / 3)
    update = Update(tensors={"w": np.full((2, 2), 0.1, "f4")}, report=report)
    return gate.update(request(), update, exchange=Exchange(shared=(SPEC,), local=()))


def reply_of(content: RecordDict, **changes):
    return wire.decode_reply(content, request=request(**changes), bytes_down=7)


def with_header(content: RecordDict, **changes) -> RecordDict:
    header = json.loads(content["fedvol"]["json"])
    text = json.dumps({**header, **changes})
    return RecordDict({"fedvol": ConfigRecord({"json": text}), "tensors": content["tensors"]})


def with_tensor(array: Array, name: str = "w") -> RecordDict:
    content = wire.encode_contribution(contribution(), request=request())
    return RecordDict({"fedvol": content["fedvol"], "tensors": ArrayRecord({name: array})})


def test_request_round_trip() -> None:
    one = request()
    found = wire.decode_request(encoded(one))
    np.testing.assert_array_equal(found.state["w"], one.state["w"])
    for name in ("run", "plan", "stage", "round", "site", "action", "arguments", "limit_s"):
        assert getattr(found, name) == getattr(one, name), name


def test_reply_round_trip_counts_bytes() -> None:
    content = wire.encode_contribution(contribution(), request=request())
    found = reply_of(content)
    assert found.values == {"cases": 3, "steps": 2, "train_seconds": 0.1, "loss": 1 / 3}
    assert found.tensors["w"].tobytes() == np.full((2, 2), 0.1, "f4").tobytes()
    assert found.tensors["w"].flags.writeable
    assert found.bytes_down == 7
    assert 16 < found.bytes_up < 1000


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=6),
        st.sampled_from(["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"]).flatmap(
            lambda dtype: hnp.arrays(
                dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
            )
        ),
        max_size=4,
    )
)
def test_state_round_trip(state) -> None:
    found = wire.decode_state(wire.encode_state(state))
    assert list(found) == list(state)
    for name, array in state.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_byte_order_and_layout_do_not_matter() -> None:
    array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    found = wire.decode_state(wire.encode_state({"x": array}))["x"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.float32


def test_decoding_empties_the_record() -> None:
    record = wire.encode_state({"x": np.ones(3)})
    wire.decode_state(record)
    assert len(record) == 0


def test_only_a_contribution_can_be_encoded() -> None:
    class Lookalike:
        values, tensors, code, title = {}, {}, "", ""  # a forgery

    with pytest.raises(TypeError, match="only a contribution"):
        wire.encode_contribution(Lookalike(), request=request())  # type: ignore[arg-type]


def test_types_outside_the_list_are_not_sent() -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        wire.encode_state({"x": np.array(["text"])})


@pytest.mark.parametrize(
    "change",
    [
        {"run": RunId("r2")},
        {"plan": Digest("b" * 64)},
        {"stage": 1},
        {"round": 1},
        {"site": SiteId("b")},
        {"action": Action.TEST},
    ],
    ids=lambda change: next(iter(change)),
)
def test_reply_to_another_question(change: dict) -> None:
    content = wire.encode_contribution(contribution(), request=request())
    with pytest.raises(MessageError, match="another question"):
        reply_of(content, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "request"},
        {"stage": "0"},
        {"round": 2.5},
        {"action": "train.masked"},
        {"values": [1]},
        {"patient": "Smith"},
        {"code": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_header_outside_the_schema(change: dict) -> None:
    content = wire.encode_contribution(contribution(), request=request())
    with pytest.raises(MessageError) as caught:
        reply_of(with_header(content, **change))
    assert "Smith" not in str(caught.value)


def records(**parts) -> RecordDict:
    return RecordDict(parts)


@pytest.mark.parametrize(
    "content",
    [
        records(),
        records(fedvol=ConfigRecord({"json": "{}"})),
        records(fedvol=ConfigRecord({"json": "{}"}), tensors=ArrayRecord(), more=ArrayRecord()),
        records(fedvol=ConfigRecord({"json": b"{}"}), tensors=ArrayRecord()),
        records(fedvol=ConfigRecord({"json": "{}", "eval": "1"}), tensors=ArrayRecord()),
        records(fedvol=MetricRecord({"json": 1}), tensors=ArrayRecord()),
        records(fedvol=ConfigRecord({"json": "{"}), tensors=ArrayRecord()),
        records(fedvol=ConfigRecord({"json": "[" * 10_000}), tensors=ArrayRecord()),
        records(fedvol=ConfigRecord({"json": '{"loss": NaN}'}), tensors=ArrayRecord()),
    ],
)
def test_malformed_records(content: RecordDict) -> None:
    with pytest.raises(MessageError):
        wire.decode_request(content)
    with pytest.raises(MessageError):
        reply_of(content)


def test_tensors_of_another_record_type() -> None:
    content = encoded(request())
    broken = RecordDict({"fedvol": content["fedvol"], "tensors": ConfigRecord({"w": "1"})})
    with pytest.raises(MessageError, match="no array record"):
        wire.decode_request(broken)


@pytest.mark.parametrize(
    "array",
    [
        Array(dtype="float32", shape=(2, 2), stype=wire.RAW, data=bytes(15)),
        Array(dtype="float32", shape=(2, 2), stype=wire.RAW, data=bytes(17)),
        Array(dtype="float32", shape=(1 << 40, 1 << 40), stype=wire.RAW, data=bytes(16)),
        Array(dtype="float32", shape=(-2, -2), stype=wire.RAW, data=bytes(16)),
        Array(dtype="float32", shape=(True, 4), stype=wire.RAW, data=bytes(16)),
        Array(dtype="object", shape=(2,), stype=wire.RAW, data=bytes(16)),
        Array(dtype="<f4", shape=(4,), stype=wire.RAW, data=bytes(16)),
        Array(np.ones((2, 2), "f4")),
    ],
)
def test_malformed_tensor(array: Array) -> None:
    with pytest.raises(MessageError):
        reply_of(with_tensor(array))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Array(dtype="float32", shape=(2, 2), stype=wire.RAW, data=bytes(16))
    assert reply_of(with_tensor(good)).tensors
    for name, limit in (
        ("MAX_HEADER_BYTES", 10),
        ("MAX_TENSORS", 0),
        ("MAX_TENSOR_BYTES", 15),
        ("MAX_MESSAGE_BYTES", 15),
    ):
        with monkeypatch.context() as patch, pytest.raises(MessageError):
            patch.setattr(wire, name, limit)
            reply_of(with_tensor(good))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("FV-FED-006", ("FV-FED-006", "no labels")),
        ("FV-DATA-002", ("FV-DATA-002", "case table invalid")),
        ("", ("", "")),
        ("Smith, John", ("FV-TRAN-002", "site process failed")),
    ],
)
def test_words_of_a_refusal_are_ours(code: str, words: tuple[str, str]) -> None:
    content = wire.encode_contribution(contribution(), request=request())
    found = reply_of(with_header(content, code=code, title="<b>John Smith</b>"))
    assert (found.code, found.title) == words


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damaged_header_gets_through_unnoticed(data) -> None:
    content = encoded(request())
    text = content["fedvol"]["json"]
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start + 1, len(text)))
    damaged = text[:start] + data.draw(st.text(max_size=3)) + text[stop:]
    broken = RecordDict({"fedvol": ConfigRecord({"json": damaged}), "tensors": content["tensors"]})
    try:
        wire.decode_request(broken)
    except MessageError:
        return
