"""A proposal, and one in the making: what was said, what is taken for what so far, and all that was found."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from marline.data.formats.survey import Facts, Order, Survey
from marline.data.mapping import AgentMapping, ImportMapping, Values
from marline.types import AgentID


class Problem(NamedTuple):
    """Something that the user decides.

    Attributes:
        text: what is found.
        fix: what the proposed mapping does about it; or, where it cannot do anything, what the user must do.
        is_open: whether the import cannot be done before the user did that.
    """

    text: str
    fix: str
    is_open: bool = False


class Role(NamedTuple):
    """What a column is taken for: a key or "left out", whose, and why or as what."""

    key: str
    whose: str = ""
    remark: str = ""


@dataclasses.dataclass
class Proposal:
    """How tables might be read.

    Attributes:
        survey: what is in them.
        mapping: how to read them.
        roles: of each column.
        problems: what the user decides, with the fix for each.
        orders: how the rows of each agent follow each other, by what the table calls it.
        comments: on the entries of the mapping, for its file.
    """

    survey: Survey
    mapping: ImportMapping
    roles: dict[str, Role] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    orders: Mapping[str | None, Order] = dataclasses.field(default_factory=dict)
    comments: dict[tuple[str, ...], str] = dataclasses.field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether something has to be decided that nothing can be proposed for."""
        return any(problem.is_open for problem in self.problems)


@dataclasses.dataclass
class Draft:
    """A proposal in the making.

    Attributes:
        found: what is in the tables.
        given: what was said, with the way in which their text is written.
        guess: whether to guess what was not said.
        is_joint: whether somebody else tells whose the columns are.
        common: columns by key, of everyone.
        own: columns by key of each agent, where agents have columns of their own.
        values, agents: those of the mapping.
        rows: other fields of the mapping.
        problems, comments, orders: those of the proposal.
    """

    found: Survey
    given: ImportMapping
    guess: bool
    is_joint: bool
    common: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    own: dict[AgentID, dict[str, list[str]]] = dataclasses.field(default_factory=dict)
    values: dict[str, Values] = dataclasses.field(default_factory=dict)
    agents: dict[AgentID, AgentMapping] = dataclasses.field(default_factory=dict)
    rows: dict[str, object] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    comments: dict[tuple[str, ...], str] = dataclasses.field(default_factory=dict)
    orders: Mapping[str | None, Order] = dataclasses.field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Facts]:
        """What is in each column."""
        return self.found.facts

    @property
    def present(self) -> list[str]:
        """The columns of all tables."""
        return list(dict.fromkeys(name for names in self.found.columns for name in names))

    @property
    def where(self) -> str:
        """The table, or the folder of several, for messages."""
        paths = self.found.paths
        return str(paths[0] if len(paths) == 1 else paths[0].parent)

    def style(self) -> ImportMapping:
        """How the text of the tables is written, as far as it is known."""
        known: dict[str, Any] = {key: self.rows[key] for key in ("nothing", "time_format") if key in self.rows}
        times = [
            self.facts[name].time_format for name in (*self.common.get("step", ()), *self.common.get("timestamps", ()))
        ]
        if self.guess and not self.given.time_format and any(times):
            known.setdefault("time_format", next(filter(None, times)))
        return dataclasses.replace(self.given, **known)

    def everyone(self) -> list[tuple[AgentID | None, dict[str, list[str]]]]:
        """Columns by key of each agent that has its own, or of all of them."""
        if not self.own:
            return [(None, self.common)]
        return [(agent, {**self.common, **columns}) for agent, columns in self.own.items()]

    def problem(self, text: str, fix: str, *, is_open: bool = False) -> None:
        """Take note of something that the user decides, once."""
        problem = Problem(text, fix, is_open)
        if problem not in self.problems:
            self.problems.append(problem)


def flat(columns: Mapping[str, Iterable[str]]) -> list[str]:
    """The columns of all keys."""
    return [name for names in columns.values() for name in names]


def listed(words: Iterable[str], most: int = 8) -> str:
    """The first of some words, and how many there are."""
    words = list(words)
    return ", ".join(f'"{word[:40]}"' if "," in word else word[:40] for word in words[:most]) + (
        f", ... ({len(words)})" if len(words) > most else ""
    )


def quoted(name: str) -> str:
    """A key as TOML wants it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'
