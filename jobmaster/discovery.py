"""Import the modules that have an app's tasks: those that the setting `include` names, and `tasks` below packages."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable

from jobmaster.errors import ConfigurationError


def import_tasks(packages: Iterable[str]) -> list[str]:
    """Import `tasks` of each package and of all packages below it; a plain module is imported itself.

    Returns:
        The names of the modules that were imported.

    Raises:
        ImportError: a package, or one of its `tasks`, cannot be imported.
    """
    found: list[str] = []
    for package in packages:
        root = importlib.import_module(package)
        paths = getattr(root, "__path__", None)
        if paths is None:
            found.append(package)
            continue
        names = [f"{package}.tasks"] if importlib.util.find_spec(f"{package}.tasks") else []
        below = pkgutil.walk_packages(paths, f"{package}.", onerror=_raise_again)
        names += [module.name for module in below if module.name.endswith(".tasks") and module.name not in names]
        for name in names:
            importlib.import_module(name)
        found += names
    return found


def import_included(modules: Iterable[str]) -> None:
    """Import the modules of the setting `include`.

    Raises:
        ConfigurationError: one of them cannot be imported.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigurationError(
                f"include names the module {name!r}, which cannot be imported ({error}). Correct the name, or "
                "start in the folder from which it can be."
            ) from error


def _raise_again(_name: str) -> None:
    raise  # noqa: PLE0704 - pkgutil calls this inside of its except block
