"""Valid expressions by chance, clause by clause as the grammar has them."""

from __future__ import annotations

from datetime import date

from hypothesis import strategies as st

WEEKDAYS = ["sun", "Monday", "tue", "Wed", "thursday", "Friday", "SAT"]
MONTHS = ["jan", "February", "mar", "apr", "May", "june", "Jul", "aug", "sep", "October", "nov", "dec"]
NTH = ["1st", "Second", "3rd", "Fourth", "5th", "Last"]
UNITS = ["second", "minute", "hour", "day", "week", "month", "year"]
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "UTC",
]
LIMITS = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "year": (2020, 2040)}

numbers = st.integers


def ordinal(number: int) -> str:
    return f"{number}{'th' if number in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


@st.composite
def times(draw, *, minutes: bool = True) -> str:
    hour, minute, second = draw(numbers(0, 23)), draw(st.sampled_from([0, 0, 15, 30, 45, 59, 7])), draw(numbers(0, 59))
    shape = draw(numbers(0, 4))
    if shape == 0 and not minutes:
        return f"{hour % 12 or 12}{'pm' if hour >= 12 else 'am'}"
    if shape == 1:
        return f"{hour:02}:{minute:02}:{second:02}"
    if shape == 2:
        return f"{hour % 12 or 12}:{minute:02}{'pm' if hour >= 12 else ' am'}"
    return f"{hour}:{minute:02}"


@st.composite
def special_days(draw) -> str:
    kind = draw(numbers(0, 4))
    if kind == 0:
        return f"ClosestWeekdayTo {draw(numbers(1, 31))}"
    word = [
        lambda: draw(st.sampled_from(["LastDay", "FirstDayOfMonth", "last day", "day first"])),
        lambda: draw(st.sampled_from(["FirstWeekday", "LastWeekday"])),
        lambda: draw(st.sampled_from(NTH)) + draw(st.sampled_from(WEEKDAYS)),
        lambda: draw(st.sampled_from(NTH)) + draw(st.sampled_from(WEEKDAYS)),
    ][kind - 1]()
    shift = draw(numbers(-9, 9))
    return word if shift == 0 or draw(st.booleans()) else f"{word} {'+' if shift > 0 else '-'} {abs(shift)}"


@st.composite
def values(draw, unit: str) -> str:
    if " and " in unit:
        before, _ = unit.split(" and ")
        return f"{draw(values(before))} {draw(numbers(0, 23))}:{draw(numbers(0, 59)):02}"
    if unit in LIMITS and unit not in {"day", "month"}:
        low, high = LIMITS[unit]
        return f"{unit} {draw(numbers(low, high))}"
    return draw(
        {
            "clock": times(minutes=False),
            "day": st.one_of(special_days(), numbers(1, 31).map(ordinal), numbers(28, 31).map(ordinal)),
            "week": st.sampled_from(WEEKDAYS),
            "month": st.sampled_from(MONTHS),
            "date": st.tuples(st.sampled_from(MONTHS), numbers(1, 31)).map(lambda date: f"{date[0][:3]}-{date[1]:02}"),
            "full date": st.dates(date(2020, 1, 1), date(2040, 12, 31)).map(str),
        }[unit]
    )


NAMES = {  # what each kind of value names
    "clock": {"hour", "minute", "second"},
    "hour": {"hour"},
    "minute": {"minute"},
    "second": {"second"},
    "day": {"day"},
    "week": {"weekday"},
    "month": {"month"},
    "year": {"year"},
    "date": {"month", "day"},
    "full date": {"year", "month", "day"},
    "date and clock": {"month", "day", "hour", "minute", "second"},
    "day and clock": {"day", "hour", "minute", "second"},
    "week and clock": {"weekday", "hour", "minute", "second"},
}


@st.composite
def points(draw, taken: set[str]) -> str:
    kinds = [kind for kind, names in NAMES.items() if names.isdisjoint(taken)]
    if not kinds:
        return ""
    kind = draw(st.sampled_from(kinds))
    taken |= NAMES[kind]
    word = draw(st.sampled_from(["at", "on", "in", "@on"]))
    if draw(st.booleans()):
        return f"{word} {draw(values(kind))}"
    if kind == "clock":
        items = [f"{draw(numbers(0, 23))}:{draw(numbers(0, 59)):02}" for _ in range(draw(numbers(1, 5)))]
    else:
        items = draw(st.lists(values(kind), min_size=1, max_size=5))
    return f"{word} [{', '.join(items)}]"


@st.composite
def pairs(draw, kind: str) -> tuple[str, str]:
    """Two ends in order, most of the time."""
    if kind == "clock":
        first, second = sorted([(draw(numbers(0, 23)), draw(numbers(0, 59))) for _ in range(2)])
        return f"{first[0]}:{first[1]:02}", f"{second[0]}:{second[1]:02}"
    if kind in ("week", "month"):
        names = WEEKDAYS if kind == "week" else MONTHS
        first, second = sorted([draw(numbers(0, len(names) - 1)) for _ in range(2)])
        return names[first], names[second]
    if kind == "date":
        first, second = sorted([(draw(numbers(1, 12)), draw(numbers(1, 31))) for _ in range(2)])
        return tuple(f"{MONTHS[month - 1][:3]}-{day:02}" for month, day in (first, second))
    if kind == "full date":
        first, second = sorted(
            [(draw(numbers(2020, 2040)), draw(numbers(1, 12)), draw(numbers(1, 28))) for _ in range(2)]
        )
        return tuple(f"{year}-{month:02}-{day:02}" for year, month, day in (first, second))
    if kind == "special":
        return f"FirstDay + {draw(numbers(1, 9))}", f"LastDay - {draw(numbers(1, 9))}"
    low, high = LIMITS[kind]
    first, second = sorted([draw(numbers(low, high)) for _ in range(2)])
    return f"{kind} {first}", f"{kind} {second}"


@st.composite
def ranges(draw) -> str:
    kind = draw(
        st.sampled_from(
            [
                "clock",
                "clock",
                "week",
                "month",
                "date",
                "full date",
                "hour",
                "minute",
                "second",
                "day",
                "special",
                "year",
            ]
        )
    )
    shape = draw(numbers(0, 5))
    if shape == 0:
        return f"from {draw(pairs(kind))[0]}"
    if shape == 1:
        return f"upto {draw(pairs(kind))[1]}"
    if shape == 2:
        windows = draw(st.lists(pairs(kind), min_size=1, max_size=3))
        return "between [" + ", ".join(f"{start} and {end}" for start, end in windows) + "]"
    start, end = draw(pairs(kind))
    return f"between {start} and {end}"


@st.composite
def everys(draw) -> tuple[str, str]:
    """A clause and its unit."""
    if draw(numbers(0, 9)) == 0:
        return f"every {draw(st.sampled_from(WEEKDAYS))}", "week"
    unit = draw(st.sampled_from(UNITS))
    count = draw(st.one_of(st.just(1), numbers(1, 12), numbers(1, 400), st.sampled_from([15, 30, 45, 90])))
    text = f"every {unit}" if count == 1 else f"every {count} {unit}s"
    if draw(numbers(0, 3)) == 0:
        if unit == "week":
            text += f" AnchoredOn {draw(st.sampled_from(WEEKDAYS))}"
        else:
            low, high = LIMITS[unit]
            text += f" BasedAt {draw(numbers(low, high))}"
    return text, unit


@st.composite
def expressions(draw, *, zones: bool = True) -> str:
    """An expression that is valid most of the time."""
    clauses: list[str] = []
    taken: set[str] = set()
    has_every = draw(numbers(0, 4)) > 0
    if has_every:
        text, unit = draw(everys())
        clauses.append(text)
        taken.add(unit)
        if unit == "week" and ("Anchored" in text or text.split()[1] in WEEKDAYS):
            taken.add("weekday")
    clauses += [draw(points(taken)) for _ in range(draw(numbers(0 if has_every else 1, 3)))]
    if has_every:
        clauses += draw(st.lists(ranges(), max_size=2))
    if zones and draw(numbers(0, 4)) == 0:
        clauses.append(f"tz {draw(st.sampled_from(ZONES))}")
    separator = draw(st.sampled_from([" ", ", "]))
    return separator.join(clause for clause in clauses if clause)
