"""What can be made to go wrong between server and sites, in tests of both."""

import copy
from collections.abc import Callable
from enum import StrEnum

import numpy as np

from fedvol.federation import Request
from fedvol.transport.engine import (
    APP_FAILED_CODE,
    NODE_GONE_CODES,
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
)
from fedvol.transport.wire import with_reply_header

SERVER_NODE = 1
"""Number of the server's own node, from which Flower answers for nodes that are gone."""


class Fault(StrEnum):
    """What can go wrong between server and site."""

    SILENT = "silent"
    """The site never gets the message."""
    LOST = "lost"
    """The site does its work, and its reply is lost."""
    ERROR = "error"
    """The site's app raises, with a text that must not be shown."""
    CRASH = "crash"
    """The site's node disappears; Flower answers for it."""
    CORRUPT = "corrupt"
    """The reply arrives damaged."""
    NON_FINITE = "non_finite"
    """The reply's first tensor is all NaN."""
    DUPLICATE = "duplicate"
    """The reply arrives twice."""
    STRANGER = "stranger"
    """A reply to no question of ours arrives before the reply."""
    WRONG_SITE = "wrong_site"
    """The reply says it comes from another site."""


Faults = Callable[[Request], Fault | None]
"""Decides by a request, its tensors left out, what goes wrong with it."""


def no_fault(request: Request) -> Fault | None:
    """Nothing goes wrong."""
    del request
    return None


def instead(fault: Fault | None, *, message: Message) -> list[Message] | None:
    """What arrives of a message that never reaches its site; None: it does reach it."""
    match fault:
        case Fault.SILENT:
            return []
        case Fault.CRASH:
            return [from_nobody(message)]
        case Fault.ERROR:
            text = "ValueError: /data/patients/0042.nii.gz"
            return [Message(Error(APP_FAILED_CODE, text), reply_to=message)]
        case _:
            return None


def afterwards(fault: Fault | None, *, reply: Message) -> list[Message]:
    """What arrives of a reply."""
    match fault:
        case Fault.LOST:
            return []
        case Fault.DUPLICATE:
            return [reply, copy.deepcopy(reply)]
        case Fault.STRANGER:
            return [_stranger(reply), reply]
        case Fault.CORRUPT | Fault.NON_FINITE | Fault.WRONG_SITE:
            return [_spoiled(reply, fault)]
        case _:
            return [reply]


def from_nobody(message: Message) -> Message:
    """Flower's answer for a node that is gone: from its own node number, with an error."""
    reply = Message(Error(min(NODE_GONE_CODES), ""), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = SERVER_NODE
    return reply


def _stranger(reply: Message) -> Message:
    stranger = copy.deepcopy(reply)
    stranger.metadata.__dict__["_reply_to_message_id"] = "another-run"
    return stranger


def _spoiled(reply: Message, fault: Fault) -> Message:
    if fault is Fault.WRONG_SITE:
        reply.content = with_reply_header(reply.content, site="elsewhere")
        return reply
    tensors = next((r for r in reply.content.values() if isinstance(r, ArrayRecord)), None)
    if not tensors:
        reply.content["fedvol"] = ConfigRecord({"json": "{"})
        return reply
    name, array = next(iter(tensors.items()))
    if fault is Fault.CORRUPT:
        data = array.data[:-1]
    else:
        data = np.full(array.shape, np.nan, dtype=np.dtype(array.dtype)).tobytes()
    tensors[name] = Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=data)
    return reply
