"""`fedvol server`: make, start and look at the coordinating server."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import json
import logging
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from fedvol.cli.operator_access import DEFAULT_ACCESS, Access, AccessFile, Operators
from fedvol.cli.output import AsJson, emit, say

app = typer.Typer(help="Make, start and look at the coordinating server.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The server's folder.")]
Store = Annotated[
    str | None,
    typer.Option(help="Keep records in a PostgreSQL: postgresql+psycopg://USER@HOST/NAME."),
]
StorePassword = Annotated[
    Path | None,
    typer.Option(help="File with the PostgreSQL's password; a copy goes into the folder."),
]
IN_FOLDER = "folder"
"""In the place of a database's address: `server.db` in the server's folder."""


@app.command()
def init(
    folder: Folder,
    root: Annotated[Path, typer.Option(help="root.json of the consortium's root.")],
    address: Annotated[
        str, typer.Option(help="Where hospitals reach the server, such as fl.example.org:443.")
    ],
    operator: Annotated[str, typer.Option(help="Name of the first operator.")] = "operator",
    access: Annotated[
        Path, typer.Option(help="New file for the first operator's token.")
    ] = DEFAULT_ACCESS,
    listen_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen on; else the address's own."),
    ] = None,
    private_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port for operators on this machine.")
    ] = 9092,
    store: Store = None,
    store_password: StorePassword = None,
    as_json: AsJson = False,
) -> None:
    """Make a server: its folder, keys, certificate, and the first operator.

    FOLDER is a new folder; server.toml in it may be changed afterwards. It holds secrets.
    """
    from fedvol.cli.folders import new_folder
    from fedvol.config.addresses import split_address
    from fedvol.errors import UsageError
    from fedvol.identity import IdentityKey, RootRecord
    from fedvol.server.operator_desk import require_name
    from fedvol.server.server_folder import ServerFolder
    from fedvol.server.server_state import create_server
    from fedvol.store import read_password

    require_name(operator, of="operator")
    if access.exists():
        raise UsageError(
            f"--access {access}", "something is there already", "Name a new file for the token."
        )
    record = RootRecord.read(root)
    try:
        _, port = split_address(address)
    except ValueError as error:
        raise UsageError("--address", str(error), "Write it as hospitals reach it.") from error
    password = None if store_password is None else read_password(store_password)
    text = server_text(
        consortium=record.consortium,
        address=address,
        port=listen_port or port,
        private_port=private_port,
        store=store,
        has_store_password=password is not None,
    )
    with new_folder(folder) as working:
        token = create_server(
            working,
            config_text=text,
            root=record,
            operator=operator,
            store_password=password,
        )
    Access(port=private_port, user=operator, token=token).write(access)
    key = IdentityKey.load(ServerFolder(folder=folder).identity).public
    say(f"{folder}: a server of {record.consortium}, reached at {address}.")
    say(f"Its identity: {key.fingerprint}")
    say(f"The root: {record.root.fingerprint}")
    say(f"The token of {operator}, shown this once, and kept in {access}:")
    say(token)
    say(f"Start it: fedvol server start {folder}")
    if as_json:
        emit(
            {
                "folder": str(folder),
                "identity": key.hex,
                "fingerprint": key.fingerprint,
                "access": str(access),
                "operator": operator,
            }
        )


@app.command()
def start(folder: Folder, as_json: AsJson = False) -> None:
    """Serve hospitals and operators until told to stop.

    FOLDER is the server's folder. It ends with Ctrl-C or SIGTERM; runs go on when it is started
    again.
    """
    from fedvol.server.service import serve_server
    from fedvol.telemetry import set_up_logging

    set_up_logging(sys.stderr)
    _quieten_flower()
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    serve_server(folder, observer=_Telling(), stop=stop)
    if as_json:
        emit({"folder": str(folder), "ended": True})


@app.command()
def renew(folder: Folder, as_json: AsJson = False) -> None:
    """Make a new TLS certificate under the server's own authority; sites need nothing new.

    FOLDER is the server's folder. A server that is running takes the new certificate by itself.
    """
    from fedvol.identity import write_moment
    from fedvol.server.renewing import renew_certificate
    from fedvol.server.server_state import ServerState

    state = ServerState.open(folder)
    try:
        ends = write_moment(renew_certificate(state, now=datetime.now(UTC)))
    finally:
        state.close()
    say(f"{folder}: a new certificate, until {ends}. Sites go on as they are.")
    if as_json:
        emit({"folder": str(folder), "certificate_until": ends})


@app.command(hidden=True)
def coordinate(folder: Folder) -> None:
    """Conduct runs; the server starts this itself."""
    from fedvol.server.coordinator_process import coordinate as conduct_runs
    from fedvol.telemetry import set_up_logging

    set_up_logging(sys.stderr)
    _quieten_flower()
    # Ctrl-C in a terminal reaches children too; the server ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    conduct_runs(folder)


@app.command()
def status(access: AccessFile = DEFAULT_ACCESS, as_json: AsJson = False) -> None:
    """Say how the running server is."""
    found = Operators.of(access).get("status")
    roster = f"roster {found['roster']}" if found["roster"] else "no roster yet"
    say(f"fedvol {found['version']} for {found['consortium']}, at {found['address']}")
    say(f"Identity: {found['identity']}")
    say(f"Certificate until {found['certificate_until']}; {roster}, {found['roster_until'] or '-'}")
    if found["certificate_ends_soon"]:
        say(f"The certificate ends in {found['certificate_days']} days: fedvol server renew FOLDER")
    say(f"Sites: {found['sites_active']} active, {found['sites_online']} connected")
    state = "running" if found["coordinator"] else "not running"
    say(f"Coordinator {state}, started {found['coordinator_starts']} times")
    say(f"Runs started: {found['runs_started']}")
    if restored := found["restored"]:
        say(
            f"Restored at {restored['restored']} from the backup of {restored['taken']} "
            f"({restored['backup']}): what it did between is lost."
        )
    if as_json:
        emit(found)


@app.command()
def backup(
    folder: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New file, outside the folder.")],
    as_json: AsJson = False,
) -> None:
    """Copy all that the server needs to go on to one file; it may be serving meanwhile.

    FOLDER is the server's folder. FILE holds the server's keys, so it is a secret: whoever has it
    can speak as this server.
    """
    from fedvol.identity import write_moment
    from fedvol.server.backup import take_backup

    told = take_backup(folder, file)
    taken = write_moment(told.facts.taken)
    say(f"{file}: {told.num_files} files, {told.size_bytes:,} bytes, as of {taken}.")
    say("It holds the server's keys: a secret, readable by its owner alone.")
    for name in told.facts.left_out:
        say(f"Not in it, because it lies outside the folder: {name}")
    say(f"Its manifest: {told.digest}")
    if as_json:
        emit(
            {
                "file": str(file),
                "manifest": told.digest,
                "taken": taken,
                "files": told.num_files,
                "size_bytes": told.size_bytes,
                "left_out": [*told.facts.left_out],
                "log_records": told.facts.log_records,
                "log_head": told.facts.log_head,
            }
        )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What backup wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the server.")],
    store: Annotated[
        str | None,
        typer.Option(
            help="Keep records elsewhere than before: in postgresql+psycopg://USER@HOST/NAME, "
            "or in the `folder`."
        ),
    ] = None,
    store_password: StorePassword = None,
    as_json: AsJson = False,
) -> None:
    """Make a server's folder from a backup. End the old server first: there must not be two.

    This turns the server back: what it did after the backup is lost, and its audit log says so.
    Runs that were started wait until they are resumed.
    """
    from fedvol.cli.folders import new_folder
    from fedvol.config.server import store_text
    from fedvol.errors import UsageError
    from fedvol.identity import write_moment
    from fedvol.server.restoring import restore_server
    from fedvol.store import read_password

    if store_password is not None and store in (None, IN_FOLDER):
        raise UsageError(
            "--store-password", "it names no database", "Name the database, too: --store."
        )
    password = None if store_password is None else read_password(store_password)
    url = None if store == IN_FOLDER else store
    section = None if store is None else store_text(url, has_password=password is not None)
    with new_folder(folder) as working:
        done = restore_server(file, into=working, store=section, store_password=password)
    taken = write_moment(done.facts.taken)
    say(f"{folder}: the server of {done.facts.consortium} as it was at {taken}.")
    say(f"Back are {done.num_runs} runs, {done.num_sites} sites, {done.num_users} users.")
    say("THIS TURNS THE SERVER BACK. What it did after that moment is not in its records or its")
    say("audit log, which says so: who was removed or suspended since is back, who joined is not.")
    say("Before you resume a run, put the newest roster and look at sites and users.")
    for name in done.facts.left_out:
        say(f"Not in the backup, and needed where it was: {name}")
    for run in done.paused:
        say(f"It waits: fedvol run resume {run}")
    if as_json:
        emit(
            {
                "folder": str(folder),
                "manifest": done.digest,
                "taken": taken,
                "runs": done.num_runs,
                "sites": done.num_sites,
                "users": done.num_users,
                "roster": done.roster,
                "paused": [*done.paused],
                "left_out": [*done.facts.left_out],
            }
        )


def server_text(
    *,
    consortium: str,
    address: str,
    port: int,
    private_port: int,
    store: str | None = None,
    has_store_password: bool = False,
) -> str:
    """A new `server.toml`."""
    from fedvol.config.server import store_text

    return f"""\
# The coordinating server; every key is in docs/server.md.
version = 1
consortium = {json.dumps(consortium, ensure_ascii=False)}
# Where hospitals reach the server, as it stands in invitations.
address = {json.dumps(address)}

[listen]
host = "0.0.0.0"
port = {port}
# For operators and the coordinator, on this machine alone.
private_port = {private_port}
{store_text(store, has_password=has_store_password)}"""


def _quieten_flower() -> None:
    """Its logger has a handler and a level of its own; warnings reach ours all the same."""
    flower = logging.getLogger("flwr")
    flower.handlers.clear()
    flower.setLevel(logging.WARNING)


class _Telling:
    """Says what happens on stderr, a line each."""

    def event(self, name: str, /, **fields: object) -> None:
        """Say it."""
        words = " ".join(f"{key}={value}" for key, value in fields.items())
        say(f"{name} {words}".strip())
