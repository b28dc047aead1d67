from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.config.data import ColumnSplit, FoldSplit, HashSplit
from fedvol.data.case_table import SplitName
from fedvol.data.layout import CaseEntry
from fedvol.data.splits import assign_splits
from fedvol.errors import SplitError, SubjectOverlapError
from fedvol.types import CaseId, SiteId, SubjectId

Entries = Mapping[SiteId, Sequence[CaseEntry]]


def entry(
    case: str,
    *,
    subject: str,
    site: str = "a",
    fold: int | None = None,
    split: SplitName | None = None,
) -> CaseEntry:
    return CaseEntry(
        case=CaseId(case),
        subject=SubjectId(subject),
        site=SiteId(site),
        root=Path("/data"),
        fold=fold,
        split=split,
        images=(),
        label=None,
    )


def by_site(*entries: CaseEntry) -> dict[SiteId, tuple[CaseEntry, ...]]:
    sites = sorted({e.site for e in entries})
    return {site: tuple(e for e in entries if e.site == site) for site in sites}


def subjects(num: int, *, site: str = "a") -> Entries:
    return by_site(
        *(entry(f"{site}{n}{s}", subject=f"{site}{n}", site=site) for n in range(num) for s in "lr")
    )


def test_named_folds_are_test_and_validation_and_all_others_train() -> None:
    entries = by_site(*(entry(f"c{n}", subject=f"s{n}", fold=n) for n in range(4)))
    splits = assign_splits(entries, config=FoldSplit(kind="fold", test=0, validation=3))
    assert list(splits[SiteId("a")].values()) == ["test", "train", "train", "validation"]


def test_the_column_is_followed() -> None:
    entries = by_site(entry("x", subject="1", split="test"), entry("y", subject="2", split="train"))
    splits = assign_splits(entries, config=ColumnSplit(kind="column"))
    assert splits == {"a": {"x": "test", "y": "train"}}


def test_a_fold_needs_to_be_somewhere_not_everywhere() -> None:
    config = FoldSplit(kind="fold", test=0, validation=1)
    entries = by_site(
        entry("x", subject="1", fold=0),
        entry("y", subject="2", fold=1),
        entry("z", subject="3", site="b", fold=2),
    )
    assert assign_splits(entries, config=config)[SiteId("b")] == {"z": "train"}
    with pytest.raises(SplitError, match=r"fold 0 is not in the data, which has 1, 2"):
        assign_splits({s: e[1:] if s == "a" else e for s, e in entries.items()}, config=config)


@pytest.mark.parametrize(
    ("config", "column"),
    [(FoldSplit(kind="fold", test=0, validation=1), "fold"), (ColumnSplit(kind="column"), "split")],
)
def test_an_absent_column_is_named(config: FoldSplit | ColumnSplit, column: str) -> None:
    some = by_site(entry("x", subject="1"), entry("y", subject="2", site="b", fold=0, split="test"))
    with pytest.raises(SplitError, match=f"column {column}, which the case table lacks at a"):
        assign_splits(some, config=config)
    with pytest.raises(SplitError, match="lacks at any site"):
        assign_splits(by_site(entry("x", subject="1")), config=config)


@settings(max_examples=40, deadline=None)
@given(
    num=st.integers(3, 40),
    test_share=st.floats(0.01, 0.4),
    validation_share=st.floats(0.01, 0.3),
    salt=st.text(max_size=5),
    seed=st.randoms(use_true_random=False),
)
def test_hash_split_is_by_subject_complete_and_blind_to_order(
    num: int, test_share: float, validation_share: float, salt: str, seed
) -> None:
    config = HashSplit(
        kind="hash", test_share=test_share, validation_share=validation_share, salt=salt
    )
    entries = subjects(num)
    splits = assign_splits(entries, config=config)[SiteId("a")]
    assert all(splits[CaseId(f"a{n}l")] == splits[CaseId(f"a{n}r")] for n in range(num))
    counts = {name: list(splits.values()).count(name) // 2 for name in ("test", "validation")}
    assert set(splits.values()) == {"train", "validation", "test"}
    assert counts["test"] == max(1, round(num * test_share))
    assert counts["validation"] == max(1, round(num * validation_share))
    shuffled = list(entries[SiteId("a")])
    seed.shuffle(shuffled)
    assert assign_splits({SiteId("a"): shuffled}, config=config)[SiteId("a")] == splits


def test_hash_split_is_fixed_for_ever_and_the_salt_changes_it() -> None:
    splits = assign_splits(subjects(10), config=HashSplit(kind="hash"))[SiteId("a")]
    tested = sorted(case for case, split in splits.items() if split == "test")
    assert tested == [
        "a3l",
        "a3r",
        "a9l",
        "a9r",
    ]
    other = assign_splits(subjects(10), config=HashSplit(kind="hash", salt="x"))[SiteId("a")]
    assert other != splits


def test_small_sites_only_train_and_greedy_shares_are_refused() -> None:
    splits = assign_splits(subjects(2), config=HashSplit(kind="hash", test_share=0.5))
    assert set(splits[SiteId("a")].values()) == {"train"}
    greedy = HashSplit(kind="hash", test_share=0.6, validation_share=0.4)
    with pytest.raises(SplitError, match="leave none to train"):
        assign_splits(subjects(10), config=greedy)


def test_every_subject_in_two_places_is_named() -> None:
    entries = by_site(
        entry("c1", subject="S1", fold=0),
        entry("c2", subject="S1", fold=2),
        entry("c3", subject="S2", fold=1),
        entry("c4", subject="s 2", site="b", fold=1),
        entry("c5", subject="S3", site="b", fold=2),
        entry("c6", subject="S3", site="b", fold=3),
    )
    with pytest.raises(SubjectOverlapError) as caught:
        assign_splits(entries, config=FoldSplit(kind="fold", test=0, validation=1))
    text = str(caught.value)
    assert text.startswith("FV-DATA-014 splits: 2 subjects are in two splits or at two sites")
    assert "S1 (a test case c1, a train case c2)" in text
    assert "S2 (a validation case c3, b validation case c4)" in text
    assert "S3" not in text
