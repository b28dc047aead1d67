"""Where a server listens."""

import pytest

from fedvol.config.addresses import require_host, split_address


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("server.example.org:443", ("server.example.org", 443)),
        ("a:1", ("a", 1)),
        ("xn--bcher-kva.example:65535", ("xn--bcher-kva.example", 65535)),
        ("10.0.0.1:8443", ("10.0.0.1", 8443)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
    ],
)
def test_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    require_host(parts[0])


@pytest.mark.parametrize(
    "address",
    [
        "", "server", "server:", ":443", "server:0", "server:65536", "server:-1", "server:4x",
        "https://server:443", "server:443/", "user@server:443", "ser ver:443", "-a:1", "a-:1",
        "a..b:1", "a.:1", ".a:1", "10.0.0.256:1", "10.0.0:1", "2001:db8::1:443", "[server]:1",
        "[10.0.0.1]:1", "[2001:db8::1]", "bücher.example:1", "a:١", f"{'a.' * 127}bc:1",
        f"{'a' * 64}:1", "server:443\n",
    ],
)  # fmt: skip
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        split_address(address)
