"""docs/protocol.md has every rule that the code names, and names files that exist."""

from __future__ import annotations

import re

from tests.unit.guide_runner import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
NAMED = re.compile(r"\b(?:R\d{1,2}'?a?|I\d)(?![\w'])")


def rules_of_the_page() -> set[str]:
    """Those that a line of the page begins with."""
    return set(re.findall(r"^- \*\*(R\d{1,2}'?a?|I\d)", PAGE, re.MULTILINE))


def test_every_rule_that_the_code_names_is_on_the_page() -> None:
    sources = [path for end in ("*.py", "*.sql") for path in (ROOT / "jobmaster").rglob(end)]
    prose = [comment for path in sources for comment in re.findall(r'(?s)""".*?"""|#[^\n]*', path.read_text("utf-8"))]
    named = {name for text in prose for name in NAMED.findall(text)}

    assert len(named) > 20
    assert named - rules_of_the_page() == set()


def test_the_files_that_keep_the_rules_exist() -> None:
    files = re.findall(r"`((?:jobmaster|tests|engine|rules)/[\w/.]+)`", PAGE)

    assert len(files) > 10
    assert [name for name in files if not ((ROOT / name).exists() or (ROOT / "jobmaster" / name).exists())] == []
