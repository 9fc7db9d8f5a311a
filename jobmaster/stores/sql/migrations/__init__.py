"""Alembic's scripts: how the schema came to be, one revision a file. They ship inside the package."""
