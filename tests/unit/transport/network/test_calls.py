"""A site's calls prove themselves, whoever carries them."""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvol.errors import CallRefusedError
from fedvol.identity import IdentityKey, PublicKey
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


def test_what_was_seen_is_forgotten_once_it_is_too_old_anyway(key: IdentityKey) -> None:
    time = [NOW]
    guard = CallGuard(Keys({SITE: key.public}), now=lambda: time[0])
    for _ in range(3):
        guard.admit(signed(key, now=lambda: time[0]), method="GET", path=PATH)
        time[0] += 3 * TOLERANCE
    assert len(guard._seen) == 1
