"""Stores in memory: the protocol without a database, for tests, simulation and one-process programs.

`MemoryStore` is standalone (one database is master and agent). `MemoryMaster` and `MemoryAgent` are the two halves for
a `stores.split.SplitStore`. A store belongs to one event loop; nothing survives its process.

    state.py      tables, row changes, own(b), hold(row), recover(row): the words of the protocol
    leases.py     workers, renewals, lost buckets
    buckets.py    open, give up, complete, retire, drain
    claims.py     held jobs: in, claimed, swept
    schedules.py  recurring schedules: made, changed, asked for (schedule_rows.py: their table)
    occurrences.py  what is planned of them, and whose turn it is
    runs.py       guarded starts, finishes, releases
    cancels.py    tombstones, reschedule, retry by a person
    upkeep.py     settings, definitions, commands, retention
    queries.py    what people ask
    messages.py   the agent
    store.py      both halves in one
    variants.py   the same stores with one guard removed, to see that somebody notices
"""

from jobmaster.stores.memory.messages import MemoryAgent
from jobmaster.stores.memory.store import MemoryMaster, MemoryStore

__all__ = ["MemoryAgent", "MemoryMaster", "MemoryStore"]
