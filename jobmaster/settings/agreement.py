"""Settings that all processes of a cluster must share: what is kept in the master, and what contradicts it."""

from __future__ import annotations

from collections.abc import Mapping

from jobmaster.settings.values import RULES, Settings

AGREED = tuple(name for name, rule in RULES.items() if rule.agreed)


def agreed_values(settings: Settings) -> dict[str, float | str | None]:
    """The values to keep in the master, ready for JSON. Durations are seconds."""
    return {name: getattr(settings, name) for name in AGREED}


def disagreements(settings: Settings, stored: Mapping[str, object], *, origins: Mapping[str, str]) -> list[str]:
    """A sentence with both values for each setting of this process that contradicts the cluster's.

    Args:
        settings: this process's settings.
        stored: what the master has; a name that it lacks contradicts nothing (an older version wrote it).
        origins: where this process's values came from.
    """
    return [
        f"{name} is {_shown(name, own)} here ({origins[name]}), but {_shown(name, stored[name])} in the master of "
        f"cluster {settings.cluster_id!r}: workers that disagree would take each other's work for lost or expired. "
        f"Set it to {_shown(name, stored[name])} here, or change it in every process while no worker runs."
        for name, own in agreed_values(settings).items()
        if name in stored and stored[name] != own
    ]


def _shown(name: str, value: object) -> str:
    return RULES[name].shown(value)
