"""NaturalCron: recurrence rules in words (`every 2 weeks on [monday, friday] at 9:00`)."""
