"""The engine: one duty per file.

worker.py        one engine: starts the duties, stops them in order; duties.py: makes and wires them
registering.py   its place in the cluster (R4)
lease.py         what this engine owns, and whether it may act (R7); lease_keeper.py and supervisor.py keep it so
life.py          one process's memory of one bucket
intake.py        takes a granted bucket in (R15'a)
fetcher.py       agent -> memory (R9)
claimer.py       the master's held jobs -> memory (R14'); restraint.py: how many, and what is left to other engines
waiting.py       what waits in memory, by priority and due time; room.py: how much of it
runner.py        slots: start, end; run_pools.py: which pool has a run
watch.py         looks at what lasts; limits.py: time limits and early rows of runs
outcomes.py      what an end means; garbage.py: how often a process looks for garbage in cycles
starter.py       guarded starts and early rows (R10, R11); guarded_starts.py: how many are asked about, who has a yes
isolation.py     who runs in a process of its own, and for whom slots are kept
finisher.py      outcomes -> store (R12, R13)
ownership.py     opens and shrinks buckets (R5, R24); sharing.py: hands a backlog over to engines without work (R20)
coordinator.py   lost buckets, drains, sweeps; janitor.py: retention, orphans
planner.py       schedules -> held jobs; static_schedules.py: those of the code; releaser.py: who waits for a run
commands.py      orders from people
stopping.py      the graceful stop (R22'); draining.py: when `--once` has nothing left to do
"""
