"""`jobmaster workers`: look at workers and give them orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from jobmaster.cli.failures import FAILED, UNREACHABLE, Failure
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import age, show_json, show_table, span

if TYPE_CHECKING:
    from jobmaster.views import WorkerInfo, WorkerReply


@click.group()
@common_options
def workers() -> None:
    """List workers and give them orders."""


@workers.command("list")
@common_options
@pass_invocation
def list_workers(invocation: Invocation, /) -> None:
    """List the workers that the master remembers, living ones first."""
    found = invocation.app().workers.list()
    if invocation.as_json:
        show_json(found)
        return
    show_table(
        ["name", "status", "version", "mode", "agent", "lanes", "slots", "running", "waiting", "host", "pid",
         "renewed"],
        [
            (worker.name, _status(worker), worker.version, worker.mode.name.lower(), worker.agent,
             ",".join(worker.lanes), worker.slots, worker.stats.get("running"), worker.stats.get("waiting"),
             worker.host, worker.pid, age(worker.renewed_at))
            for worker in found
        ],
        empty="No worker has ever run. Start one: jobmaster worker -A myapp",
    )  # fmt: skip


def _order(command: Any) -> Any:
    """The options that every order has."""
    for option in (
        click.option("--timeout", type=click.FloatRange(0.1, 600), default=5.0, show_default=True, metavar="SECONDS",
                     help="How long to wait for the answers."),
        click.argument("names", metavar="[NAME]...", nargs=-1),
    ):  # fmt: skip
        command = option(command)
    return common_options(command)


@workers.command("ping")
@_order
@pass_invocation
def ping(invocation: Invocation, /, names: tuple[str, ...], timeout: float) -> None:
    """Ask workers (all living ones, or those named) for a sign of life."""
    _tell(invocation, invocation.app().workers.ping(*names, timeout=timeout))


@workers.command("pause")
@_order
@pass_invocation
def pause(invocation: Invocation, /, names: tuple[str, ...], timeout: float) -> None:
    """Have workers start nothing more until `resume`; what runs goes on."""
    _tell(invocation, invocation.app().workers.pause(*names, timeout=timeout))


@workers.command("resume")
@_order
@pass_invocation
def resume(invocation: Invocation, /, names: tuple[str, ...], timeout: float) -> None:
    """Have paused workers start jobs again."""
    _tell(invocation, invocation.app().workers.resume(*names, timeout=timeout))


@workers.command("stop")
@_order
@pass_invocation
def stop(invocation: Invocation, /, names: tuple[str, ...], timeout: float) -> None:
    """Have workers stop gracefully; the answer says that they begin to."""
    _tell(invocation, invocation.app().workers.stop(*names, timeout=timeout))


@workers.command("concurrency")
@click.argument("slots", type=click.IntRange(1, 10_000))
@_order
@pass_invocation
def concurrency(invocation: Invocation, /, slots: int, names: tuple[str, ...], timeout: float) -> None:
    """Give workers SLOTS slots until they restart."""
    _tell(invocation, invocation.app().workers.set_concurrency(slots, *names, timeout=timeout))


@workers.command("revoke")
@click.argument("job")
@_order
@pass_invocation
def revoke(invocation: Invocation, /, job: str, names: tuple[str, ...], timeout: float) -> None:
    """Have workers end JOB where it waits or runs; `jobs cancel` is for good."""
    _tell(invocation, invocation.app().workers.revoke(job, *names, timeout=timeout))


def _tell(invocation: Invocation, replies: Sequence[WorkerReply]) -> None:
    if not replies:
        raise Failure("No worker lives, so nobody answers. Start one: jobmaster worker -A myapp", code=UNREACHABLE)
    if invocation.as_json:
        show_json(
            [
                {"worker": one.worker, "ok": one.ok, "answered_after": one.answered_after, "reply": one.reply}
                for one in replies
            ]
        )
    else:
        show_table(["worker", "answer", "after", "running", "slots", "paused"], map(_row, replies), empty="")
    if any(reply.answered_after is None for reply in replies):
        raise click.exceptions.Exit(UNREACHABLE)
    if not all(reply.ok for reply in replies):
        raise click.exceptions.Exit(FAILED)


def _status(worker: WorkerInfo) -> str:
    paused = worker.status.lives and worker.stats.get("paused")
    return worker.status.name.lower() + (", paused" if paused else "")


def _row(reply: WorkerReply) -> tuple[object, ...]:
    if reply.answered_after is None:
        return (reply.worker, "no answer", "", "", "", "")
    answer = "ok" if reply.ok else f"refused: {reply.reply.get('error', '')}"
    facts = (reply.reply.get(name, "") for name in ("running", "slots", "paused"))
    return (reply.worker, answer, span(reply.answered_after.total_seconds()), *facts)
