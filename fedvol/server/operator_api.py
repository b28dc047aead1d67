"""The operators' interface on the private listener: tokens, roles, and a record of every action."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fedvol.errors import FedvolError, MessageError, OperatorRefusedError
from fedvol.files import atomic_path
from fedvol.identity.acceptance import MAX_ROSTER_BYTES
from fedvol.server.audited_actions import DONE, FAULT, Deed
from fedvol.server.calls import read_small, status_of
from fedvol.server.operator_desk import OperatorDesk
from fedvol.server.run_desk import RunDesk
from fedvol.store import Role, UserRecord
from fedvol.transport.network.private_gate import OPERATOR_PREFIX
from fedvol.types import Json

MAX_INITIAL_BYTES = 8 << 30
"""Largest file of initial weights that is taken, in bytes."""

MAX_PLAN_BYTES = 8 << 20
_EVERYBODY = frozenset(Role)
_OPERATORS = frozenset({Role.OPERATOR})
_AUDITORS = frozenset({Role.OPERATOR, Role.AUDITOR})

_log = logging.getLogger(__name__)


class ActionSink(Protocol):
    """Where every action is recorded before it is done, and then how it ended."""

    def begin(self, *, user: str, role: str, action: str, subject: str) -> Deed:
        """Write down what is about to be done; raises if that cannot be written."""
        ...

    def end(self, deed: Deed, *, outcome: str) -> None:
        """Write down how it ended; raises a `FedvolError` if that cannot be written."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an operator.

    Attributes:
        user: Who.
        path: Values of the path, such as `site`.
        request: What came.
    """

    user: str
    path: Mapping[str, str]
    request: Request

    async def fields(self, *names: str, limit_bytes: int = 64 << 10) -> dict[str, str]:
        """Text fields of a JSON body; one that is absent is empty.

        Raises:
            MessageError: It is no JSON object of texts with these names.
        """
        body = await read_small(self.request, limit_bytes=limit_bytes)
        try:
            given: Any = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise _malformed("its body is no JSON") from error
        if not isinstance(given, dict) or not all(
            isinstance(value, str) for value in cast("dict[str, Any]", given).values()
        ):
            raise _malformed("its body is no JSON object of texts")
        fields = cast("dict[str, str]", given)
        if strange := set(fields) - set(names):
            raise _malformed(f"its body has {len(strange)} fields that are unknown here")
        return {name: fields.get(name, "") for name in names}


_Work = Callable[[Call], Awaitable[Json]]
_Entry = tuple[str, str, frozenset[Role], _Work]
"""Method, path, who may, and what is done."""


def operator_app(
    desk: OperatorDesk,
    runs: RunDesk,
    *,
    users: Callable[[str], UserRecord | None],
    actions: ActionSink,
    status: Callable[[], dict[str, Json]],
) -> Starlette:
    """The app behind `/fedvol/operator/v1/`.

    Args:
        desk: Users and sites.
        runs: Runs.
        users: Whose token this is.
        actions: Where every action is recorded.
        status: How the server is.
    """

    def route(entry: _Entry) -> Route:
        method, path, roles, work = entry

        async def answer(request: Request) -> Response:
            return await _answered(request, roles, work, users=users, actions=actions)

        return Route(OPERATOR_PREFIX + path, answer, methods=[method])

    async def show_status(_call: Call) -> Json:
        return await run_in_threadpool(status)

    entries = [
        ("GET", "status", _EVERYBODY, show_status),
        *_about_people(desk),
        *_about_sites(desk),
        *_about_runs(runs),
    ]
    return Starlette(routes=[route(entry) for entry in entries])


def _about_people(desk: OperatorDesk) -> list[_Entry]:
    async def list_users(_call: Call) -> Json:
        return {"users": await run_in_threadpool(desk.users)}

    async def add_user(call: Call) -> Json:
        fields = await call.fields("role")
        return await run_in_threadpool(desk.add_user, call.path["subject"], role=fields["role"])

    async def remove_user(call: Call) -> Json:
        return await run_in_threadpool(desk.remove_user, call.path["subject"])

    async def list_actions(_call: Call) -> Json:
        return {"actions": await run_in_threadpool(desk.actions)}

    return [
        ("GET", "users", _AUDITORS, list_users),
        ("PUT", "users/{subject}", _OPERATORS, add_user),
        ("DELETE", "users/{subject}", _OPERATORS, remove_user),
        ("GET", "actions", _AUDITORS, list_actions),
    ]


def _about_sites(desk: OperatorDesk) -> list[_Entry]:
    async def list_sites(_call: Call) -> Json:
        return {"sites": await run_in_threadpool(desk.sites)}

    async def invite(call: Call) -> Json:
        return await run_in_threadpool(desk.invite, call.path["subject"], by=call.user)

    async def want_site(call: Call) -> Json:
        return await run_in_threadpool(desk.want_site, call.path["subject"], verb=call.path["verb"])

    async def draft(_call: Call) -> Json:
        return await run_in_threadpool(desk.draft)

    async def put_roster(call: Call) -> Json:
        content = await read_small(call.request, limit_bytes=MAX_ROSTER_BYTES)
        return await run_in_threadpool(desk.put_roster, content, by=call.user)

    return [
        ("GET", "sites", _EVERYBODY, list_sites),
        ("POST", "sites/{subject}/invite", _OPERATORS, invite),
        *(
            ("POST", f"sites/{{subject}}/{verb}", _OPERATORS, _with(want_site, verb))
            for verb in ("suspend", "resume", "remove")
        ),
        ("GET", "roster/draft", _EVERYBODY, draft),
        ("PUT", "roster", _OPERATORS, put_roster),
    ]


def _about_runs(runs: RunDesk) -> list[_Entry]:
    async def bring_initial(call: Call) -> Json:
        run = await run_in_threadpool(runs.require_new, call.path["subject"])
        target = runs.initial_path(run)
        size = 0
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            async for chunk in call.request.stream():
                size += len(chunk)
                if size > MAX_INITIAL_BYTES:
                    raise _malformed("the weights are too large")
                await run_in_threadpool(file.write, chunk)
        return {"run": run, "size_bytes": size}

    async def propose(call: Call) -> Json:
        fields = await call.fields("plan", limit_bytes=MAX_PLAN_BYTES)
        return await run_in_threadpool(
            runs.propose, call.path["subject"], plan_json=fields["plan"], by=call.user
        )

    async def propose_fingerprint(call: Call) -> Json:
        fields = await call.fields("proposal", limit_bytes=MAX_PLAN_BYTES)
        return await run_in_threadpool(
            runs.propose_fingerprint,
            call.path["subject"],
            proposal_json=fields["proposal"],
            by=call.user,
        )

    async def show_planned(call: Call) -> Json:
        return await run_in_threadpool(runs.planned, call.path["subject"])

    async def list_runs(_call: Call) -> Json:
        return {"runs": await run_in_threadpool(runs.runs)}

    async def show_run(call: Call) -> Json:
        return await run_in_threadpool(runs.show, call.path["subject"])

    async def want_run(call: Call) -> Json:
        fields = await call.fields("reason")
        return await run_in_threadpool(
            runs.want,
            call.path["subject"],
            verb=call.path["verb"],
            reason=fields["reason"][:500],
            by=call.user,
        )

    return [
        ("GET", "runs", _EVERYBODY, list_runs),
        ("GET", "runs/{subject}", _EVERYBODY, show_run),
        ("GET", "runs/{subject}/fingerprint", _OPERATORS, show_planned),
        ("POST", "runs/{subject}/fingerprint", _OPERATORS, propose_fingerprint),
        ("PUT", "runs/{subject}/initial", _OPERATORS, bring_initial),
        ("POST", "runs/{subject}/propose", _OPERATORS, propose),
        *(
            ("POST", f"runs/{{subject}}/{verb}", _OPERATORS, _with(want_run, verb))
            for verb in ("start", "pause", "resume", "stop")
        ),
    ]


def _with(work: _Work, verb: str) -> _Work:
    async def bound(call: Call) -> Json:
        path = {**call.path, "verb": verb}
        return await work(Call(user=call.user, path=path, request=call.request))

    bound.__name__ = f"{verb}_{work.__name__.removeprefix('want_')}"
    return bound


async def _answered(
    request: Request,
    roles: frozenset[Role],
    work: _Work,
    *,
    users: Callable[[str], UserRecord | None],
    actions: ActionSink,
) -> Response:
    """An operator is told all of an error: the machine is theirs."""
    action, subject = work.__name__, request.path_params.get("subject", "")[:200]
    try:
        user = await run_in_threadpool(_caller, request, users)
    except OperatorRefusedError as error:
        return _refusal(error, status=401)  # whoever serves this counts them
    try:
        if request.method == "GET":
            return JSONResponse(await _worked(request, user, roles, work))
        deed = await run_in_threadpool(
            actions.begin, user=user.name, role=user.role.value, action=action, subject=subject
        )
        try:
            body = await _worked(request, user, roles, work)
        except Exception as error:
            outcome = error.code if isinstance(error, FedvolError) else FAULT
            try:
                await run_in_threadpool(actions.end, deed, outcome=outcome)
            except FedvolError as second:  # why it was not done says more
                _log.warning("operator.outcome_lost", extra={"call": deed.call, "why": str(second)})
            raise
        try:
            await run_in_threadpool(actions.end, deed, outcome=DONE)
        except FedvolError as error:
            raise type(error)(
                error.where,
                f"{action} is done, but its outcome could not be written: {error.what}",
                f"{error.fix} Do not repeat what holds already: look first.",
            ) from error
        return JSONResponse(body)
    except FedvolError as error:
        is_role = isinstance(error, OperatorRefusedError)
        return _refusal(error, status=403 if is_role else status_of(error))


async def _worked(request: Request, user: UserRecord, roles: frozenset[Role], work: _Work) -> Json:
    if user.role not in roles:
        raise OperatorRefusedError(
            f"user {user.name}",
            f"the role {user.role} does not allow this",
            f"Ask a user with one of these roles: {', '.join(sorted(roles))}.",
        )
    return await work(Call(user=user.name, path=request.path_params, request=request))


def _refusal(error: FedvolError, *, status: int) -> Response:
    return JSONResponse(
        {
            "code": error.code,
            "where": error.where,
            "what": error.what,
            "fix": error.fix,
            "exit_status": error.exit_status,
        },
        status_code=status,
    )


def _caller(request: Request, users: Callable[[str], UserRecord | None]) -> UserRecord:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    user = users(token) if kind.lower() == "bearer" and token else None
    if user is None:
        raise OperatorRefusedError(
            "call of the operators' interface",
            "it brings no user's token",
            "Name the file with your token by --access; operators can add you: fedvol user add.",
        )
    return user


def _malformed(what: str) -> MessageError:
    return MessageError("call", what, "Bring command and server to one version.")
