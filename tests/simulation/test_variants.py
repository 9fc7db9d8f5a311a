"""A rule that is taken away is missed: otherwise a clean simulation would prove nothing about it."""

from __future__ import annotations

import pytest

from jobmaster.stores.memory.variants import GUARDS
from tests.simulation.campaign import first_violation
from tests.simulation.variants import CAUGHT, VARIANTS


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CAUGHT)
def test_a_removed_rule_is_caught(name):
    caught = CAUGHT[name]
    seen = first_violation(caught.by, config=caught.config, broken=[name], within=caught.within, first=caught.first)
    print(f"{VARIANTS[name].rule} ({name}): {seen}")
    assert seen is not None, f"{caught.within} seeds without {VARIANTS[name].rule} looked clean"


def test_every_guard_of_the_stores_is_a_variant_here():
    assert set(GUARDS) <= set(VARIANTS)
    assert set(CAUGHT) <= set(VARIANTS)
