"""From the rule of a schedule, as it is stored, to what computes its occurrences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobmaster.model.schedule import Rule
    from jobmaster.schedules.expression import Expression


def compiled(rule: Rule, *, zone: str, key: bytes = b"") -> Expression:
    """The rule, computed in its schedule's zone or else in `zone`, the cluster's; a zone that its text names wins.

    Args:
        rule: of a schedule.
        zone: IANA name.
        key: the schedule's, from which a cron expression's `H` is derived; where there is no schedule yet, the text is.

    Raises:
        Exception: there is no such language, text or zone; a custom provider may raise anything.
    """
    from jobmaster.schedules import compile_expression  # languages bring parsers that few processes need

    return compile_expression(rule.type_id, rule.text, tz=rule.zone or zone, hash_id=key.hex())
