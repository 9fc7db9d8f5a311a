"""The results as text: tables that people read, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RACE_COLUMNS = (
    ("enqueue one by one /s", "one"), ("bulk /s", "bulk"),
    ("drain, 1 process /s", "drain_1"), ("2 processes /s", "drain_2"),
    ("worker CPU µs a job", "worker_cpu_us_1"), ("server CPU µs", "server_cpu_us_1"),
    ("p50 ms", "p50_ms"), ("p95 ms", "p95_ms"), ("p99 ms", "p99_ms"), ("RSS MB", "rss_mb"), ("start s", "start_s"),
)  # fmt: skip


def number(value: object) -> str:
    """Three figures, thousands with a comma; a dash where there is nothing."""
    if not isinstance(value, int | float):
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def races(found: Mapping[str, Any]) -> str:
    """Medians of all contestants, the range of drains below them."""
    medians, ranges = found["medians"], found["ranges"]

    def cell(name: str, column: str) -> str:
        text = number(medians[name].get(column))
        if column.startswith("drain") and column in ranges[name]:
            low, high = ranges[name][column]
            text += f" <sub>{number(low)} to {number(high)}</sub>"
        return text

    rows = [[name, *(cell(name, column) for _, column in RACE_COLUMNS)] for name in medians]
    return table(["queue", *(head for head, _ in RACE_COLUMNS)], rows)


def ratios(found: Mapping[str, Any]) -> str:
    heads = ("one", "bulk", "drain_1", "drain_2")
    rows = [[name, *(number(values.get(head)) for head in heads)] for name, values in found["ratios"].items()]
    return table(["JobMaster against", "enqueue", "bulk", "drain 1", "drain 2"], rows)


def bars(verdicts: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [one["bar"], one["asked"], number(one["measured"]) + one["unit"], "yes" if one["met"] else "**no**"]
        for one in verdicts
    ]
    return table(["bar", "asked", "measured", "met"], rows)


def own(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Every single figure of our own measurements."""
    rows = [
        [section, name, number(value)]
        for section, figures in sections.items()
        for name, value in figures.items()
        if isinstance(value, int | float)
    ]
    return table(["measurement", "figure", "value"], rows)


def profile(found: Mapping[str, Any]) -> str:
    parts = [f"{found['us_a_job']:.1f} µs of an engine's processor time a job"]
    for title, kind in (
        ("function, its own time", "functions"),
        ("line, with what it calls in libraries", "lines"),
        ("function, with all that it calls", "with_what_they_call"),
    ):
        rows = [[f"`{one['where']}`", f"{one['us']:.2f}"] for one in found[kind][:40]]
        parts.append(table([title, "µs a job"], rows))
    return "\n\n".join(parts)


def about(found: Mapping[str, Any]) -> str:
    """Where, when and with what."""
    installed = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    machine = f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['system']}"
    return "\n".join([
        f"- command: `{found['command']}`, {found['date']}, commit {found['commit']}",
        f"- machine: {machine}; clients, workers and servers share it",
        f"- Python {found['python']}, PostgreSQL {found['postgresql']}; disk: {found['disk']}",
        f"- versions: {installed}",
    ])  # fmt: skip


def whole(results: Mapping[str, Any]) -> str:
    """The report of a run."""
    parts = [f"# Comparison of {results['about']['date']}", about(results["about"])]
    if "races" in results:
        parts += ["## All queues", races(results["races"]), "## Ratios, medians of pairs", ratios(results["races"])]
        parts += ["\n".join(f"- **{name}**: {words}" for name, words in results["races"]["settings"].items())]
    if results["bars"]:
        parts += ["## Bars", bars(results["bars"])]
    plain = {name: figures for name, figures in results["own"].items() if name != "profile"}
    if plain:
        parts += ["## JobMaster", own(plain)]
    if "profile" in results["own"]:
        parts += ["## Profile of an engine", profile(results["own"]["profile"])]
    if results["failures"]:
        parts += ["## Failed", "\n".join(f"- {name}: {text}" for name, text in results["failures"].items())]
    return "\n\n".join(parts) + "\n"
