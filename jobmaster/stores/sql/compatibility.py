"""Which code works with which schema: decided by two versions in the database and two in the code.

A revision that *expands* leaves all that older code needs; one that *contracts* takes something away. Each states the
oldest schema version whose code goes on working (`oldest_code`), and the database keeps that of its latest revision.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from jobmaster.errors import SchemaError
from jobmaster.stores.sql import version


class Stored(NamedTuple):
    """What a database says. `version` None: it has no tables of ours; "": a migration never got through.

    A version without `oldest_code` was never released: a pre-release of JobMaster made it.
    """

    version: str | None
    oldest_code: str = ""

    @property
    def written(self) -> str:
        """For people."""
        return self.version or "none yet"


class Fit(Enum):
    """What this code can do with a schema."""

    CURRENT = "current"
    AHEAD = "ahead"
    """Newer, and this code goes on working."""
    BEHIND = "behind"
    """Older, and this code works on it all the same."""
    MISSING = "missing"
    TOO_OLD = "too old"
    TOO_NEW = "too new"
    UNRELEASED = "unreleased"
    """Of a pre-release, whose tables nobody changes."""

    @property
    def works(self) -> bool:
        """Whether this code may start on it as it is."""
        return self in {Fit.CURRENT, Fit.AHEAD, Fit.BEHIND}


def fit_of(stored: Stored) -> Fit:
    """Judge a schema."""
    found = stored.version
    if not found:
        return Fit.MISSING
    if not stored.oldest_code:
        return Fit.UNRELEASED
    if found == version.SCHEMA_VERSION:
        return Fit.CURRENT
    if found > version.SCHEMA_VERSION:
        return Fit.AHEAD if works_with(version.SCHEMA_VERSION, stored.oldest_code) else Fit.TOO_NEW
    return Fit.BEHIND if found >= version.OLDEST_SCHEMA else Fit.TOO_OLD


def works_with(code: str, oldest_code: str) -> bool:
    """Whether code of the schema version `code` works on a schema that states `oldest_code`."""
    return bool(oldest_code) and code >= oldest_code


def is_enough(stored: Stored, where: str, *, allowed: bool) -> bool:
    """Whether a process may begin as it is. False: the migrator is to be run first.

    Args:
        stored: what the database says.
        where: the database, for people.
        allowed: the schema may be changed (`auto_provision`).

    Raises:
        SchemaError: it may not begin at all; the text says what to do.
    """
    fit = fit_of(stored)
    if fit is Fit.TOO_NEW:
        raise SchemaError(too_new(stored, where))
    if fit is Fit.UNRELEASED:
        raise SchemaError(unreleased(where))
    if fit in {Fit.CURRENT, Fit.AHEAD}:
        return True
    if fit is Fit.BEHIND and (not allowed or (stored.version or "") >= version.AUTOMATIC_SCHEMA):
        return True
    if allowed:
        return False
    has = (
        f"has schema {stored.version}, but this JobMaster needs {version.OLDEST_SCHEMA}"
        if stored.version
        else "has no JobMaster tables"
    )
    raise SchemaError(f"{where} {has}, and auto_provision is off, so it is left as it is. Run: jobmaster db upgrade")


def require_enough(stored: Stored, where: str) -> None:
    """Check what a migration has left behind.

    Raises:
        SchemaError: this code does not work on it.
    """
    fit = fit_of(stored)
    if fit is Fit.TOO_OLD:
        raise SchemaError(
            f"{where} has schema {stored.version}, and this JobMaster needs {version.OLDEST_SCHEMA}. Between them lies "
            "a change that older workers would not survive, so no worker makes it by itself. Stop the older ones, then "
            "run: jobmaster db upgrade"
        )
    if not fit.works:
        raise SchemaError(
            f"The migration of {where} ended without an error, but its schema is {stored.written}, and this JobMaster "
            f"needs {version.OLDEST_SCHEMA}. Run: jobmaster db status"
        )


def too_new(stored: Stored, where: str) -> str:
    """Why this code refuses a newer schema."""
    return (
        f"{where} has schema {stored.version}, made by a newer JobMaster, which works with code of schema "
        f"{stored.oldest_code or stored.version} and newer; this one knows {version.SCHEMA_VERSION}. "
        "Update this installation: install the newer JobMaster"
    )


def unreleased(where: str) -> str:
    """Why this code refuses the tables of a pre-release."""
    return (
        f"{where} was made by a pre-release of JobMaster, and no migration leads from its tables to a release's. "
        "If its jobs may go, delete the file or empty the database (or name another one), and start again. If not, let "
        "the installation that made it run them first."
    )
