"""Recurrence rules: NaturalCron, cron, intervals, calendars and custom ones. Usable alone, without a cluster."""
