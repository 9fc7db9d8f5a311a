"""Exceptions as their task raised them, made of the type's name and the text that the master keeps."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys

from jobmaster.compat.exceptions import TaskRevokedError
from jobmaster.errors import JobCancelled, JobFailed, JobMasterError
from jobmaster.model.reasons import EXPIRED


def rebuilt(error: JobMasterError) -> BaseException:
    """What `AsyncResult.result` is for a job that ended with `error`.

    A class of the stored name is used if this process has it imported already; nothing is imported because a message
    names it. Otherwise a class of this name is made. Only the text is kept, no other attribute.
    """
    if isinstance(error, JobCancelled):
        return TaskRevokedError("revoked")
    if not isinstance(error, JobFailed):
        return error
    if error.error_type == EXPIRED:
        return TaskRevokedError(EXPIRED)
    if type(error) is not JobFailed and "." not in error.error_type:
        return error
    return exception_of(error.error_type, error.message)


def exception_of(type_name: str, message: str) -> BaseException:
    """An exception of the named type with this text."""
    known = _imported(type_name)
    module, _, name = type_name.rpartition(".")
    kind: type[BaseException] = known or type(name or "Exception", (Exception,), {"__module__": module or __name__})
    try:
        return kind(*_arguments(kind, message))
    except Exception:  # noqa: BLE001 - the user's class wants other arguments than one text
        return Exception(f"{type_name}: {message}")


def _arguments(kind: type[BaseException], message: str) -> tuple[object, ...]:
    if not message:
        return ()
    if issubclass(kind, KeyError):
        # The text of a KeyError is the repr of its key.
        try:
            return (ast.literal_eval(message),)
        except (ValueError, SyntaxError):
            return (message,)
    return (message,)


def _imported(type_name: str) -> type[BaseException] | None:
    """The exception class of this name in a module that is imported, or None."""
    parts = type_name.split(".")
    for length in range(len(parts) - 1, -1, -1):
        module = sys.modules.get(".".join(parts[:length])) if length else builtins
        if module is None:
            continue
        # Past any __getattr__ of the module, which may import something for a name.
        found: object = vars(module).get(parts[length])
        for part in parts[length + 1 :]:
            found = inspect.getattr_static(found, part, None)
        # SystemExit and KeyboardInterrupt would end the program that only asks for a result.
        return found if isinstance(found, type) and issubclass(found, Exception) else None
    return None
