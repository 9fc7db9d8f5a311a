"""What every store can keep, so that all of them say the same to hostile data.

Some databases refuse NUL, some lone surrogates, some an integer of 2**63: the limits here are those of the strictest.
What comes in is checked at the edge of the verb, before anything is written; the words of an outcome are cleaned
instead, because a finish must not fail for the text of somebody's exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.errors import SerializationError
from jobmaster.model.job import ErrorInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobmaster.model.bucket import NewBucket
    from jobmaster.model.definition import ClusterRecord, Definition
    from jobmaster.model.job import Envelope, NewJob
    from jobmaster.model.schedule import Schedule
    from jobmaster.model.worker import Registration

LATEST_US = 253_402_300_799_999_999
"""The last microsecond of the year 9999: later moments are no datetime."""

LARGEST = 2**63 - 1
KEY_BYTES = 16
LONGEST_NAME = 255
"""Characters of a name in a column of a server."""
LONGEST_REASON = 64
"""Characters of a reason in a column of a server."""


def check_text(value: str, name: str) -> None:
    """Raise SerializationError for a text that not every store can keep."""
    if "\0" in value:
        raise SerializationError(f"{name} holds a NUL character, which no SQL database stores in a text. Remove it.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SerializationError(
            f"{name} holds a lone surrogate at position {error.start}, which is no character that can be stored as "
            "UTF-8. Decode the bytes it came from with errors='replace'."
        ) from None


def check_moment(value: int, name: str) -> None:
    """Raise SerializationError for microseconds that are no moment between 1970 and the year 9999."""
    if not 0 <= value <= LATEST_US:
        raise SerializationError(
            f"{name} is {value} microseconds since 1970, but a moment lies between 1970 and the end of the year 9999. "
            "Give a moment in between."
        )


def check_number(value: int, name: str) -> None:
    """Raise SerializationError for an integer that does not fit into 64 bits with a sign."""
    if not -LARGEST - 1 <= value <= LARGEST:
        raise SerializationError(f"{name} is {value}, which does not fit into the 64 bits of a database's integer.")


def check_key(key: object) -> None:
    """Raise SerializationError for a job key that is not 16 bytes."""
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise SerializationError(
            f"A job's key is the 16 bytes of a UUID, not {key!r}. Make it with model.ids.parse_key."
        )


def check_jobs(jobs: Iterable[NewJob], now_us: int) -> None:
    """Raise SerializationError for the first job that not every store can keep."""
    for job in jobs:
        check_key(job.key)
        check_moment(due_of(job, now_us), "due time")
        _check_envelope(job.envelope)


def due_of(job: NewJob, now_us: int) -> int:
    """When the job is due: as it says, or its delay from the store's now."""
    return now_us + job.delay_us if job.due_us is None else job.due_us


def _check_envelope(envelope: Envelope) -> None:
    check_text(envelope.task, "task name")
    check_text(envelope.lane, "lane")
    check_priority(envelope.priority)
    check_moment(envelope.created_us, "created_us")
    check_moment(envelope.scheduled_us, "scheduled_us")
    if envelope.expires_us is not None:
        check_moment(envelope.expires_us, "expires")
    if envelope.custom_id is not None:
        check_text(envelope.custom_id, "job id")
    if envelope.reply_to:
        check_text(envelope.reply_to, "reply_to")


def check_priority(priority: int) -> None:
    """Raise SerializationError for a number that is no priority."""
    if not 1 <= priority <= 5:  # noqa: PLR2004 - said in the text below
        raise SerializationError(f"priority is {priority}, but priorities are 1 (very_low) to 5 (critical).")


def check_bucket(bucket: NewBucket) -> None:
    """Raise SerializationError for a new bucket that not every store can keep."""
    check_text(bucket.token, "bucket token")
    check_text(bucket.agent, "agent name")
    check_text(bucket.lane, "lane")
    check_priority(bucket.priority)


def check_registration(registration: Registration) -> None:
    """Raise SerializationError for a registration that not every store can keep."""
    for name in ("name", "agent", "host", "version", "schema_version"):
        check_text(getattr(registration, name), f"worker's {name}")
    for lane in registration.lanes:
        check_text(lane, "lane")
    check_number(registration.boot, "boot number")


def check_definition(definition: Definition) -> None:
    """Raise SerializationError for a definition that not every store can keep."""
    for name in ("name", "lane", "signature", "source"):
        check_text(getattr(definition, name), f"definition's {name}")
    check_priority(definition.priority)


def check_schedule(schedule: Schedule) -> None:
    """Raise SerializationError for a schedule that not every store can keep."""
    check_key(schedule.key)
    for name in ("name", "task", "lane", "source"):
        text = getattr(schedule, name)
        check_text(text, f"schedule's {name}")
        if len(text) > LONGEST_NAME:
            raise SerializationError(
                f"The schedule's {name} has {len(text)} characters, and {LONGEST_NAME} are kept. Shorten it."
            )
    rule = schedule.rule
    for name in ("type_id", "text", "zone"):
        check_text(getattr(rule, name), f"rule's {name}")
    for name in ("start_us", "end_us"):
        moment = getattr(rule, name)
        if moment is not None:
            check_moment(moment, f"rule's {name}")
    check_priority(schedule.priority)


def check_cluster(record: ClusterRecord) -> None:
    """Raise SerializationError for cluster settings that not every store can keep."""
    check_text(record.cluster, "cluster id")
    check_number(record.version, "settings version")


def cleaned(text: str) -> str:
    """The text with U+FFFD in the place of what cannot be stored."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def cleaned_reason(reason: str) -> str:
    """The reason of an outcome, cleaned, and cut where a column of a server would refuse it."""
    text = cleaned(reason)
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def cleaned_error(error: ErrorInfo | None) -> ErrorInfo | None:
    """The error with its texts cleaned."""
    if error is None:
        return None
    return ErrorInfo(cleaned(error.type), cleaned(error.message), cleaned(error.traceback))
