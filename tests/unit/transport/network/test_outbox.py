"""Answers that were kept, and what a killed process left between its tensors and its answer."""

import shutil
from pathlib import Path

import numpy as np

from fedvol.identity import IdentityKey, SignedBody, Tag
from fedvol.transport.network.outbox import Outbox
from fedvol.types import Digest

TERMS, KEPT, CUT = Digest("1" * 64), Digest("2" * 64), Digest("3" * 64)
TENSORS = {"w": np.ones(3, np.float32)}


def test_what_a_killed_process_left_is_removed_and_answers_stay(tmp_path: Path) -> None:
    outbox = Outbox.under(tmp_path, terms=TERMS)
    body = SignedBody.sign(IdentityKey.generate(), Tag.REPLY, "{}")
    said = outbox.write_tensors(KEPT, TENSORS)
    outbox.put(KEPT, body)
    outbox.write_tensors(CUT, TENSORS)  # killed before the answer
    whole = outbox.tensors(CUT)
    for half in (f".{whole.name}.7.part", f".{whole.name}.7.part.spool"):  # killed in it
        shutil.copyfile(whole, whole.with_name(half))
    Outbox.remove_unfinished(tmp_path)
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert names == [f"{KEPT}.json", f"{KEPT}.safetensors"]
    assert said is not None
    assert outbox.holds(KEPT, said)
    assert outbox.find(KEPT) == body


def test_a_site_that_answered_nothing_yet_has_nothing_to_remove(tmp_path: Path) -> None:
    Outbox.remove_unfinished(tmp_path / "outbox")
    assert not (tmp_path / "outbox").exists()
