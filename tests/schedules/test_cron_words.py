"""Cron expressions as a person would say them."""

from __future__ import annotations

import pytest

from jobmaster.schedules import Cron

SENTENCES = {
    "* * * * *": "every minute",
    "*/15 * * * *": "every 15 minutes",
    "0 3 * * *": "every day at 3:00",
    "5 3 * * *": "every day at 3:05",
    "0 9 * * 1-5": "every day from Monday to Friday at 9:00",
    "0 9 * * mon": "every Monday at 9:00",
    "30 10 * * 1,3,5": "every Monday, Wednesday and Friday at 10:30",
    "15 10 * * 6,0": "every Saturday and Sunday at 10:15",
    "0 22 * * sun-thu": "every day from Sunday to Thursday at 22:00",
    "0 1 * * fri-mon": "every day from Friday to Monday at 1:00",
    "0 0 * * */2": "every Tuesday, Thursday, Saturday and Sunday at 0:00",
    "@daily": "every day at 0:00",
    "@hourly": "every hour",
    "@weekly": "every Sunday at 0:00",
    "@monthly": "on the 1st of every month at 0:00",
    "@yearly": "on the 1st of January at 0:00",
    "30 * * * *": "every hour at 30 minutes past",
    "1 * * * *": "every hour at 1 minute past",
    "0,30 9 * * 2-4": "every day from Tuesday to Thursday at 9:00 and 9:30",
    "0 */2 * * *": "every 2 hours",
    "30 */2 * * *": "every 2 hours from 0:30",
    "0 0,12 * * *": "every day at 0:00 and 12:00",
    "0 9,12,18 * * *": "every day at 9:00, 12:00 and 18:00",
    "0 9-17 * * *": "every hour from 9:00 to 17:00",
    "0 22-5 * * *": "every hour from 22:00 to 5:00",
    "30 9-17 * * 1-5": "every hour from 9:30 to 17:30, Monday to Friday",
    "*/15 9-17 * * 1-5": "every 15 minutes from 9:00 to 17:45, Monday to Friday",
    "*/5 0-3,20-23 * * *": "every 5 minutes from 0:00 to 3:55 and 20:00 to 23:55",
    "*/20 8 * * *": "every day at 8:00, 8:20 and 8:40",
    "0-10 4 * * *": "every minute from 4:00 to 4:10",
    "5-59/10 * * * *": "at 5, 15, 25, 35, 45 and 55 minutes past every hour",
    "5,10,20 1,3,7,9 * * *": "at 5, 10 and 20 minutes past 1:00, 3:00, 7:00 and 9:00",
    "0 0 1,15 * *": "on the 1st and 15th of every month at 0:00",
    "0 0 1,15,L * *": "on the 1st, 15th and last day of every month at 0:00",
    "0 0 L * *": "on the last day of every month at 0:00",
    "0 0 15W * *": "on the weekday nearest to the 15th of every month at 0:00",
    "0 8 * * MON#2": "on the second Monday of every month at 8:00",
    "0 18 * * L5": "on the last Friday of every month at 18:00",
    "0 0 13 * 5": "on the 13th of every month or on any Friday at 0:00",
    "0 3 1-7 * 1": "on the 1st to 7th of every month or on any Monday at 3:00",
    "0 0 */2 * *": "on every 2nd day from the 1st to the 31st of every month at 0:00",
    "0 0 */2 * 1": "at 0:00 on every 2nd day from the 1st to the 31st of every month if it is a Monday",
    "0 0 1-31 * mon": "every day at 0:00",
    "0 0 29 2 *": "on the 29th of February at 0:00",
    "0 0 1 */3 *": "on the 1st of January, April, July and October at 0:00",
    "0 0 * 1-3 *": "every day from January to March at 0:00",
    "0 9 * 6 mon": "every Monday in June at 9:00",
    "* * 1 1 *": "every minute on the 1st of January",
    "* * * 12 *": "every minute in December",
    "* * * * * *": "every second",
    "*/10 * * * * *": "every 10 seconds",
    "15 * * * * *": "at second 15 of every minute",
    "* 30 2 * * *": "every second from 2:30 to 2:30:59",
    "5,7 30 2 * * *": "every day at 2:30:05 and 2:30:07",
    "10,40 */15 8-10 * * *": "at seconds 10 and 40 of every 15th minute from 8:00 to 10:45",
    "*/10 * 9-17 * * *": "every 10 seconds from 9:00 to 17:59",
    "0 0 12 * * ? 2027": "every day at 12:00 in 2027",
    "0 0 12 1 6 ? 2027-2029": "on the 1st of June at 12:00 from 2027 to 2029",
    "1-59/2 * * * *": "every 2 minutes from minute 1 of the hour",
    "23 0-20/2 * * *": "every 2 hours from 0:23 to 20:23",
    "*/20 * * 6-8 mon,wed": "every 20 minutes on Monday and Wednesday from June to August",
    "*/20 9-17 * 6-8 1-5": "every 20 minutes from 9:00 to 17:40, Monday to Friday from June to August",
    "0 9 * 1,6 1-5": "every day from Monday to Friday in January and June at 9:00",
}


@pytest.mark.parametrize(("text", "sentence"), SENTENCES.items())
def test_it_reads_as_a_person_would_say_it(text, sentence):
    assert Cron(text).explain() == sentence
