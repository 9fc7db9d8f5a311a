"""The program: its commands by name, each loaded when it is used, and what happens when one fails."""

from __future__ import annotations

import difflib
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from jobmaster.cli.failures import tell
from jobmaster.cli.invocation import Invocation, common_options

COMMANDS: dict[str, tuple[str, str]] = {
    "worker": ("jobmaster.cli.worker:worker", "Run jobs: a supervisor and its engine processes."),
    "run": ("jobmaster.cli.run:run", "Enqueue a job of a task, and wait for it with --wait."),
    "jobs": ("jobmaster.cli.jobs:jobs", "List, show, retry, cancel and follow jobs."),
    "schedules": ("jobmaster.cli.schedules:schedules", "Recurring schedules: list, explain, add, pause, edit, run."),
    "workers": ("jobmaster.cli.workers:workers", "List workers and give them orders."),
    "buckets": ("jobmaster.cli.buckets:buckets", "List buckets with owner, status and depth."),
    "config": ("jobmaster.cli.config:config", "Show each setting and where it came from."),
    "doctor": ("jobmaster.cli.doctor:doctor", "Check everything that a cluster needs, and say what to repair."),
    "health": ("jobmaster.cli.health:health", "Ask whether a worker, or the cluster, is well (for probes)."),
    "db": ("jobmaster.cli.db:db", "The master's schema: its version, upgrade, and SQL for a DBA."),
    "demo": ("jobmaster.cli.demo:demo", "Run a small real workload on an SQLite file and watch it."),
}
"""Name: where the command is, and its line in the list of commands."""

NOT_HERE = {"beat": "Nothing has to be started for recurring schedules: every worker plans. See 'jobmaster schedules'."}
"""What people look for who know other programs: where it is here."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now. One that is close to it is named where there is none."""
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = NOT_HERE.get(cmd_name) or (f"Did you mean {close[0]!r}?" if close else "")
            if hint and not ctx.resilient_parsing:
                ctx.fail(f"No such command {cmd_name!r}. {hint}")
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above names commands only
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


class Program(LazyGroup):
    """The whole command line, with its exit codes: 0 done, 1 failed, 2 wrong usage, 3 unreachable."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run, tell an error in words, end the process. Takes what `click.Command.main` takes."""
        invocation = Invocation()
        extra |= {"standalone_mode": False, "obj": invocation}
        extra["prog_name"] = extra.get("prog_name") or "jobmaster"
        if "NO_COLOR" in os.environ:
            extra["color"] = False
        try:
            code = super().main(*args, **extra)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - `tell` lets pass what nobody expected
            code = tell(error, as_json=invocation.as_json)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a store or a worker cannot be reached.",
)
@common_options
@click.version_option(package_name="jobmaster", prog_name="jobmaster")
def program() -> None:
    """Distributed background jobs.

    -A names your app (module, module:attribute or package) and may stand anywhere; JOBMASTER_APP, or `app` in
    [tool.jobmaster] of pyproject.toml, say it once for all.
    """
