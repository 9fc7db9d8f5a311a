"""PostgreSQL 14 to 18 as master, as agent, or as both in one database. The driver is asyncpg.

Locks are always taken in this order: worker, bucket, agent's bucket, jobs by key. A write in a bucket's name holds the
bucket's row shared (`owning.own`); whatever changes owner, epoch or status of a bucket holds it exclusively first.
"""
