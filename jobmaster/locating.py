"""Find a program's app as `-A` names it: `module`, `module:attribute` or a package, as Flask and Celery users write it.

`shop` is imported with the current folder first on the path. In the module, then in its sub modules `app`, `jobmaster`,
`celery` and `tasks`, an app is looked for: under the names `jm`, `app`, `jobmaster`, `celery`, else the only one there.
A JobMaster app counts, and whatever carries one: an object whose attribute `jobmaster` or `jm` is an app (a compat
Celery app, a Flask application with `app.jobmaster`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from jobmaster.app import JobMaster
from jobmaster.errors import ConfigurationError, JobMasterError

NAMES: Final = ("jm", "app", "jobmaster", "celery")
"""Attributes that are looked at first, in this order."""
SUBMODULES: Final = ("app", "jobmaster", "celery", "tasks")
CARRIED_AS: Final = ("jobmaster", "jm")

VARIABLE: Final = "JOBMASTER_APP"
HOW: Final = f'Give -A myapp or -A myapp:jm, set {VARIABLE}, or write app = "myapp:jm" in [tool.jobmaster].'


class AppImportError(ConfigurationError):
    """The module of the app was found, but importing it failed.

    Attributes:
        details: the traceback of the user's own code, formatted.
    """

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def find_app(place: str, *, folder: str | None = None) -> JobMaster:
    """The app that `place` names.

    Args:
        place: `module`, `module:attribute` or a package; also the path of a Python file.
        folder: put first on `sys.path`; None: the current folder.

    Raises:
        ConfigurationError: there is no such module, or it has no app, or several. The text says where was looked.
        AppImportError: the module raised an exception when it was imported, which is the cause.
    """
    module_name, _, attribute = place.strip().partition(":")
    if not module_name:
        raise ConfigurationError(f"-A {place!r} names no module. {HOW}")
    root = str(Path(folder or ".").absolute())
    module_name = _importable(module_name, root)
    module = _import(module_name, place=place, folder=root)
    if attribute:
        return _attribute(module, attribute)
    looked: list[str] = []
    for candidate in _candidates(module):
        found = _apps_in(candidate)
        looked.append(candidate.__name__)
        if len(found) == 1:
            return found[0][1]
        if found:
            names = ", ".join(f"{candidate.__name__}:{name}" for name, _ in found)
            raise ConfigurationError(
                f"{candidate.__name__} has {len(found)} apps, and nothing says which one is meant. "
                f"Name one with -A: {names}."
            )
    raise ConfigurationError(
        f"No JobMaster app was found in {', '.join(looked)} (looked for instances of JobMaster, and for "
        f'{", ".join(NAMES)}). Make one there, jm = JobMaster("{module_name.partition(".")[0]}"), '
        f"or name where it is: -A {module_name}:NAME."
    )


def _importable(name: str, root: str) -> str:
    """The module's name, with `root` on the path; a path such as `src/shop.py` becomes `shop` in its folder."""
    if name.endswith(".py") or os.sep in name:
        path = Path(root, name).resolve()
        if not path.exists():
            raise ConfigurationError(f"-A names the file {name!r}, but there is no {path}. {HOW}")
        _put_on_path(str(path.parent))
        return path.stem
    _put_on_path(root)
    return name


def _put_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _import(name: str, *, place: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"There is no module {error.name!r} (from -A {place!r}). Looked in {folder} and in Python's path. "
                f"{_instead(error.name, folder)}"
            ) from None
        raise AppImportError(_failed(name, error), details=_own_frames(error)) from error
    except JobMasterError:
        raise  # a setting or a task that cannot be: the text says which, a traceback would add nothing
    except Exception as error:
        raise AppImportError(_failed(name, error), details=_own_frames(error)) from error
    except SystemExit as error:
        raise AppImportError(
            f"Importing {name!r} ended the program (exit {error.code}). A module with an app must not run the program "
            'when it is imported: put that under `if __name__ == "__main__":`.'
        ) from error


def _instead(name: str, folder: str) -> str:
    """What was probably meant by a module that is not there."""
    parent, dot, _ = name.rpartition(".")
    if dot and not hasattr(sys.modules.get(parent), "__path__"):
        return f"{parent!r} is no package: give -A {parent}, or -A {parent}:NAME for an app in it."
    import difflib

    modules = [path.stem for path in Path(folder).glob("*.py")]
    packages = [path.parent.name for path in Path(folder).glob("*/__init__.py")]
    close = difflib.get_close_matches(name, modules + packages, n=1)
    return f"Did you mean -A {close[0]}?" if close else "Start in the folder that holds it, or correct the name."


def _failed(name: str, error: BaseException) -> str:
    what = f"{type(error).__name__}: {error}"
    return f"The app's module {name!r} cannot be imported: {what}. Repair what the traceback names."


def _own_frames(error: BaseException) -> str:
    """The traceback without the frames of this file and of the import machinery."""
    told = traceback.TracebackException.from_exception(error)
    kept = [frame for frame in told.stack if frame.filename != __file__ and "importlib" not in frame.filename]
    told.stack[:] = kept
    return "".join(told.format())


def _attribute(module: ModuleType, attribute: str) -> JobMaster:
    value: object = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            have = ", ".join(name for name, _ in _apps_in(module)) or "none"
            raise ConfigurationError(
                f"{module.__name__} has no attribute {attribute!r}. Apps in it: {have}. "
                "Correct the part after the colon."
            ) from None
    app = _as_app(value)
    if app is None:
        raise ConfigurationError(
            f"{module.__name__}:{attribute} is a {type(value).__name__}, and no JobMaster app. Name the app itself."
        )
    return app


def _candidates(module: ModuleType) -> Iterator[ModuleType]:
    """The module, then where a package usually keeps its app; imported only when it is looked at."""
    yield module
    if not hasattr(module, "__path__"):
        return
    for name in SUBMODULES:
        full = f"{module.__name__}.{name}"
        if importlib.util.find_spec(full) is not None:
            yield _import(full, place=module.__name__, folder=str(Path.cwd()))


def _apps_in(module: ModuleType) -> list[tuple[str, JobMaster]]:
    """Apps of a module with their names. One under a usual name is the only one that counts."""
    for name in NAMES:
        app = _as_app(getattr(module, name, None))
        if app is not None:
            return [(name, app)]
    found: dict[int, tuple[str, JobMaster]] = {}
    for name, value in list(vars(module).items()):
        app = None if name.startswith("__") else _as_app(value)
        if app is not None:
            found.setdefault(id(app), (name, app))
    return list(found.values())


def _as_app(value: object) -> JobMaster | None:
    """The app that `value` is, or carries."""
    if isinstance(value, JobMaster):
        return value
    if value is None or isinstance(value, (ModuleType, type)):
        return None
    for name in CARRIED_AS:
        try:
            carried = getattr(value, name, None)
        except JobMasterError:  # a compat app whose settings cannot work: its error says why
            raise
        except Exception:  # noqa: BLE001, S112 - proxies of web frameworks raise whatever they like outside of a request
            continue
        if isinstance(carried, JobMaster):
            return carried
    return None
