"""Seeds that have failed once. Each is (seed, configuration, what was wrong).

A change of the simulation itself gives a seed another story; what was found is therefore told again, step by step, in
`test_directed.py` or in the conformance suite, as named in the third column.
"""

from __future__ import annotations

REGRESSIONS: list[tuple[int, str, str]] = [
    (17, "split", "a fetcher without trust, or closed, with a backlog looped for ever (tests/engine)"),
    (24, "standalone", "the same"),
    (26, "two-agents", "a bucket given up as clean held a message whose row had gone back (test_buckets: clean)"),
    (23, "harsh", "the same; a job ran twice at once in one process (test_directed: two copies)"),
    (178, "two-agents", "two copies of a job ran at once in one process (test_directed: two copies)"),
    (
        303,
        "harsh",
        "evidence that came after the recovery was counted again (test_leases: evidence after the recovery)",
    ),
    (18, "harsh", "starts without a lease between the moved trust and the answer (test_directed: trust comes back)"),
    (13, "lanes", "the answer to an early row was taken as permission to start (test_directed: early row)"),
    (105, "lanes", "an engine crashed when it was asked twice for the same hungry bucket"),
    (186, "lanes", "an owner closed a bucket whose last read had just brought a job (test_buckets: retirement)"),
    (10146, "harsh", "a give-back that applied late took an open bucket away (test_directed: given back late)"),
    (3022, "backlog", "a granted start found its slot after the lease had been ended (engine orders: handed back)"),
    (61, "lanes", "a closing that applied late made the owner drop its bucket (test_directed: shut under its owner)"),
]
