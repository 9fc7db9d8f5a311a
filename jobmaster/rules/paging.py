"""The pages of a job list: newest first, each continued after the last job of the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from jobmaster.model.job import JobRecord

LONGEST_PAGE = 1_000


class Place(NamedTuple):
    """Where a page ends: the list goes on with what is smaller."""

    created_us: int
    key: bytes


def place_of(record: JobRecord) -> Place:
    """The place of a job in the list."""
    return Place(record.created_us, record.key)


def written(place: Place) -> str:
    """The place as `JobPage.after` says it."""
    return f"{place.created_us}:{place.key.hex()}"


def read_page(limit: int, after: str | None) -> Place | None:
    """The place after which the page begins; None: at the newest job.

    Raises:
        ConfigurationError: `limit` is not 1 to 1,000, or `after` is no end of a page.
    """
    if not 1 <= limit <= LONGEST_PAGE:
        raise ConfigurationError(f"limit is {limit}, but a page holds 1 to {LONGEST_PAGE:,} jobs.")
    if after is None:
        return None
    created, _, key = after.partition(":")
    try:
        return Place(int(created), bytes.fromhex(key))
    except ValueError:
        raise ConfigurationError(f"after={after!r} is no end of a page. Pass on what JobPage.after said.") from None
