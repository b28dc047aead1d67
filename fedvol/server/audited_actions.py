"""`AuditedActions`: what operators do, in the table they look at and in the log that proves it."""

import secrets
from dataclasses import dataclass
from typing import Final, final

from fedvol.audit import AuditSink, OperatorAction, OperatorOutcome
from fedvol.errors import FedvolError, StoreError
from fedvol.store import FederationStore

DONE: Final = "done"
FAULT: Final = "fault"
BEGUN: Final = "begun"
"""Outcome in the table of what has none yet, or got none as the server died or could not write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that was written down before it is done.

    Attributes:
        user: Who does it.
        action: What.
        subject: On what: a run, a site or a user.
        call: Names it in the log.
        number: Names it in the table.
    """

    user: str
    action: str
    subject: str
    call: str
    number: int


@final
class AuditedActions:
    """Records each action twice, before its effect, and then how it ended.

    Args:
        store: The table, which `fedvol user actions` shows.
        log: The server's audit log: a chain that shows what was changed or removed.
    """

    def __init__(self, store: FederationStore, log: AuditSink) -> None:
        self._people = store.people
        self._log = log

    def begin(self, *, user: str, role: str, action: str, subject: str) -> Deed:
        """Write down what is about to be done.

        Args:
            user: Who.
            role: Their role.
            action: What.
            subject: On what: a run, a site or a user.

        Raises:
            AuditError: The log was changed, or cannot be written: it must not be done.
            StoreError: The table cannot be written: the same.
        """
        call = secrets.token_hex(8)
        self._log.append(
            OperatorAction(user=user, role=role, action=action, subject=subject, call=call)
        )
        try:
            number = self._people.record(user=user, action=action, subject=subject, outcome=BEGUN)
        except StoreError as error:
            try:
                self._log.append(
                    OperatorOutcome(
                        user=user, action=action, subject=subject, call=call, code=error.code
                    )
                )
            except FedvolError as second:
                error.add_note(f"The audit log could not be told: {second}")
            raise
        return Deed(user=user, action=action, subject=subject, call=call, number=number)

    def end(self, deed: Deed, *, outcome: str) -> None:
        """Write down how it ended.

        Args:
            deed: What.
            outcome: `DONE`, `FAULT`, or the code of the refusal.

        Raises:
            AuditError: The log was changed, or cannot be written.
            StoreError: The table cannot be written.
        """
        self._log.append(
            OperatorOutcome(
                user=deed.user,
                action=deed.action,
                subject=deed.subject,
                call=deed.call,
                code="" if outcome == DONE else outcome,
            )
        )
        self._people.settle(deed.number, outcome=outcome)
