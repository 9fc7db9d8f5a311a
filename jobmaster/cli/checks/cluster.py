"""Workers and buckets, as the master knows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import jobmaster
from jobmaster.cli.checks.finding import Finding, State, judge
from jobmaster.cli.output import span
from jobmaster.errors import ClusterMismatch
from jobmaster.model.states import BucketStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.app import JobMaster
    from jobmaster.views import BucketInfo, WorkerInfo

MOST_SKEW: Final = 2.0
"""Seconds between a worker's clock and the store's that nobody needs to know of."""
NEWS: Final = timedelta(hours=1)
"""What happened longer ago is history."""
GOODBYE: Final = 0.9
"""A worker that ends its lease itself leaves more than a tenth of it unused; one that vanished did not end it."""


def agreement(app: JobMaster) -> list[Finding]:
    """Whether the app belongs to the master's cluster, and has the settings that all workers must share."""
    from jobmaster.database import settings_skew

    try:
        skew = settings_skew(app.client, app.settings)
    except ClusterMismatch as error:
        return [Finding("agreement", State.FAULT, str(error), is_anothers=True)]
    if not skew:
        return [Finding("agreement", State.OK, f"settings are as cluster {app.cluster_id} has agreed on")]
    if any(worker.status.lives for worker in app.workers.list()):
        advice = "Workers with these settings are refused while others run. Give all of them the same values."
        return [Finding("agreement", State.FAULT, "; ".join(skew), advice)]
    return [Finding("agreement", State.WARNING, "; ".join(skew), "The next worker to start sets the new values.")]


def workers(app: JobMaster) -> list[Finding]:
    """Everything about workers."""
    found = app.workers.list()
    now = datetime.now(UTC) + timedelta(microseconds=app.client.ask(lambda gate: gate.clock_ahead_us()))
    living = [worker for worker in found if worker.status.lives]
    dead = len(found) - len(living)
    findings = [
        judge(
            "workers",
            f"{len(living)} live" + (f", {dead} ended" if dead else ""),
            good=bool(living),
            advice="No job runs. Start one: jobmaster worker -A myapp",
            bad=State.WARNING,
        ),
        *_stale(app, found, now),
    ]
    if living:
        findings += [*_paused(living), *_namesakes(found, now), _versions(living), _clocks(living), _lanes(app, living)]
    return findings


def _stale(app: JobMaster, found: Sequence[WorkerInfo], now: datetime) -> list[Finding]:
    findings = []
    late_after = timedelta(seconds=2 * app.settings.renew_every)
    living = {worker.name for worker in found if worker.status.lives}
    for worker in found:
        silent = now - worker.renewed_at
        who = f"{worker.name} (pid {worker.pid} on {worker.host})"
        if worker.status.lives and silent > late_after:
            fact = f"{who} has not renewed its lease for {span(silent.total_seconds())}"
            advice = "It is stopped, starved of processor time, or cannot reach the master. Look at its log."
            findings.append(Finding("stale", State.WARNING, fact, advice))
        elif _vanished(worker, lease=app.settings.lease) and silent < NEWS and worker.name not in living:
            fact = f"{who} vanished {span(silent.total_seconds())} ago without a goodbye"
            advice = "Look at its log and the system's (out of memory?). Living workers take over its jobs."
            findings.append(Finding("stale", State.WARNING, fact, advice))
    return findings or [Finding("stale", State.OK, "none")]


def _vanished(worker: WorkerInfo, *, lease: float) -> bool:
    """A worker that stops ends its lease; where one ran out, nobody did."""
    return not worker.status.lives and (worker.lease_until - worker.renewed_at).total_seconds() >= GOODBYE * lease


def _paused(living: Sequence[WorkerInfo]) -> list[Finding]:
    paused = sorted(worker.name for worker in living if worker.stats.get("paused"))
    if not paused:
        return []
    advice = f"They start no job. Let them go on: jobmaster workers resume {' '.join(paused)}"
    return [Finding("paused", State.WARNING, f"paused: {', '.join(paused)}", advice)]


def _namesakes(found: Sequence[WorkerInfo], now: datetime) -> list[Finding]:
    """Names that one process took from another one that was alive, on another host or again and again."""
    findings = []
    for name in sorted({worker.name for worker in found}):
        boots = sorted((worker for worker in found if worker.name == name), key=lambda worker: worker.started_at)
        # The newer one's registration is what ended the older one's lease.
        taken = [
            (old, new) for old, new in pairwise(boots) if old.lease_until == new.started_at > now - NEWS
        ]  # fmt: skip
        if len(taken) > 1 or any(old.host != new.host for old, new in taken):
            old, new = taken[-1]
            places = f"pid {old.pid} on {old.host} and pid {new.pid} on {new.host}"
            fact = f"{name}: {places} have the same name, and end each other's lease"
            findings.append(Finding("names", State.WARNING, fact, "Give one of them another --name."))
    return findings or [Finding("names", State.OK, "each worker has its own")]


def _versions(living: Sequence[WorkerInfo]) -> Finding:
    by_version: dict[str, list[str]] = {}
    for worker in living:
        by_version.setdefault(worker.version, []).append(worker.name)
    told = "; ".join(f"{version}: {', '.join(sorted(names))}" for version, names in sorted(by_version.items()))
    alike = set(by_version) == {jobmaster.__version__}
    fact = jobmaster.__version__ if alike else f"{told}; here {jobmaster.__version__}"
    advice = "Right while an upgrade is rolled out; afterwards restart the older ones."
    return judge("versions", fact, good=alike, advice=advice, bad=State.WARNING)


def _clocks(living: Sequence[WorkerInfo]) -> Finding:
    told = {worker.name: worker.stats["clock_ahead"] for worker in living if "clock_ahead" in worker.stats}
    off = {name: ahead for name, ahead in told.items() if abs(ahead) > MOST_SKEW}
    if off:
        shown = ", ".join(
            f"{name} {span(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}" for name, ahead in off.items()
        )
        fact = f"clocks of workers differ from the master's: {shown}"
        advice = "Have their hosts follow a time server. Jobs run by the master's clock; log lines show theirs."
        return Finding("worker clocks", State.WARNING, fact, advice)
    return Finding("worker clocks", State.OK, f"{len(told)} of {len(living)} tell theirs, within {MOST_SKEW:g} s")


def _lanes(app: JobMaster, living: Sequence[WorkerInfo]) -> Finding:
    named = {definition.target.lane or "default" for definition in app.registry}
    served = {lane for worker in living if worker.mode.runs_jobs for lane in worker.lanes}
    left = sorted(named - served)
    fact = f"nobody serves {', '.join(left)}" if left else f"served: {', '.join(sorted(served)) or 'none'}"
    advice = f"Their jobs wait. Start a worker for them: jobmaster worker -Q {','.join(left)}"
    return judge("lanes", fact, good=not left, advice=advice, bad=State.WARNING)


def buckets(app: JobMaster) -> list[Finding]:
    """Buckets that nobody empties."""
    found = app.buckets.list()
    owners = {worker.name for worker in app.workers.list() if worker.status.lives}
    lost = [bucket for bucket in found if _is_lost(bucket, owners)]
    depth = sum(bucket.depth for bucket in found)
    fact = f"{len(found)} buckets, {depth:,} jobs in them when last counted"
    if not lost:
        return [Finding("buckets", State.OK, f"{fact}, none lost")]
    lanes = ",".join(sorted({bucket.lane for bucket in lost}))
    agents = ", ".join(sorted({bucket.agent for bucket in lost}))
    advice = f"A worker of agent {agents} that serves these lanes adopts them: jobmaster worker -Q {lanes}"
    return [Finding("buckets", State.WARNING, f"{fact}, {len(lost)} lost, of lanes {lanes}", advice)]


def _is_lost(bucket: BucketInfo, owners: set[str]) -> bool:
    if bucket.status in {BucketStatus.LOST, BucketStatus.READY_TO_DRAIN}:
        return True
    return bucket.owner is not None and bucket.owner not in owners
