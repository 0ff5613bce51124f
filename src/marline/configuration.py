"""What a run is: written to run.json when it starts, compared when it goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from marline.algorithms import ALGORITHMS, Algorithm
from marline.data.files import LARGEST_CONFIGURATION, read_regular
from marline.data.manifest import require_file_name
from marline.envs import TASKS
from marline.errors import ConfigError, CorruptionError, require, require_name
from marline.samplers import OTC, SAMPLERS, Sampler
from marline.samplers.distances import DISTANCES
from marline.tuning import Algorithms
from marline.types import AgentID

SCHEMA = 1
# the only types that a configuration may name: a file never decides what code is run
REBUILDABLE: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *ALGORITHMS.values(),
        *(type(sampler) for sampler in SAMPLERS.values()),
        *(type(distance) for distance in DISTANCES.values()),
        *(type(task) for task in TASKS.values()),
    )
}
CONTROL = "online-matched"
OFFLINE = "offline"


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides the numbers of a run.

    Attributes:
        task: name of the task, or None when deployments happen outside.
        algorithm: what learns; one for all agents, or one for each by name.
        samplers: what is compared, by name; controls follow the samplers they match.
        matches: for each control, the name of the sampler whose shares it draws.
        seeds: learner seeds; each is an independent repetition on the same offline logs.
        rows_per_deployment: M, the rows that each agent logs at a deployment.
        offline_updates: updates on B^0 before the first deployment.
        deployments: K.
        updates: L, updates per deployment.
        evaluation_episodes: episodes per evaluation, the same ones for every sampler.
        sequential_exploration: how often an agent acts at random in its own turn of a deployment; None
            where all collect at once and nobody explores.
        dataset_size: rows per agent of the generated dataset; None when logs were given.
        data_seed: seed of the generated dataset.
        data_sha256: `dataset.digest` of the logs that were given in place of a generated dataset.
    """

    task: str | None
    algorithm: Algorithms
    samplers: Mapping[str, Sampler[Any]]
    seeds: tuple[int, ...] = (0,)
    rows_per_deployment: int = 10_000
    offline_updates: int = 100_000
    deployments: int = 10
    updates: int = 2000
    evaluation_episodes: int = 100
    sequential_exploration: float | None = None
    dataset_size: int | None = None
    data_seed: int = 0
    data_sha256: str | None = None
    matches: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        positive = ("rows_per_deployment", "deployments", "updates", "evaluation_episodes")
        for name in positive:
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, but must be at least 1")
        require(self.offline_updates >= 0, f"offline_updates is {self.offline_updates}, but cannot be negative")
        epsilon = self.sequential_exploration
        require(
            epsilon is None or 0 <= epsilon <= 1,
            f"sequential_exploration is {epsilon}, but is a probability, in [0, 1]",
        )
        size = self.dataset_size
        require(size is None or size >= 1, f"dataset_size is {size}, but must be at least 1")
        require(len(self.seeds) > 0, "no seeds: a run needs at least one")
        require(len(set(self.seeds)) == len(self.seeds), f"seeds {list(self.seeds)} repeat; name each once")
        require(all(0 <= seed < 2**31 for seed in self.seeds), f"seeds {list(self.seeds)} must lie in [0, 2^31)")
        require(len(self.samplers) > 0, "no samplers: a run needs at least one")
        for name in self.samplers:  # folders are called so
            require_file_name(name, "sampler")
            require(name != OFFLINE, f"no sampler can be called {OFFLINE!r}: that is the offline team; rename it")
        for control, source in self.matches.items():
            require(source in self.samplers, f"{control} matches {source!r}, which is no sampler of the run")

    def to_json(self) -> dict[str, Any]:
        """The resolved configuration, every option spelled out."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        described = {name: describe(sampler) for name, sampler in self.samplers.items()}
        for control, source in fields.pop("matches").items():
            described[control]["matches"] = source
        fields |= {"algorithm": describe(self.algorithm), "samplers": described, "seeds": list(self.seeds)}
        return {"schema": SCHEMA, **fields}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> RunConfig:
        """The inverse of `to_json`."""
        fields = dict(document)
        schema = fields.pop("schema", None)
        require(
            schema == SCHEMA, f"its schema is {schema}, but this marline reads {SCHEMA}; use the version that wrote it"
        )
        samplers = {name: dict(options) for name, options in fields.pop("samplers").items()}
        algorithm = fields.pop("algorithm")
        matches = {name: options.pop("matches") for name, options in samplers.items() if "matches" in options}
        return RunConfig(
            algorithm=(
                rebuild(algorithm)
                if "type" in algorithm
                else {agent: rebuild(options) for agent, options in algorithm.items()}
            ),
            samplers={name: rebuild(options) for name, options in samplers.items()},
            matches=matches,
            seeds=tuple(fields.pop("seeds")),
            **fields,
        )

    @staticmethod
    def read(path: Path) -> RunConfig:
        """The configuration in `path`; `CorruptionError` when it is not one."""
        try:
            document = json.loads(read_regular(path, LARGEST_CONFIGURATION).decode("utf-8"))
            require(isinstance(document, dict), "it holds no JSON object")
            return RunConfig.from_json(document)
        except (ConfigError, LookupError, TypeError, ValueError, AttributeError, OSError, RecursionError) as error:
            reason = str(error).partition("\n")[0]
            raise CorruptionError(f"{path} is not the configuration of a run: {reason}") from error

    def difference(self, other: RunConfig) -> list[str]:
        """Lines that name every option in which two configurations differ."""
        mine, theirs = self.to_json(), other.to_json()
        return [f"{name}: {theirs[name]} there, {mine[name]} here" for name in mine if mine[name] != theirs[name]]


def select_algorithm(names: Sequence[str], agents: Sequence[AgentID]) -> Algorithms:
    """An algorithm by name, or one for each agent from AGENT=NAME pairs; their options are the defaults.

    Raises:
        ConfigError: an unknown name, or an agent without an algorithm or with two.
    """
    if len(names) == 1 and "=" not in names[0]:
        require_name(names[0], ALGORITHMS, "algorithm")
        return ALGORITHMS[names[0]]()
    chosen: dict[AgentID, Algorithm[Any]] = {}
    for item in names:
        agent, equals, name = item.partition("=")
        require(bool(equals), f"--algorithm {item!r}: name one algorithm for all agents, or AGENT=NAME for each")
        require_name(agent, agents, "agent")
        require(agent not in chosen, f"--algorithm names agent {agent!r} twice; name each once")
        require_name(name, ALGORITHMS, "algorithm")
        chosen[agent] = ALGORITHMS[name]()
    missing = [agent for agent in agents if agent not in chosen]
    require(not missing, f"--algorithm names no algorithm for {', '.join(missing)}; name one for every agent")
    return {agent: chosen[agent] for agent in agents}


def select_samplers(names: tuple[str, ...]) -> tuple[dict[str, Sampler[Any]], dict[str, str]]:
    """Samplers by name, in the order in which they must run, and what each control matches.

    Naming the control `online-matched` adds one control for every OTC sampler named with it.
    """
    for name in names:
        require_name(name, SAMPLERS, "sampler")
    named = [name for name in dict.fromkeys(names) if name != CONTROL]
    otc = [name for name, sampler in SAMPLERS.items() if isinstance(sampler, OTC)]
    sources = [name for name in named if name in otc] if CONTROL in names else []
    require(
        CONTROL not in names or len(sources) > 0,
        f"{CONTROL} draws the shares that an OTC sampler drew, and none is named; add one of {', '.join(otc)}",
    )
    matches = {f"{CONTROL}-{source}": source for source in sources}
    chosen = {}
    for name in named:
        chosen[name] = SAMPLERS[name]
        # right after what it matches, so that an unfinished run has pairs
        chosen |= {control: SAMPLERS[CONTROL] for control, source in matches.items() if source == name}
    return chosen, matches


def with_options(value: Any, options: Mapping[str, Any], kind: str) -> Any:
    """A copy of a frozen dataclass with some fields replaced.

    Raises:
        ConfigError: an unknown field, or a value of the wrong type or out of range.
    """
    hints = get_type_hints(type(value))
    own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    parts = {name: part for name, part in own.items() if dataclasses.is_dataclass(part)}
    for name in options:
        require_name(name, option_names(value), f"option of {kind}")
    changed = {name: _fit(option, hints[name], f"{name} of {kind}") for name, option in options.items() if name in own}
    for name, part in parts.items():
        its = {key: option for key, option in options.items() if key not in own and key in option_names(part)}
        if its:
            changed[name] = with_options(part, its, kind)
    return dataclasses.replace(value, **changed)


def option_names(value: Any) -> list[str]:
    """The fields of a frozen dataclass, then those of the frozen dataclasses that it is made of."""
    own = [field.name for field in dataclasses.fields(value)]
    parts = [getattr(value, name) for name in own if dataclasses.is_dataclass(getattr(value, name))]
    return [*own, *(name for part in parts for name in option_names(part) if name not in own)]


def _fit(value: Any, hint: Any, what: str) -> Any:
    """`value` as the type of its field, where that loses nothing: 1 for 1.0, [64] for (64,)."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        require_name(str(value), arguments, what)
        return value
    if origin is tuple:
        items = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(_fit(item, arguments[0], what) for item in items)
    if hint is float and type(value) is int:
        return float(value)
    if hint in (bool, int, float):
        require(type(value) is hint, f"{what} is {value!r}, but must be {_ARTICLES[hint]}")
    return value


_ARTICLES = {bool: "true or false", int: "a whole number", float: "a number"}


def describe(value: Any) -> Any:
    """A frozen dataclass as a dict of its fields and its type's name; a mapping of them as one of those."""
    if isinstance(value, Mapping):
        return {name: describe(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    return list(value) if isinstance(value, tuple) else value


def rebuild(value: Any) -> Any:
    """The inverse of `describe`, for the types in `REBUILDABLE` alone."""
    if isinstance(value, Mapping):
        fields = dict(value)
        kind = fields.pop("type")
        require_name(kind, REBUILDABLE, "type")
        return REBUILDABLE[kind](**{name: rebuild(field) for name, field in fields.items()})
    return tuple(value) if isinstance(value, list) else value
