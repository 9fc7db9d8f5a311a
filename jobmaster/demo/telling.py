"""What the demo says: words and a live table on a terminal, plain lines elsewhere, or one JSON object."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

import jobmaster
from jobmaster.demo.app import HEARTBEAT, jm
from jobmaster.demo.files import default_folder
from jobmaster.demo.json_telling import JsonTelling
from jobmaster.demo.look import Look, table_of
from jobmaster.demo.plan import LATEST
from jobmaster.demo.worker_process import APP, typed_command

if TYPE_CHECKING:
    from jobmaster.demo.checking import Checked
    from jobmaster.demo.files import Found
    from jobmaster.demo.story import Sent
    from jobmaster.demo.worker_process import WorkerProcess
    from jobmaster.views import ScheduleRun

MOST_SHOWN = 10
"""Lines of a list that may be long."""
Show = Callable[[], int]
"""Looks at the jobs, shows how they are, and answers how many have ended."""
ShowRuns = Callable[[Sequence["ScheduleRun"]], None]
"""Shows how the schedule goes on."""


class Telling(Protocol):
    """How a demo is told."""

    def start(self, found: Found, worker: WorkerProcess) -> None:
        """Say what is going to happen."""
        ...

    def watching(self, sent: Sequence[Sent]) -> AbstractContextManager[Show]:
        """Give what is called again and again while jobs run."""
        ...

    def end(self, checked: Checked, found: Found, worker: WorkerProcess, *, once: bool) -> None:
        """Say how it ended, and what can be tried next."""
        ...

    def staying(self) -> AbstractContextManager[ShowRuns]:
        """Give what is called again and again while the worker stays."""
        ...

    def goodbye(self) -> None:
        """Say that the worker stops."""
        ...


def teller(given_master: str | None, *, as_json: bool) -> Telling:
    """Words for people, or JSON."""
    return JsonTelling() if as_json else WordTelling(given_master)


class WordTelling:
    """Words, and a table that is drawn anew on a terminal."""

    def __init__(self, given_master: str | None) -> None:
        # Somebody who pipes the output gets lines that are never cut.
        self._console = Console(highlight=False, soft_wrap=not os.isatty(1))
        self._given_master = given_master

    def start(self, found: Found, worker: WorkerProcess) -> None:
        """Name the folder, the master and the worker."""
        title = Text(f"JobMaster {jobmaster.__version__}", style="bold")
        self._console.print(title.append("  counts the words of text files, one job each", style="not bold"))
        self._fact("folder", f"{found.folder.absolute()}: {_number_of_files(found)}{_left_out(found)}")
        kept = "" if self._given_master else "  (deleted at the end)"
        self._fact("master", f"{jm.settings.master}{kept}")
        self._fact("worker", f"pid {worker.pid}, a process of its own (this one is {os.getpid()})")
        self._fact("", f"{typed_command()} {' '.join(worker.arguments)}")
        self._console.print()

    @contextmanager
    def watching(self, sent: Sequence[Sent]) -> Iterator[Show]:
        """A live table; without a terminal a line whenever something has changed."""
        look = Look(sent)
        if not self._console.is_terminal:
            yield self._lines(look)
            self._console.print()
            for row in self._console.render_lines(table_of(look), pad=False):
                self._console.print("".join(segment.text for segment in row).rstrip())
            self._console.print()
            return
        with Live(console=self._console, auto_refresh=False, vertical_overflow="visible") as live:

            def show() -> int:
                look.again()
                live.update(table_of(look), refresh=True)
                return look.ended

            yield show
        self._console.print()

    def end(self, checked: Checked, found: Found, worker: WorkerProcess, *, once: bool) -> None:
        """The merged result, the failed job's traceback, the verdict, and what to try."""
        self._result(checked)
        if checked.failed is not None and checked.failed.error is not None:
            self._heading("The job that failed, as the master keeps it")
            for line in checked.failed.error.traceback.rstrip().splitlines():
                self._console.print(Text(f"  {line}", style="dim"))
            self._console.print()
        if checked.is_as_planned:
            self._console.print(Text(f"All {checked.jobs:,} jobs ended as planned.", style="bold green"))
        else:
            self._differences(checked.differences)
            self._heading("What the worker said last")
            for line in worker.last_words(MOST_SHOWN).splitlines():
                self._console.print(Text(f"  {line}", style="dim"))
        self._console.print()
        self._try_next(checked, found, once=once)

    @contextmanager
    def staying(self) -> Iterator[ShowRuns]:
        """A line that is drawn anew; nothing without a terminal."""
        if not self._console.is_terminal:
            yield lambda _runs: None
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            yield lambda runs: live.update(Text(f"\n  {_heartbeat(runs)}", style="dim"), refresh=True)

    def goodbye(self) -> None:
        """Name what happens at the end."""
        self._console.print("\nThe worker stops." + ("" if self._given_master else " The demo's files are deleted."))

    def _lines(self, look: Look) -> Show:
        last = ""

        def show() -> int:
            nonlocal last
            look.again()
            line = f"waiting {look.waiting:,}, running {look.running:,}, ended {look.ended:,} of {look.total:,}"
            if line != last:
                self._console.print(f"  {look.seconds:4.1f} s  {line}")
                last = line
            return look.ended

        return show

    def _result(self, checked: Checked) -> None:
        self._heading("Result, each number checked" if checked.is_as_planned else "Result")
        changed = f" ({checked.left_out:,} changed meanwhile, and are left out)" if checked.left_out else ""
        self._fact("files", f"{checked.files:,}{changed}")
        self._fact("words", f"{checked.words:,}, of them {checked.distinct:,} different")
        top = [f"{word} {count:,}" for word, count in checked.most]
        for start in range(0, len(top), 5):
            self._fact("" if start else "top", "   ".join(top[start : start + 5]))
        if checked.late is not None:
            late = f"{checked.late * 1000:.0f} ms after its time"
            self._fact("on time", f"the due job started {late} (planned: up to {LATEST * 1000:.0f})")
        if checked.fired.latest is not None:
            late = f"up to {checked.fired.latest * 1000:.0f} ms late"
            self._fact("schedule", f"every 2 s: {len(checked.fired.runs)} runs, none missed or doubled, {late}")
        if checked.processes:
            self._fact("ran in", f"process {', '.join(map(str, checked.processes))}, a child of the worker")
        self._fact("checked", "words: by other code, in this process; the moment: by the", dim=True)
        self._fact("", "master and by the job; the process: by what each job saw", dim=True)
        self._console.print()

    def _try_next(self, checked: Checked, found: Found, *, once: bool) -> None:
        command = typed_command()
        if once:
            self._heading("Try next")
            self._commands("the same, and the worker stays for you to play with", f"{command} demo")
            self._console.print(Text(f"\n  {_next_step()}\n"))
            return
        self._heading("The worker stays. Try in another terminal, in this folder")
        shown = str(jm.settings.master)
        is_shown = self._given_master in {None, shown}  # an address with a password is not
        self._commands(
            "which cluster, and which app" if is_shown else "the master's address as you gave it, and the app",
            f"export JOBMASTER_MASTER={shlex.quote(shown) if is_shown else '…'}",
            f"export JOBMASTER_APP={APP}",
        )
        failed = [f"{command} jobs show {checked.failed.id}"] if checked.failed else []
        self._commands(
            "look around",
            f"{command} jobs list --status ended --limit 8",
            f"{command} jobs list --status failed",
            *failed,
            f"{command} workers list",
            f"{command} buckets",
            f"{command} schedules show {HEARTBEAT}",
        )
        self._commands(
            "run jobs of your own",
            f"{command} run demo.remind --delay 2 --wait",
            f"{command} run demo.count_words {shlex.quote(json.dumps([found.files[0].path]))}",
        )
        self._console.print(Text(f"\n  {_next_step()}"))
        end = "." if self._given_master else ", and deletes the demo's files."
        self._console.print(Text(f"  Ctrl-C stops the worker{end}", style="bold"))

    def _commands(self, what: str, *commands: str) -> None:
        """Commands to be copied: they are never broken into two lines."""
        self._console.print(Text(f"  # {what}", style="dim"))
        for command in commands:
            self._console.print(Text(f"  {command}", style="cyan"), soft_wrap=True)

    def _differences(self, differences: Sequence[str]) -> None:
        self._console.print(Text("Not as planned:", style="bold red"))
        for difference in differences[:MOST_SHOWN]:
            self._console.print(Text(f"  {difference}", style="red"))
        if differences[MOST_SHOWN:]:
            self._console.print(Text(f"  and {len(differences) - MOST_SHOWN:,} more", style="red"))

    def _heading(self, text: str) -> None:
        self._console.print(Text(text, style="bold"))

    def _fact(self, name: str, text: str, *, dim: bool = False) -> None:
        line = Text(f"  {name:<9}", style="dim")
        line.append(text, style="dim" if dim else "not dim")
        self._console.print(line, soft_wrap=True)


def _number_of_files(found: Found) -> str:
    return f"{len(found.files):,} text file{'' if len(found.files) == 1 else 's'}"


def _left_out(found: Found) -> str:
    parts = []
    if found.too_large:
        parts.append(f"{found.too_large:,} too large")
    if found.too_many:
        parts.append(f"{found.too_many:,} too many")
    return f" ({', '.join(parts)}: left out)" if parts else ""


def _heartbeat(runs: Sequence[ScheduleRun]) -> str:
    """The schedule, in a line."""
    if not runs:
        return f"{HEARTBEAT} fires every 2 seconds"
    late = runs[-1].lateness
    told = "" if late is None else f", {late.total_seconds() * 1000:.0f} ms after its time"
    return f"{HEARTBEAT} fires every 2 seconds: {len(runs):,} runs, the last at {runs[-1].at:%H:%M:%S} UTC{told}"


def _next_step() -> str:
    guide = default_folder() / "docs" / "getting-started.md"
    if guide.is_file():
        place = guide.relative_to(Path.cwd()) if guide.is_relative_to(Path.cwd()) else guide
        return f"Your own first task, in five lines: {place}"
    return f"Your own first task: put @jm.task on a function, and start {typed_command()} worker -A YOUR_MODULE"
