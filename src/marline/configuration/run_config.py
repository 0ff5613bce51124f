"""What a run is: written to run.json when it starts, compared when it goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from marline import plugins
from marline.algorithms import ALGORITHMS
from marline.data.files import LARGEST_CONFIGURATION, read_regular
from marline.data.manifest import require_file_name
from marline.data.migrations import RUN, migrated_configuration, unknown_field, unknown_type
from marline.data.provenance import last_writer
from marline.envs import TASKS
from marline.errors import ConfigError, CorruptionError, MarlineError, NewerError, require
from marline.inputs.arguments import checked
from marline.samplers import SAMPLERS, Sampler, Shuffled
from marline.samplers.distances import DISTANCES
from marline.samplers.gated import PREFERENCES
from marline.tuning import Algorithms

# the types that every configuration may name; for others somebody has to say so, see `plugins`
BUILT_IN: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *ALGORITHMS.values(),
        *(type(sampler) for sampler in SAMPLERS.values()),
        Shuffled,
        *PREFERENCES,
        *(type(distance) for distance in DISTANCES.values()),
        *(type(task) for task in TASKS.values()),
    )
}
OFFLINE = "offline"  # the folder beside those of the samplers


@dataclasses.dataclass(frozen=True)
@checked
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
        evaluation_episodes: episodes per evaluation, the same ones for every sampler and seed.
        evaluation_seed: of these episodes; None where every seed has episodes of its own, as runs of marline 0.1.0 do.
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
    evaluation_seed: int | None = 0
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
        for name in self.samplers:
            require_file_name(name, "sampler")
        folders = [name.lower() for name in (OFFLINE, *self.samplers)]  # some disks do not tell cases apart
        repeated = [name for name in self.samplers if folders.count(name.lower()) > 1]
        require(not repeated, f"samplers {', '.join(repeated)} would share a folder; give them other names")
        for control, source in self.matches.items():
            require(
                control in self.samplers and source in self.samplers,
                f"{control!r} is to be the control of {source!r}, and one of them is no sampler of the run",
            )

    def to_json(self) -> dict[str, Any]:
        """The resolved configuration, every option spelled out."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        described = {name: describe(sampler) for name, sampler in self.samplers.items()}
        for control, source in fields.pop("matches").items():
            described[control]["matches"] = source
        fields |= {"algorithm": describe(self.algorithm), "samplers": described, "seeds": list(self.seeds)}
        return {"schema": RUN.newest, **fields}

    @staticmethod
    def from_json(document: Mapping[str, Any], path: Path = Path("run.json"), writer: str = "") -> RunConfig:
        """The inverse of `to_json`, of an earlier marline too.

        Args:
            document: what a run.json holds.
            path: where it was read, for messages.
            writer: the version that worked on the run last, if known.
        """
        fields = migrated_configuration(dict(document), path, writer)
        del fields["schema"]
        samplers = {name: dict(options) for name, options in fields.pop("samplers").items()}
        algorithm = fields.pop("algorithm")
        matches = {name: options.pop("matches") for name, options in samplers.items() if "matches" in options}
        seeds = tuple(fields.pop("seeds"))
        _require_fields(RunConfig, {"algorithm", "samplers", "seeds", "matches", *fields}, "a run", writer)
        return RunConfig(
            algorithm=(
                rebuild(algorithm, writer)
                if "type" in algorithm
                else {agent: rebuild(options, writer) for agent, options in algorithm.items()}
            ),
            samplers={name: rebuild(options, writer) for name, options in samplers.items()},
            matches=matches,
            seeds=seeds,
            **fields,
        )

    @staticmethod
    def read(path: Path, *, trust: bool = False, types: Iterable[type[Any]] = ()) -> RunConfig:
        """The configuration in `path`.

        Args:
            path: a run.json.
            trust: import the code that the file names.
            types: of the user's own, which the file may name.

        Raises:
            CorruptionError: it is none.
            StorageError: it may not be read.
            ConfigError: it names code that nobody said to trust, or that is not there.
            NewerError: a newer marline wrote it, or it names what this one does not know.
        """
        plugins.register(*types)
        document = _object_in(path)
        foreign = list(plugins.code_in([document.get("samplers"), document.get("algorithm")]))
        if trust:
            plugins.trust(foreign)
        for name in foreign:
            plugins.find_type(name)
        try:
            return RunConfig.from_json(document, path, last_writer(path.parent))
        except NewerError as error:
            raise NewerError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
        except (MarlineError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CorruptionError(f"{path} is not the configuration of a run: {_reason(error)}") from error

    def difference(self, other: RunConfig) -> list[str]:
        """Lines that name every option in which two configurations differ, this one being here and the other there."""
        here, there = self.to_json(), other.to_json()
        mine, theirs = (
            {**{f"sampler {name}": its for name, its in document.pop("samplers").items()}, **document}
            for document in (here, there)
        )
        return _differences(mine, theirs)

    def extended(self, wanted: RunConfig) -> RunConfig:
        """This run with the seeds and samplers of another that it lacks; none of its own is lost.

        A campaign in the real world is of one team, and gains nothing.

        Raises:
            ConfigError: naming everything else in which the two differ.
        """
        wanted = dataclasses.replace(wanted, evaluation_seed=self.evaluation_seed)
        whole = self
        if self.task is not None:
            new = {name: sampler for name, sampler in wanted.samplers.items() if name not in self.samplers}
            whole = dataclasses.replace(
                self,
                samplers={**self.samplers, **new},
                matches={**wanted.matches, **self.matches},
                seeds=tuple(dict.fromkeys((*self.seeds, *wanted.seeds))),
            )
            samplers = {**self.samplers, **wanted.samplers}
            wanted = dataclasses.replace(wanted, samplers=samplers, matches=whole.matches, seeds=whole.seeds)
        different = wanted.difference(whole)
        if different:
            raise ConfigError("; ".join(different))
        return whole

    def added_to(self, path: Path) -> dict[str, Any]:
        """`to_json` of a run that was `extended`, where all that the file says stays as it was written.

        Checkpoints are sealed with that, and an earlier marline may have written it with fewer options spelled out.
        """
        there, whole = _object_in(path), self.to_json()
        return {**there, "seeds": whole["seeds"], "samplers": {**whole["samplers"], **there["samplers"]}}


def _differences(here: Mapping[str, Any], there: Mapping[str, Any], within: str = "") -> list[str]:
    """Of two JSON objects, a line for each option in which they differ; of parts of other types, which these are."""
    lines: list[str] = []
    for name in {**there, **here}:
        its, other = here.get(name, "none"), there.get(name, "none")
        if its == other:
            continue
        if not (isinstance(its, dict) and isinstance(other, dict)):
            lines.append(f"{within}{name}: {other} there, {its} here")
        elif its.get("type") == other.get("type"):
            lines += _differences(its, other, f"{within}{name} ")
        else:
            lines.append(f"{within}{name} type: {other.get('type')} there, {its.get('type')} here")
    return lines


def _object_in(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_regular(path, LARGEST_CONFIGURATION).decode("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CorruptionError(f"{path} is not the configuration of a run: {_reason(error)}") from error
    if not isinstance(document, dict):
        raise CorruptionError(f"{path} is not the configuration of a run: it holds no JSON object")
    return document


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0]


def describe(value: Any) -> Any:
    """A frozen dataclass as a dict of its fields and its type's name; a mapping of them as one of those.

    Raises:
        ConfigError: a type of the user's that no file could name.
    """
    if isinstance(value, Mapping):
        return {name: describe(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        name = kind.__name__ if BUILT_IN.get(kind.__name__) is kind else plugins.name_of(kind)
        return {
            "type": name,
            **{field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)},
        }
    return [describe(part) for part in value] if isinstance(value, tuple) else value


def rebuild(value: Any, writer: str = "") -> Any:
    """The inverse of `describe`; `writer` is the version of marline that wrote it, if known.

    Raises:
        ConfigError: a type is not trusted.
        NewerError: a type is not built in, or has not all of the fields.
        CorruptionError: fields of a type that is built in are not told.
    """
    if isinstance(value, Mapping):
        fields = dict(value)
        name = fields.pop("type")
        if not plugins.is_code(name) and name not in BUILT_IN:
            raise unknown_type(name, writer)
        kind = plugins.find_type(name) if plugins.is_code(name) else BUILT_IN[name]
        _require_fields(kind, fields, name, writer)
        return kind(**{name: rebuild(field, writer) for name, field in fields.items()})
    return tuple(rebuild(part, writer) for part in value) if isinstance(value, list) else value


def _require_fields(kind: type[Any], told: Collection[str], what: str, writer: str) -> None:
    """Every field of a type is told, and no other: a default of today's is not what an old file meant.

    Users answer for the defaults of types of their own.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    is_theirs = plugins.is_code(what)
    for name in told:
        if name not in fields and is_theirs:
            raise NewerError(f"{what} has no field {name!r}: another version of that code wrote it; give it back")
        if name not in fields:
            raise unknown_field(what, name, writer)
    for name, field in fields.items():
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if name not in told and is_theirs and not has_default:
            raise NewerError(f"{what} has a field {name!r}, which the run began without; give it a default")
        if name not in told and not is_theirs:
            raise CorruptionError(f"{what} does not tell its {name}; restore a copy")


def require_recordable(value: Any, what: str) -> None:
    """Register the types that an algorithm or sampler is made of, so that a run can name them.

    Raises:
        ConfigError: a run could not record it, or would record something else.
    """
    members = list(value.values() if isinstance(value, Mapping) else (value,))
    for part in (*members, *_parts(value)):
        words = {"type", "matches"} & {field.name for field in _fields(part)}
        require(not words, f"{what} has a field {sorted(words)[:1]}, a word that run.json needs itself; rename it")
        if BUILT_IN.get(type(part).__name__) is not type(part):
            plugins.register(type(part))
    try:
        document = json.loads(json.dumps([describe(member) for member in members]))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{what} holds what a run cannot record ({error}); give it fields of numbers, words, tuples, and frozen "
            "dataclasses of those"
        ) from error
    try:
        same = [rebuild(part) for part in document] == members
    except (CorruptionError, NewerError, TypeError, ValueError):
        same = False
    require(same, f"{what} is not what is made again of its fields, {document}; a run could not go on with it")


def _fields(part: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()


def _parts(value: Any) -> Iterator[Any]:
    """A frozen dataclass and those that it is made of."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _parts(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
