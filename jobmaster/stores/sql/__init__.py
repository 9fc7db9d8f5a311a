"""Stores on SQL databases: one schema, hand-written verbs per dialect, SQLAlchemy for the rest."""
