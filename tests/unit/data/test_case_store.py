from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.data import case_store
from fedvol.data.box import Box
from fedvol.data.case_file import open_section, quantise
from fedvol.data.case_store import PADDING, CaseStore, StoredCase
from fedvol.data.volume import PreparedCase
from fedvol.errors import CaseStoreError
from fedvol.types import CaseId, Digest, Triple

CASE = CaseId("a_001")
KEY = Digest("0" * 64)


def prepared(
    shape: tuple[int, int, int] = (7, 9, 5), *, channels: int = 2, has_label: bool = True
) -> PreparedCase:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, shape).astype(np.uint8) if has_label else None
    return PreparedCase(
        image=rng.normal(size=(channels, *shape)).astype(np.float32),
        label=label,
        affine=np.diag([1.0, 2.0, 3.0, 1.0]),
        reference_label=rng.integers(0, 3, (4, 5, 6)).astype(np.uint8) if has_label else None,
        reference_shape=(4, 5, 6),
        reference_affine=np.diag([1.5, 2.5, 3.5, 1.0]),
        foreground={}
        if label is None
        else {i: np.argwhere(label == i).astype(np.int32) for i in (1, 2)},
    )


def read_patch(case: StoredCase, start: Triple, size: Triple) -> tuple[np.ndarray, np.ndarray]:
    """A box of image and label."""
    image = np.empty((case.num_channels, *size), dtype=np.float32)
    label = np.empty(size, dtype=np.uint8)
    case.read_patch(start, image=image, label=label)
    return image, label


@pytest.fixture
def store(tmp_path):
    return CaseStore(tmp_path / "cases")


def test_a_case_comes_back_as_it_was_written(store):
    given_case = prepared()
    store.write(CASE, given_case, key=KEY)

    case = store.open(CASE)

    assert (case.case, case.key, case.shape, case.num_channels) == (CASE, KEY, (7, 9, 5), 2)
    assert case.has_label
    assert case.spacing_mm == (1.0, 2.0, 3.0)
    assert case.reference_spacing_mm == (1.5, 2.5, 3.5)
    assert case.reference_shape == (4, 5, 6)
    np.testing.assert_array_equal(case.affine, given_case.affine)
    np.testing.assert_array_equal(case.reference_affine, given_case.reference_affine)
    np.testing.assert_array_equal(case.label(), given_case.label)
    np.testing.assert_array_equal(case.reference_label(), given_case.reference_label)
    assert case.foreground_classes == (1, 2)
    for index, voxels in given_case.foreground.items():
        np.testing.assert_array_equal(case.foreground(index), voxels)
    assert case.image().dtype == np.float32
    assert case.label().dtype == np.uint8


def test_a_thousand_cases_are_open_in_little_memory(store):
    """Reading a case leaves nothing behind: neither its file's handles nor its list of voxels."""
    given_case = prepared((40, 40, 40))
    given_case.foreground[1] = np.resize(given_case.foreground[1], (10_000, 3))
    store.write(CASE, given_case, key=KEY)
    read_patch(store.open(CASE), (0, 0, 0), (8, 8, 8))
    before = memory_bytes()

    cases = [store.open(CASE) for _ in range(250)]
    for case in cases:
        read_patch(case, (0, 0, 0), (8, 8, 8))
        case.foreground(1)

    assert memory_bytes() - before < len(cases) * 50_000


def memory_bytes() -> int:
    """What this process has in main memory, as Linux counts it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-3, 1e3),
    st.floats(-5, 5),
    st.sampled_from(["normal", "exponential"]),
)
def test_no_voxel_moves_by_more_than_its_share_of_the_range(seed, scale, offset, kind):
    draw = getattr(np.random.default_rng(seed), kind)
    image = ((draw(size=(2, 5, 6, 4)) + offset) * scale).astype(np.float32)

    levels, scales, offsets = quantise(image)

    for channel, level, step, middle in zip(image, levels, scales, offsets, strict=True):
        decoded = level.astype(np.float32) * np.float32(step) + np.float32(middle)
        assert np.abs(decoded - channel).max() <= np.ptp(channel) / 65534


def test_a_channel_of_one_value_comes_back_exactly(store):
    given_case = prepared()
    given_case.image[1] = 2.5
    store.write(CASE, given_case, key=KEY)

    np.testing.assert_array_equal(store.open(CASE).image()[1], 2.5)


def test_a_non_finite_image_is_a_slip_of_the_caller(store):
    given_case = prepared()
    given_case.image[0, 0, 0, 0] = np.inf

    with pytest.raises(ValueError, match="finite"):
        store.write(CASE, given_case, key=KEY)
    assert store.cases() == ()


def test_an_equal_reference_label_is_kept_once(store, tmp_path):
    given_case = prepared((40, 40, 40))
    assert given_case.label is not None
    same = PreparedCase(
        image=given_case.image,
        label=given_case.label,
        affine=given_case.affine,
        reference_label=given_case.label,
        reference_shape=(40, 40, 40),
        reference_affine=given_case.affine,
        foreground={},
    )
    store.write(CASE, same, key=KEY)
    case = store.open(CASE)

    np.testing.assert_array_equal(case.reference_label(), given_case.label)
    assert "reference_label" not in case._places


def test_an_unlabelled_case_says_so(store):
    store.write(CASE, prepared(has_label=False), key=KEY)
    case = store.open(CASE)

    assert not case.has_label
    assert case.reference_label() is None
    assert case.foreground_classes == ()
    assert case.image().shape == (2, 7, 9, 5)
    with pytest.raises(CaseStoreError, match=f"case {CASE}: has no label"):
        case.label()


MARGIN = 130  # as far as a patch below lies outside


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    """A store, and its case's image and label with a margin."""
    store = CaseStore(tmp_path_factory.mktemp("patches"))
    store.write(CASE, prepared((70, 9, 33)), key=KEY)
    case = store.open(CASE)
    margins = [(0, 0)] + [(MARGIN, MARGIN)] * 3
    image = np.pad(case.image(), margins, constant_values=PADDING)
    return store, image, np.pad(case.label(), MARGIN)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(-90, 90)] * 3),
    st.tuples(*[st.integers(1, 40)] * 3),
)
def test_a_patch_is_the_padded_volume_cropped(padded, start, size):
    store, padded_image, padded_label = padded

    image, label = read_patch(store.open(CASE), start, size)

    window = tuple(
        slice(MARGIN + first, MARGIN + first + length)
        for first, length in zip(start, size, strict=True)
    )
    np.testing.assert_array_equal(image, padded_image[(slice(None), *window)])
    np.testing.assert_array_equal(label, padded_label[window])


def test_a_patch_reads_only_the_chunks_it_touches(store, monkeypatch):
    store.write(CASE, prepared((130, 64, 64), channels=1), key=KEY)
    case = store.open(CASE)
    opened = []

    def recorded(path, *, place, start, case):
        opened.append(_Recorder(open_section(path, place=place, start=start, case=case)))
        return opened[-1]

    monkeypatch.setattr(case_store, "open_section", recorded)
    read_patch(case, (10, 10, 10), (8, 8, 8))

    image, label = opened
    assert image.array.chunks == (1, 64, 64, 64)
    assert image.array.blocks == (1, 32, 32, 32)
    box = (slice(10, 18),) * 3
    assert (image.read, label.read) == ([(slice(None), *box)], [box])


class _Recorder:
    """Stands for a compressed section and notes what is asked of it."""

    def __init__(self, array):
        self.array = array
        self.read = []

    def __getitem__(self, key):
        self.read.append(key)
        return self.array[key]


def test_has_knows_case_and_key(store):
    assert not store.has(CASE, KEY)
    store.write(CASE, prepared(), key=KEY)

    assert store.has(CASE, KEY)
    assert not store.has(CASE, Digest("1" * 64))
    assert not store.has(CaseId("a_002"), KEY)


def test_writing_again_replaces(store):
    store.write(CASE, prepared(), key=KEY)
    store.write(CASE, prepared((3, 4, 5)), key=Digest("1" * 64))

    assert store.open(CASE).shape == (3, 4, 5)
    assert store.cases() == (CASE,)


@pytest.mark.parametrize("name", ["a/0042", "..", ".hidden", "Jörg 7", "x" * 60, "a%2Fb"])
def test_any_name_stays_inside_the_folder(store, tmp_path, name):
    store.write(CaseId(name), prepared((3, 3, 3)), key=KEY)

    assert store.cases() == (name,)
    assert store.open(CaseId(name)).case == name
    assert [path.name for path in tmp_path.iterdir()] == ["cases"]
    assert len(list((tmp_path / "cases").iterdir())) == 1


def test_the_same_case_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        CaseStore(tmp_path / name).write(CASE, prepared(), key=KEY)
    first, second = ((tmp_path / name / f"{CASE}.case").read_bytes() for name in ("one", "two"))

    assert first == second


def test_an_absent_case_is_named(store):
    with pytest.raises(CaseStoreError, match="case a_001: is not in the case store"):
        store.open(CASE)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.7, 0.999])
def test_a_file_cut_short_is_an_error_that_names_the_case(store, tmp_path, share):
    store.write(CASE, prepared((20, 20, 20)), key=KEY)
    path = tmp_path / "cases" / f"{CASE}.case"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    assert not store.has(CASE, KEY)
    with pytest.raises(CaseStoreError, match="case a_001"):
        store.open(CASE)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_one_changed_byte_anywhere_is_found(tmp_path_factory, place, mask):
    folder = tmp_path_factory.getbasetemp() / "damage"
    store = CaseStore(folder)
    store.write(CASE, prepared((9, 9, 9)), key=KEY)
    path = folder / f"{CASE}.case"
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= mask
    path.write_bytes(data)

    with pytest.raises(CaseStoreError, match="case a_001"):
        store.open(CASE).image()


READS = {
    "image": lambda case: case.image(),
    "label": lambda case: case.label(),
    "reference_label": lambda case: case.reference_label(),
    "foreground": lambda case: case.foreground(1),
    "voxels": lambda case: case.voxels(),
    "patch": lambda case: read_patch(case, (0, 0, 0), (2, 2, 2)),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_damaged_voxels_are_refused_at_first_use_whatever_is_read(store, tmp_path, read):
    """Damage in the last section, which most reads do not touch; opening reads the header only."""
    store.write(CASE, prepared(), key=KEY)
    path = tmp_path / "cases" / f"{CASE}.case"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    case = store.open(CASE)

    assert (case.shape, case.has_label, case.foreground_classes) == ((7, 9, 5), True, (1, 2))
    for _ in range(2):  # what was refused once is not let through later
        with pytest.raises(CaseStoreError, match=f"case {CASE}: its voxels are cut short or dam"):
            read(case)

    path.write_bytes(whole)
    read(case)


def test_a_case_replaced_since_it_was_opened_is_refused(store):
    store.write(CASE, prepared(), key=KEY)
    case = store.open(CASE)
    store.write(CASE, prepared((20, 20, 20)), key=Digest("1" * 64))

    with pytest.raises(CaseStoreError, match="its voxels are cut short or damaged"):
        case.image()


def test_the_voxels_of_an_open_case_are_checked_once(store, monkeypatch):
    store.write(CASE, prepared(), key=KEY)
    checked = []
    monkeypatch.setattr(case_store, "check_payload", lambda path, **_: checked.append(path))
    case = store.open(CASE)
    assert checked == []

    for read in (*READS.values(), *READS.values()):
        read(case)

    assert len(checked) == 1


def test_bytes_too_many_are_found(store, tmp_path):
    store.write(CASE, prepared(), key=KEY)
    path = tmp_path / "cases" / f"{CASE}.case"
    path.write_bytes(path.read_bytes() + b"x")

    assert not store.has(CASE, KEY)
    with pytest.raises(CaseStoreError, match="cut short or damaged"):
        store.open(CASE)


@pytest.mark.parametrize("content", [b"", b"not a case file at all" * 10, b"fedvolC2" + bytes(80)])
def test_another_file_or_version_is_refused(store, tmp_path, content):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / f"{CASE}.case").write_bytes(content)

    assert not store.has(CASE, KEY)
    with pytest.raises(CaseStoreError, match="another version or no case file"):
        store.open(CASE)


def test_a_renamed_file_is_not_taken_for_another_case(store, tmp_path):
    store.write(CASE, prepared(), key=KEY)
    (tmp_path / "cases" / f"{CASE}.case").rename(tmp_path / "cases" / "b_001.case")

    with pytest.raises(CaseStoreError, match="case b_001: its file holds another case"):
        store.open(CaseId("b_001"))


def test_a_failed_write_leaves_the_old_case(store, tmp_path, monkeypatch):
    store.write(CASE, prepared(), key=KEY)
    monkeypatch.setattr("fedvol.files.os.fsync", _no_space)

    with pytest.raises(Exception, match="no space left"):
        store.write(CASE, prepared((3, 3, 3)), key=Digest("1" * 64))

    monkeypatch.undo()
    assert store.open(CASE).shape == (7, 9, 5)
    assert [p.name for p in (tmp_path / "cases").iterdir()] == [f"{CASE}.case"]


def _no_space(_descriptor):
    raise OSError(28, "No space left on device")


def test_a_box_that_misses_the_volume_is_all_padding():
    box = Box.at((10, -20, 0), size=(4, 4, 4), shape=(5, 5, 5))
    volume = np.ones((2, 5, 5, 5), np.float32)

    out = box.pad(volume[(slice(None), *box.inner)], value=-3)

    assert out.shape == (2, 4, 4, 4)
    np.testing.assert_array_equal(out, -3)
