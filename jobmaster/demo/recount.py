"""The control count: one plain pass in the demo's own process, by other code than the jobs use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jobmaster.demo.files import TextFile, has_changed


def recount(files: Iterable[TextFile]) -> tuple[dict[str, int], set[str]]:
    """How often each word (run of letters, in lower case) stands in these files.

    Returns:
        The counts, and the paths of files that are not what they were when they were found. Those are not counted.
    """
    counts: dict[str, int] = {}
    changed: set[str] = set()
    for file in files:
        text = _text_of(file)
        if text is None:
            changed.add(file.path)
            continue
        blanks = {ord(char): " " for char in set(text) if not char.isalnum() or char.isdecimal()}
        for word in text.translate(blanks).split():
            small = word.lower()
            counts[small] = counts.get(small, 0) + 1
    return counts, changed


def _text_of(file: TextFile) -> str | None:
    try:
        text = Path(file.path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return None if has_changed(file) else text


def most_frequent(counts: dict[str, int], most: int) -> list[tuple[str, int]]:
    """The most frequent words with their counts; of equally frequent ones the alphabetically first."""
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:most]
