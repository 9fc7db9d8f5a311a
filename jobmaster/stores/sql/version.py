"""The schema's version: what this code expects. Read by every process, so it imports nothing."""

from __future__ import annotations

SCHEMA_VERSION = "0001"
"""Newest revision in migrations/versions; a test compares the two."""

VERSION_TABLE = "jm_schema"
READ_VERSION = "SELECT version_num FROM jm_schema"
