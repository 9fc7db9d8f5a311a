"""Why the parser was surprised: the place that a person would point at, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lark import Token, UnexpectedToken

from jobmaster.schedules.natural import grammar
from jobmaster.schedules.natural.problems import Kind, Problem
from jobmaster.schedules.natural.rules import Span
from jobmaster.schedules.natural.vocabulary import FILLERS, WORDS, suggestion
from jobmaster.schedules.natural.zones import zone_named

_RULES = frozenset({"EVERY", "SHORTCUT", "POINT", "BETWEEN", "BOUND", "ZONE", "TZ"})
_VALUES = frozenset({"CLOCK", "DATE", "NUMBER", "MONTH", "WEEKDAY", "SPECIAL", "CLOSEST", "EDGE"})
MOST_WORDS = 10
"""Unknown words that are told; more of them tell that it is another language."""
_END = "$END"
_ISO_MOMENT = re.compile(r"([0-9-]+)(t)([0-9]+)$", re.IGNORECASE)


def problems(text: str, surprise: UnexpectedToken) -> list[Problem]:
    """What is wrong with a text that the parser did not take: all unknown words, else the first wrong place."""
    tokens = grammar.tokens(text)
    unknown = [token for token in tokens if token.type == grammar.UNKNOWN]
    if unknown:
        return [_unknown(token, text) for token in unknown[:MOST_WORDS]]
    place = surprise.token.start_pos if surprise.token.type != _END else None
    index = next((i for i, token in enumerate(tokens) if token.start_pos == place), len(tokens))
    return [_Scene(text, tokens, index).problem()]


# -------------------------------------------------------------------------------------------------------- unknown words


def _unknown(token: Token, text: str) -> Problem:
    span, shown = _span(token), str(token)
    if len(shown) == 1 and not shown.isalpha():
        return Problem(Kind.UNKNOWN_TOKEN, _about_character(shown, text[: span.start]), span)
    if shown[0] == "@" and suggestion(shown[1:]).lower() == shown[1:].lower():
        return Problem(Kind.UNKNOWN_TOKEN, f"`@` stands before rule words only, `{shown[1:]}` is none", span, shown[1:])
    zone = zone_named(shown)
    if zone is not None:
        return Problem(Kind.UNKNOWN_TOKEN, f"the time zone `{zone}` needs the word `tz` before it", span, f"tz {zone}")
    if shown.lower() in FILLERS:
        return Problem(Kind.UNKNOWN_TOKEN, f"`{shown}` is no word of NaturalCron: leave it out", span)
    after_from = shown.lower() == "to" and re.search(r"(?i)\bfrom\b[^@]*$", text[: span.start])
    meant = "upto" if after_from else suggestion(shown)
    return Problem(Kind.UNKNOWN_TOKEN, f"`{_shortened(shown)}` is no word of NaturalCron", span, meant)


def _about_character(character: str, before: str) -> str:
    if character == "]":
        return "this bracket was never opened"
    if character == "." and before[-1:].isdigit():
        return "numbers are whole, a decimal point does not belong here"
    if character == "*":
        return "`*` means nothing here: a cron expression is read by Cron"
    return f"the character `{_printable(character)}` means nothing here"


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else f"\\u{ord(letter):04x}"


def _shortened(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:37]}..."  # noqa: PLR2004 - for people


def _span(token: Token) -> Span:
    return Span(token.start_pos or 0, token.end_pos or 0)


# --------------------------------------------------------------------------------------------------------- wrong places


class _Scene:
    """The tokens, and the one with which the parser could not go on (or the end)."""

    def __init__(self, text: str, tokens: Sequence[Token], index: int) -> None:
        self._text = text
        self._tokens = list(tokens)
        self._index = index
        self._type = self._type_at(0)
        self._clause = self._rule_word()

    def problem(self) -> Problem:
        for explain in _EXPLANATIONS:
            found = explain(self)
            if found is not None:
                return found
        return self._says(f"{self._quoted(0)} does not belong here")

    # What stands where.

    def _type_at(self, offset: int) -> str:
        at = self._index + offset
        return self._tokens[at].type if 0 <= at < len(self._tokens) else (_END if at >= 0 else "")

    def _quoted(self, offset: int) -> str:
        if self._type_at(offset) in {_END, ""}:
            return "the end"
        return f"`{_shortened(str(self._tokens[self._index + offset]))}`"

    def _raw(self, offset: int) -> str:
        return "" if self._type_at(offset) in {_END, ""} else str(self._tokens[self._index + offset])

    def _rule_word(self) -> int:
        """Offset of the word that begins the clause, 0 where no clause has begun."""
        for offset in range(-1, -self._index - 1, -1):
            if self._type_at(offset) in _RULES:
                return offset
        return 0

    def _clause_type(self) -> str:
        return self._type_at(self._clause) if self._clause else ""

    def _inside(self, type_: str) -> bool:
        return any(self._type_at(offset) == type_ for offset in range(self._clause, 0)) if self._clause else False

    def _open_bracket(self) -> int:
        """Offset of the bracket that is open here, 0: none is."""
        for offset in range(-1, self._clause - 1, -1):
            if self._type_at(offset) == "_CLOSE":
                return 0
            if self._type_at(offset) == "LSQB":
                return offset
        return 0

    def _span_at(self, offset: int) -> Span:
        if self._type_at(offset) == _END:
            end = _span(self._tokens[-1]).end if self._tokens else 0
            return Span(end, end + 1)
        return _span(self._tokens[self._index + offset])

    def _says(self, message: str, meant: str = "", *, offset: int = 0) -> Problem:
        return Problem(Kind.BAD_CLAUSE, message, self._span_at(offset), meant)

    # What may be wrong, in the order in which it is asked.

    def no_rule_word(self) -> Problem | None:
        if self._clause:
            return None
        message = "an expression begins with `every`, `at`, `on`, `in` or `between`"
        raw = self._raw(0)
        meant = {
            "CLOCK": f"at {raw}",
            "DATE": f"on {raw}",
            "MONTH": f"in {raw}",
            "WEEKDAY": f"on {raw}",
            "SPECIAL": f"on {raw}",
            "CLOSEST": f"on {raw}",
            "EDGE": f"on {raw}",
            "UNIT": f"every {raw}",
        }.get(self._type, "")
        if self._type == "NUMBER":
            meant = {
                "AMPM": f"at {raw}{self._raw(1)}",
                "ORDINAL": f"on {raw}{self._raw(1)}",
                "UNIT": f"every {raw} {self._raw(1)}",
            }.get(self._type_at(1), "")
        return self._says(message, meant)

    def zone_is_missing(self) -> Problem | None:
        if self._clause_type() == "ZONE":
            word, name = self._raw(self._clause).split(maxsplit=1)
            if name.lower() in WORDS:
                end = self._span_at(self._clause).end
                message = f"`{word}` needs the name of a time zone, not `{name}`"
                return Problem(Kind.BAD_CLAUSE, message, Span(end - len(name), end))
        if self._type != "TZ":
            return None
        end = self._span_at(0).end
        return Problem(
            Kind.BAD_CLAUSE, f"{self._quoted(0)} needs the name of a time zone", Span(end, end + 1), "tz Europe/Berlin"
        )

    def units_in_a_time(self) -> Problem | None:
        if self._type_at(-1) in {"UNIT", "ORDINAL"} and self._type_at(-2) in {"CLOCK", "DATE", "AMPM"}:
            thing = "date" if self._type_at(-2) == "DATE" else "time"
            return self._says(f"a {thing} has no units: leave {self._quoted(-1)} out", offset=-1)
        if self._type == "ORDINAL" and self._type_at(-1) in {"CLOCK", "DATE", "AMPM"}:
            thing = "date" if self._type_at(-1) == "DATE" else "time"
            return self._says(f"a {thing} has no units: leave {self._quoted(0)} out")
        return None

    def colons(self) -> Problem | None:
        if self._type != "COLON":
            return None
        iso = _ISO_MOMENT.match(self._raw(-1))
        if iso is not None:
            place = self._span_at(-1).start + iso.start(2)
            return Problem(
                Kind.UNKNOWN_TOKEN,
                "between date and time stands a blank",
                Span(place, place + 1),
                f"{iso[1]} {iso[3]}:{self._raw(1)}",
            )
        if self._type_at(-1) == "UNIT" and self._type_at(-2) == "NUMBER":
            return self._says(f"a time has no units: leave {self._quoted(-1)} out", offset=-1)
        return self._says("a time has no blank beside `:`, and two digits after it", self._joined())

    def signs(self) -> Problem | None:
        if self._type != "SIGN":
            return None
        sign, before = self._raw(0), self._type_at(-1)
        if before == "SIGN" or (before == "NUMBER" and self._type_at(-2) == "SIGN"):
            return self._says("only one number of days is added or taken away")
        if before == "EVERY":
            return self._says("the number after `every` is whole and positive")
        if self._inside("CLOSEST"):
            return self._says("`ClosestWeekdayTo` knows no `+` and `-`")
        if self._clause_type() == "BETWEEN" and not self._inside("_AND") and sign == "-":
            return self._says("the ends of a range are joined by `and`", "and")
        if before in {"CLOCK", "AMPM", "WEEKDAY"} and sign == "-":
            pair = f"between {self._raw(-1)} and {self._raw(1)}" if self._type_at(1) == before else ""
            if self._type_at(1) != "NUMBER" or before == "AMPM":
                return self._says("a range is written with `between`", pair)
        if before in {"NUMBER", "MONTH", "DATE"} and sign == "-":
            return self._says("a date has no blank beside `-`", self._joined())
        return self._says(f"`{sign}` stands after a special day only: `LastDay - 1`")

    def _joined(self) -> str:
        """The time or date around the place without its blanks, or an empty text."""
        parts = {"NUMBER", "MONTH", "DATE", "CLOCK", "SIGN", "COLON"}
        first = last = 0
        while self._type_at(first - 1) in parts:
            first -= 1
        while self._type_at(last + 1) in parts:
            last += 1
        return "".join(self._raw(offset) for offset in range(first, last + 1)) if first < 0 < last else ""

    def am_pm(self) -> Problem | None:
        if self._type != "AMPM":
            return None
        if self._type_at(-1) == "AMPM":
            return self._says("a time has one am or pm")
        return self._says(f"{self._quoted(0)} stands after a time: `9pm`, `9:30 pm`")

    def every_without_unit(self) -> Problem | None:
        if self._clause_type() != "EVERY" or self._inside("ANCHOR"):
            return None
        words = range(self._clause + 1, 0)
        if any(self._type_at(offset) in {"UNIT", "ORDINAL", "WEEKDAY"} for offset in words):
            return None
        return self._missing_unit()

    def _missing_unit(self) -> Problem:
        raw = self._raw(0)
        if self._type_at(-1) == "NUMBER":
            number = self._raw(-1)
            if self._type == "WEEKDAY":
                return self._says("`every` counts units, not weekdays", f"every {number} weeks AnchoredOn {raw}")
            return self._says(f"`every {number}` needs a unit", f"every {number} minutes")
        if self._type in {"MONTH", "SPECIAL", "EDGE", "CLOSEST"}:
            interval, word = ("year", "in") if self._type == "MONTH" else ("month", "on")
            raw += f" {self._raw(1)}" if self._type_at(1) == "UNIT" else ""
            raw = raw.title() + self._raw(1).title() if self._type_at(1) == "WEEKDAY" else raw
            return self._says(
                "`every` counts units; a day or month goes into a clause of its own", f"every {interval} {word} {raw}"
            )
        if self._type in {"CLOCK", "NUMBER"}:
            return self._says("`every` counts units; a time goes into a clause of its own", f"every day at {raw}")
        if self._type == "DATE":
            return self._says("`every` counts units; a date stands alone, after `on`", f"on {raw}")
        if self._type == "LSQB":
            return self._says(
                "`every` has no list", "every week on [...]" if self._type_at(1) == "WEEKDAY" else "every day at [...]"
            )
        return self._says("`every` needs a unit, such as `day` or `5 minutes`", "every day")

    def anchors(self) -> Problem | None:
        if self._type == "ANCHOR":
            if self._clause_type() in {"EVERY", "SHORTCUT"}:
                return self._says("`every` has one anchor")
            return self._says(f"{self._quoted(0)} stands directly after `every ...`")
        if not self._inside("ANCHOR"):
            return None
        if self._type_at(-1) == "ANCHOR" or self._type in {"UNIT", "ORDINAL", "AMPM"}:
            return self._says("an anchor is a number, or the name of a month or weekday")
        return None

    def values_after_every(self) -> Problem | None:
        """`every day 10:00`, `on [monday] 10:00`."""
        after_list = self._type_at(-1) == "_CLOSE"
        if self._type not in _VALUES | {"UNIT"} or not (
            after_list or self._clause_type() in {"EVERY", "SHORTCUT", "ZONE"}
        ):
            return None
        if self._type_at(-1) == "ORDINAL" and self._type == "UNIT":
            return self._says("`every` takes a plain number", f"every {self._raw(-2)} {self._raw(0)}s")
        if self._type_at(-1) == "ORDINAL" and self._type == "WEEKDAY" and self._clause_type() == "EVERY":
            day = self._raw(-2) + self._raw(-1) + self._raw(0).title()
            return self._says("`every` counts units; a day goes into a clause of its own", f"every month on {day}")
        if not after_list and "UNIT" in {self._type, self._type_at(1) if self._type == "NUMBER" else ""}:
            return self._says("`every` takes one number and one unit")
        word = "at" if self._type == "CLOCK" or self._type_at(1) == "AMPM" else "on"
        word = "in" if self._type == "MONTH" else word
        end = self._raw(1) if self._type == "NUMBER" and self._type_at(1) in {"AMPM", "ORDINAL"} else ""
        end = f" {self._raw(1)}" if self._type == "NUMBER" and self._type_at(1) == "UNIT" else end
        return self._says("a value needs `at`, `on` or `in` before it", f"{word} {self._raw(0)}{end}")

    def ands(self) -> Problem | None:
        if self._type != "_AND":
            return None
        if self._inside("_AND") and self._clause_type() == "BETWEEN":
            return self._says("a range has two ends")
        if self._type_at(-1) in {"BETWEEN", "LSQB", "COMMA"}:
            return self._says("the start of the range is missing")
        if self._clause_type() == "POINT" and self._type_at(-1) != "POINT":
            values = f"{self._raw(-1)}, {self._raw(1)}"
            values = values if self._open_bracket() else f"[{values}]"
            values = values if self._type_at(-1) == self._type_at(1) else ""
            return self._says("`and` joins the ends of a range; alternatives stand in brackets", values)
        return self._says("`and` joins the ends of a range: `between 9:00 and 18:00`")

    def brackets(self) -> Problem | None:
        opened = self._open_bracket()
        if self._type in {"COMMA", "_CLOSE"} and self._type_at(-1) in {"COMMA", "LSQB"}:
            return self._says("an item of the list is missing")
        if opened and (self._type == _END or self._type in _RULES):
            return self._says("this bracket is never closed", offset=opened)
        if self._type != "LSQB":
            return None
        if opened:
            return self._says("a list inside of a list")
        if self._clause_type() == "BOUND":
            return self._says(f"{self._quoted(self._clause)} takes one value, no list")
        return self._says("a list stands directly after `at`, `on`, `in`, `between`, or their unit")

    def ranges_without_and(self) -> Problem | None:
        if self._clause_type() != "BETWEEN" or self._type_at(-1) in {"BETWEEN", "_AND"}:
            return None
        first = self._open_bracket() or self._clause
        commas = [offset for offset in range(first, 0) if self._type_at(offset) == "COMMA"]
        pair = range((commas[-1] if commas else first) + 1, 0)
        types = [self._type_at(offset) for offset in pair]
        if "_AND" in types or self._type not in {_END, "_CLOSE", "COMMA"} | _RULES:
            return None
        # `between 9:00 18:00`: at what is there for the second time; `between 9:00`: behind it.
        again = (offset for offset, type_ in zip(pair, types, strict=True) if type_ in types[: offset - pair.start])
        return self._says("`between` needs two ends, joined by `and`", offset=next(again, 0))

    def missing_values(self) -> Problem | None:
        if self._type_at(-1) in {"POINT", "BETWEEN", "BOUND", "_AND", "LSQB", "COMMA"}:
            return self._says(f"{self._quoted(-1)} needs a value after it, not {self._quoted(0)}")
        if self._type_at(-1) == "UNIT":
            return self._says(f"which {self._raw(-1)}? A number, `first` or `last` is missing", offset=-1)
        if self._type_at(-1) == "SIGN":
            return self._says("the number of days is missing")
        if self._type_at(-1) == "CLOSEST":
            return self._says("`ClosestWeekdayTo` needs a day of the month", "ClosestWeekdayTo 15th")
        return None


_EXPLANATIONS: tuple[Callable[[_Scene], Problem | None], ...] = (
    _Scene.zone_is_missing,
    _Scene.no_rule_word,
    _Scene.units_in_a_time,
    _Scene.colons,
    _Scene.signs,
    _Scene.anchors,
    _Scene.am_pm,
    _Scene.every_without_unit,
    _Scene.values_after_every,
    _Scene.ands,
    _Scene.brackets,
    _Scene.ranges_without_and,
    _Scene.missing_values,
)
