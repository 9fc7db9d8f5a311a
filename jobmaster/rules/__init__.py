"""Pure decisions: functions of (state, now, random), without I/O."""
