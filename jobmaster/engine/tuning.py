"""The numbers that an engine works with, taken from the settings of the app and of the command line."""

from __future__ import annotations

import msgspec

from jobmaster.model.states import ClusterMode, Priority, WorkerMode

SECOND = 1_000_000


class Tuning(msgspec.Struct, frozen=True):
    """Durations are seconds. See `docs/settings.md` for the settings behind them."""

    slots: int = 20
    lease: float = 10.0
    max_recoveries: int = 3
    """One short of so many deaths a job runs in a process of its own, and the next one quarantines it."""
    mode: WorkerMode = WorkerMode.FULL
    cluster_mode: ClusterMode = ClusterMode.ACTIVE
    lanes: tuple[str, ...] = ("",)
    buckets: dict[int, int] = msgspec.field(default_factory=lambda: {int(priority): 1 for priority in Priority})
    """Buckets per priority that this worker opens for each lane; 0 switches the priority off."""
    agent: str = "standalone"
    onboarding_window: float = 15.0
    buffer_per_bucket: int = 2000
    read_limit: int = 1000
    early_row_after: float = 1.0
    early_rows_per_second: float = 5000.0
    finish_max: int = 1000
    flushers: int = 2
    backlog_of_outcomes: int = 2000
    backlog_of_results: int = 64 << 20
    """Bytes of results and their messages that wait to be written, beyond which nothing more starts."""
    claim_limit: int = 200
    claim_every: float = 2.0
    """Fallback period of claims when nothing signals and nothing is due (grows with the number of workers)."""
    claims_per_second: float = 50.0
    """Most of these fallback claims by all workers of the cluster together."""
    read_every: float = 2.0
    reread_every: float = 0.02
    """While a message may still appear below a bucket's cursor."""
    full_reread_every: float = 60.0
    """On stores where that can happen at all, all below the cursor is read again so often."""
    adopt_per_renewal: int = 16
    lost_every: float = 1.0
    sweep_every: float = 5.0
    overdue_after: float = 60.0
    drain_after: float = 60.0
    janitor_every: float = 60.0
    retention: float | None = 30 * 86400.0
    time_zone: str = "UTC"
    """Of schedules that name none."""
    plan_ahead: float = 600.0
    """Occurrences of schedules become jobs so long before they come."""
    plan_every: float = 5.0
    """Fallback period of planning when nothing signals and no schedule's turn is known."""
    plan_claim: float = 5.0
    """A planner has a schedule to itself for so long."""
    park_after: float = 300.0
    """A schedule that this process cannot read is left to the others for so long."""
    static_kept_every: float = 60.0
    static_idle_after: float = 300.0
    """Static schedules that no worker has kept for so long are not planned."""
    static_expires_after: float = 3600.0
    """... and after so long they become Inactive."""
    unreachable_after: float = 5.0
    """An adopter that can't reach the agent for so long gives the bucket up."""
    max_buckets_per_priority: int = 3
    """An owner of more buckets of one lane and priority than this closes empty ones (R24)."""
    grace: float = 25.0
    hand_back_before_grace_ends: float = 5.0
    """What still runs then is stopped and handed back; a fifth of the grace where that is shorter."""
    condemned_grace: float = 10.0
    drain_once: bool = False
    """Stop by itself when nothing waits, nothing runs and nothing is held that is due within the window."""

    @property
    def least_room(self) -> int:
        """A bucket gets more when so much of its buffer is free: many jobs in one statement, while others run."""
        return max(1, min(self.read_limit, self.buffer_per_bucket // 2))

    @property
    def window_us(self) -> int:
        """The onboarding window in microseconds."""
        return round(self.onboarding_window * SECOND)
