"""docs/guide/schedules.md: the two languages of its table mean the same; its options are those of the code."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from jobmaster import JobMaster
from jobmaster.model.schedule import Misfire, Overlap
from jobmaster.recurring import RecurringOptions
from jobmaster.schedules import Cron, NaturalCron, occurrences

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "schedules.md").read_text(encoding="utf-8")
STARTS = (datetime(2026, 1, 31, 10, 7, 13, tzinfo=UTC), datetime(2028, 2, 28, 23, 59, 59, tzinfo=UTC))


def rows(heading: str) -> list[list[str]]:
    """The code words of each row of the first table after a heading, by cell."""
    text = GUIDE.split(heading, 1)[1]
    table = text[text.index("\n|") :].split("\n\n", 1)[0]
    return [re.findall(r"`([^`]+)`", row) for row in table.strip().splitlines()[2:]]


@pytest.mark.parametrize(("cron", "natural"), [tuple(row) for row in rows("### cron ↔ NaturalCron")])
@pytest.mark.parametrize("start", STARTS, ids=["january", "leap day"])
def test_both_languages_of_a_row_mean_the_same(cron: str, natural: str, start: datetime) -> None:
    rules = Cron(cron), NaturalCron.parse(natural)
    moments = [[at for at, _ in zip(occurrences(rule, start), range(100), strict=False)] for rule in rules]

    assert len(moments[0]) == 100
    assert moments[0] == moments[1]


def test_the_table_has_the_forms_that_people_know() -> None:
    assert len(rows("### cron ↔ NaturalCron")) >= 20


def test_the_options_are_those_of_the_code() -> None:
    named = {word for row in rows("## Options") for word in row if "=" not in word and '"' not in word}

    assert named & set(RecurringOptions.__annotations__) == set(RecurringOptions.__annotations__)


def test_the_policies_are_those_of_the_code() -> None:
    misfires = [word.strip('"') for row in rows("### Missed runs") for word in row[:1]]
    overlaps = [word.strip('"') for row in rows("### Runs that overlap") for word in row[:1]]

    assert misfires == [one.value for one in Misfire]
    assert overlaps == [one.name.lower() for one in Overlap]


def test_daylight_saving_is_as_the_guide_says() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    fixed, often = NaturalCron.parse("every day at 02:30", tz="Europe/Berlin"), Cron("*/15 * * * *", tz="Europe/Berlin")

    for day, first in (
        (datetime(2026, 3, 29, tzinfo=berlin), "03:00"),
        (datetime(2026, 10, 25, tzinfo=berlin), "02:30"),
    ):
        end = day.astimezone(UTC) + timedelta(hours=12)
        assert [at.strftime("%H:%M") for at in occurrences(fixed, day, until=end)] == [first]
        quarters = [at.astimezone(UTC) for at in occurrences(often, day, until=end)]
        assert {after - before for before, after in itertools.pairwise(quarters)} == {timedelta(minutes=15)}


def test_the_file_of_the_guide_has_a_schedule_that_can_work(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(# jobmaster\.toml.*?)```", GUIDE, re.DOTALL)
    assert block is not None
    (tmp_path / "jobmaster.toml").write_text(block[1], encoding="utf-8")
    app = JobMaster("guide", folder=str(tmp_path), default=True)

    @app.task(name="shop.report")
    def report(region: str) -> str:
        return region

    (schedule,) = app.static_schedules()
    app.close()

    assert (schedule.name, schedule.rule.text, schedule.rule.misfire) == ("nightly", "every day at 02:30", Misfire.SKIP)
