"""What a check answers: a fact, how good it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How good a finding is."""

    OK = 1
    WARNING = 2
    FAULT = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Args:
        check: its name.
        state: how good it is.
        fact: what was found.
        advice: what to do, empty where nothing is.
        store: "master" or the agent's name where it is about one store, else empty.
        details: more lines for people, such as a traceback.
        is_unreachable: a store did not answer.
        is_anothers: the master is another cluster's, so that it has no answers for this app.
    """

    check: str
    state: State
    fact: str
    advice: str = ""
    store: str = ""
    details: str = ""
    is_unreachable: bool = False
    is_anothers: bool = False


def judge(check: str, fact: str, *, good: bool, advice: str, bad: State = State.FAULT, store: str = "") -> Finding:
    """A finding with advice, unless it is good."""
    if good:
        return Finding(check, State.OK, fact, store=store)
    return Finding(check, bad, fact, advice, store)
