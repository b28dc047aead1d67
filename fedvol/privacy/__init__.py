"""The only way out of a site: policy, audit record, contribution."""

from fedvol.privacy.audit import AuditRecord, AuditSink
from fedvol.privacy.contribution import Contribution, Kind, Update
from fedvol.privacy.file_audit import AuditSummary, FileAudit, verify_audit
from fedvol.privacy.release import Releaser
from fedvol.privacy.suppression import HeldSubjects, JudgedSubjects

__all__ = [
    "AuditRecord",
    "AuditSink",
    "AuditSummary",
    "Contribution",
    "FileAudit",
    "HeldSubjects",
    "JudgedSubjects",
    "Kind",
    "Releaser",
    "Update",
    "verify_audit",
]
