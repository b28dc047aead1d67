"""Answers that were kept, and what a killed process left between its tensors and its answer."""

import os
import shutil
from pathlib import Path

import numpy as np

from fedvol.identity import IdentityKey, SignedBody, Tag
from fedvol.transport.network.outbox import Outbox
from fedvol.types import Digest, RunId

TERMS, KEPT, CUT = Digest("1" * 64), Digest("2" * 64), Digest("3" * 64)
RUN, OTHER = RunId("run"), RunId("other")
TENSORS = {"w": np.ones(3, np.float32)}
BODY = SignedBody.sign(IdentityKey.generate(), Tag.REPLY, "{}")


def test_what_a_killed_process_left_is_removed_and_answers_stay(tmp_path: Path) -> None:
    outbox = Outbox.under(tmp_path, run=RUN, terms=TERMS)
    said = outbox.write_tensors(KEPT, TENSORS)
    outbox.put(KEPT, BODY)
    outbox.write_tensors(CUT, TENSORS)  # killed before the answer
    whole = outbox.tensors(CUT)
    for half in (f".{whole.name}.7.part", f".{whole.name}.7.part.spool"):  # killed in it
        shutil.copyfile(whole, whole.with_name(half))
    Outbox.remove_unfinished(tmp_path)
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert names == [f"{KEPT}.json", f"{KEPT}.safetensors"]
    assert said is not None
    assert outbox.holds(KEPT, said)
    assert outbox.find(KEPT) == BODY


def test_a_site_that_answered_nothing_yet_has_nothing_to_remove(tmp_path: Path) -> None:
    Outbox.remove_unfinished(tmp_path / "outbox")
    assert not (tmp_path / "outbox").exists()


def test_another_run_leaves_the_answers_of_this_one(tmp_path: Path) -> None:
    Outbox.under(tmp_path, run=RUN, terms=TERMS).put(KEPT, BODY)
    other = Outbox.under(tmp_path, run=OTHER, terms=Digest("4" * 64))
    other.put(CUT, BODY)
    assert Outbox.under(tmp_path, run=RUN, terms=TERMS).find(KEPT) == BODY
    assert Outbox.is_kept(tmp_path, KEPT, run=RUN, terms=TERMS)
    assert not Outbox.is_kept(tmp_path, KEPT, run=OTHER, terms=TERMS)


def test_other_terms_of_the_same_run_do_not(tmp_path: Path) -> None:
    Outbox.under(tmp_path, run=RUN, terms=TERMS).put(KEPT, BODY)
    Outbox.under(tmp_path, run=RUN, terms=Digest("4" * 64))
    assert not Outbox.is_kept(tmp_path, KEPT, run=RUN, terms=TERMS)


def test_what_is_never_given_again_takes_no_place(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, run=RUN, terms=TERMS, keep=2)
    outbox.put(KEPT, BODY)
    asked = [Digest(f"{number}" * 64) for number in range(4, 9)]
    for one in asked:
        outbox.put_once(one, BODY)
        assert Outbox.is_kept(tmp_path, one, run=RUN, terms=TERMS), "it may leave"
        assert outbox.find(one) is None
    assert outbox.find(KEPT) == BODY
    assert [path.stem for path in tmp_path.rglob("*.once")] == asked[-1:]


def test_the_oldest_go_whatever_run_they_are_of(tmp_path: Path) -> None:
    oldest = Outbox(tmp_path, run=OTHER, terms=TERMS)
    oldest.write_tensors(KEPT, TENSORS)
    oldest.put(KEPT, BODY)
    outbox = Outbox(tmp_path, run=RUN, terms=TERMS, keep=2)
    for number, request in enumerate((CUT, Digest("4" * 64)), start=1):
        outbox.put(request, BODY)
        aged = tmp_path / OTHER / TERMS[:16] / f"{KEPT}.json"
        if aged.exists():
            os.utime(aged, ns=(number, number))
    assert oldest.find(KEPT) is None
    assert not oldest.tensors(KEPT).exists()
    assert outbox.find(CUT) == BODY
