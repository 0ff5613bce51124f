"""Which observations and actions of a log belong to which agent."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marline.data.channels import LARGEST, Channels, ranged
from marline.data.files import open_regular
from marline.data.layout import Columns, is_one_hot
from marline.display.shell import command
from marline.errors import ConfigError, DataError, require, require_name
from marline.types import AgentID, Spec

_LARGEST = 1 << 24  # bytes of JSON
SPEC_KEYS = ("observations", "actions", "discrete", "continuous", "low", "high", "names", "units")
_PARTS = ("observations", "actions")


@dataclasses.dataclass(frozen=True)
class Share:
    """What one agent gets of every row.

    Attributes:
        observations: columns of the joint observation; None for all of them.
        actions: columns of the joint action; None for all of them.
        num_actions: how many choices there are if the agent's action is one column of choices.
        low, high: what becomes -1 and 1, if its action is a vector: for all its numbers, or for each.
        continuous: whether its action is a vector even where it is all whole numbers, as a range says too.
        observation_names, action_names: of its columns; of the choices, if its action is one.
        observation_units, action_units: the same; one text is for all columns.
    """

    observations: tuple[int, ...] | None = None
    actions: tuple[int, ...] | None = None
    num_actions: int | None = None
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None
    continuous: bool = False
    observation_names: tuple[str, ...] | None = None
    observation_units: str | tuple[str | None, ...] | None = None
    action_names: tuple[str, ...] | None = None
    action_units: str | tuple[str | None, ...] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it leaves columns and actions as they came."""
        chosen = (self.observations, self.actions, self.num_actions, self.low)
        return not self.continuous and all(one is None for one in chosen)

    def of(self, columns: Columns) -> Columns:
        """The agent's own columns; shared ones, such as rewards, are the same arrays."""
        own = dict(columns)
        for key in ("observations", "next_observations"):
            if key in own:
                own[key] = _columns(own[key], self.observations, key)
        own["actions"] = _columns(own["actions"], self.actions, "actions")
        if self.num_actions is not None:
            own["actions"] = own["actions"].reshape(len(own["actions"]), -1)
            if (size := own["actions"].shape[1]) != 1:
                one_hot = size == self.num_actions and is_one_hot(own["actions"])
                fix = "store the index of each, as integers [n]" if one_hot else 'say which one: "actions": [COLUMN]'
                raise DataError(
                    f"choices are one column, but there are {size} of actions{', one-hot' if one_hot else ''}; {fix}"
                )
            own["actions"] = own["actions"][:, 0]
        elif self.continuous or self.low is not None:
            own["actions"] = own["actions"].reshape(len(own["actions"]), -1).astype(np.float64)
        return own

    def channels(self, columns: Columns, recorded: Channels) -> Channels:
        """What the agent's columns are.

        Args:
            columns: its own.
            recorded: what the source says of its columns, for what is not declared here.

        Raises:
            ConfigError: there are not as many entries as columns.
        """
        seen = columns["observations"].shape[-1]
        acted = columns["actions"].shape[-1] if columns["actions"].ndim > 1 else 1
        declared = Channels() if self.low is None or self.high is None else ranged(self.low, self.high, acted)
        texts = {
            "observation_names": self.observation_names,
            "observation_units": _for_each(self.observation_units, seen),
            "action_names": self.action_names,
            "action_units": _for_each(self.action_units, acted),
        }
        declared = Channels(**texts).or_else(declared)
        return declared.or_else(recorded.of_columns(self.observations, self.actions))

    def spec(self, columns: Columns) -> Spec | None:
        """Sizes of the agent's own columns; None where only its shapes say whether actions are choices."""
        if self.num_actions is not None:
            return Spec(columns["observations"].shape[-1], self.num_actions, discrete=True)
        observations, actions = columns["observations"], columns["actions"]
        is_vector = observations.ndim == actions.ndim == 2 and actions.dtype.kind == "f"
        return Spec(observations.shape[1], actions.shape[1]) if is_vector else None


def _for_each(units: str | tuple[str | None, ...] | None, size: int) -> tuple[str | None, ...] | None:
    return (units,) * size if isinstance(units, str) else units


def _columns(array: np.ndarray, chosen: tuple[int, ...] | None, key: str) -> np.ndarray:
    if chosen is None:
        return array
    array = array[:, None] if array.ndim == 1 else array
    if max(chosen) >= array.shape[1]:
        raise DataError(f"{key} have {array.shape[1]} columns, so there is no column {max(chosen)}; count them from 0")
    first, last = chosen[0], chosen[-1]
    contiguous = chosen == tuple(range(first, last + 1))
    return array[:, first : last + 1] if contiguous else array[:, list(chosen)]


def contiguous_blocks(specs: Mapping[AgentID, Spec], columns: Columns) -> dict[AgentID, Share]:
    """Joint actions cut into blocks, in the order of the agents; observations too, unless everyone sees all of them.

    Raises:
        DataError: the joint log has other sizes than the agents.
    """
    seen = columns["observations"].shape[-1]
    acted = columns["actions"].shape[-1] if columns["actions"].ndim > 1 else 1
    sizes = {agent: spec.observation_size for agent, spec in specs.items()}
    widths = {agent: 1 if spec.discrete else spec.action_size for agent, spec in specs.items()}
    everyone = all(size == seen for size in sizes.values())
    if not everyone and sum(sizes.values()) != seen:
        raise DataError(
            f"the log has {seen} observation columns, but the agents {', '.join(specs)} have "
            f"{', '.join(map(str, sizes.values()))}; say which are whose in a --spec file"
        )
    if sum(widths.values()) != acted:
        raise DataError(
            f"the log has {acted} action columns, but the agents {', '.join(specs)} have "
            f"{', '.join(map(str, widths.values()))}; say which are whose in a --spec file"
        )
    observed, moved = _blocks(sizes), _blocks(widths)
    return {
        agent: Share(None if everyone else observed[agent], moved[agent], spec.action_size if spec.discrete else None)
        for agent, spec in specs.items()
    }


def _blocks(widths: Mapping[AgentID, int]) -> dict[AgentID, tuple[int, ...]]:
    stops = np.cumsum(list(widths.values())).tolist()
    return {agent: tuple(range(stop - width, stop)) for (agent, width), stop in zip(widths.items(), stops, strict=True)}


def read_entries(path: Path) -> dict[AgentID, dict[str, Any]]:
    """What a `--spec` file says of each agent; see `read_split`."""
    with open_regular(path) as file:
        try:
            document = json.loads(file.read(_LARGEST))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not JSON ({error}); see {command('data', 'import', '--help')}") from error
    agents = document.get("agents") if isinstance(document, dict) else None
    if not isinstance(agents, dict) or not agents:
        raise ConfigError(f'{path} names no agents; write {{"agents": {{NAME: {{...}}}}}}')
    for key in document:
        require(key == "agents", f'{path}: {key[:40]!r} stands beside "agents"; write it for each of them, within')
    shares = {agent: share_of(entry, f"{path}: agent {agent[:40]!r}") for agent, entry in agents.items()}
    require_own_actions(shares, str(path))
    return agents


def read_split(path: Path) -> dict[AgentID, Share]:
    """Read a split from JSON, such as

        {"agents": {"left":  {"observations": "0:9", "actions": [0, 1, 2]},
                    "right": {"observations": "9:12", "actions": "3:5", "low": [-1.8, 0], "high": [1.8, 60],
                              "names": {"observations": ["x", "y", "z"], "actions": ["turn", "flow"]},
                              "units": {"observations": "m", "actions": ["rad", "l/min"]}},
                    "grip":  {"actions": [6], "discrete": 2, "names": {"actions": ["open", "close"]}}}}

    Columns are counted from 0: a list of them, or "start:stop"; all of them if not given. `discrete` is
    the number of choices; without it the action is a vector, whose range [low, high] becomes [-1, 1]: a
    bound for all its numbers, or a list of one for each. Whole numbers are taken for a vector only where a
    range, or `"continuous": true`, says that they are one. Names are lists, units lists or one text for all;
    beside the actions' range, names and units without a key are those of the actions.

    Raises:
        ConfigError: it is something else, or gives one action to two agents.
    """
    return {agent: share_of(entry, f"{path}: agent {agent[:40]!r}") for agent, entry in read_entries(path).items()}


def require_own_actions(shares: Mapping[AgentID, Share], where: str) -> None:
    """Raise `ConfigError` if an action is given to two agents."""
    owners: dict[int, AgentID] = {}
    for agent, share in shares.items():
        for column in share.actions or ():
            other = owners.setdefault(column, agent)
            require(
                other == agent, f"{where} gives action {column} to {other[:40]!r} and {agent[:40]!r}; give it to one"
            )


def share_of(entry: Any, where: str) -> Share:
    """What an entry of a `--spec` file says; `ConfigError` that begins with `where` if it says something else."""
    require(isinstance(entry, dict), f"{where} is {str(entry)[:40]}; describe it by {', '.join(SPEC_KEYS)}")
    for key in entry:
        require_name(key, SPEC_KEYS, f"key of {where}")
    discrete, low, high = entry.get("discrete"), entry.get("low"), entry.get("high")
    require(
        discrete is None or (type(discrete) is int and discrete >= 1),
        f"{where}: discrete is {discrete!r}, but must be the number of choices",
    )
    require(
        discrete is None or not {"low", "high"} & entry.keys(), f"{where}: choices have no low or high; remove them"
    )
    continuous = entry.get("continuous", bool({"low", "high"} & entry.keys()))
    require(type(continuous) is bool, f"{where}: continuous is {continuous!r}, but must be true or false")
    require(
        discrete is None or not continuous, f"{where}: an action is either discrete or continuous; remove one of them"
    )
    require(continuous or not {"low", "high"} & entry.keys(), f"{where}: only continuous actions have a low and a high")
    actions = _chosen(entry.get("actions"), f"{where}: actions")
    require(discrete is None or actions is None or len(actions) == 1, f"{where}: choices are one column; give one")
    require((low is None) == (high is None), f"{where}: only one of low and high is given; give both")
    if low is not None:
        low, high = _range(low, high, where)
    observations = _chosen(entry.get("observations"), f"{where}: observations")
    return Share(observations, actions, discrete, low, high, continuous, **_texts(entry, where, discrete))


def _range(low: Any, high: Any, where: str) -> tuple[Any, Any]:
    """Both as they are given, a number or a tuple of numbers, once they are found to be a range."""
    lists = [bound for bound in (low, high) if isinstance(bound, list)]
    size = len(lists[0]) if lists else 1
    bounds = [bound if isinstance(bound, list) else [bound] * size for bound in (low, high)]
    numbers = all(type(bound) in (int, float) and abs(bound) <= LARGEST for bound in bounds[0] + bounds[1])
    shown = ", ".join(repr(bound)[:40] for bound in (low, high))
    require(
        numbers and size > 0 and all(least < most for least, most in zip(*bounds, strict=False)),
        f"{where}: [low, high] is [{shown}]; give two numbers, the lower first, or a list with one for each action",
    )
    require(len(bounds[0]) == len(bounds[1]), f"{where}: low and high are lists of unequal length")
    ranged(bounds[0], bounds[1], size).require_resolution(where)
    given = [tuple(map(float, bound)) if isinstance(bound, list) else float(bound) for bound in (low, high)]
    return given[0], given[1]


def _texts(entry: Mapping[str, Any], where: str, discrete: int | None) -> dict[str, Any]:
    """Names and units by the field of `Share` that they go to."""
    texts: dict[str, Any] = {}
    for kind in ("names", "units"):
        given = entry.get(kind, {})
        given = given if isinstance(given, dict) else {"actions": given}
        for part, value in given.items():
            require_name(part, _PARTS, f"key of {where}: {kind}")
            is_text = isinstance(value, str) and kind == "units"
            require(
                is_text or isinstance(value, list),
                f"{where}: {kind} of {part} are {str(value)[:40]!r}; give a list, one for each column",
            )
            texts[f"{part[:-1]}_{kind}"] = value if isinstance(value, str) else tuple(value)
    choices = texts.get("action_names")
    require(
        discrete is None or choices is None or len(choices) == discrete,
        f"{where}: there are {len(choices or ())} names for {discrete} choices; name each",
    )
    require(discrete is None or "action_units" not in texts, f"{where}: choices have no units; remove them")
    try:
        Channels.from_json(
            {key: value if isinstance(value, tuple) else (value,) for key, value in texts.items()}, where
        )
    except DataError as error:
        raise ConfigError(str(error)) from None
    return texts


def _chosen(value: Any, what: str) -> tuple[int, ...] | None:
    """Columns from a list of numbers or "start:stop"."""
    if value is None or value == ":":
        return None
    if isinstance(value, str):
        start, colon, stop = value.partition(":")
        if colon and start.isdigit() and stop.isdigit() and int(start) < int(stop) <= 1_000_000:
            return tuple(range(int(start), int(stop)))
    elif isinstance(value, list) and value and all(type(column) is int and column >= 0 for column in value):
        require(len(set(value)) == len(value), f"{what} name a column twice; name each once")
        return tuple(value)
    raise ConfigError(f'{what} are {str(value)[:40]!r}; give a list of columns counted from 0, or "start:stop"')
