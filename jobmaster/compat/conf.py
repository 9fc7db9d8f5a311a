"""`app.conf`: the settings of Celery that mean something here. Every other one is kept, and a warning names it."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import timedelta
from typing import Any, Final

from jobmaster.compat.exceptions import NoEffectWarning
from jobmaster.errors import ConfigurationError

# New name: (default, Celery's old name).
SUPPORTED: Final[dict[str, tuple[Any, str]]] = {
    "broker_url": (None, "BROKER_URL"),
    "result_backend": (None, "CELERY_RESULT_BACKEND"),
    "result_expires": (timedelta(days=30), "CELERY_TASK_RESULT_EXPIRES"),
    "timezone": (None, "CELERY_TIMEZONE"),
    "include": ((), "CELERY_INCLUDE"),
    "imports": ((), "CELERY_IMPORTS"),
    "task_acks_late": (False, "CELERY_ACKS_LATE"),
    "task_default_priority": (None, "CELERY_DEFAULT_PRIORITY"),
    "task_default_queue": ("celery", "CELERY_DEFAULT_QUEUE"),
    "task_ignore_result": (False, "CELERY_IGNORE_RESULT"),
    "task_routes": (None, "CELERY_ROUTES"),
    "task_soft_time_limit": (None, "CELERYD_TASK_SOFT_TIME_LIMIT"),
    "task_time_limit": (None, "CELERYD_TASK_TIME_LIMIT"),
    "worker_concurrency": (None, "CELERYD_CONCURRENCY"),
    "worker_max_memory_per_child": (None, "CELERYD_MAX_MEMORY_PER_CHILD"),
    "worker_max_tasks_per_child": (None, "CELERYD_MAX_TASKS_PER_CHILD"),
}

# Settings whose named value is how JobMaster works anyway. Any other value has no effect, and says so.
ALWAYS_SO: Final[dict[str, tuple[Any, ...]]] = {
    "accept_content": (["json"], ("json",), {"json"}, ["application/json"]),
    "broker_connection_retry": (True,),
    "broker_connection_retry_on_startup": (True,),
    "enable_utc": (True,),
    "result_serializer": ("json",),
    "task_create_missing_queues": (True,),
    "task_protocol": (2,),
    "task_publish_retry": (True,),
    "task_serializer": ("json",),
    "task_track_started": (True,),
    "worker_prefetch_multiplier": (1,),
}

_EVERY: Final = "Put @app.jobmaster.every(...) on the task instead: docs/migration.md, step 5."
INSTEAD: Final = {"beat_schedule": _EVERY, "CELERYBEAT_SCHEDULE": _EVERY}
"""What is written in another way: the settings, and what takes their place."""

_NEW_NAME: Final = {old: new for new, (_, old) in SUPPORTED.items()}


class Conf(MutableMapping[str, Any]):
    """The settings of one app, as attributes and as items, under their new or their old names.

    Settings that JobMaster does not have are kept for the program to read, with a `NoEffectWarning`.
    """

    def __init__(self) -> None:
        self.__dict__["_given"] = {}
        self.__dict__["_frozen"] = False

    def update(self, *others: Any, **settings: Any) -> None:
        """Set several settings: from a mapping, or by name."""
        for name, value in dict(*others, **settings).items():
            self[name] = value

    def freeze(self) -> None:
        """From now on the app is in use: settings that it has read cannot change any more."""
        self.__dict__["_frozen"] = True

    def __getitem__(self, name: str) -> Any:
        name = _NEW_NAME.get(name, name)
        given: dict[str, Any] = self.__dict__["_given"]
        if name in given:
            return given[name]
        if name in SUPPORTED:
            return SUPPORTED[name][0]
        if name in ALWAYS_SO:
            return ALWAYS_SO[name][0]
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        name = _NEW_NAME.get(name, name)
        if name in SUPPORTED:
            self._refuse_too_late(name, value)
        elif value not in ALWAYS_SO.get(name, ()):
            warnings.warn(_no_effect(name, value), NoEffectWarning, stacklevel=3)
        self.__dict__["_given"][name] = value

    def __delitem__(self, name: str) -> None:
        del self.__dict__["_given"][_NEW_NAME.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter({**SUPPORTED, **ALWAYS_SO, **self.__dict__["_given"]})

    def __len__(self) -> int:
        return len({**SUPPORTED, **ALWAYS_SO, **self.__dict__["_given"]})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            close = difflib.get_close_matches(name, SUPPORTED, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise AttributeError(f"There is no setting {name!r}.{hint}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def _refuse_too_late(self, name: str, value: Any) -> None:
        if self.__dict__["_frozen"] and value != self[name]:
            raise ConfigurationError(
                f"{name} was set after the app was used for the first time, which cannot have an effect any more. "
                "Set it before the first delay(), and before a worker starts."
            )


def settings_of(source: object, namespace: str | None) -> dict[str, Any]:
    """The settings in a mapping, a module, the name of a module, or an object, for `config_from_object`.

    With a namespace, `CELERY_TASK_ACKS_LATE` is `task_acks_late`, and other names are left alone; without one,
    lower-case names and the old ones count.

    Raises:
        ConfigurationError: the module cannot be imported.
    """
    values = source if isinstance(source, Mapping) else vars(_loaded(source))
    if namespace:
        prefix = namespace if namespace.endswith("_") else f"{namespace}_"
        return {name.removeprefix(prefix).lower(): value for name, value in values.items() if name.startswith(prefix)}
    return {
        name: value
        for name, value in values.items()
        if name in _NEW_NAME or (name.islower() and not name.startswith("_") and _is_setting(value))
    }


def _is_setting(value: object) -> bool:
    """What a module of settings imports and defines besides settings is no setting."""
    return not (callable(value) or type(value).__name__ == "module")


def seconds_of(value: Any, name: str) -> float | None:
    """A setting in seconds, given as a number or a timedelta. None and, as in Celery, 0: none.

    Raises:
        ConfigurationError: it is neither.
    """
    if value is None or value == 0:
        return None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise ConfigurationError(f"{name} is {value!r}, but it is a number of seconds or a timedelta.")


def mebibytes_of(value: Any, name: str) -> int | None:
    """A setting in KiB, as Celery has it, in MiB: rounded up, and at least 16, which Python itself needs. 0: none.

    Raises:
        ConfigurationError: it is no whole number.
    """
    if value is None or value == 0:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return max(16, -(-value // 1024))
    raise ConfigurationError(f"{name} is {value!r}, but it is a whole number of KiB.")


def _loaded(source: object) -> object:
    if not isinstance(source, str):
        return source
    module, _, attribute = source.partition(":")
    try:
        loaded: object = importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"config_from_object({source!r}): the module cannot be imported ({error}). Correct its name, or start in "
            "the folder that holds it."
        ) from error
    return getattr(loaded, attribute) if attribute else loaded


def _no_effect(name: str, value: Any) -> str:
    if name in ALWAYS_SO:
        return f"{name} = {value!r} has no effect: JobMaster always works as with {ALWAYS_SO[name][0]!r}."
    if name in INSTEAD:
        return f"The setting {name} has no effect in JobMaster. {INSTEAD[name]}"
    close = difflib.get_close_matches(name, SUPPORTED, n=1, cutoff=0.8)
    hint = f" Did you mean {close[0]!r}?" if close else " See docs/migration.md for those that have one."
    return f"The setting {name} has no effect in JobMaster.{hint}"
