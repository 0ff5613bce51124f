"""Options as people write them: taken apart at the right commas, and written so that they are read back."""

from __future__ import annotations

import dataclasses

import pytest

from marline.errors import ConfigError
from marline.inputs.options import read_values, read_written, with_options, write_difference


@dataclasses.dataclass(frozen=True)
class Part:
    word: str = "plain"
    pair: tuple[int, int] = (0, 0)
    least: int = 1

    def __post_init__(self) -> None:
        if self.least < 0:
            raise ValueError("least is negative")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a(b=1, c=(2, 3))", {"b": 1, "c": (2, 3)}),
        ("a(b=((1, 2), (3, 4)), c=1)", {"b": ((1, 2), (3, 4)), "c": 1}),
        ("a(b=m:D(c=1, d=(2, 3)), e=4)", {"b": "m:D(c=1, d=(2, 3))", "e": 4}),
        ("a(b='x, y)', c=2)", {"b": "x, y)", "c": 2}),
        ("a(b=[1, 2], c={'k': 1, 'l': 2},)", {"b": [1, 2], "c": {"k": 1, "l": 2}}),
        ("a(b=don't)", {"b": "don't"}),
    ],
)
def test_only_commas_outside_of_brackets_and_quotes_part_options(text: str, options: dict[str, object]) -> None:
    assert read_values(read_written(text, "it").options, "a") == options


@pytest.mark.parametrize("text", ["a(b=1))", "a(b=(1)", "a(b=(1])", "a(b=1)(c=2)", "=a", " =a", "a=b=c(d=1)"])
def test_what_does_not_match_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not NAME"):
        read_written(text, "it")


@pytest.mark.parametrize("word", ["a, b", "x(", "1", "true", "it's", "", " a ", "c:/d e"])
def test_words_are_written_as_they_are_read(word: str) -> None:
    written = read_written(write_difference("part", Part(), Part(word=word, pair=(1, 2))), "it")
    assert with_options(Part(), read_values(written.options, "part"), "part") == Part(word=word, pair=(1, 2))


def test_a_value_that_its_type_refuses_is_told_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="part: making it with least failed with ValueError: least is negative"):
        with_options(Part(), {"least": -1}, "part")
