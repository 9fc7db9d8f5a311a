"""The rule without occurrences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

from jobmaster.errors import ScheduleSyntaxError


@dataclass(frozen=True, slots=True)
class Never:
    """A schedule that runs only when somebody asks for it."""

    type_id: ClassVar[str] = "Never-Recurs"

    @classmethod
    def parse(cls, text: str) -> Never:
        """The rule, whose text is empty.

        Raises:
            ScheduleSyntaxError: there is a text.
        """
        if text.strip():
            raise ScheduleSyntaxError(f"{cls.type_id} has no text", text=text, length=len(text))
        return cls()

    @property
    def text(self) -> str:
        """Empty."""
        return ""

    @property
    def zone(self) -> ZoneInfo | None:
        """None: it needs none."""
        return None

    @property
    def is_phased(self) -> bool:
        """False."""
        return False

    def in_zone(self, zone: ZoneInfo) -> Never:
        """Itself."""
        return self

    def next_after(self, moment: datetime) -> datetime | None:
        """None, always."""
        return None

    def has_ended(self, moment: datetime) -> bool:
        """True, always."""
        return True

    def explain(self) -> str:
        """The rule in plain English."""
        return "never"
