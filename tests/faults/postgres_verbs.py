"""Which verb of the store a transaction was, as the fault proxy sees it: so that cut replies can be counted by verb."""

from __future__ import annotations

from typing import Final

from tests.servers.fault_proxy import End

# What only this verb says, in the statement that it usually is. The way for rare cases is not always told apart from
# others', and counts as "": a campaign that needs two hundred of a verb has two hundred that are certain.
_SIGNS: Final[dict[str, tuple[str, ...]]] = {
    "push": ("from jm_agent_bucket", "insert into jm_message"),
    "claim": ("skip locked", "update jm_job set status = 6"),
    "take_over": ("begun as (", "insert into jm_job"),
    "settle": ("done as (", "insert into jm_job"),
    "renew": ("update jm_worker", "set renewed_us"),
}

VERBS: Final = tuple(_SIGNS)
"""Accept, claim of held jobs, take-over, finish, renewal; the names are those of crash points."""


def verb_of(end: End) -> str:
    """The verb, or "" for another one."""
    text = " ".join(" ".join(end.statements).lower().split())
    return next((verb for verb, signs in _SIGNS.items() if all(sign in text for sign in signs)), "")
