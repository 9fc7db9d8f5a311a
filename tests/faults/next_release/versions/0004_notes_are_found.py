"""Indexes on notes, made beside those who write."""

from jobmaster.stores.sql.online import create_index

revision = "0004"
down_revision = "0003"
oldest_code = "0001"
transactional = False


def upgrade() -> None:
    create_index("jm_job_note", "jm_job", ["note"], condition="note <> ''")
    create_index("jm_message_note", "jm_message", ["note", "bucket"])
