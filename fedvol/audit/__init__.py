"""What a site and a server write down, so that nobody can change it unseen afterwards.

Knows neither volumes nor networks: a privacy officer's machine needs nothing else to check a log.
"""

from fedvol.audit.chain import ChainEnd, LogLine
from fedvol.audit.checkpoint import Cadence, Checkpoint
from fedvol.audit.compare import Comparison, Crossing, compare_logs
from fedvol.audit.contribution import AuditRecord
from fedvol.audit.events import UNNAMED, AuditEvent, AuditSink, Receipt
from fedvol.audit.export import export_log
from fedvol.audit.log import AuditLog
from fedvol.audit.roster_event import RosterChange
from fedvol.audit.selection import Selection
from fedvol.audit.server_events import (
    BackupTaken,
    CallersRefused,
    OperatorAction,
    OperatorOutcome,
    ReplyReceived,
    RequestSent,
    ServerRestored,
)
from fedvol.audit.site_events import (
    AnswerSent,
    ConsentDecision,
    PolicyDecision,
    RequestReceived,
    SitePause,
)
from fedvol.audit.totals import Totals
from fedvol.audit.verify import KnownHead, LogSummary, verify_log

__all__ = [
    "UNNAMED",
    "AnswerSent",
    "AuditEvent",
    "AuditLog",
    "AuditRecord",
    "AuditSink",
    "BackupTaken",
    "Cadence",
    "CallersRefused",
    "ChainEnd",
    "Checkpoint",
    "Comparison",
    "ConsentDecision",
    "Crossing",
    "KnownHead",
    "LogLine",
    "LogSummary",
    "OperatorAction",
    "OperatorOutcome",
    "PolicyDecision",
    "Receipt",
    "ReplyReceived",
    "RequestReceived",
    "RequestSent",
    "RosterChange",
    "Selection",
    "ServerRestored",
    "SitePause",
    "Totals",
    "compare_logs",
    "export_log",
    "verify_log",
]
