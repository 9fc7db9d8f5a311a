"""The migrations in the package: what each is called, and which code goes on working after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jobmaster.stores.sql import version

if TYPE_CHECKING:
    from alembic.config import Config

    from jobmaster.stores.sql.compatibility import Stored


class Revision(NamedTuple):
    """One migration.

    Attributes:
        number: its version, four digits.
        title: the first line of its file.
        oldest_code: the oldest schema version whose code goes on working after it.
        contracts: it takes away what code needs that worked before it.
        transactional: it is made entirely or not at all; else (on PostgreSQL) each of its statements may be repeated.
    """

    number: str
    title: str
    oldest_code: str
    contracts: bool
    transactional: bool


def configuration(**attributes: Any) -> Config:
    """Alembic's configuration for our folders, with what `env.py` needs."""
    from pathlib import Path

    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(version.FOLDERS).replace("%", "%%"))
    config.attributes.update(attributes)
    return config


def revisions() -> tuple[Revision, ...]:
    """All of them, in their order."""
    from alembic.script import ScriptDirectory

    scripts = list(ScriptDirectory.from_config(configuration()).walk_revisions())[::-1]
    found: list[Revision] = []
    for script in scripts:
        oldest_code: str = script.module.oldest_code
        found.append(
            Revision(
                number=script.revision,
                title=script.doc.rstrip("."),
                oldest_code=oldest_code,
                contracts=bool(found) and oldest_code > found[-1].oldest_code,
                transactional=getattr(script.module, "transactional", True),
            )
        )
    return tuple(found)


def pending(stored: Stored) -> tuple[Revision, ...]:
    """Those that a database does not have yet."""
    return tuple(one for one in revisions() if not stored.version or one.number > stored.version)
