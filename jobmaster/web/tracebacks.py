"""A stored traceback in its parts, so that the user's own lines stand out from those of libraries."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_FRAME: Final = re.compile(r'^  (?:[|+ -]*)File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<function>.*))?$')
_LIBRARY: Final = re.compile(r"[/\\](?:site-packages|dist-packages|python3\.\d+|jobmaster)[/\\]|^<frozen ")


@dataclass(frozen=True, slots=True)
class Frame:
    """One place in the code, with the lines that Python printed for it."""

    file: str
    line: str
    function: str
    code: str
    is_library: bool


@dataclass(slots=True)
class Part:
    """Either `text` between frames (headlines, the exception), or `frames` that are all ours or all of libraries."""

    text: str = ""
    frames: list[Frame] = field(default_factory=list)

    @property
    def is_library(self) -> bool:
        """True for frames of libraries, which are shown folded."""
        return bool(self.frames) and self.frames[0].is_library


def parts_of(trace: str) -> list[Part]:
    """The parts of a formatted traceback, in their order. Text that is no traceback is one part."""
    parts: list[Part] = []
    lines = trace.rstrip().splitlines()
    at = 0
    while at < len(lines):
        found = _FRAME.match(lines[at])
        if found is None:
            _add_text(parts, lines[at])
            at += 1
            continue
        end = at + 1
        while end < len(lines) and lines[end].startswith("    ") and not _FRAME.match(lines[end]):
            end += 1
        _add_frame(parts, found, lines[at + 1 : end])
        at = end
    return parts


def _add_text(parts: list[Part], line: str) -> None:
    if parts and not parts[-1].frames:
        parts[-1].text += f"\n{line}"
    else:
        parts.append(Part(text=line))


def _add_frame(parts: list[Part], found: re.Match[str], code: list[str]) -> None:
    frame = Frame(
        file=found["file"],
        line=found["line"],
        function=found["function"] or "",
        code="\n".join(line.removeprefix("    ") for line in code),
        is_library=_LIBRARY.search(found["file"]) is not None,
    )
    if parts and parts[-1].frames and parts[-1].is_library == frame.is_library:
        parts[-1].frames.append(frame)
    else:
        parts.append(Part(frames=[frame]))
