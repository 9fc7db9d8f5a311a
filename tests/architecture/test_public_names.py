"""What users import: complete, known to type checkers, and changed only on purpose."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jobmaster
from tests.architecture.public_names import SNAPSHOT, public_names


def names_seen_by_type_checkers() -> dict[str, str]:
    """Name -> module of the `if TYPE_CHECKING:` block in jobmaster/__init__.py."""
    tree = ast.parse(Path(jobmaster.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or "": node.module or "" for node in imports for alias in node.names}


def test_every_public_name_can_be_used() -> None:
    assert {name: getattr(jobmaster, name) for name in jobmaster.__all__}.keys() == set(jobmaster.__all__)


def test_type_checkers_see_the_names_that_exist_at_run_time() -> None:
    at_run_time = {name: f"jobmaster.{module}" for name, module in jobmaster._MODULE_OF.items()}

    assert names_seen_by_type_checkers() == at_run_time


def test_public_names_change_only_on_purpose() -> None:
    accepted = SNAPSHOT.read_text(encoding="utf-8").splitlines()

    assert public_names() == accepted, "if the change is wanted: `make public-names`, and commit the difference"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Jobmaster"):
        _ = jobmaster.Jobmaster


def test_an_editor_is_offered_the_names_before_they_are_imported() -> None:
    assert set(jobmaster.__all__) <= set(dir(jobmaster))
