"""`Address`: where a server listens, `host:port`; an IPv6 address stands in brackets."""

import re
from ipaddress import IPv6Address, ip_address
from typing import Annotated

from pydantic import AfterValidator

_ADDRESS = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})")
_NAME = re.compile(
    r"(?:(?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)*(?!-)(?=.*[A-Za-z])[A-Za-z0-9-]{1,63}(?<!-)"
)
_MAX_NAME = 253


def split_address(address: str) -> tuple[str, int]:
    """Host (a DNS name or an IP address, without brackets) and port of an address.

    Raises:
        ValueError: It is malformed.
    """
    found = _ADDRESS.fullmatch(address)
    port = int(found["port"]) if found else 0
    if found is None or not 0 < port < 1 << 16:
        raise ValueError("not host:port, such as server.example.org:443")
    if found["six"] is None:
        require_host(found["host"])
    elif not _is_six(found["six"]):
        raise ValueError("in the brackets is no IPv6 address")
    return found["six"] or found["host"], port


def require_host(host: str) -> None:
    """Refuse what is neither a DNS name in ASCII nor an IP address.

    Raises:
        ValueError: It is not.
    """
    if is_ip_address(host):
        return
    # A last label of digits alone would be a mistyped IP address.
    if len(host) > _MAX_NAME or not _NAME.fullmatch(host):
        raise ValueError("neither a DNS name nor an IP address")


def is_ip_address(host: str) -> bool:
    """Whether a host is given by its IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_six(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _checked(address: str) -> str:
    split_address(address)
    return address


Address = Annotated[str, AfterValidator(_checked)]
"""`host:port` as a field of a document."""
