"""SQLite as master, agent or both: stdlib sqlite3, one writer thread with group commit, one reader thread.

Read `store.py` first (the verbs, one line each), then the file of a verb's duty: its statements stand there as
constants.
"""
