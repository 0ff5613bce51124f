"""What people say of a log before it is imported: which columns are what, whose they are, and what to do about gaps.

One representation for all ways to say it: the options of `marline data import`, the mapping file that it writes and
reads, and `dataset.json`, which keeps it so that logs that come later are read alike. See docs/data.md for the file.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from marline.data.channels import LARGEST, LONGEST
from marline.data.files import read_regular
from marline.data.manifest import require_file_name
from marline.data.split import SPEC_KEYS, Share, require_own_actions, share_of
from marline.errors import ConfigError, CorruptionError, require, require_name
from marline.types import REWARD_SCOPES, AgentID, RewardScope

FILE = "import.toml"
VERSION = 1
_LARGEST = 1 << 20  # bytes of a mapping file
_MOST_PATTERNS, _LONGEST_PATTERN = 10_000, 500
_MOST_CHOICES = 1000
_MOST_FILLED = 1000
_ENCODINGS = ("utf-8", "latin-1", "cp1252", "utf-16")
_SEPARATORS = (",", ";", "\t", "|", " ")
LABELS = ("agent", "episode", "step", "policy")
KEYS = (
    *("agent", "episode", "step", "observations", "actions", "rewards", "terminals", "timeouts"),
    *("next_observations", "action_masks", "next_action_masks", "timestamps", "policy"),
)
_OWN = tuple(key for key in KEYS if key not in LABELS)  # what an agent may have columns of its own for


def key_called(name: str) -> str:
    """The key of that name, in the singular or the plural: `reward` is `rewards`.

    Raises:
        ConfigError: it is the name of none.
    """
    meant = next((key for key in (name, f"{name}s", name.removesuffix("s")) if key in KEYS), None)
    if meant is None:
        require_name(name[:LONGEST], KEYS, "key of columns")
    return meant or name


def is_wild(name: str) -> bool:
    """Whether a name is a pattern: `*` stands for any letters, `?` for one, and brackets for themselves."""
    return "*" in name or "?" in name


def matches(pattern: str, column: str) -> bool:
    """Whether a column is one of those that a pattern means."""
    return bool(_pattern(pattern).fullmatch(column))


@functools.lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    # fnmatch makes one that takes no exponential time, whatever stars there are
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


@dataclasses.dataclass(frozen=True)
class Values:
    """What is known of the numbers or words in a column.

    Attributes:
        low, high: of an action, the ends of what the agent can do; of anything else, what is beyond was not measured.
        unit: what it is measured in.
        factor: what to multiply by: -1 makes a reward of a cost.
        one_hot: the words, or whole numbers, that become a number each: 1 where the word stands, 0 elsewhere.
        choices: the words that are choices 0, 1, ... of an action.
        fill: rows in a row in which the last value before may stand for a missing one.
        other: what to do about a word that `one_hot` or `choices` do not list: refuse it, let it count as missing, or,
            of `one_hot`, let it be none of them, so that all of its numbers are 0.
    """

    low: float | None = None
    high: float | None = None
    unit: str | None = None
    factor: float = 1.0
    one_hot: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    fill: int = 0
    other: Literal["refuse", "missing", "zeros"] = "refuse"


@dataclasses.dataclass(frozen=True)
class AgentMapping:
    """What is said of one agent alone.

    Attributes:
        label: what the table calls it; its name if None.
        columns: its own columns, in a table whose rows are of several agents.
        values: what is known of columns, before what is known of them for everyone.
        spec: the keys of a `--spec` file, for logs whose columns have no names.
    """

    label: str | None = None
    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def share(self) -> Share:
        """What `spec` says."""
        return share_of(self.spec, "mapping")


@dataclasses.dataclass(frozen=True)
class ImportMapping:
    """How to read a log.

    Attributes:
        columns: names or patterns of the columns of each key, in their order, where they are not the usual ones.
        values: what is known of columns, by name or pattern.
        agents: the team, where it is given.
        rewards: "per-agent" if each agent has one of its own, "shared" if they have one together; "" if nobody said.
        separator, decimal, encoding: of CSV.
        time_format: of times written as text, as `strptime` takes it; ISO 8601 unless given.
        nothing: words that stand where there is no number, beside blanks, NaN, None and the like.
        continuing: whether nothing ever ends for good, where no column says so.
        missing: what to do with a row in which something is empty, NaN or beyond its range: refuse it, or leave it out
            and end the episode before it.
        repeated: what to do with a step that is there twice: refuse it, or take the first.
        every: how far apart two steps are; what is further apart is not one episode. Unless given, steps tell it.
        sort: whether rows are put in the order of episode and step first, which takes memory for all of them.
        align: whether only steps are kept that all agents have.
    """

    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    agents: Mapping[AgentID, AgentMapping] = dataclasses.field(default_factory=dict)
    rewards: RewardScope | Literal[""] = ""
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    time_format: str = ""
    nothing: tuple[str, ...] = ()
    continuing: bool = False
    missing: Literal["refuse", "cut"] = "refuse"
    repeated: Literal["refuse", "first"] = "refuse"
    every: float | None = None
    sort: bool = False
    align: bool = False

    @property
    def split(self) -> dict[AgentID, Share] | None:
        """Which columns are whose, and of which team; None if no agent is named."""
        return {agent: its.share for agent, its in self.agents.items()} or None

    @property
    def has_own_columns(self) -> bool:
        """Whether agents have columns of their own in a row of the table."""
        return any(its.columns for its in self.agents.values())

    @property
    def is_about_tables(self) -> bool:
        """Whether anything is said that only tables have."""
        return bool(self.columns or self.has_own_columns or self.table() or self.rows() or self.values)

    def agent_of(self, label: str) -> AgentID:
        """The name of the agent that the table calls by this label."""
        return next((agent for agent, its in self.agents.items() if its.label == label), label)

    def values_of(self, column: str, agent: AgentID | None = None) -> Values:
        """What is known of a column: by its name before patterns, of an agent before everyone."""
        own = self.agents[agent].values if agent is not None and agent in self.agents else {}
        found = [_find(values, column) for values in (own, self.values)]
        mine, all_ = found[0] or Values(), found[1] or Values()
        fresh = {
            field.name: getattr(mine, field.name)
            for field in dataclasses.fields(Values)
            if getattr(mine, field.name) != field.default
        }
        return dataclasses.replace(all_, **fresh)

    def columns_of(self, agent: AgentID | None) -> dict[str, tuple[str, ...]]:
        """Names and patterns by key for an agent: its own, and those of everyone."""
        own = self.agents[agent].columns if agent is not None and agent in self.agents else {}
        return {**self.columns, **own}

    def table(self) -> dict[str, Any]:
        """What is said of the text of a table and is not the usual."""
        return self._unusual("separator", "decimal", "encoding", "time_format", "nothing")

    def rows(self) -> dict[str, Any]:
        """What is said of its rows and is not the usual."""
        return self._unusual("continuing", "missing", "repeated", "every", "sort", "align")

    def _unusual(self, *names: str) -> dict[str, Any]:
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        told = {name: getattr(self, name) for name in names if getattr(self, name) != usual[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    def to_document(self) -> dict[str, Any]:
        """What is said, as plain values by key; the inverse of `from_document`."""
        document: dict[str, Any] = {"version": VERSION, **({"rewards": self.rewards} if self.rewards else {})}
        parts: dict[str, Any] = {
            "table": self.table(),
            "rows": self.rows(),
            "columns": {key: _told(names) for key, names in self.columns.items()},
            "values": {name: _plain(values) for name, values in self.values.items()},
            "agents": {agent: _agent_document(its) for agent, its in self.agents.items()},
        }
        return document | {name: part for name, part in parts.items() if part}


def read_mapping(path: Path) -> ImportMapping:
    """The mapping in a TOML file, which anybody may have written.

    Raises:
        ConfigError: it is too large, no TOML, or says something that cannot be; the message names the key.
    """
    try:
        text = read_regular(path, _LARGEST).decode("utf-8-sig")
    except (UnicodeDecodeError, CorruptionError) as error:
        raise ConfigError(f"{path} is no mapping: {error}") from None
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {str(error)[:200]}; names with other letters go in quotes") from None
    return from_document(document, str(path))


def from_document(document: Any, where: str) -> ImportMapping:
    """The mapping that plain values by key describe.

    Raises:
        ConfigError: they describe none; the message begins with `where` and names the key.
    """
    _require_table(document, where, ("version", "rewards", "table", "rows", "columns", "values", "agents"))
    version = document.get("version", VERSION)
    require(version == VERSION, f"{where}: version is {str(version)[:40]!r}; this marline reads {VERSION}")
    rewards = document.get("rewards", "")
    require(
        rewards in ("", *REWARD_SCOPES),
        f"{where}: rewards is {_short(rewards)}; choose {' or '.join(map(repr, REWARD_SCOPES))}, or, for the column "
        "that holds them, say rewards in [columns]",
    )
    columns = _columns(document.get("columns", {}), f"{where}: columns", KEYS)
    values = _values(document.get("values", {}), f"{where}: values")
    agents = document.get("agents", {})
    _require_table(agents, f"{where}: agents")
    require(len(agents) <= _MOST_PATTERNS, f"{where}: there are {len(agents)} agents; name at most {_MOST_PATTERNS}")
    team = {name: _agent(name, entry, f"{where}: agents.{name[:40]}") for name, entry in agents.items()}
    _require_different_agents(team, where)
    require_own_actions({name: its.share for name, its in team.items()}, where)
    require(
        not ("agent" in columns and any(its.columns for its in team.values())),
        f"{where}: an agent column tells rows of agents apart, and columns of an agent's own share the rows of all; "
        "leave out one of them",
    )
    return ImportMapping(
        columns=columns,
        values=values,
        agents=team,
        rewards=rewards,
        **_table(document.get("table", {}), f"{where}: table"),
        **_rows(document.get("rows", {}), f"{where}: rows"),
    )


def _table(entry: Any, where: str) -> dict[str, Any]:
    _require_table(entry, where, ("separator", "decimal", "encoding", "time_format", "nothing"))
    known = {"separator": _SEPARATORS, "decimal": (".", ","), "encoding": _ENCODINGS}
    nothing = {"nothing": _words(entry["nothing"], f"{where}.nothing")} if "nothing" in entry else {}
    for key, value in entry.items():
        if key == "nothing":
            continue
        _require_text(f"{where}.{key}", value, _LONGEST_PATTERN)
        require(
            key not in known or value in known[key],
            f"{where}.{key} is {str(value)[:40]!r}; choose one of {', '.join(map(repr, known.get(key, ())))}",
        )
    require(
        entry.get("separator", ",") != entry.get("decimal", "."),
        f'{where}: "," cannot be both separator and decimal; give the separator, such as ";"',
    )
    return {**entry, **nothing}


def _rows(entry: Any, where: str) -> dict[str, Any]:
    _require_table(entry, where, ("continuing", "missing", "repeated", "every", "sort", "align"))
    for key in ("continuing", "sort", "align"):
        require(type(entry.get(key, False)) is bool, f"{where}.{key} is {_short(entry.get(key))}, but is true or false")
    for key, known in (("missing", ("refuse", "cut")), ("repeated", ("refuse", "first"))):
        value = entry.get(key, known[0])
        require(value in known, f"{where}.{key} is {_short(value)}; choose {' or '.join(map(repr, known))}")
    every = entry.get("every")
    require(
        every is None or (_is_number(every) and every > 0), f"{where}.every is {_short(every)}; give a time above 0"
    )
    return {**entry, **({} if every is None else {"every": float(every)})}


def _agent(name: AgentID, entry: Any, where: str) -> AgentMapping:
    require_file_name(name, f"{where.partition(':')[0]}: agent")
    _require_table(entry, where, ("from", "values", *_OWN, *SPEC_KEYS))
    label = entry.get("from")
    label = str(label) if type(label) is int else label
    require(label is None or isinstance(label, str), f"{where}.from is {_short(label)}; give what the table calls it")
    by_number = {key for key in ("observations", "actions") if _is_by_number(entry.get(key))}
    spec = {key: value for key, value in entry.items() if key in by_number or (key in SPEC_KEYS and key not in _OWN)}
    share_of(spec, where)
    own = {key: value for key, value in entry.items() if key in _OWN and key not in by_number}
    return AgentMapping(label, _columns(own, where, _OWN), _values(entry.get("values", {}), f"{where}.values"), spec)


def _is_by_number(value: Any) -> bool:
    """Whether columns are numbered, as in a `--spec` file, and not named."""
    if isinstance(value, str):
        return bool(re.fullmatch(r"[0-9]*:[0-9]*", value))
    return isinstance(value, list) and bool(value) and all(type(column) is int for column in value)


def _columns(entry: Any, where: str, keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
    _require_table(entry, where, keys)
    found = {}
    for key, value in entry.items():
        names = [value] if isinstance(value, str) else value
        require(
            isinstance(names, list) and 0 < len(names) <= _MOST_PATTERNS,
            f'{where}.{key} is {_short(value)}; give the name of a column, or a list such as ["queue_*", "occupancy"]',
        )
        for name in names:
            _require_text(f"{where}.{key}", name, _LONGEST_PATTERN)
        found[key] = tuple(names)
    return found


def _values(entry: Any, where: str) -> dict[str, Values]:
    _require_table(entry, where)
    require(len(entry) <= _MOST_PATTERNS, f"{where}: there are {len(entry)} columns; use patterns such as queue_*")
    return {name: _one(its, f"{where}.{name[:40]}") for name, its in entry.items()}


def _one(entry: Any, where: str) -> Values:
    _require_table(entry, where, [field.name for field in dataclasses.fields(Values)])
    for key in ("low", "high", "factor"):
        require(key not in entry or _is_number(entry[key]), f"{where}.{key} is {_short(entry.get(key))}; give a number")
    low, high, factor, fill = (entry.get(key) for key in ("low", "high", "factor", "fill"))
    require(low is None or high is None or low < high, f"{where}: low is {low} and high {high}; give the lower first")
    require(factor != 0, f"{where}.factor is 0, which leaves nothing; give another, such as -1")
    require(
        fill is None or (type(fill) is int and 0 <= fill <= _MOST_FILLED),
        f"{where}.fill is {_short(fill)}; give how many rows in a row, at most {_MOST_FILLED}",
    )
    if "unit" in entry:
        _require_text(f"{where}.unit", entry["unit"], LONGEST)
    words = {key: _words(entry[key], f"{where}.{key}") for key in ("one_hot", "choices") if key in entry}
    require(len(words) < 2, f"{where}: words are one_hot or choices; remove one of them")
    require(
        not words or not {"low", "high", "factor"} & entry.keys(),
        f"{where}: words have no low, high or factor; remove them",
    )
    other = entry.get("other", "refuse")
    known = ("refuse", "missing", "zeros") if "one_hot" in words else ("refuse", "missing")
    require(other in known, f"{where}.other is {_short(other)}; choose {' or '.join(map(repr, known))}")
    require("other" not in entry or bool(words), f"{where}.other is about words; list those that are known as one_hot")
    numbers = {
        key: float(value) for key, value in (("low", low), ("high", high), ("factor", factor)) if value is not None
    }
    fields: dict[str, Any] = {**numbers, **words}
    return Values(unit=entry.get("unit"), fill=fill or 0, other=other, **fields)


def _words(value: Any, where: str) -> tuple[str, ...]:
    require(
        isinstance(value, list) and 1 <= len(value) <= _MOST_CHOICES,
        f'{where} is {_short(value)}; list up to {_MOST_CHOICES} words, such as ["left", "right"]',
    )
    words = tuple(str(word) if type(word) is int else word for word in value)
    for word in words:
        require(
            isinstance(word, str) and len(word) <= LONGEST, f"{where} lists {_short(word)}; list words or whole numbers"
        )
    require(len(set(words)) == len(words), f"{where} lists a word twice; list each once")
    return words


def _require_different_agents(team: Mapping[AgentID, AgentMapping], where: str) -> None:
    names: dict[str, AgentID] = {}
    for agent, its in team.items():
        other = names.setdefault(its.label or agent, agent)
        require(other == agent, f"{where}: {other[:40]!r} and {agent[:40]!r} are both {(its.label or agent)[:40]!r}")


def _require_table(entry: Any, where: str, keys: Sequence[str] | None = None) -> None:
    require(isinstance(entry, Mapping), f"{where} is {_short(entry)}, but must be a table of keys and values")
    for key in entry:
        if keys is not None:
            require_name(key[:LONGEST], keys, f"key of {where}")


def _require_text(what: str, value: Any, longest: int) -> None:
    fits = isinstance(value, str) and 1 <= len(value) <= longest
    require(fits, f"{what} is {_short(value)}, but must be a text of 1 to {longest} letters")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _find(values: Mapping[str, Values], column: str) -> Values | None:
    if column in values:
        return values[column]
    return next((its for name, its in values.items() if is_wild(name) and matches(name, column)), None)


def _told(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _plain(values: Values) -> dict[str, Any]:
    told = {}
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if value != field.default:
            told[field.name] = list(value) if isinstance(value, tuple) else value
    return told


def _agent_document(its: AgentMapping) -> dict[str, Any]:
    document: dict[str, Any] = {} if its.label is None else {"from": its.label}
    document |= {key: _told(names) for key, names in its.columns.items()}
    document |= dict(its.spec)
    if its.values:
        document["values"] = {name: _plain(values) for name, values in its.values.items()}
    return document
