"""Which names a cluster, an agent, a worker and a lane may have."""

from __future__ import annotations

import re

from jobmaster.errors import ConfigurationError

RESERVED_PREFIX = "jmreserved-"
STANDALONE_AGENT = "standalone"
"""Name of the agent that a standalone cluster's own database is."""
DEFAULT_LANE = "default"
"""How people write the lane of jobs that name none. Stored as the empty string."""

LONGEST_ID = 255
LONGEST_WORKER = 240
"""Each engine process of a worker adds a number to its name, and so does a successor while both live."""
LONGEST_SEGMENT = 50
LONGEST_LANE = 25

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_TWINS = ("--", "__", "-_", "_-")


def check_cluster_id(name: object) -> str:
    """`name`, when it may identify a cluster.

    Raises:
        ConfigurationError: it may not; the text says why.
    """
    return _identifier(name, what="cluster id", separators=".:")


def check_worker_name(name: object) -> str:
    """`name`, when a worker may have it.

    Raises:
        ConfigurationError: it may not; the text says why.
    """
    return _identifier(name, what="worker name", separators=".:", longest=LONGEST_WORKER)


def check_agent_name(name: object) -> str:
    """`name`, when an agent may have it.

    Raises:
        ConfigurationError: it may not; the text says why.
    """
    checked = _identifier(name, what="agent name", separators=".")
    if checked.lower().startswith(RESERVED_PREFIX) or checked.lower() == STANDALONE_AGENT:
        raise ConfigurationError(
            f"agent name {checked!r} is reserved: {STANDALONE_AGENT!r}, and what begins with {RESERVED_PREFIX!r}, are "
            "the agents that JobMaster makes itself. Choose another name."
        )
    return checked


def check_lane(name: object) -> str:
    """The lane `name` as it is stored: itself, or the empty string for the default lane (`"default"` or `""`).

    Lanes are compared exactly, upper and lower case included.

    Raises:
        ConfigurationError: no lane can have this name; the text says why.
    """
    if name in ("", DEFAULT_LANE):
        return ""
    checked = _identifier(name, what="lane", separators="")
    if len(checked) > LONGEST_LANE:
        raise ConfigurationError(
            f"lane {checked!r} has {len(checked)} characters; a lane has at most {LONGEST_LANE}, because it is part of "
            "the names of buckets in every store. Choose a shorter name."
        )
    return checked


def folded(name: str) -> str:
    """`name` as it can be written in an environment variable, in lower case: `nats-1`, `NATS_1` give `nats_1`."""
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def _identifier(name: object, *, what: str, separators: str, longest: int = LONGEST_ID) -> str:
    if not isinstance(name, str):
        raise ConfigurationError(f"{what} {name!r} is no text. Give a name such as 'shop-1'.")
    fault = _fault(name, separators, longest)
    if fault:
        shown = name if len(name) <= longest else name[:40] + "…"
        raise ConfigurationError(
            f"{what} {shown!r} {fault}. The name becomes part of keys and addresses in every store; "
            "choose one such as 'shop-1'."
        )
    return name


def _fault(name: str, separators: str, longest: int) -> str:
    """What is wrong with `name`, or nothing."""
    if not name:
        return "is empty"
    if len(name) > longest:
        return f"has {len(name)} characters; at most {longest} are allowed"
    segments = re.split(f"[{re.escape(separators)}]", name) if separators else [name]
    faults = (_segment_fault(segment, separators) for segment in segments)
    return next(filter(None, faults), "")


def _segment_fault(segment: str, separators: str) -> str:
    if not segment:
        return f"begins or ends with, or repeats, one of {' '.join(separators)}"
    if not _SEGMENT.fullmatch(segment):
        return f"may hold letters (a-z), digits and {' '.join('_-' + separators)} only"
    if len(segment) > LONGEST_SEGMENT:
        return f"has a part of {len(segment)} characters; at most {LONGEST_SEGMENT} are allowed"
    if segment.startswith("-"):
        return "has a part that begins with '-', which a command line would read as an option"
    return "holds two of '-' and '_' next to each other" if any(twin in segment for twin in _TWINS) else ""
