"""The table of docs/settings.md, made from the settings: `python -m jobmaster.settings.reference FILE` renews it."""

from __future__ import annotations

import sys
from pathlib import Path

from jobmaster.model.backoff import Backoff
from jobmaster.settings.resolution import DEFAULT_MASTER
from jobmaster.settings.rule import SECONDS, Rule
from jobmaster.settings.values import RULES, Settings

BEGIN = "<!-- begin: generated from jobmaster/settings/values.py -->"
END = "<!-- end: generated -->"


def reference() -> str:
    """One row per setting: name, default, unit, limits, environment variable, meaning."""
    head = ["| setting | default | unit | limits | environment variable | meaning |", "|---|---|---|---|---|---|"]
    return "\n".join(head + [_row(name, rule) for name, rule in RULES.items()])


def renewed(document: str) -> str:
    """`document` with the table between the two marks written anew.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document lacks the line {BEGIN!r} or {END!r}; write both where the table belongs")
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def _row(name: str, rule: Rule) -> str:
    unit = "seconds" if rule.unit == SECONDS else rule.unit
    limits = rule.limits + (f"; none: {rule.none}" if rule.none else "")
    variable = "JOBMASTER_" + name.upper().replace(".", "__")
    cells = [f"`{name}`", _default(name, rule), unit, limits.removeprefix("; "), f"`{variable}`", rule.note]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(name: str, rule: Rule) -> str:
    head, _, part = name.partition(".")
    if head == "master":
        return f"`{DEFAULT_MASTER}`"
    if head == "buckets":
        return "1"
    if head == "retry":
        return rule.shown(getattr(Backoff(), part))
    defaults = dict(zip(reversed(Settings.__struct_fields__), reversed(Settings.__struct_defaults__), strict=False))
    return rule.shown(defaults[name]) or "empty"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(renewed(target.read_text(encoding="utf-8")), encoding="utf-8")
