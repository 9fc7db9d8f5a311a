"""Which source of settings wins, what is kept about where a value came from, and where files are looked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

import jobmaster.settings
from jobmaster.errors import ConfigurationError
from jobmaster.model.backoff import Backoff
from jobmaster.model.states import ClusterMode, Priority, WorkerMode
from jobmaster.settings.declarations import Agent, Worker
from jobmaster.settings.files import app_in_files
from jobmaster.settings.resolution import ResolvedSettings, resolve
from jobmaster.settings.values import RULES, Durability, Settings, Survives

Resolve = Callable[..., ResolvedSettings]


@pytest.fixture
def here(tmp_path: Path) -> Resolve:
    """`resolve` for an app in `tmp_path`, with an environment of its own."""

    def call(given: Mapping[str, object] | None = None, **options: object) -> ResolvedSettings:
        options.setdefault("environ", {})
        return resolve("shop", given, folder=str(tmp_path), **options)  # type: ignore[arg-type]

    return call


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


# ---------------------------------------------------------------------------------------------------- defaults


def test_without_anything_a_cluster_is_standalone_on_a_file_beside_the_app(here: Resolve, tmp_path: Path) -> None:
    resolved = here()

    assert resolved.settings.master.path == str(tmp_path / "jobmaster.db")
    assert resolved.settings.is_standalone
    assert set(resolved.origins.values()) == {"default"}
    assert resolved.settings == Settings(cluster_id="shop", master=resolved.settings.master)


def test_the_defaults_are_those_of_the_design(here: Resolve) -> None:
    settings = here().settings

    assert settings.cluster_mode is ClusterMode.ACTIVE
    assert (settings.transient_threshold, settings.onboarding_window, settings.buffer_per_bucket) == (600, 15, 2000)
    assert (settings.default_timeout, settings.default_max_retries) == (300, 3)
    assert settings.retry == Backoff(base=5, factor=2, cap=3600, jitter=True)
    assert (settings.max_message_bytes, settings.max_result_bytes) == (131_072, 1_048_576)
    assert (settings.accept_timeout, settings.finish_flush) == (5, 1000)
    assert (settings.early_row_after, settings.early_rows_per_second) == (1, 5000)
    assert (settings.lease, settings.renew_every, settings.max_block, settings.max_recoveries) == (10, 3, 60, 3)
    assert (settings.grace, settings.claims_per_second, settings.time_zone) == (25, 50, "UTC")
    assert (settings.retention, settings.keep_result, settings.archive_to) == (30 * 86_400, None, None)
    assert settings.protect_agents
    assert settings.auto_provision
    assert not settings.allow_pickle
    assert (settings.durability, settings.survives) == (Durability.AGENT, Survives.HOST)
    assert settings.buckets_of(Worker()) == dict.fromkeys(Priority, 1)


# ------------------------------------------------------------------------------------------------------- order


def test_each_source_wins_over_the_ones_below_it(here: Resolve, tmp_path: Path) -> None:
    """`grace` is taken from one source after the other, from the strongest to the weakest."""
    own = write(tmp_path, "jobmaster.toml", "grace = 3")
    project = write(tmp_path, "pyproject.toml", "[tool.jobmaster]\ngrace = 4")
    given = {"grace": 5}
    environ = {"JOBMASTER_GRACE": "2"}

    seen = [here(given, environ=environ, command_line={"grace": 1})]
    seen.append(here(given, environ=environ))
    seen.append(here(given))
    own.unlink()
    seen.append(here(given))
    project.unlink()
    seen.append(here(given))
    seen.append(here())

    assert [resolved.settings.grace for resolved in seen] == [1, 2, 3, 4, 5, 25]
    assert [resolved.origins["grace"] for resolved in seen] == [
        "command line --grace",
        "environment JOBMASTER_GRACE",
        f"{own}: grace",
        f"{project}: grace",
        "app",
        "default",
    ]


def test_parts_of_a_setting_come_from_different_sources(here: Resolve, tmp_path: Path) -> None:
    own = write(tmp_path, "jobmaster.toml", "[retry]\nfactor = 3\n[buckets]\nlow = 0")
    resolved = here(
        {"retry": Backoff(base=1, cap=50), "buckets": {Priority.HIGH: 2}}, environ={"JOBMASTER_RETRY__CAP": "1m"}
    )

    assert resolved.settings.retry == Backoff(base=1, factor=3, cap=60)
    assert resolved.settings.buckets == {Priority.HIGH: 2, Priority.LOW: 0}
    assert resolved.origins["retry.base"] == "app"
    assert resolved.origins["retry.factor"] == f"{own}: retry.factor"
    assert resolved.origins["retry.cap"] == "environment JOBMASTER_RETRY__CAP"
    assert resolved.origins["buckets.low"] == f"{own}: buckets.low"


def test_a_variable_moves_the_agent_that_it_can_only_mean(here: Resolve) -> None:
    agents = [Agent("pg-1", "postgresql://h/d"), Agent("nats.eu-1", "nats://old")]
    resolved = here({"agents": agents}, environ={"JOBMASTER_AGENTS__NATS_EU_1": "nats://new"})

    assert resolved.settings.agents == (Agent("pg-1", "postgresql://h/d"), Agent("nats.eu-1", "nats://new"))
    assert resolved.origins["agents.nats.eu-1"] == "environment JOBMASTER_AGENTS__NATS_EU_1"
    assert resolved.origins["agents.pg-1"] == "app"


def test_a_variable_declares_an_agent_that_is_not_there(here: Resolve) -> None:
    resolved = here(environ={"JOBMASTER_AGENTS__NATS_1__URL": "nats://h"})

    assert resolved.settings.agents == (Agent("nats-1", "nats://h"),)


def test_a_variable_may_hold_all_agents_with_their_names_as_they_are(here: Resolve) -> None:
    resolved = here(environ={"JOBMASTER_AGENTS": '{"a_b.c": "nats://h"}'})

    assert resolved.settings.agents == (Agent("a_b.c", "nats://h"),)


def test_agents_of_an_app_and_of_a_file_are_put_together(here: Resolve, tmp_path: Path) -> None:
    write(tmp_path, "jobmaster.toml", 'agents = {"nats-1" = "nats://new", "lite" = {url = "sqlite:///lite.db"}}')
    resolved = here({"agents": [Agent("nats-1", "nats://old"), Agent("pg-1", "postgresql://h/d")]})

    assert {agent.name: agent.url for agent in resolved.settings.agents} == {
        "nats-1": "nats://new",
        "pg-1": "postgresql://h/d",
        "lite": f"sqlite:///{tmp_path}/lite.db",
    }


def test_agents_may_be_a_list_of_tables(here: Resolve, tmp_path: Path) -> None:
    write(
        tmp_path, "jobmaster.toml", '[[agents]]\nname = "a"\nurl = "nats://a"\n[[agents]]\nname = "b"\nurl = "nats://b"'
    )

    assert here().settings.agents == (Agent("a", "nats://a"), Agent("b", "nats://b"))


def test_workers_of_a_file_replace_those_of_the_app(here: Resolve, tmp_path: Path) -> None:
    write(
        tmp_path,
        "jobmaster.toml",
        '[[workers]]\nname = "one"\nlane = "mail"\nparallelism = 2\nbuckets = {low = 0}\n'
        '[[workers]]\nmode = "coordinator"',
    )
    resolved = here({"workers": [Worker(name="app")]})

    assert resolved.settings.workers == (
        Worker(name="one", lane="mail", parallelism=2.0, buckets={Priority.LOW: 0}),
        Worker(mode=WorkerMode.COORDINATOR),
    )
    assert resolved.origins["workers"] == f"{tmp_path}/jobmaster.toml: workers"


def test_workers_in_a_variable_are_json(here: Resolve) -> None:
    resolved = here(environ={"JOBMASTER_WORKERS": '[{"lane": "mail", "concurrency": 4}]'})

    assert resolved.settings.workers == (Worker(lane="mail", concurrency=4),)


# ----------------------------------------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lease", "20", 20.0),
        ("lease", "12.5", 12.5),
        ("lease", "20s", 20.0),
        ("accept_timeout", "500ms", 0.5),
        ("transient_threshold", "2h", 7200.0),
        ("retention", "7d", 7 * 86_400.0),
        ("retention", "None", None),
        ("default_timeout", "none", None),
        ("claims_per_second", "7", 7),
        ("allow_pickle", "Yes", True),
        ("auto_provision", "off", False),
        ("cluster_mode", "Passive", ClusterMode.PASSIVE),
        ("durability", "master", Durability.MASTER),
        ("survives", "process", Survives.PROCESS),
        ("time_zone", "Europe/Berlin", "Europe/Berlin"),
        ("archive_to", "shop.old", "shop.old"),
        ("include", "shop.tasks, shop.more", ("shop.tasks", "shop.more")),
    ],
)
def test_variables_are_text_in_the_form_that_their_setting_has(
    here: Resolve, name: str, text: str, value: object
) -> None:
    assert getattr(here(environ={f"JOBMASTER_{name.upper()}": text}).settings, name) == value


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("lease", timedelta(seconds=20), 20.0),
        ("lease", 20, 20.0),
        ("retention", None, None),
        ("mode", "archived", ClusterMode.ARCHIVED),
        ("cluster_mode", ClusterMode.PASSIVE, ClusterMode.PASSIVE),
        ("time_zone", ZoneInfo("Europe/Berlin"), "Europe/Berlin"),
        ("include", ["shop.tasks"], ("shop.tasks",)),
        ("durability", "master", Durability.MASTER),
    ],
)
def test_an_app_gives_python_values(here: Resolve, name: str, given: object, value: object) -> None:
    field = "cluster_mode" if name == "mode" else name

    assert getattr(here({name: given}).settings, field) == value


def test_a_file_may_write_names_with_hyphens(here: Resolve, tmp_path: Path) -> None:
    write(tmp_path, "jobmaster.toml", "renew-every = 2\n[clusters.shop]\nmax-block = 30")

    assert (here().settings.renew_every, here().settings.max_block) == (2, 30)


def test_relative_paths_are_relative_to_the_folder_of_the_app(here: Resolve, tmp_path: Path) -> None:
    settings = here({"master": "sqlite:///data/x.db", "debug_log": Path("logs")}).settings

    assert settings.master.path == str(tmp_path / "data" / "x.db")
    assert settings.debug_log == str(tmp_path / "logs")


# ---------------------------------------------------------------------------------------------- which files


def test_files_are_found_in_the_parents_up_to_the_first_project_file(tmp_path: Path) -> None:
    write(tmp_path, "jobmaster.toml", "grace = 1")
    write(tmp_path, "pyproject.toml", "[tool.jobmaster]\nlease = 99")
    write(tmp_path / "repo", "pyproject.toml", "[tool.jobmaster]\ngrace = 2\nmax_block = 9")
    write(tmp_path / "repo" / "src", "jobmaster.toml", "grace = 3")
    (tmp_path / "repo" / "src" / "shop").mkdir()

    settings = resolve("shop", folder=str(tmp_path / "repo" / "src" / "shop"), environ={}).settings

    assert (settings.grace, settings.max_block, settings.lease) == (3, 9, 10)


def test_without_a_project_file_only_the_apps_own_folder_counts(tmp_path: Path) -> None:
    write(tmp_path, "jobmaster.toml", "grace = 1")
    folder = tmp_path / "app"
    folder.mkdir()

    assert resolve("shop", folder=str(folder), environ={}).settings.grace == 25
    write(folder, "jobmaster.toml", "grace = 2")
    assert resolve("shop", folder=str(folder), environ={}).settings.grace == 2


def test_a_project_file_of_somebody_else_says_nothing(here: Resolve, tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", '[tool.other]\ngrace = 1\n[project]\nname = "x"')

    assert here().origins["grace"] == "default"


@pytest.mark.parametrize("name", ["pyproject.toml", "settings.toml"])
def test_one_variable_names_the_file_to_read_instead(here: Resolve, tmp_path: Path, name: str) -> None:
    write(tmp_path, "jobmaster.toml", "grace = 1\nlease = 99")
    head = "[tool.jobmaster]\n" if name == "pyproject.toml" else ""
    file = write(tmp_path / "etc", name, f"{head}grace = 2")

    resolved = here(environ={"JOBMASTER_CONFIG": str(file)})

    assert (resolved.settings.grace, resolved.settings.lease) == (2, 10)
    assert resolved.warnings == ()


def test_the_place_of_the_app_is_read_from_the_files(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", '[tool.jobmaster]\napp = "shop:jm"')

    assert app_in_files(str(tmp_path)) == "shop:jm"
    assert resolve("shop", folder=str(tmp_path), environ={}).settings.grace == 25
    write(tmp_path, "jobmaster.toml", "app = 1")
    with pytest.raises(ConfigurationError, match="app is 1, but it is the place of the app as text"):
        app_in_files(str(tmp_path))


# -------------------------------------------------------------------------------------------- several apps


def test_a_second_app_hears_only_what_is_said_to_its_id(tmp_path: Path) -> None:
    write(tmp_path, "jobmaster.toml", "grace = 1\n[clusters.reports-eu]\nmax_block = 9")
    environ = {
        "JOBMASTER_MASTER": "postgresql://h/shop",
        "JOBMASTER_LEASE": "20",
        "JOBMASTER_CLUSTERS__REPORTS_EU__MASTER": "postgresql://h/reports",
        "JOBMASTER_CLUSTERS__REPORTS_EU__RETRY__CAP": "90",
    }

    second = resolve("reports-eu", folder=str(tmp_path), is_default=False, environ=environ)
    default = resolve("shop", folder=str(tmp_path), environ=environ)

    assert (second.settings.master.database, default.settings.master.database) == ("reports", "shop")
    assert (second.settings.lease, second.settings.grace, second.settings.max_block) == (10, 25, 9)
    assert (default.settings.lease, default.settings.grace, default.settings.max_block) == (20, 1, 60)
    assert second.settings.retry.cap == 90
    assert second.origins["max_block"] == f"{tmp_path}/jobmaster.toml: clusters.reports-eu.max_block"
    assert default.warnings == second.warnings == ()


def test_what_is_said_to_an_id_wins_in_the_same_source_only(tmp_path: Path) -> None:
    write(tmp_path, "jobmaster.toml", "grace = 1\n[clusters.shop]\ngrace = 2\nmax_block = 9")

    settings = resolve("shop", folder=str(tmp_path), environ={"JOBMASTER_MAX_BLOCK": "8"}).settings

    assert (settings.grace, settings.max_block) == (2, 8)


# --------------------------------------------------------------------------------------- unknown variables


def test_an_unknown_variable_is_told_with_the_one_that_was_meant(here: Resolve) -> None:
    resolved = here(
        environ={"JOBMASTER_LEESE": "1", "JOBMASTER_MODE": "passive", "JOBMASTER_CLUSTERS__SHOP__GRAZE": "1"}
    )

    assert len(resolved.warnings) == 3
    assert any("JOBMASTER_LEESE" in line and "Did you mean JOBMASTER_LEASE?" in line for line in resolved.warnings)
    assert any("JOBMASTER_MODE" in line and "JOBMASTER_CLUSTER_MODE?" in line for line in resolved.warnings)
    assert any("JOBMASTER_CLUSTERS__SHOP__GRAZE" in line and "JOBMASTER_GRACE" in line for line in resolved.warnings)


def test_variables_of_other_parts_are_no_settings(here: Resolve) -> None:
    names = ["APP", "CLUSTERS__OTHER__X"]

    assert here(environ={f"JOBMASTER_{name}": "x" for name in names}).warnings == ()


def test_a_warning_shows_no_value(here: Resolve) -> None:
    assert "hunter2" not in str(here(environ={"JOBMASTER_MASTR": "postgresql://u:hunter2@h/d"}).warnings)


# --------------------------------------------------------------------------------------- what people see


def test_the_rows_for_people_name_every_setting_once_and_hide_passwords(here: Resolve) -> None:
    resolved = here(
        {"agents": [Agent("nats-1", "nats://u:hunter2@h")], "workers": [Worker(lane="mail")], "retention": None},
        environ={"JOBMASTER_MASTER": "postgresql://u:hunter2@h/d"},
    )
    rows = {name: (value, origin) for name, value, origin in resolved.rows()}

    assert set(rows) == {"cluster_id", "workers", "agents.nats-1", *RULES}
    assert len(resolved.rows()) == len(rows)
    assert rows["master"] == ("postgresql://u:***@h/d", "environment JOBMASTER_MASTER")
    assert rows["agents.nats-1"] == ("nats://u:***@h", "app")
    assert rows["retention"] == ("none (for ever)", "app")
    assert rows["lease"] == ("10s", "default")
    assert rows["durability"] == ("agent", "default")
    assert "mail" in rows["workers"][0]
    assert "hunter2" not in repr(resolved)


def test_settings_travel_to_another_process_as_json(here: Resolve) -> None:
    settings = here(
        {
            "agents": [Agent("nats-1", "nats://u:hunter2@h")],
            "workers": [Worker(lane="mail", buckets={Priority.LOW: 0})],
            "buckets": {Priority.HIGH: 2},
            "mode": "passive",
        }
    ).settings

    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings


def test_a_declared_agent_is_found_by_its_name(here: Resolve) -> None:
    settings = here({"agents": [Agent("a", "nats://h")]}).settings

    assert settings.agent("a").url == "nats://h"
    with pytest.raises(KeyError):
        settings.agent("b")


def test_a_priority_that_the_cluster_switched_off_is_off_for_each_worker(here: Resolve) -> None:
    settings = here(
        {"buckets": {Priority.LOW: 0, Priority.HIGH: 3}, "workers": [Worker(buckets={Priority.HIGH: 1})]}
    ).settings

    assert settings.is_disabled(Priority.LOW)
    assert not settings.is_disabled(Priority.HIGH)
    assert settings.buckets_of(settings.workers[0]) == {
        Priority.VERY_LOW: 1,
        Priority.LOW: 0,
        Priority.MEDIUM: 1,
        Priority.HIGH: 1,
        Priority.CRITICAL: 1,
    }


def test_resolving_without_files_imports_nothing_for_mistakes_and_files() -> None:
    """A producer pays for the settings at its start: parsers and helpers for mistakes are not part of that."""
    program = (
        "import sys\n"
        "from jobmaster.settings.resolution import resolve\n"
        "resolve('shop', folder='/', environ={})\n"
        "print(*sorted({'tomllib', 'zoneinfo', 'difflib', 'importlib.util', 'asyncio', 'logging'} & set(sys.modules)))"
    )
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=_import_path(), check=True)

    assert done.stdout.split() == []


def _import_path() -> dict[str, str]:
    """Where this interpreter finds its packages; `-S` keeps what the installation itself imports out of the count."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_the_package_offers_the_same_names_to_type_checkers_and_at_run_time() -> None:
    source = Path(jobmaster.settings.__file__).read_text(encoding="utf-8")
    seen = set(re.findall(r"^    from jobmaster\.settings\.\w+ import (\w+) as \1$", source, re.MULTILINE))

    assert seen == set(jobmaster.settings.__all__)
    assert all(hasattr(jobmaster.settings, name) for name in seen)
    assert jobmaster.settings.resolve is resolve
    assert not hasattr(jobmaster.settings, "reslove")
