"""Stores on SQL databases: one schema for all, hand-written verbs per dialect, SQLAlchemy only for schema and people's lists."""
