"""Writes the tables of docs/performance.md anew from results: `make bench-docs`.

A table stands between `<!-- begin: NAME, from make bench -->` and `<!-- end: NAME -->`; everything else is left alone.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compare import report

TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "about": lambda results: report.about(results["about"]),
    "queues": lambda results: report.races(results["races"]),
    "ratios": lambda results: report.ratios(results["races"]),
    "bars": lambda results: report.bars(results["bars"]),
    "figures": lambda results: report.own(results["own"]),
    "profile": lambda results: report.profile(results["own"]["profile"]),
}


def published(text: str, results: Mapping[str, Any]) -> str:
    """The page with the tables of these results.

    Raises:
        KeyError: the page wants a table that there is not, or whose measurement was not made.
    """

    def replaced(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found[2]](results)}\n{found[4]}"

    pattern = r"(<!-- begin: (\w+), from make bench -->)\n(.*?)(<!-- end: \2 -->)"
    return re.sub(pattern, replaced, text, flags=re.DOTALL)


def main() -> None:
    page, source = map(Path, sys.argv[1:3])
    page.write_text(published(page.read_text(encoding="utf-8"), json.loads(source.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
