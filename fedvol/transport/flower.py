"""Flower apps: a server app that is handed a link, a client app that hands messages to an agent."""

import logging
from collections.abc import Callable, Mapping

from fedvol.errors import SiteFailedError
from fedvol.federation import Action, Link
from fedvol.transport.carriers import Handle, InlineSite, SiteCarrier
from fedvol.transport.engine import (
    APP_FAILED_CODE,
    ClientApp,
    Context,
    Error,
    Grid,
    Message,
    RecordDict,
    ServerApp,
)
from fedvol.transport.flower_link import FlowerLink
from fedvol.types import SiteId

SITE_KEY = "site"
"""Key of a node's configuration under which it finds its own name."""

_log = logging.getLogger(__name__)


def make_client_app(handle: Handle, *, carrier: SiteCarrier | None = None) -> ClientApp:
    """A ClientApp that answers every action with `handle`.

    An error that `handle` lets through becomes a fixed reply without any text of its own; what
    happened is in the site's log.

    Args:
        handle: The site's agent.
        carrier: Understands messages and makes them; None: tensors are in them.
    """
    app = ClientApp()
    carried = carrier or InlineSite()

    def answer(message: Message, context: Context) -> Message:
        return _answer(handle, carried, message, context)

    decorators = {"query": app.query, "train": app.train, "evaluate": app.evaluate}
    for action in Action:
        category, _, name = action.value.partition(".")
        decorators[category](name)(answer)
    return app


def make_server_app(main: Callable[[Link], None]) -> ServerApp:
    """A ServerApp that hands `main` a link to the nodes that are there, by their names."""
    app = ServerApp()

    def run(grid: Grid, context: Context) -> None:
        del context
        main(FlowerLink(grid))

    app.main()(run)
    return app


def failed_reply(message: Message, reason: str = "") -> Message:
    """Flower's answer of an app that raised.

    Args:
        message: What it was asked.
        reason: Why, for a simulation alone: it leaves the site.
    """
    return Message(Error(APP_FAILED_CODE, reason), reply_to=message)


def node_context(node: int, config: Mapping[str, str], *, run: int) -> Context:
    """What an app is told of the node it runs at."""
    return Context(
        run_id=run, node_id=node, node_config={**config}, state=RecordDict(), run_config={}
    )


def _answer(handle: Handle, carrier: SiteCarrier, message: Message, context: Context) -> Message:
    try:
        site = SiteId(str(context.node_config.get(SITE_KEY, "")))
        content = carrier.answer(
            handle, message.content, site=site, action=message.metadata.message_type
        )
        return Message(content, reply_to=message)
    except Exception:  # noqa: BLE001  # nothing of it may leave: the text can name a patient
        _log.exception("site.failed")
        return failed_reply(message, SiteFailedError.code)
