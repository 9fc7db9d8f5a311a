"""`jobmaster health`: is it well? For probes that run a command, and for people."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import click

from jobmaster.cli.failures import FAILED, UNREACHABLE, Failure
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import show_facts, show_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.app import JobMaster
    from jobmaster.views import WorkerInfo


@click.command()
@common_options
@click.option("--port", type=click.IntRange(1, 65_535), metavar="PORT",
              help="Ask the worker that has this --health-port, and not the master.")  # fmt: skip
@click.option(
    "--ready",
    is_flag=True,
    help="Whether jobs would run now: with --port ask /readyz; else look for idle lanes and pauses, too.",
)
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=5.0, show_default=True, metavar="SECONDS")
@pass_invocation
def health(invocation: Invocation, /, port: int | None, ready: bool, timeout: float) -> None:  # noqa: FBT001 - click calls by name
    """Say whether a worker (with --port), or the cluster, is well.

    The cluster is well when its master answers and a worker that runs jobs lives; it is ready when workers own buckets,
    are not paused, and serve every lane that the app's tasks name. Exit code 0: well; 1: not well; 3: nobody answers.
    """
    if port is None:
        ok, facts = _cluster(invocation, ready=ready)
    else:
        ok, facts = _worker(port, "readyz" if ready else "healthz", timeout)
    if invocation.as_json:
        show_json({"ok": ok, **facts})
    else:
        show_facts((name, str(value)) for name, value in facts.items())
        click.secho("well" if ok else "not well", fg="green" if ok else "red")
    if not ok:
        raise click.exceptions.Exit(FAILED)


def _worker(port: int, page: str, timeout: float) -> tuple[bool, dict[str, object]]:
    url = f"http://127.0.0.1:{port}/{page}"
    # Proxies of the environment are for other hosts.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            facts = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            facts = _facts(error.read())
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Failure(
            f"Nobody answers at {url} ({reason}). Is the worker running, with --health-port {port}?", code=UNREACHABLE
        ) from error
    return bool(facts.pop("ok", False)), facts


def _facts(body: bytes) -> dict[str, object]:
    try:
        told = json.loads(body)
    except ValueError:
        return {"error": "the answer is no JSON: another program listens on this port"}
    return told if isinstance(told, dict) else {}


def _cluster(invocation: Invocation, *, ready: bool) -> tuple[bool, dict[str, object]]:
    app = invocation.app()
    living = [worker for worker in app.workers.list() if worker.status.lives and worker.mode.runs_jobs]
    facts: dict[str, object] = {"master": "answers", "workers": len(living)}
    why = _why_not_ready(app, living) if ready else "" if living else "no worker that runs jobs lives"
    return not why, {**facts, "why": why} if why else facts


def _why_not_ready(app: JobMaster, living: Sequence[WorkerInfo]) -> str:
    if not living:
        return "no worker that runs jobs lives"
    working = [worker for worker in living if worker.stats.get("buckets") and not worker.stats.get("paused")]
    named = {definition.target.lane or "default" for definition in app.registry}
    left = sorted(named - {lane for worker in working for lane in worker.lanes})
    if not left:
        return ""
    return f"no worker that owns buckets and is not paused serves {', '.join(left)}"
