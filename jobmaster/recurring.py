"""What a recurring schedule may be told, and the checked rule that becomes of it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypedDict

import msgspec

from jobmaster.errors import ConfigurationError
from jobmaster.model.durations import as_timedelta, as_us
from jobmaster.model.schedule import MOST_OCCURRENCES, Misfire, Overlap, Rule
from jobmaster.model.states import Priority
from jobmaster.options import CallPlan, Duration, as_moment, moment_us, plan_call
from jobmaster.schedules import compile_expression, expression_of
from jobmaster.schedules.zones import zone_of

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from jobmaster.schedules.expression import Expression


class Builder(Protocol):
    """What an expression is built with: `Every(5).minutes()` needs no `.build()` where a schedule is told when."""

    def build(self) -> Expression:
        """The expression; raises ScheduleSyntaxError where there is none of that kind."""
        ...


When: TypeAlias = "str | Expression | Builder | timedelta | tuple[str, str] | datetime | Sequence[datetime]"
"""NaturalCron text, an expression or its builder, an interval, (type id, text), or single moments (aware)."""

LONGEST_NAME: Final = 200
LONGEST_TEXT: Final = 4_000
LONGEST_JITTER: Final = timedelta(days=1)
LONGEST_GRACE: Final = timedelta(days=366)


class RecurringOptions(TypedDict, total=False):
    """Options of a recurring schedule; None is the same as leaving one out.

    `name`: unique in the cluster; the same name means the same schedule. `tz`: IANA name of the zone in which the
    expression is meant, for those that name none; the cluster's `time_zone` if not given. `start_after`, `end_before`:
    aware datetimes between which it fires. `lane`, `priority`, `max_retries`, `timeout`, `metadata`: of its jobs, else
    as the task says. `jitter`: each run starts up to so much later (seconds or timedelta), so that many schedules of
    one moment don't start at once. `misfire`: what happens to occurrences that nobody started within `misfire_grace`
    (seconds or timedelta): "skip" them, run the latest "once", or run "all", the latest `misfire_limit` of them.
    `overlap`: what happens to one that falls due while the one before still runs: "allow" it, "skip" it, "queue" it
    until that has ended, or "cancel_previous".
    """

    name: str | None
    tz: str | ZoneInfo | None
    start_after: datetime | None
    end_before: datetime | None
    lane: str | None
    priority: Priority | int | str | None
    max_retries: int | None
    timeout: Duration | None
    metadata: Mapping[str, object] | None
    jitter: Duration | None
    misfire: Literal["skip", "once", "all"] | Misfire | None
    misfire_limit: int | None
    misfire_grace: Duration | None
    overlap: Literal["allow", "skip", "queue", "cancel_previous"] | Overlap | None


ELSEWHERE: Final = {
    "id": "name: the same name is the same schedule",
    "queue": "lane",
    "args": "arguments as a dict after the rule, by name",
    "kwargs": "arguments as a dict after the rule, by name",
    "expires": "misfire, which says what becomes of runs that nobody started in time",
    "coalesce": 'misfire="once", which is the default',
    "max_instances": 'overlap="skip", or "queue"',
    "start_date": "start_after",
    "end_date": "end_before",
    "timezone": "tz",
    "replace_existing": "name alone: the same name is the same schedule, and another definition replaces it",
}
"""What other schedulers call it: what it is here."""

CALL_NAMES: Final = ("lane", "priority", "max_retries", "timeout", "metadata")
NAMES: Final = tuple(RecurringOptions.__annotations__)


class Terms(msgspec.Struct, frozen=True):
    """Checked options: what they say of the rule (fields of `Rule`) and of its jobs. `given` are the names given."""

    given: frozenset[str]
    name: str
    zone: str | None
    rule: dict[str, Any]
    plan: CallPlan


def read_terms(options: Mapping[str, Any]) -> Terms:
    """The options of a schedule, checked.

    Raises:
        ConfigurationError: an option does not exist or is out of its limits.
    """
    for name in options:
        if name not in NAMES:
            raise ConfigurationError(f"A schedule has no option {name!r}. {_meant(name)}")
    rule: dict[str, Any] = {}
    for name, value in options.items():
        if name in _RULE_READERS:
            field, read = _RULE_READERS[name]
            rule[field] = _DEFAULTS[field] if value is None else read(value)
    call = {name: options[name] for name in CALL_NAMES if options.get(name) is not None}
    return Terms(
        given=frozenset(options),
        name=read_name(options["name"]) if options.get("name") is not None else "",
        zone=None if options.get("tz") is None else _zone(options["tz"]),
        rule=rule,
        plan=plan_call(call),
    )


def _meant(name: str) -> str:
    """What was probably meant by an option that does not exist."""
    if name in ELSEWHERE:
        return f"Here it is {ELSEWHERE[name]}."
    close = difflib.get_close_matches(name, NAMES, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(NAMES)}."


def rule_of(when: When, terms: Terms) -> Rule:
    """The rule of a new schedule.

    Raises:
        ScheduleSyntaxError: the expression cannot be read; shows where.
        ConfigurationError: it is no expression, or contradicts the options.
    """
    type_id, text, zone = stored_form(expression_of(when), terms.zone)
    rule = check_range(Rule(type_id=type_id, text=text, zone=zone, **terms.rule))
    if "misfire_limit" in terms.rule and rule.misfire is not Misfire.ALL and rule.overlap is not Overlap.QUEUE:
        raise ConfigurationError(
            f"misfire_limit is {rule.misfire_limit}, and nothing goes by it: it says how many missed runs of "
            "misfire='all' still run, and how many wait with overlap='queue'. Add one of them, or leave it out."
        )
    return rule


def edited_rule(rule: Rule, when: When | None, terms: Terms) -> Rule:
    """The rule after an edit: what the options do not name stays. Raises as `rule_of`."""
    if when is not None:
        expression = expression_of(when)
        stays = "tz" not in terms.given and expression.zone is None
        type_id, text, zone = stored_form(expression, (rule.zone or None) if stays else terms.zone)
        rule = msgspec.structs.replace(rule, type_id=type_id, text=text, zone=zone)
    elif "tz" in terms.given:
        zone = stored_form(expression_of((rule.type_id, rule.text)), terms.zone)[2]
        rule = msgspec.structs.replace(rule, zone=zone)
    return check_range(msgspec.structs.replace(rule, **terms.rule))


def stored_form(expression: Expression, zone: str | None) -> tuple[str, str, str]:
    """Type id, text, and the zone that must be kept beside the text.

    Args:
        expression: as the user gave it.
        zone: what the option `tz` says, or None.

    Raises:
        ConfigurationError: the expression has another zone than `tz`, or a text that cannot be kept.
    """
    type_id, text = expression.type_id, expression.text
    if len(text) > LONGEST_TEXT:
        raise ConfigurationError(
            f"The expression has {len(text):,} characters, and a schedule keeps {LONGEST_TEXT:,}. Write it shorter, or "
            "make several schedules of it."
        )
    own = None if expression.zone is None else expression.zone.key
    if own is not None and zone is not None and own != zone:
        raise ConfigurationError(
            f"The expression is in the zone {own}, and tz is {zone}. Name the zone once: leave tz out, or the "
            "expression's own zone."
        )
    is_in_text = own is not None and compile_expression(type_id, text).zone is not None
    return type_id, text, "" if is_in_text else (own or zone or "")


def first_fire(rule: Rule, expression: Expression, now: datetime) -> datetime | None:
    """The first moment at which a new schedule would fire; None: never."""
    after = now
    if rule.start_us is not None:
        start = as_moment(rule.start_us)
        after = max(now, start if expression.is_phased else start - timedelta(microseconds=1))
    moment = expression.next_after(after)
    if moment is not None and rule.end_us is not None and moment.astimezone(UTC) > as_moment(rule.end_us):
        return None
    return moment


def check_fires(rule: Rule, expression: Expression, now: datetime) -> None:
    """Refuse a schedule that would never fire, unless it is `Never`, which says so.

    Raises:
        ConfigurationError: it never does; the text says why.
    """
    fault = "" if expression.type_id == "Never-Recurs" else never_fires(rule, expression, now)
    if fault:
        raise ConfigurationError(f"{fault} Correct it, or give Never() for a schedule that only people start.")


def never_fires(rule: Rule, expression: Expression, now: datetime) -> str:
    """Why a schedule made now would never fire, as a sentence; empty: it does."""
    if first_fire(rule, expression, now) is not None:
        return ""
    borders = [f"after {as_moment(rule.start_us).isoformat()}"] if rule.start_us is not None else []
    borders += [f"before {as_moment(rule.end_us).isoformat()}"] if rule.end_us is not None else []
    limits = f" {' and '.join(borders)}" if borders else ""
    return f"The expression {rule.text!r} never fires{limits} from now on ({now.isoformat(timespec='seconds')})."


def read_name(value: object) -> str:
    """A schedule's name.

    Raises:
        ConfigurationError: it is no text, empty, too long, or holds control characters or spaces around it.
    """
    if (
        not isinstance(value, str)
        or not value
        or value != value.strip()
        or not value.isprintable()
        or len(value) > LONGEST_NAME
    ):
        raise ConfigurationError(
            f"A schedule's name is {value!r:.80}, but it is text of 1 to {LONGEST_NAME} printable characters, without "
            "spaces around it, such as 'nightly-report'."
        )
    return value


def check_range(rule: Rule) -> Rule:
    """The rule, where its start comes before its end.

    Raises:
        ConfigurationError: it does not.
    """
    if rule.start_us is not None and rule.end_us is not None and rule.start_us >= rule.end_us:
        start, end = as_moment(rule.start_us).isoformat(), as_moment(rule.end_us).isoformat()
        raise ConfigurationError(f"start_after is {start}, and end_before is {end}: nothing lies between. Swap them.")
    return rule


def _zone(value: object) -> str:
    return zone_of(value).key  # type: ignore[arg-type] # it checks the type itself


def _misfire(value: object) -> Misfire:
    try:
        return Misfire(getattr(value, "value", value))
    except ValueError:
        raise ConfigurationError(f"misfire is {value!r}, but it is {_choices(m.value for m in Misfire)}.") from None


def _overlap(value: object) -> Overlap:
    if isinstance(value, Overlap):
        return value
    if isinstance(value, str) and value.upper().replace("-", "_") in Overlap.__members__:
        return Overlap[value.upper().replace("-", "_")]
    raise ConfigurationError(f"overlap is {value!r}, but it is {_choices(m.name.lower() for m in Overlap)}.")


def _misfire_limit(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_OCCURRENCES:
        raise ConfigurationError(
            f"misfire_limit is {value!r}, but it is a whole number from 1 to {MOST_OCCURRENCES}: so many of the missed "
            "occurrences are run."
        )
    return value


def _duration(name: str, longest: timedelta) -> Callable[[object], int]:
    def read(value: object) -> int:
        duration = as_timedelta(value, name)  # type: ignore[arg-type] # it checks the type itself
        if not timedelta(0) <= duration <= longest:
            raise ConfigurationError(
                f"{name} is {duration.total_seconds():g} s, but must be 0 to {longest.days} days. Give another one."
            )
        return as_us(duration)

    return read


def _choices(values: Any) -> str:
    return " or ".join(repr(value) for value in values)


_DEFAULTS: Final[dict[str, Any]] = {
    "start_us": None,
    "end_us": None,
    **{name: getattr(Rule("", ""), name) for name in Rule.__struct_fields__ if name not in {"type_id", "text", "zone"}},
}
_RULE_READERS: Final[dict[str, tuple[str, Callable[[object], Any]]]] = {
    "start_after": ("start_us", lambda value: moment_us(value, "start_after")),
    "end_before": ("end_us", lambda value: moment_us(value, "end_before")),
    "jitter": ("jitter_us", _duration("jitter", LONGEST_JITTER)),
    "misfire": ("misfire", _misfire),
    "misfire_limit": ("misfire_limit", _misfire_limit),
    "misfire_grace": ("misfire_grace_us", _duration("misfire_grace", LONGEST_GRACE)),
    "overlap": ("overlap", _overlap),
}
