"""Settings that cannot work: what the error says. One row: what was given, and what its text must hold."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from jobmaster.errors import ConfigurationError
from jobmaster.model.backoff import Backoff
from jobmaster.model.states import Priority
from jobmaster.settings.arguments import SettingArguments
from jobmaster.settings.declarations import Agent, Worker
from jobmaster.settings.resolution import resolve
from jobmaster.settings.validation import archive_faults
from jobmaster.settings.values import RULES, Settings

A, B = Agent("a", "postgresql://h/a"), Agent("b", "nats://h")


def error_of(folder: Path, given: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> str:
    """The text of the error that these settings give."""
    with pytest.raises(ConfigurationError) as caught:
        resolve("shop", given, folder=str(folder), environ=environ or {})
    return str(caught.value)


BY_THE_APP: list[tuple[dict[str, object], list[str]]] = [
    # one value out of its limits
    ({"transient_threshold": 9}, ["transient_threshold is 9s (app)", "10s to 1d", "because"]),
    ({"transient_threshold": timedelta(days=2)}, ["transient_threshold is 2d", "10s to 1d"]),
    ({"onboarding_window": 31}, ["onboarding_window is 31s", "250ms to 30s"]),
    ({"retention": 599}, ["retention is 599s", "10m to", "deletes results"]),
    ({"lease": 0.1}, ["lease is 100ms", "500ms to 1h"]),
    ({"default_max_retries": -1}, ["default_max_retries is -1", "0 to 1000"]),
    ({"max_message_bytes": 0}, ["max_message_bytes is 0", "1024 to 67108864"]),
    ({"claims_per_second": 0}, ["claims_per_second is 0", "1 to 10000"]),
    ({"grace": -1}, ["grace is -1s", "0s to 1d"]),
    # values of the wrong kind
    ({"lease": "soon"}, ["lease is 'soon' (app)", "500ms, 10s, 5m, 2h, 30d"]),
    ({"lease": float("nan")}, ["lease is nan", "a finite number of seconds"]),
    ({"lease": float("inf")}, ["lease is inf", "a finite number of seconds"]),
    ({"lease": True}, ["lease is True", "a finite number of seconds"]),
    ({"lease": None}, ["lease is None (app)", "leave it out"]),
    ({"buffer_per_bucket": 1.5}, ["buffer_per_bucket is 1.5", "a whole number"]),
    ({"buffer_per_bucket": True}, ["buffer_per_bucket is True", "a whole number"]),
    ({"buffer_per_bucket": 10**5000}, ["buffer_per_bucket is a huge int", "a whole number"]),
    ({"allow_pickle": 1}, ["allow_pickle is 1", "true or false"]),
    ({"allow_pickle": "maybe"}, ["allow_pickle is 'maybe'", "true or false"]),
    ({"cluster_mode": "asleep"}, ["cluster_mode is 'asleep'", "one of active, passive, archived"]),
    ({"durability": "disk"}, ["durability is 'disk'", "one of agent, master"]),
    ({"survives": "fire"}, ["survives is 'fire'", "one of process, host"]),
    ({"time_zone": "Mars/Olympus"}, ["time_zone is 'Mars/Olympus'", "IANA name"]),
    ({"time_zone": "../../etc/passwd"}, ["time_zone", "IANA name"]),
    ({"time_zone": 1}, ["time_zone is 1", "IANA name"]),
    ({"include": ["shop tasks"]}, ["include is", "shop.tasks"]),
    ({"include": [1]}, ["include is [1]", "shop.tasks"]),
    ({"include": 1}, ["include is 1", "a list of module names"]),
    ({"debug_log": ""}, ["debug_log is ''", "not empty"]),
    ({"archive_to": "a b"}, ["archive_to is 'a b'", "letters"]),
    ({"retry": 5}, ["retry (app) is of the type int", "Backoff(base=5, cap=60)"]),
    ({"buckets": 5}, ["buckets (app) is of the type int", "Priority.LOW"]),
    ({"retry": {"base": 20, "cap": 10}}, ["cap (10s) is shorter than base (20s)"]),
    ({"retry": {"bass": 20}}, ["no setting 'retry.bass'", "Did you mean 'retry.base'?"]),
    ({"buckets": {Priority.MEDIUM: 0}}, ["buckets.medium is 0", "1 to 64", "jobs without a priority are medium"]),
    ({"buckets": {"urgent": 1}}, ["no setting 'buckets.urgent'"]),
    # addresses
    ({"master": None}, ["master is None (app)", "jobmaster.db"]),
    ({"master": "redis://h"}, ["master (app) 'redis://h'", "Known are sqlite:///file.db"]),
    ({"master": "sqlite:///:memory:"}, ["in memory", "other processes"]),
    ({"master": "nats://h"}, ["NATS keeps messages", "Declare it as an agent"]),
    # names
    ({"leese": 1}, ["There is no setting 'leese' (app)", "Did you mean 'lease'?"]),
    ({"cluster_id": "x"}, ["no setting 'cluster_id'", "given to JobMaster(...) only"]),
    ({"mode": "active", "cluster_mode": "active"}, ["both mode= and cluster_mode="]),
    # agents
    ({"agents": [A, Agent("A", "nats://x")]}, ["'a' and 'A'", "unique", "Rename"]),
    ({"agents": [A, Agent("c", "postgresql://h/a")]}, ["agents 'a' and 'c'", "are the same store"]),
    ({"agents": ["nats://h"]}, ["agents (app) holds a str", "Agent(name, url)"]),
    ({"agents": "nats://h"}, ["agents (app) is a str", "Agent(name, url)"]),
    ({"agents": None}, ["agents (app) is a NoneType", "Agent(name, url)"]),
    ({"agents": {"jmreserved-x": "nats://h"}}, ["'jmreserved-x' is reserved"]),
    ({"agents": {"x": "redis://h"}}, ["the address of agent 'x' (app)", "Known are"]),
    ({"agents": {"x": {"url": "nats://h", "user": "u"}}}, ["no 'user'"]),
    # workers
    ({"workers": Worker()}, ["workers (app) is no list"]),
    ({"workers": ["a"]}, ["workers (app) holds a str"]),
    ({"workers": [{"lanes": ["a"], "speed": 1}]}, ["'speed', which no worker has", "parallelism"]),
    ({"workers": [{"parallelism": 0}]}, ["workers (app)", "above 0"]),
    ({"workers": [Worker("a")]}, ["names the agent 'a'", "standalone", "Declare agents="]),
    ({"workers": [Worker("x")], "agents": [A, B]}, ["worker 1 (app)", "'x', which is not declared", "Known are a, b"]),
    ({"workers": [Worker(name="w")], "agents": [A, B]}, ["worker w (app) names no agent", "one of a, b"]),
    ({"workers": [Worker(name="w"), Worker(name="w")]}, ["worker w (app)", "same name"]),
    ({"workers": [Worker(lane="Mail"), Worker(lane="mail")]}, ["'Mail' and 'mail'", "two lanes"]),
    (
        {"workers": [Worker(buckets={Priority.LOW: 1})], "buckets": {Priority.LOW: 0}},
        ["the priority low, which the cluster has switched off (app)"],
    ),
    # values against each other
    ({"lease": 6}, ["renew_every is 3s (default)", "half of lease, 6s (app)", "Lower renew_every or raise lease"]),
    ({"keep_result": 3600, "retention": 600}, ["keep_result is 1h (app)", "longer than retention, 10m (app)"]),
    ({"archive_to": "old", "retention": None}, ["archive_to is 'old'", "retention is none"]),
    ({"archive_to": "shop"}, ["is the cluster itself"]),
]


@pytest.mark.parametrize(("given", "parts"), BY_THE_APP, ids=[f"case {n}" for n in range(len(BY_THE_APP))])
def test_what_an_app_gives_and_cannot_work_is_explained(
    given: dict[str, object], parts: list[str], tmp_path: Path
) -> None:
    text = error_of(tmp_path, given)

    for part in parts:
        assert part in text


BY_THE_ENVIRONMENT: list[tuple[dict[str, str], list[str]]] = [
    ({"JOBMASTER_LEASE": ""}, ["lease is '' (environment JOBMASTER_LEASE)", "10s"]),
    ({"JOBMASTER_LEASE": "-5"}, ["lease is '-5'", "10s"]),
    ({"JOBMASTER_LEASE": "1e3"}, ["lease is '1e3'"]),
    ({"JOBMASTER_LEASE": "none"}, ["lease is 'none'"]),
    ({"JOBMASTER_LEASE": "9" * 400}, ["lease is '999", "a finite number"]),
    ({"JOBMASTER_FINISH_FLUSH": "many"}, ["finish_flush is 'many' (environment JOBMASTER_FINISH_FLUSH)"]),
    ({"JOBMASTER_FINISH_FLUSH": "9" * 5000}, ["finish_flush is '999", "a whole number"]),
    ({"JOBMASTER_ALLOW_PICKLE": "2"}, ["true or false"]),
    ({"JOBMASTER_MASTER": ""}, ["master (environment JOBMASTER_MASTER) is empty"]),
    ({"JOBMASTER_MASTER": "postgresql://u:hunter2@h"}, ["environment JOBMASTER_MASTER", "names no database"]),
    ({"JOBMASTER_AGENTS": "nats://u:hunter2@h"}, ["JOBMASTER_AGENTS is no JSON", "JOBMASTER_AGENTS='"]),
    ({"JOBMASTER_RETRY": "5"}, ["retry (environment JOBMASTER_RETRY) is of the type int", "or a table"]),
    ({"JOBMASTER_WORKERS": "[{"}, ["JOBMASTER_WORKERS is no JSON"]),
    ({"JOBMASTER_WORKERS": "{}"}, ["workers (environment JOBMASTER_WORKERS) is no list"]),
    ({"JOBMASTER_AGENTS__X": "redis://u:hunter2@h"}, ["the address of agent 'x' (environment JOBMASTER_AGENTS__X)"]),
    ({"JOBMASTER_AGENTS__STANDALONE": "nats://h"}, ["'standalone' is reserved"]),
    ({"JOBMASTER_RETRY__CAP": "1s"}, ["cap (1s) is shorter than base (5s)"]),
    ({"JOBMASTER_CONFIG": "/no/such/file.toml"}, ["JOBMASTER_CONFIG is '/no/such/file.toml'", "no such file"]),
]


@pytest.mark.parametrize(
    ("environ", "parts"), BY_THE_ENVIRONMENT, ids=[f"case {n}" for n in range(len(BY_THE_ENVIRONMENT))]
)
def test_what_the_environment_says_and_cannot_work_is_explained(
    environ: dict[str, str], parts: list[str], tmp_path: Path
) -> None:
    text = error_of(tmp_path, environ=environ)

    for part in parts:
        assert part in text
    assert "hunter2" not in text


BY_A_FILE: list[tuple[str, list[str]]] = [
    ("leese = 1", ["no setting 'leese'", "jobmaster.toml: leese", "Did you mean 'lease'?"]),
    ("[clusters.other]\nleese = 1", ["no setting 'leese'", "clusters.other.leese"]),
    ("grace = 1\nlease = x", ["is no valid TOML (at line 2, column 9)"]),
    ("clusters = 1", ["clusters is no table"]),
    ("[clusters]\nshop = 1", ["clusters.shop is no table"]),
    ("[lease]\nx = 1", ["lease is {'x': 1}", "a finite number of seconds"]),
    ('master = "postgresql://u:hunter2@h/d', ["is no valid TOML (at end of document)"]),
    ("lease = 1979-05-27", ["lease is datetime.date"]),
    ("lease = 100000000000000000000", ["lease is 100000000000000000000"]),
    ('agents = ["nats://u:hunter2@h"]', ["agents", "holds a str"]),
    ('[[agents]]\nurl = "nats://h"', ["agent name '' is empty"]),
    ("[agents]\nx = 1", ["the address of agent 'x'", "int"]),
    ("[[workers]]\nspeed = 1", ["'speed', which no worker has"]),
    ("[tool.jobmaster]\nlease = 1", ["no setting 'tool'"]),
]


@pytest.mark.parametrize(("text", "parts"), BY_A_FILE, ids=[f"case {n}" for n in range(len(BY_A_FILE))])
def test_what_a_file_says_and_cannot_work_is_explained(text: str, parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "jobmaster.toml").write_text(text, encoding="utf-8")

    error = error_of(tmp_path)

    for part in parts:
        assert part in error
    assert str(tmp_path) in error
    assert "hunter2" not in error


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobmaster.toml").write_bytes(b"\xff\xfe")

    assert "is no valid TOML" in error_of(tmp_path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobmaster.toml").touch()

    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)  # the file's mode would not stop root

    assert "jobmaster.toml cannot be read: Permission denied. Allow it" in error_of(tmp_path)


def test_a_project_file_with_a_strange_own_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\njobmaster = 1", encoding="utf-8")

    assert "tool.jobmaster is no table" in error_of(tmp_path)


def test_a_variable_that_may_mean_two_agents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobmaster.toml").write_text('[agents]\n"x-1" = "nats://a"', encoding="utf-8")

    text = error_of(tmp_path, {"agents": [Agent("x.1", "nats://b")]}, {"JOBMASTER_AGENTS__X_1": "nats://c"})

    assert "may mean each of the agents x.1 and x-1" in text


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = error_of(
        tmp_path, {"lease": "soon", "master": "redis://h", "workers": [{"speed": 1}]}, {"JOBMASTER_GRACE": "x"}
    )

    assert text.startswith("4 settings cannot work:\n- ")
    for part in ("lease is 'soon'", "redis://h", "'speed'", "grace is 'x' (environment JOBMASTER_GRACE)"):
        assert part in text


def test_a_bad_cluster_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cluster id 'a b'"):
        resolve("a b", folder=str(tmp_path), environ={})


def test_one_agent_needs_no_name_in_its_workers(tmp_path: Path) -> None:
    given = {"agents": [A], "workers": [Worker(), Worker(mode="coordinator")]}

    assert len(resolve("shop", given, folder=str(tmp_path), environ={}).settings.workers) == 2


def test_two_accounts_of_one_nats_server_are_two_agents(tmp_path: Path) -> None:
    given = {"agents": [Agent("x", "nats://u1:p@h"), Agent("y", "nats://u2:p@h")]}

    assert len(resolve("shop", given, folder=str(tmp_path), environ={}).settings.agents) == 2


def settings_of(tmp_path: Path, cluster_id: str, **given: object) -> Settings:
    return resolve(cluster_id, given, folder=str(tmp_path), environ={}).settings


def test_an_archive_is_archived_and_has_neither_agents_nor_workers_that_run_jobs(tmp_path: Path) -> None:
    source = settings_of(tmp_path, "shop", archive_to="old")
    good = settings_of(tmp_path, "old", mode="archived", workers=[Worker(mode="coordinator")])
    bad = settings_of(tmp_path, "old", agents=[A], workers=[Worker()])

    assert archive_faults(source, good) == []
    faults = archive_faults(source, bad)
    assert len(faults) == 3
    assert all("archive_to of cluster 'shop' is 'old'" in fault for fault in faults)


def test_type_checkers_know_exactly_the_settings_that_there_are() -> None:
    names = {name.partition(".")[0] for name in RULES} | {"agents", "workers"}

    assert set(SettingArguments.__annotations__) == names | {"mode"}
    assert set(Settings.__struct_fields__) == names | {"cluster_id"}


def test_every_default_is_inside_the_limits_of_its_own_rule(tmp_path: Path) -> None:
    """Giving each default explicitly, as its own text, changes nothing."""
    default = resolve("shop", folder=str(tmp_path), environ={})
    shown = {name: value for name, value, _ in default.rows() if name in RULES and not value.startswith("none")}
    environ = {f"JOBMASTER_{name.upper().replace('.', '__')}": value for name, value in shown.items() if value}

    again = resolve("shop", folder=str(tmp_path), environ=environ).settings

    assert again.buckets == dict.fromkeys(Priority, 1)
    assert again.retry == Backoff()
    assert [getattr(again, name) for name in Settings.__struct_fields__ if name != "buckets"] == [
        getattr(default.settings, name) for name in Settings.__struct_fields__ if name != "buckets"
    ]
