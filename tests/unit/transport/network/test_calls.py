"""A site's calls prove themselves, whoever carries them."""

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvol.errors import CallRefusedError, StoreError
from fedvol.identity import IdentityKey, PublicKey, SignedBody, Tag
from fedvol.transport.network.call_memory import CallMemory
from fedvol.transport.network.calls import HEADER, TOLERANCE, CallGuard, sign_call
from fedvol.types import SiteId

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SITE, OTHER = SiteId("site_a"), SiteId("site_b")
PATH = "/fedvol/v1/blobs/" + "0" * 64


class Keys:
    def __init__(self, keys: Mapping[SiteId, PublicKey]) -> None:
        self.keys = dict(keys)

    def identity(self, site: SiteId) -> PublicKey | None:
        return self.keys.get(site)


@pytest.fixture(scope="module")
def key() -> IdentityKey:
    return IdentityKey.generate()


@pytest.fixture
def guard(key: IdentityKey) -> CallGuard:
    other = IdentityKey.generate()
    return CallGuard(Keys({SITE: key.public, OTHER: other.public}), now=lambda: NOW)


def signed(
    key: IdentityKey,
    *,
    site: SiteId = SITE,
    path: str = PATH,
    now: Callable[[], datetime] = lambda: NOW,
) -> dict[str, str]:
    return sign_call(key, site=site, method="GET", path=path, now=now)


def test_a_signed_call_passes(guard: CallGuard, key: IdentityKey) -> None:
    headers = sign_call(
        key, site=SITE, method="PATCH", path=PATH, offset=5, size_bytes=7, now=lambda: NOW
    )
    call = guard.admit(headers, method="PATCH", path=PATH)
    assert (call.site, call.offset, call.size_bytes) == (SITE, 5, 7)


def test_once(guard: CallGuard, key: IdentityKey) -> None:
    headers = signed(key)
    guard.admit(headers, method="GET", path=PATH)
    with pytest.raises(CallRefusedError, match="made before"):
        guard.admit(headers, method="GET", path=PATH)


@pytest.mark.parametrize(("method", "path"), [("PATCH", PATH), ("GET", PATH[:-1] + "1")])
def test_for_its_route(guard: CallGuard, key: IdentityKey, method: str, path: str) -> None:
    with pytest.raises(CallRefusedError, match="another route"):
        guard.admit(signed(key), method=method, path=path)


def test_under_its_own_name(guard: CallGuard, key: IdentityKey) -> None:
    with pytest.raises(CallRefusedError, match="does not hold"):
        guard.admit(signed(key, site=OTHER), method="GET", path=PATH)


def test_of_an_active_site(guard: CallGuard, key: IdentityKey) -> None:
    with pytest.raises(CallRefusedError, match="no active site"):
        guard.admit(signed(key, site=SiteId("nobody")), method="GET", path=PATH)


@pytest.mark.parametrize("away", [TOLERANCE, -TOLERANCE])
def test_just_now(guard: CallGuard, key: IdentityKey, away: timedelta) -> None:
    guard.admit(signed(key, now=lambda: NOW + away), method="GET", path=PATH)
    late = signed(key, now=lambda: NOW + away + away / 1000)
    with pytest.raises(CallRefusedError, match="too old or too new"):
        guard.admit(late, method="GET", path=PATH)


@pytest.mark.parametrize("text", ["", "x", "====", "e30=", "A" * 5000, "é"])
def test_rubbish_is_refused(guard: CallGuard, text: str) -> None:
    with pytest.raises(CallRefusedError):
        guard.admit({HEADER: text}, method="GET", path=PATH)


def test_no_header_is_refused(guard: CallGuard) -> None:
    with pytest.raises(CallRefusedError, match="not signed"):
        guard.admit({}, method="GET", path=PATH)


@given(place=st.integers(min_value=0), value=st.integers(min_value=1, max_value=255))
def test_no_byte_can_be_changed(place: int, value: int) -> None:
    key = IdentityKey.generate()
    guard = CallGuard(Keys({SITE: key.public}), now=lambda: NOW)
    data = bytearray(base64.urlsafe_b64decode(signed(key)[HEADER]))
    data[place % len(data)] ^= value
    changed = {HEADER: base64.urlsafe_b64encode(bytes(data)).decode()}
    with pytest.raises(CallRefusedError):
        guard.admit(changed, method="GET", path=PATH)


def test_what_was_seen_is_forgotten_once_it_is_too_old_anyway(
    key: IdentityKey, tmp_path: Path
) -> None:
    time = [NOW]
    keys = Keys({SITE: key.public})
    guard = CallGuard(keys, remembered_in=tmp_path / "calls", now=lambda: time[0])
    for _ in range(3):
        guard.admit(signed(key, now=lambda: time[0]), method="GET", path=PATH)
        time[0] += 3 * TOLERANCE
    assert len(guard._made) == 1


@pytest.mark.parametrize("ahead", [-TOLERANCE, timedelta(0), TOLERANCE])
def test_a_restarted_guard_knows_what_was_made_before(
    key: IdentityKey, ahead: timedelta, tmp_path: Path
) -> None:
    """Whichever way the site's clock is wrong, for as long as the call is fresh."""
    time, keys = [NOW], Keys({SITE: key.public})

    def guard() -> CallGuard:
        return CallGuard(keys, remembered_in=tmp_path / "calls", now=lambda: time[0])

    headers = signed(key, now=lambda: NOW + ahead)
    guard().admit(headers, method="GET", path=PATH)
    while time[0] - NOW - ahead <= TOLERANCE:
        with pytest.raises(CallRefusedError, match="made before"):
            guard().admit(headers, method="GET", path=PATH)
        time[0] += TOLERANCE / 3
    with pytest.raises(CallRefusedError, match="too old"):
        guard().admit(headers, method="GET", path=PATH)
    guard().admit(signed(key, now=lambda: time[0]), method="GET", path=PATH)


def test_what_a_power_cut_left_half_written_costs_no_other_call(
    key: IdentityKey, tmp_path: Path
) -> None:
    file, keys = tmp_path / "calls", Keys({SITE: key.public})
    file.write_bytes(b"12345 \xff\n17")
    headers = signed(key)
    CallGuard(keys, remembered_in=file, now=lambda: NOW).admit(headers, method="GET", path=PATH)
    with pytest.raises(CallRefusedError, match="made before"):
        CallGuard(keys, remembered_in=file, now=lambda: NOW).admit(headers, method="GET", path=PATH)


def test_the_file_does_not_grow_without_bound(tmp_path: Path) -> None:
    file, keep = tmp_path / "calls", timedelta(seconds=10)
    memory = CallMemory(file, keep=keep)
    for number in range(25_000):
        assert memory.is_new(f"{number:032x}", now=NOW + number * keep / 50)
    assert len(memory) <= 100
    assert len(file.read_text().splitlines()) <= 10_001


def test_a_call_that_cannot_be_remembered_does_not_pass(key: IdentityKey, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    guard = CallGuard(Keys({SITE: key.public}), remembered_in=folder / "calls", now=lambda: NOW)
    (folder / "calls").unlink()
    folder.rmdir()
    headers = signed(key)
    with pytest.raises(StoreError):
        guard.admit(headers, method="GET", path=PATH)
    folder.mkdir()
    guard.admit(headers, method="GET", path=PATH)


@pytest.mark.parametrize("nonce", ["", "1" * 31, "1" * 33, "A" * 32, "1" * 32 + "\n"])
def test_a_nonce_of_another_form_is_refused(guard: CallGuard, key: IdentityKey, nonce: str) -> None:
    call = json.loads(base64.urlsafe_b64decode(signed(key)[HEADER]))
    payload = json.dumps({**json.loads(call["payload"]), "nonce": nonce})
    data = SignedBody.sign(key, Tag.CALL, payload).to_bytes()
    headers = {HEADER: base64.urlsafe_b64encode(data).decode()}
    with pytest.raises(CallRefusedError, match="does not hold"):
        guard.admit(headers, method="GET", path=PATH)
