"""What a visitor asked for in the address: status, task, lane, text, and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jobmaster.errors import ConfigurationError, SerializationError
from jobmaster.model.states import JobStatus
from jobmaster.settings.names import check_lane
from jobmaster.views import JobPage, JobQuery

if TYPE_CHECKING:
    from jobmaster.app import JobMaster

PAGE_SIZE: Final = 50
LONGEST_FILTER: Final = 300

GROUPS: Final[dict[str, tuple[JobStatus, ...]]] = {
    "waiting": (JobStatus.SAVE_PENDING, JobStatus.ASSIGNED_TO_BUCKET, JobStatus.QUEUED),
    "scheduled": (JobStatus.HELD_ON_MASTER,),
    "running": (JobStatus.PROCESSING,),
    "succeeded": (JobStatus.SUCCEEDED,),
    "failed": (JobStatus.FAILED,),
    "cancelled": (JobStatus.CANCELLED,),
}
"""The tabs above the list, and the statuses that each holds."""


class WrongQuestion(ValueError):  # noqa: N818 - the visitor's, not the program's
    """What the address asks for cannot be."""


@dataclass(frozen=True, slots=True)
class JobFilters:
    """The filters of a job list as they stand in the address. Empty: any."""

    status: str = ""
    task: str = ""
    lane: str = ""
    text: str = ""
    after: str = ""

    @property
    def query(self) -> JobQuery:
        """The question for `jm.jobs.list`."""
        return JobQuery(
            statuses=GROUPS[self.status] if self.status else None,
            task=self.task or None,
            lane=self.lane or None,
            text=self.text or None,
        )

    @property
    def query_of_all_statuses(self) -> JobQuery:
        """The question for the numbers on the tabs: the same task and lane, whatever the status."""
        return JobQuery(task=self.task or None, lane=self.lane or None)

    @property
    def narrows(self) -> bool:
        """Whether anything but the status is filtered."""
        return bool(self.task or self.lane or self.text)

    def address(self, **changes: str) -> dict[str, str]:
        """The parameters of a link with these filters, changed as told, from the first page on."""
        mine = {"status": self.status, "task": self.task, "lane": self.lane, "text": self.text}
        return {name: value for name, value in {**mine, **changes}.items() if value}


def read_filters(given: Mapping[str, str]) -> JobFilters:
    """The filters in the parameters of a request.

    Raises:
        WrongQuestion: a status that there is not, a lane that cannot be, or a value that is far too long.
    """
    values = {name: given.get(name, "").strip() for name in JobFilters.__slots__}
    too_long = [name for name, value in values.items() if len(value) > LONGEST_FILTER]
    if too_long:
        raise WrongQuestion(f"{too_long[0]} has more than {LONGEST_FILTER} characters. Give a shorter one.")
    if values["status"] and values["status"] not in GROUPS:
        raise WrongQuestion(f"There is no status {values['status']!r:.60}. There are {', '.join(GROUPS)}.")
    try:
        check_lane(values["lane"])
    except ConfigurationError as error:
        raise WrongQuestion(str(error)) from None
    return JobFilters(**values)


def ask_page(jm: JobMaster, filters: JobFilters, *, limit: int) -> JobPage:
    """The page of jobs that the filters ask for.

    Raises:
        WrongQuestion: `after` is no place in a list.
        StoreUnavailable: the master does not answer.
    """
    try:
        return jm.jobs.list(filters.query, limit=limit, after=filters.after or None)
    except (ConfigurationError, SerializationError):
        if not filters.after:
            raise
        raise WrongQuestion("after is no place in this list. Begin with the newest jobs.") from None


def group_counts(counts: Mapping[JobStatus, int]) -> dict[str, int]:
    """The numbers on the tabs, that of `all` under the empty name."""
    groups = {name: sum(counts.get(status, 0) for status in statuses) for name, statuses in GROUPS.items()}
    return {"": sum(groups.values()), **groups}
