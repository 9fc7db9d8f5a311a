"""Which names clusters, agents, workers and lanes may have."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobmaster.errors import ConfigurationError
from jobmaster.settings.names import check_agent_name, check_cluster_id, check_lane, check_worker_name, folded


@pytest.mark.parametrize("name", ["shop", "Shop-1", "a_b", "eu.shop:1", "x" * 50, ".".join(["x" * 47] * 5)])
def test_good_cluster_ids_and_worker_names_are_taken_as_they_are(name: str) -> None:
    assert check_cluster_id(name) == name
    assert check_worker_name(name) == name


def test_a_worker_leaves_room_in_its_name_for_the_numbers_of_its_engines() -> None:
    assert len(check_worker_name(".".join(["x" * 47] * 5) + "x")) == 240
    assert len(check_cluster_id(".".join(["x" * 50] * 5) + "x"[:0])) == 254
    with pytest.raises(ConfigurationError, match="has 241 characters; at most 240"):
        check_worker_name(".".join(["x" * 47] * 5) + "xx")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a b", "letters"),
        ("größe", "letters"),
        ("a/b", "letters"),
        ("a\x00", "letters"),
        ("a\n", "letters"),
        ("a;drop table", "letters"),
        ("a--b", "next to each other"),
        ("a_-b", "next to each other"),
        ("-a", "option"),
        ("x" * 51, "51 characters"),
        ("x." * 200, "400 characters"),
        (None, "no text"),
        (7, "no text"),
    ],
)
def test_bad_names_are_refused_with_the_reason(name: object, why: str) -> None:
    for check in (check_cluster_id, check_worker_name, check_agent_name, check_lane):
        with pytest.raises(ConfigurationError, match=why) as caught:
            check(name)
        assert "such as 'shop-1'" in str(caught.value)


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", "a.:b", ":"])
def test_no_part_of_a_name_is_empty(name: str) -> None:
    with pytest.raises(ConfigurationError, match="begins or ends with, or repeats"):
        check_worker_name(name)


@pytest.mark.parametrize("check", [check_cluster_id, check_worker_name, check_agent_name])
def test_a_name_is_not_empty(check: Callable[[str], str]) -> None:
    with pytest.raises(ConfigurationError, match="is empty"):
        check("")


def test_an_agents_name_has_no_colon() -> None:
    with pytest.raises(ConfigurationError, match="letters"):
        check_agent_name("a:b")


@pytest.mark.parametrize("name", ["standalone", "Standalone", "JMReserved-x", "jmreserved-fallback"])
def test_names_of_agents_that_jobmaster_makes_are_reserved(name: str) -> None:
    with pytest.raises(ConfigurationError, match="reserved"):
        check_agent_name(name)


@pytest.mark.parametrize("name", ["mail", "Mail", "bulk_eu-1", "x" * 25])
def test_a_lane_keeps_its_spelling(name: str) -> None:
    assert check_lane(name) == name


def test_the_default_lane_is_stored_as_nothing() -> None:
    assert check_lane("default") == ""
    assert check_lane("") == ""


def test_a_lane_of_26_characters_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="26 characters; a lane has at most 25"):
        check_lane("x" * 26)


def test_a_lane_is_one_segment() -> None:
    with pytest.raises(ConfigurationError, match="letters"):
        check_lane("mail.eu")


def test_a_name_is_folded_to_what_a_variable_can_hold() -> None:
    assert folded("Nats-1.eu") == "nats_1_eu"
