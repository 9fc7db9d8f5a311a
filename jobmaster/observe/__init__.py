"""What a running cluster tells people and programs: events in logs, the debug log, health over HTTP."""
