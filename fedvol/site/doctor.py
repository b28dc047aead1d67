"""What may keep a site from taking part: one small check each, each with what to do about it.

No check changes anything but a file that it writes and takes away again, and none advises to
delete data.
"""

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from fedvol.config import SiteConfig
from fedvol.config.addresses import split_address
from fedvol.data.layout import read_site_entries
from fedvol.errors import FedvolError
from fedvol.identity import NodeKey, SiteStatus, client_context
from fedvol.site.folder import SiteFolder
from fedvol.site.trust import held_roster
from fedvol.types import SiteId

SOON = timedelta(days=30)
"""What ends within this time is told before it ends."""
MAX_SKEW = timedelta(minutes=5)
"""What the server tolerates of a clock; half of it is told."""
_GIB = 1 << 30
MIN_DISK_BYTES, MIN_MEMORY_BYTES, MIN_SHARED_BYTES = 10 * _GIB, 4 * _GIB, 64 << 20
_TIMEOUT_S = 10.0


class Verdict(StrEnum):
    """How a check went."""

    FINE = "fine"
    SOON = "soon"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's result.

    Attributes:
        name: What was looked at.
        verdict: How it is.
        what: What was found.
        fix: What to do; empty where it is fine.
    """

    name: str
    verdict: Verdict
    what: str
    fix: str = ""


def examine(folder: SiteFolder, config: SiteConfig, *, now: datetime) -> Iterator[Finding]:
    """Every check that needs no heavy library, one after the other.

    Args:
        folder: The site's folder.
        config: Its own file.
        now: The time.
    """
    yield check_keys(folder)
    yield check_roster(folder, config, now=now)
    yield check_pause(folder)
    yield check_writing(folder)
    yield check_disk(folder.folder)
    yield check_memory(Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max"))
    yield check_shared_memory(Path("/dev/shm"))  # noqa: S108  # looked at, not written to
    yield from check_sources(folder, config)
    found = check_names(config)
    yield found
    if found.verdict is not Verdict.WRONG:
        found = check_port(config)
        yield found
    if found.verdict is not Verdict.WRONG:
        yield from check_server(folder, config, now=now)


def check_keys(folder: SiteFolder) -> Finding:
    """Whether the site's keys can be read, and by nobody else."""
    try:
        folder.identity()
        NodeKey.load(folder.node_file)
        folder.proxy_url(folder.config())
    except FedvolError as error:
        return _wrong("keys", error.what, error.fix)
    return _fine("keys", "identity and node key can be read, and by their owner alone")


def check_roster(folder: SiteFolder, config: SiteConfig, *, now: datetime) -> Finding:
    """Whether the consortium's roster lists this site, and until when."""
    try:
        roster = held_roster(folder)
    except FedvolError as error:
        return _wrong("roster", error.what, error.fix)
    if roster is None:
        fix = "Enrol; compare fingerprints with the operator; `fedvol site start` fetches it."
        return _wrong("roster", "none has arrived yet", fix)
    entry = next((one for one in roster.sites if one.site == config.site), None)
    if entry is None or entry.status is not SiteStatus.ACTIVE:
        status = "not in it" if entry is None else entry.status.value
        return _wrong("roster", f"this site is {status}", "Ask the operator why.")
    if entry.identity != folder.identity().public:
        fix = "Ask the operator for a new invitation, or restore the keys from a backup."
        return _wrong("roster", "it has another identity key for this site", fix)
    if now < roster.not_before:
        fix = "See that this machine's clock is right; else ask the operator from when it holds."
        return _wrong("roster", "it does not hold yet", fix)
    left = roster.not_after - now
    if left <= timedelta():
        return _wrong("roster", "its time is over", "Ask the operator for a new roster.")
    said = f"version {roster.version} holds {left.days} days more"
    if left < SOON:
        return _soon("roster", said, "Ask the operator when the root signs the next one.")
    return _fine("roster", said)


def check_pause(folder: SiteFolder) -> Finding:
    """Whether somebody has paused the site."""
    if folder.paused_file.exists():
        return _wrong("pause", "the site is paused", "Go on with: fedvol site resume")
    return _fine("pause", "the site is not paused")


def check_writing(folder: SiteFolder) -> Finding:
    """Whether the site's folder, and what lies in it already, can be written."""
    parts = (folder.folder / "cases", folder.folder / "runs", folder.outbox)
    for part in (folder.folder, *(one for one in parts if one.exists())):
        probe = part / f".doctor.{os.getpid()}"
        try:
            with probe.open("wb") as file:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
            probe.unlink()
        except OSError as error:
            return _wrong(
                "write paths",
                f"{part}: {error.strerror}",
                "Give the user of this process the right to write there, or mount the folder "
                "writable.",
            )
    return _fine("write paths", "the site's folder can be written")


def check_disk(folder: Path, *, at_least: int = MIN_DISK_BYTES) -> Finding:
    """Whether there is room for prepared cases, checkpoints and weights."""
    free = shutil.disk_usage(folder).free
    said = f"{free / _GIB:.1f} GiB free where {folder} lies"
    if free < at_least:
        return _wrong(
            "disk", said, f"Give the disk {at_least / _GIB:.0f} GiB, or move the folder to another."
        )
    return _fine("disk", said)


def check_memory(meminfo: Path, limit: Path, *, at_least: int = MIN_MEMORY_BYTES) -> Finding:
    """Whether there is memory for training; a container's own limit counts.

    Args:
        meminfo: The machine's memory, as Linux tells it.
        limit: The limit of this process's group, where there is one.
        at_least: Bytes.
    """
    available = 0
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
        text = limit.read_text().strip() if limit.exists() else "max"
        if text.isdecimal():
            available = min(available, int(text))
    except (OSError, ValueError, IndexError) as error:
        return _soon("memory", f"cannot be told ({type(error).__name__})", "Look with `free -h`.")
    said = f"{available / _GIB:.1f} GiB available"
    if available < at_least:
        fix = f"Give the machine or the container at least {at_least / _GIB:.0f} GiB."
        return _wrong("memory", said, fix)
    return _fine("memory", said)


def check_shared_memory(path: Path, *, at_least: int = MIN_SHARED_BYTES) -> Finding:
    """Whether processes can hand each other arrays."""
    try:
        free = shutil.disk_usage(path).free
    except OSError:
        return _wrong("shared memory", f"{path} is not there", "Mount a tmpfs there.")
    said = f"{free >> 20} MiB free in {path}"
    if free < at_least:
        return _wrong("shared memory", said, "Start the container with --shm-size=1g.")
    return _fine("shared memory", said)


def check_sources(folder: SiteFolder, config: SiteConfig) -> Iterator[Finding]:
    """Whether each folder of volumes can be listed."""
    if not config.data:
        yield _soon("data", "there is no source yet", "Add one: fedvol data add")
    for source in config.data:
        name = f"data {source.name}"
        try:
            cases = read_site_entries(
                folder.source_folder(source),
                site=SiteId(config.site),
                num_channels=len(source.channels),
            )
        except FedvolError as error:
            yield _wrong(name, error.what, error.fix)
        else:
            yield _fine(name, f"{len(cases)} cases listed")


def check_names(config: SiteConfig) -> Finding:
    """Whether the host that is called first has an address: the proxy, else the server."""
    host, port = _first_hop(config)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return _wrong(
            "DNS",
            f"{host} has no address ({error.strerror})",
            "Ask IT for the name's address in the resolver of this machine or container.",
        )
    return _fine("DNS", f"{host} has an address")


def check_port(config: SiteConfig) -> Finding:
    """Whether a connection to the first hop can be made."""
    host, port = _first_hop(config)
    try:
        with closing(socket.create_connection((host, port), timeout=_TIMEOUT_S)):
            return _fine("port", f"{host} takes connections on port {port}")
    except OSError as error:
        return _wrong(
            "port",
            f"no connection to {host}, port {port} ({error.strerror or type(error).__name__})",
            f"Ask IT to let this machine call out to {host}, port {port}; no port in is needed.",
        )


def check_server(folder: SiteFolder, config: SiteConfig, *, now: datetime) -> Iterator[Finding]:
    """Whether the server is the invitation's, for how long, and what its clock says."""
    from fedvol.transport.network.site_calls import SiteCalls

    calls = SiteCalls(
        config.server,
        tls=client_context(folder.authority_pem()),
        key=folder.identity(),
        site=SiteId(config.site),
        proxy=folder.proxy_url(config),
        timeout_s=_TIMEOUT_S,
    )
    try:
        with closing(calls):
            date = calls.date()
    except FedvolError as error:
        yield _wrong("server", error.what, _server_fix(error, config))
        return
    yield _fine("server", "it is the one of the invitation, over TLS 1.3")
    yield check_clock(date, now=datetime.now(UTC))
    if config.link.proxy is None:
        yield check_certificate(folder, config, now=now)


def check_clock(date: str, *, now: datetime) -> Finding:
    """Whether this machine's clock is near the server's.

    Args:
        date: What the server says, as HTTP has it.
        now: The time here.
    """
    try:
        skew = abs(parsedate_to_datetime(date) - now)
    except (ValueError, TypeError):
        return _soon("clock", "the server does not say what time it is", "Compare by other means.")
    said = f"{skew.total_seconds():.0f} seconds from the server's"
    fix = "Have the machine keep time by NTP; signatures are refused beyond 5 minutes."
    if skew > MAX_SKEW:
        return _wrong("clock", said, fix)
    return _soon("clock", said, fix) if skew > MAX_SKEW / 2 else _fine("clock", said)


def check_certificate(folder: SiteFolder, config: SiteConfig, *, now: datetime) -> Finding:
    """How long the server's certificate holds."""
    host, port = split_address(config.server)
    context = client_context(folder.authority_pem())
    try:
        with (
            closing(socket.create_connection((host, port), timeout=_TIMEOUT_S)) as bare,
            closing(context.wrap_socket(bare, server_hostname=host)) as link,
        ):
            told = (link.getpeercert() or {}).get("notAfter", "")
    except OSError as error:
        return _wrong("certificate", type(error).__name__, "Ask the operator to renew it.")
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(told)), tz=UTC)
    said = f"the server's holds {(ends - now).days} days more"
    if ends - now < SOON:
        return _soon("certificate", said, "Tell the operator to renew it in time.")
    return _fine("certificate", said)


def _first_hop(config: SiteConfig) -> tuple[str, int]:
    if config.link.proxy is None:
        return split_address(config.server)
    parts = urlsplit(config.link.proxy)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _server_fix(error: FedvolError, config: SiteConfig) -> str:
    if "TLS:" in error.what:
        return (
            "Something between here and the server shows another certificate, such as a proxy "
            "that inspects TLS: ask IT to let this connection through unopened."
        )
    if "Proxy" in error.what and config.link.proxy is not None:
        return "The proxy refuses: check link.proxy and the file of link.proxy_credentials."
    return "Ask the operator whether the server is up."


def _fine(name: str, what: str) -> Finding:
    return Finding(name=name, verdict=Verdict.FINE, what=what)


def _soon(name: str, what: str, fix: str) -> Finding:
    return Finding(name=name, verdict=Verdict.SOON, what=what, fix=fix)


def _wrong(name: str, what: str, fix: str) -> Finding:
    return Finding(name=name, verdict=Verdict.WRONG, what=what, fix=fix)
