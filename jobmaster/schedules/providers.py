"""From what is stored, and from what users write, to a rule: the languages of schedules and where more are added.

    type id            text                                        language
    NaturalCron        every 2 weeks on [monday, friday] at 9:00   jobmaster.schedules.natural
    Cron               0 3 * * *                                   cron.py
    TimeSpanInterval   00:05:00                                    interval.py
    Dates              2026-12-24T18:00:00Z, ...                   dates.py
    Never-Recurs                                                   never.py
    others             whatever `register_provider` was given for them

A language is imported where the first rule of it is read: parsers are costly, and few processes need all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from jobmaster.errors import ConfigurationError, JobMasterError, ScheduleSyntaxError
from jobmaster.schedules.expression import Expression
from jobmaster.schedules.zones import zone_of

Compile = Callable[[str], Expression]
"""Makes a rule of its text, or raises ScheduleSyntaxError."""

_LONGEST_ID = 100
_MEMBERS = ("type_id", "text", "zone", "is_phased", "in_zone", "next_after", "has_ended", "explain")
_METHODS = {"in_zone": 1, "next_after": 1, "has_ended": 1, "explain": 0}
_CRON_FIELDS = range(5, 8)


def compile_expression(type_id: str, text: str, tz: str | ZoneInfo | None = None, *, hash_id: str = "") -> Expression:
    """The rule that is stored as (type id, text).

    Args:
        type_id: its language.
        text: the rule in that language.
        tz: the zone to compute it in, unless the text names its own.
        hash_id: what `H` of a cron expression is derived from: the schedule's id.

    Raises:
        ConfigurationError: nobody registered the language, its provider failed or gave something that is no rule, or
            there is no such zone.
        ScheduleSyntaxError: the text cannot be read.
    """
    if type_id == "Cron":
        expression: Expression = _cron(text, hash_id)
    elif type_id in _BUILT_IN:
        expression = _BUILT_IN[type_id](text)
    elif type_id in _registered:
        expression = _from_provider(type_id, text)
    else:
        raise ConfigurationError(_unknown(type_id))
    return expression if tz is None else expression.in_zone(zone_of(tz))


def register_provider(type_id: str, compile: Compile) -> None:
    """Adds a language for schedules, in this process: call it where tasks are defined, which every process imports.

    Args:
        type_id: how the language is named where schedules are stored; 1 to 100 characters. Never change it.
        compile: makes a rule (`Expression`) of its text. The rule's `type_id` is this one, and its `text` gives an
            equal rule again. What it raises parks the one schedule and stops no other.

    Raises:
        ConfigurationError: the name is not usable or taken, or `compile` cannot be called with a text.
    """
    if not 0 < len(type_id) <= _LONGEST_ID or type_id != type_id.strip():
        raise ConfigurationError(
            f"a type id is a text of 1 to {_LONGEST_ID} characters without blanks around it, not {type_id!r}"
        )
    if type_id in _BUILT_IN:
        raise ConfigurationError(f"{type_id!r} is a language of JobMaster; give yours another type id")
    if not _takes(compile, 1):
        raise ConfigurationError(
            f"the provider of {type_id!r} must be callable with the text alone, compile(text) -> Expression; "
            f"{compile!r} is not"
        )
    if _registered.setdefault(type_id, compile) is not compile:
        raise ConfigurationError(
            f"{type_id!r} is registered already, with {_registered[type_id]!r}; a language is registered once"
        )


def expression_of(value: Any, tz: str | ZoneInfo | None = None) -> Expression:
    """The rule that a user means: what every call of the API that takes a schedule accepts.

    Args:
        value: NaturalCron text, a rule (or a builder of one), a timedelta, a (type id, text) pair, an aware datetime or
            a list of them.
        tz: the zone to compute it in, unless it names its own.

    Raises:
        ConfigurationError: it is something else, or as `compile_expression`.
        ScheduleSyntaxError: its text cannot be read.
    """
    expression = _plain(value)
    return expression if tz is None or expression.zone is not None else expression.in_zone(zone_of(tz))


def _plain(value: Any) -> Expression:
    if isinstance(value, str):
        return _natural_text(value)
    if isinstance(value, timedelta):
        from jobmaster.schedules.interval import Interval

        return Interval(value)
    if isinstance(value, datetime):
        return _calendar([value])
    if _is_pair(value):
        return compile_expression(*value)
    if isinstance(value, list | tuple | set | frozenset) and all(isinstance(item, datetime) for item in value):
        return _calendar(value)
    if not isinstance(value, type):
        if hasattr(value, "next_after"):
            return _checked(value, f"{value!r:.100}")
        build: Any = getattr(value, "build", None)
        if callable(build):
            return _plain(build())
    raise ConfigurationError(
        "a schedule is NaturalCron text ('every day at 9:00'), Cron('0 9 * * *'), a timedelta, a datetime or a list of "
        f"them, a (type id, text) pair or an Expression, not {value!r:.100}"
    )


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(part, str) for part in value)  # noqa: PLR2004


def _natural_text(text: str) -> Expression:
    try:
        return _natural(text)
    except ScheduleSyntaxError as error:
        if len(text.split()) in _CRON_FIELDS and _is_cron(text):
            raise ScheduleSyntaxError(
                f"this is cron, and a text alone is NaturalCron: write Cron({text!r})", length=len(text), text=text
            ) from error
        raise


def _is_cron(text: str) -> bool:
    try:
        _cron(text, "")
    except ScheduleSyntaxError:
        return False
    return True


# --- custom languages


def _from_provider(type_id: str, text: str) -> Expression:
    try:
        expression = _registered[type_id](text)
    except JobMasterError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the provider of {type_id!r} failed for {text!r:.100}: {type(error).__name__}: {error}"
        ) from error
    checked = _checked(expression, f"what the provider of {type_id!r} gave for {text!r:.100}")
    if checked.type_id != type_id:
        raise ConfigurationError(
            f"the provider of {type_id!r} gave a rule whose type_id is {checked.type_id!r}: it could not be read again"
        )
    return checked


def _checked(expression: Any, what: str) -> Expression:
    """The same, if it is an `Expression`; else an error that says which part is missing."""
    missing = [name for name in _MEMBERS if not hasattr(expression, name)]
    if missing:
        raise ConfigurationError(
            f"{what} is no Expression: {type(expression).__name__} has no {', '.join(missing)} "
            "(jobmaster.schedules.Expression lists all parts)"
        )
    for name, count in _METHODS.items():
        if not _takes(getattr(expression, name), count):
            raise ConfigurationError(
                f"{what} is no Expression: {type(expression).__name__}.{name} must be a method of {count} "
                f"argument{'' if count == 1 else 's'}"
            )
    rule: Expression = expression
    return rule


def _takes(function: Any, count: int) -> bool:
    """Whether it can be called with so many arguments, as far as its signature tells."""
    if not callable(function):
        return False
    import inspect

    try:
        inspect.signature(function).bind(*[None] * count)
    except ValueError:  # a builtin without a signature
        return True
    except TypeError:
        return False
    return True


def _unknown(type_id: object) -> str:
    import difflib

    known = [*_BUILT_IN, *sorted(_registered)]
    close = difflib.get_close_matches(str(type_id), known, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"no schedule language {type_id!r} is known in this process: {meant}known are {', '.join(known)}; others are "
        "added with jobmaster.schedules.register_provider(type_id, compile) in a module that every process imports"
    )


# --- the languages of JobMaster, imported when they are needed


def _natural(text: str) -> Expression:
    from jobmaster.schedules.natural.expression import NaturalCron

    return NaturalCron.parse(text)


def _cron(text: str, hash_id: str) -> Expression:
    from jobmaster.schedules.cron import Cron

    return Cron(text, hash_id=hash_id)


def _interval(text: str) -> Expression:
    from jobmaster.schedules.interval import Interval

    return Interval.parse(text)


def _dates(text: str) -> Expression:
    from jobmaster.schedules.dates import Dates

    return Dates.parse(text)


def _calendar(moments: Iterable[datetime]) -> Expression:
    from jobmaster.schedules.dates import Dates

    return Dates(moments)


def _never(text: str) -> Expression:
    from jobmaster.schedules.never import Never

    return Never.parse(text)


_BUILT_IN: dict[str, Compile] = {
    "NaturalCron": _natural,
    "Cron": lambda text: _cron(text, ""),
    "TimeSpanInterval": _interval,
    "Dates": _dates,
    "Never-Recurs": _never,
}
_registered: dict[str, Compile] = {}
