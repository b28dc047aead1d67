"""Weights go up no faster than the site wants; the server is a table of answers."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from fedvol.errors import ConsentMissingError, LinkDownError
from fedvol.identity import IdentityKey
from fedvol.transport import VirtualClock
from fedvol.transport.network.blob_client import BlobClient
from fedvol.transport.network.blob_routes import OFFSET
from fedvol.types import Digest, SiteId

DIGEST = Digest("1" * 64)
PIECE = 125_000
"""Bytes: a megabit, so that at one megabit a second a piece takes a second."""


class Server:
    """Takes every piece at once, and notes when; it may be away for one."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.pieces: list[tuple[float, int]] = []
        self.away_at = -1

    def __call__(self, request: httpx.Request) -> httpx.Response:
        have = sum(size for _, size in self.pieces)
        if request.method == "HEAD":
            return httpx.Response(200, headers={OFFSET: str(have)})
        if len(self.pieces) == self.away_at:
            self.away_at = -1
            return httpx.Response(503)
        self.pieces.append((self.clock.now_s(), len(request.content)))
        return httpx.Response(204)


def bringing(
    tmp_path: Path, *, max_mbit_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[..., None], Server]:
    """Brings three and a half pieces to a server."""
    clock = VirtualClock()
    server = Server(clock)
    real = httpx.Client
    monkeypatch.setattr(
        httpx,
        "Client",
        lambda base_url, **_: real(base_url=base_url, transport=httpx.MockTransport(server)),
    )
    path = tmp_path / "weights"
    path.write_bytes(bytes(PIECE * 7 // 2))
    client = BlobClient(
        "server:1",
        tls=None,  # type: ignore[arg-type]
        key=IdentityKey.generate(),
        site=SiteId("a"),
        piece_bytes=PIECE,
        max_mbit_s=max_mbit_s,
        clock=clock,
    )
    return lambda **how: client.bring(path, digest=DIGEST, **how), server


@pytest.mark.parametrize(
    ("max_mbit_s", "times"),
    [(1.0, [0.0, 1.0, 2.0, 3.0]), (4.0, [0.0, 0.25, 0.5, 0.75]), (None, [0.0] * 4)],
)
def test_pieces_are_spaced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    max_mbit_s: float | None,
    times: list[float],
) -> None:
    bring, server = bringing(tmp_path, max_mbit_s=max_mbit_s, monkeypatch=monkeypatch)
    bring()
    assert [at_s for at_s, _ in server.pieces] == pytest.approx(times)
    assert [size for _, size in server.pieces] == [PIECE] * 3 + [PIECE // 2]


def test_a_cut_link_is_no_way_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring, server = bringing(tmp_path, max_mbit_s=1.0, monkeypatch=monkeypatch)
    server.away_at = 2
    with pytest.raises(LinkDownError):
        bring()
    bring()
    assert [at_s for at_s, _ in server.pieces] == pytest.approx([0.0, 1.0, 3.0, 4.0])


def test_time_in_which_nothing_went_is_not_saved_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring, server = bringing(tmp_path, max_mbit_s=1.0, monkeypatch=monkeypatch)
    server.clock.wait(100.0)
    bring()
    assert [at_s for at_s, _ in server.pieces] == pytest.approx([100.0, 101.0, 102.0, 103.0])


def test_the_site_may_change_its_mind_while_a_piece_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring, server = bringing(tmp_path, max_mbit_s=1.0, monkeypatch=monkeypatch)

    def withdrawn_at_half_a_second() -> None:
        if server.clock.now_s() > 0.5:
            raise ConsentMissingError("run r", "withdrawn", "Ask.")

    with pytest.raises(ConsentMissingError):
        bring(before_piece=withdrawn_at_half_a_second)
    assert len(server.pieces) == 1
