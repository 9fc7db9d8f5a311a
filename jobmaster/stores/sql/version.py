"""The schema's version: what this code expects. Read by every process, so it imports nothing heavy."""

from __future__ import annotations

import os

SCHEMA_VERSION = "0002"
"""Newest revision in migrations/versions; a test compares the two."""

OLDEST_SCHEMA = "0002"
"""The oldest schema that all statements of this code work on. Raise it with the first statement that needs more."""

AUTOMATIC_SCHEMA = "0002"
"""How far a process that starts changes a schema by itself: the revisions after it are contractions; a test looks."""

FOLDERS: tuple[str, ...] = (os.path.join(os.path.dirname(__file__), "migrations", "versions"),)  # noqa: PTH118, PTH120
"""Where the migrations are."""

VERSION_TABLE = "jm_schema"
READ_VERSION = "SELECT version_num, oldest_code FROM jm_schema"
"""The schema's version, and the oldest one whose code goes on working with it."""
READ_BARE_VERSION = "SELECT version_num FROM jm_schema"
"""Where the second column is missing: a first migration that never got through, or a pre-release."""
