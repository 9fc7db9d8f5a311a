"""The style sheet keeps its promises: readable in both themes, nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jobmaster.web

CSS = (Path(jobmaster.web.__file__).parent / "static" / "style.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme)) for theme in CSS.split("prefers-color-scheme: dark", 1)
)
ON_CARDS = [
    "text", "muted", "accent", "accepted", "held", "assigned", "queued", "running", "retrying", "succeeded", "failed",
    "cancelled", "lost", "dead",
]  # fmt: skip


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("background", ["card", "page", "hover", "code"])
@pytest.mark.parametrize("name", ON_CARDS)
def test_text_has_enough_contrast(theme, background, name):
    least = 4.5 if background in {"card", "page"} else 4.3

    assert contrast(theme[name], theme[background]) >= least


def test_the_themes_have_the_same_colours():
    assert LIGHT.keys() == DARK.keys()


def test_nothing_is_loaded_from_elsewhere():
    assert re.findall(r"@import|https?:|//[a-z]", CSS) == []
    assert re.findall(r"url\(([^)]*)\)", CSS) == ['"icon.svg"']
