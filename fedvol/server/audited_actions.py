"""`AuditedActions`: what operators do, in the table they look at and in the log that proves it."""

import threading
from typing import final

from fedvol.audit import AuditLog, LoginRefused, OperatorAction
from fedvol.store import FederationStore

DONE = "done"


@final
class AuditedActions:
    """Records each action twice.

    Args:
        store: The table, which `fedvol user actions` shows.
        log: The server's audit log: a chain that shows what was changed or removed.
    """

    def __init__(self, store: FederationStore, log: AuditLog) -> None:
        self._people = store.people
        self._log = log
        self._appending = threading.Lock()

    def record(self, *, user: str, role: str, action: str, subject: str, outcome: str) -> None:
        """Add to what was done.

        Args:
            user: Who; empty where the call brought nobody's token.
            role: Their role.
            action: What.
            subject: On what: a run, a site or a user.
            outcome: `done`, or the code of the refusal.

        Raises:
            AuditError: The log was changed, or cannot be written.
            StoreError: The table cannot be written.
        """
        event = (
            OperatorAction(
                user=user,
                role=role,
                action=action,
                subject=subject,
                code="" if outcome == DONE else outcome,
            )
            if user
            else LoginRefused(code=outcome)
        )
        with self._appending:
            self._log.append(event)
        self._people.record(user=user, action=action, subject=subject, outcome=outcome)

    def checkpoint_if_due(self) -> None:
        """Sign the log's head where that has waited long enough.

        Raises:
            AuditError: The log was changed, or cannot be written.
        """
        with self._appending:
            self._log.checkpoint_if_due()
