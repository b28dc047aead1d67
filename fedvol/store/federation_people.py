"""Users of a server, and the list of what they did."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import final

from sqlalchemy import Engine, select

from fedvol.errors import UsageError
from fedvol.store.database import reading, writing
from fedvol.store.federation_records import ActionRecord, Role, UserRecord
from fedvol.store.federation_tables import ActionRow, UserRow


@final
class PeopleTables:
    """Users and what they did.

    Args:
        engine: From `open_engine`, with the tables there.
        now: Gives the time, UTC.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def add(self, name: str, *, role: Role, token: str) -> UserRecord:
        """Add a user; of the token only its SHA-256 is kept.

        Raises:
            UsageError: There is, or was, a user of that name.
        """
        with writing(self._engine) as session:
            if session.get(UserRow, name) is not None:
                raise UsageError(
                    f"user {name}",
                    "there is, or was, a user of this name",
                    "Choose another: what a name did must stay the same person's.",
                )
            row = UserRow(
                name=name, role=role.value, token_digest=_digest(token), created=self._now()
            )
            session.add(row)
            return _user(row)

    def remove(self, name: str) -> UserRecord:
        """Let a user in no more.

        Raises:
            UsageError: There is none of that name, or it is the last operator.
        """
        with writing(self._engine) as session:
            row = session.get(UserRow, name)
            if row is None or row.removed is not None:
                raise UsageError(
                    f"user {name}", "there is no such user", "List them: fedvol user list."
                )
            operators = session.scalars(
                select(UserRow).where(
                    UserRow.role == Role.OPERATOR.value, UserRow.removed.is_(None)
                )
            ).all()
            if [one.name for one in operators] == [name]:
                raise UsageError(
                    f"user {name}", "it is the last operator", "Add another operator first."
                )
            row.removed = self._now()
            return _user(row)

    def users(self) -> tuple[UserRecord, ...]:
        """Every user, the removed ones too, by name."""
        with reading(self._engine) as session:
            return tuple(
                _user(row) for row in session.scalars(select(UserRow).order_by(UserRow.name))
            )

    def user_of(self, token: str) -> UserRecord | None:
        """Whose token this is; None if it is nobody's, or a removed user's."""
        wanted = select(UserRow).where(
            UserRow.token_digest == _digest(token), UserRow.removed.is_(None)
        )
        with reading(self._engine) as session:
            row = session.scalars(wanted).one_or_none()
            return _user(row) if row is not None else None

    def record(self, *, user: str, action: str, subject: str, outcome: str) -> int:
        """Add to what was done; returns its number."""
        with writing(self._engine) as session:
            row = ActionRow(
                at=self._now(), user=user, action=action, subject=subject, outcome=outcome
            )
            session.add(row)
            session.flush()
            return row.number

    def settle(self, number: int, *, outcome: str) -> None:
        """Say how something ended that was added before it was done.

        Args:
            number: From `record`.
            outcome: How.
        """
        with writing(self._engine) as session:
            session.get_one(ActionRow, number).outcome = outcome

    def actions(self, *, last: int = 1000) -> tuple[ActionRecord, ...]:
        """What was done last, oldest first."""
        wanted = select(ActionRow).order_by(ActionRow.number.desc()).limit(last)
        with reading(self._engine) as session:
            return tuple(
                ActionRecord(
                    at=row.at,
                    user=row.user,
                    action=row.action,
                    subject=row.subject,
                    outcome=row.outcome,
                )
                for row in reversed(session.scalars(wanted).all())
            )


def _digest(token: str) -> str:
    # A token is 32 random bytes: nothing is gained by a slow hash, as for passwords.
    return hashlib.sha256(token.encode()).hexdigest()


def _user(row: UserRow) -> UserRecord:
    return UserRecord(name=row.name, role=Role(row.role), created=row.created, removed=row.removed)
