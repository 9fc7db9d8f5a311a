"""`jobmaster worker`: the options, and their way to the supervisor."""

from __future__ import annotations

import os
import signal
from typing import Any

import click

from jobmaster.cli.failures import log_failure
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.errors import ConfigurationError
from jobmaster.model.states import WorkerMode
from jobmaster.observe.logs import FORMATS, JSON, LEVELS

POOLS = ("threads", "processes", "asyncio", "solo")
SERVICE_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What a service manager says to the process that it starts, and to none of its children."""
LEAST_DESCRIPTORS = 64
MODES = tuple(mode.name.lower() for mode in WorkerMode)


def _lanes(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """`-Q mail -Q bulk` and `-Q mail,bulk` are the same."""
    return tuple(lane.strip() for value in values for lane in value.split(",") if lane.strip())


@click.command()
@common_options
@click.option(
    "--lane",
    "-Q",
    "lanes",
    multiple=True,
    callback=_lanes,
    metavar="LANE",
    help="Serve this lane only; may be repeated, or a,b. Default: all lanes that tasks name, and `default`.",
)
@click.option(
    "--pool",
    "-P",
    type=click.Choice(POOLS),
    default="threads",
    show_default=True,
    help="Where sync tasks run. `async def` tasks always run on the event loop.",
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Slots of each engine. Default: 20 x parallelism; with -P processes the number of cores.",
)
@click.option(
    "--engines", type=click.IntRange(1, 1_000), default=1, show_default=True, metavar="N", help="Engine processes."
)
@click.option("--mode", type=click.Choice(MODES), help="Which duties the engines have. Default: as declared, or full.")
@click.option("--agent", metavar="NAME", help="Run only the declared workers of this agent.")
@click.option("--name", "-n", metavar="NAME", help="The worker's name. Default: host and process id.")
@click.option(
    "--grace",
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    help="How long running jobs may go on after SIGTERM. Default: the setting, 25.",
)
@click.option("--reload", is_flag=True, help="Restart when *.py or *.toml files change. For development.")
@click.option(
    "--loglevel",
    "-l",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="The least important log lines that are written.",
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Log lines for people, or one JSON object a line.",
)
@click.option(
    "--max-tasks-per-child",
    type=click.IntRange(1),
    metavar="N",
    help="Replace a process after so many jobs: each child of -P processes; an engine for what runs in itself.",
)
@click.option(
    "--max-memory-per-child",
    type=click.IntRange(16),
    metavar="MIB",
    help="Replace such a process when it holds more memory than this, after what runs in it.",
)
@click.option(
    "--health-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Answer /healthz and /readyz on 127.0.0.1:PORT (0: any free port).",
)
@click.option("--once", is_flag=True, help="End when nothing waits and nothing runs; schedules keep nobody waiting.")
@pass_invocation
@click.pass_context
def worker(ctx: click.Context, invocation: Invocation, /, **options: Any) -> None:
    """Run jobs until SIGTERM or Ctrl-C.

    The first signal stops gracefully: nothing new starts, what runs may finish within the grace period, the rest is
    handed back. The second hands everything back at once, the third ends by force.
    """
    _check(options)
    _check_descriptors()
    _obey_as_first_process()
    service = {name: os.environ.pop(name, "") for name in SERVICE_VARIABLES}
    place, folder = invocation.located()
    from jobmaster.early_start import start_first_engine
    from jobmaster.worker_order import WorkerOrder, default_worker_name

    order = WorkerOrder(
        place=place,
        folder=folder,
        identity=default_worker_name(),
        settings={} if options["grace"] is None else {"grace": options["grace"]},
        agent=options["agent"],
        lanes=options["lanes"],
        name=options["name"],
        mode=options["mode"],
        pool=options["pool"],
        concurrency=options["concurrency"],
        engines=options["engines"],
        once=options["once"],
        max_tasks_per_child=options["max_tasks_per_child"],
        max_memory_per_child=options["max_memory_per_child"],
        log_level=options["loglevel"].lower(),
        log_format=options["log_format"],
    )
    first = start_first_engine(order)
    # While it imports the app, this process imports what it needs itself.
    from jobmaster.cli.worker_life import WorkerLife

    life = WorkerLife(
        order,
        first,
        reload=options["reload"],
        health_port=options["health_port"],
        as_json=invocation.as_json,
        service=service,
    )
    try:
        code = life.run()
    except Exception as error:
        # Whoever reads the log line by line reads this one, too.
        told = log_failure(error) if order.log_format == JSON and not invocation.as_json else None
        if told is None:
            raise
        code = told
    ctx.exit(code)


def _obey_as_first_process() -> None:
    """Process 1 of a container gets no signal that it does not handle; so it ends at one before it has begun."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))


def _check_descriptors() -> None:
    """Refuse to begin with what is used up before the first job runs."""
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= most < LEAST_DESCRIPTORS:
        raise ConfigurationError(
            f"A process may open only {most} files here, and a worker needs {LEAST_DESCRIPTORS} at the least, for its "
            f"connections and its own; tasks need more. Raise the limit: ulimit -n 1024 (systemd: LimitNOFILE=1024)."
        )


def _check(options: dict[str, Any]) -> None:
    """Refuse what cannot work before anything is started."""
    if options["reload"] and options["once"]:
        raise click.UsageError("--reload waits for changes and --once ends by itself. Give one of them.")
    if options["pool"] == "solo" and options["concurrency"] not in {None, 1}:
        raise click.UsageError("-P solo runs one job at a time. Leave -c out, or use -P threads.")
    if options["name"] is None and not options["lanes"]:
        return
    from jobmaster.settings import check_lane, check_worker_name

    if options["name"] is not None:
        check_worker_name(options["name"])
    for lane in options["lanes"]:
        check_lane(lane)
