"""Pages that can be checked: every option is listed with its source, and every test that is named exists."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from marline.algorithms import ALGORITHMS
from marline.samplers import SAMPLERS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "algorithms.md"


def sections() -> dict[str, str]:
    """The text below each heading, by every name that the heading holds."""
    parts = re.split(r"^### (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return {
        name: text
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
        for name in re.findall(r"`([\w-]+)`", heading)
    }


@pytest.mark.parametrize("name", [*ALGORITHMS, *SAMPLERS])
def test_every_option_is_listed(name: str) -> None:
    method = ALGORITHMS[name] if name in ALGORITHMS else type(SAMPLERS[name])
    text = sections()[name]
    for field in dataclasses.fields(method):  # pyright: ignore[reportArgumentType]
        assert f"`{field.name}`" in text, f"docs/algorithms.md does not list {field.name} of {name}"


def test_every_test_that_is_named_exists() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "reliability.md").read_text()))
    assert len(named) > 60
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []
