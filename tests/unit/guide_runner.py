"""Runs a page of the docs as a reader would follow it: its files are written, its commands typed, its outputs compared.

- A `python` block whose first line is `# name.py` becomes that file; any other one runs as a program.
- A `toml` block whose first line begins with `# name.toml` becomes that file.
- Each line of an `sh` block is a command. Those that run until they are stopped stay until the next of their kind.
- A `text` block is what the last command printed; `…` stands for anything within a line, alone for any lines.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PATIENCE = 60.0
STAYING = ("jobmaster worker ", "flask --app")


class Block(NamedTuple):
    """A fenced block: its kind, its text, and the line on which it begins."""

    kind: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


class Reader:
    """Somebody who follows a page in an empty folder.

    Args:
        folder: the folder.
        proven_elsewhere: commands that another test runs, and which the reader does not type.
    """

    def __init__(self, folder: Path, *, proven_elsewhere: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.typed: list[str] = []
        self.written: list[str] = []
        self._skipped = proven_elsewhere
        self._staying: subprocess.Popen[bytes] | None = None
        self._log = folder.parent / "staying.log"
        self._printed = ""
        # A reader's terminal is as wide as the page: COLUMNS is what a test runner says of itself.
        env = {key: value for key, value in os.environ.items() if not key.startswith("JOBMASTER_") and key != "COLUMNS"}
        self._env = {**env, "PATH": f"{BIN}{os.pathsep}{env['PATH']}", "PYTHONUNBUFFERED": "1", "HOME": str(folder)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def follow(self, block: Block) -> None:
        if block.kind == "python":
            named = re.match(r"# (\w+\.py)\n", block.text)
            if named:
                (self.folder / named[1]).write_text(block.text, encoding="utf-8")
                self.written.append(named[1].removesuffix(".py"))
            else:
                self._printed = self._run([sys.executable, "-c", block.text], block)
        elif block.kind == "toml" and (named := re.match(r"# (\w+\.toml)\b", block.text)):
            (self.folder / named[1]).write_text(block.text, encoding="utf-8")
        elif block.kind == "sh":
            for line in block.text.splitlines():
                self._type(line.split("  #")[0].strip(), block)
        elif block.kind == "text":
            self._compare(block)
        else:
            raise AssertionError(f"line {block.line}: a block of kind {block.kind!r} is not run by anything")

    def _type(self, command: str, block: Block) -> None:
        if not command or command.startswith("#"):
            return
        self.typed.append(command)
        if command in self._skipped:
            return
        if command.startswith(STAYING) and "--once" not in command:
            self._stay(command, block)
        else:
            self._printed = self._run(["sh", "-c", command], block)

    def _run(self, command: list[str], block: Block) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, f"line {block.line}, exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _stay(self, command: str, block: Block) -> None:
        self._stop()
        with self._log.open("wb") as log:
            self._staying = subprocess.Popen(
                shlex.split(command), cwd=self.folder, env=self._env, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + PATIENCE
        while "Ctrl-C" not in self._said():
            assert self._staying.poll() is None, f"line {block.line}: {command} ended:\n{self._said()}"
            assert time.monotonic() < deadline, f"line {block.line}: {command} said only:\n{self._said()}"
            time.sleep(0.05)
        self._printed = self._said()

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _stop(self) -> None:
        if self._staying is None:
            return
        self._staying.terminate()
        try:
            self._staying.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._staying.kill()
            raise
        finally:
            self._staying = None

    def _compare(self, block: Block) -> None:
        assert re.search(f"(?:^|\n){pattern_of(block.text)}", self._printed), (
            f"line {block.line}: the page says\n{block.text}\nand the command printed\n{self._printed}"
        )


def pattern_of(text: str, *, any_numbers: bool = False) -> str:
    """The expression that an output has to match.

    Args:
        text: what a page shows.
        any_numbers: another number, or another width of a column, is no difference.
    """

    def part(shown: str) -> str:
        if not any_numbers:
            return re.escape(shown)
        return re.sub(r"\d[\d,]*|(?:\\ )+", lambda found: r" +" if "\\" in found[0] else r"[\d,]+", re.escape(shown))

    return "".join(
        "(?:.*\n)*?" if line.strip() == "…" else "[^\n]*".join(map(part, line.split("…"))) + " *\n"
        for line in text.splitlines()
    )
