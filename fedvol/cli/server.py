"""`fedvol server`: make, start and look at the coordinating server."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

import json
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from fedvol.cli.operator_access import DEFAULT_ACCESS, Access, AccessFile, Operators
from fedvol.cli.output import AsJson, emit, say

app = typer.Typer(help="Make, start and look at the coordinating server.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The server's folder.")]


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
    text = server_text(
        consortium=record.consortium,
        address=address,
        port=listen_port or port,
        private_port=private_port,
    )
    with new_folder(folder) as working:
        token = create_server(working, config_text=text, root=record, operator=operator)
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
    say(f"Sites: {found['sites_active']} active, {found['sites_online']} connected")
    state = "running" if found["coordinator"] else "not running"
    say(f"Coordinator {state}, started {found['coordinator_starts']} times")
    say(f"Runs started: {found['runs_started']}")
    if as_json:
        emit(found)


def server_text(*, consortium: str, address: str, port: int, private_port: int) -> str:
    """A new `server.toml`."""
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
"""


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
