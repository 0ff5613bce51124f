"""Run directories, read for reporting: checked, and forgiving only about what is not there yet."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from marline import plugins
from marline.data.files import read_regular
from marline.data.migrations import migrated_configuration
from marline.data.provenance import Start, last_writer, read_starts
from marline.errors import ConfigError, CorruptionError
from marline.runs.layout import (
    METRICS,
    OFFLINE,
    POLICIES,
    TRAJECTORIES,
    RunDirectory,
    deployment_folder,
    deployment_numbers,
    require_plain_run,
)
from marline.samplers import SAMPLERS, prefers_rows

MAX_BYTES = 256 * 2**20  # no file of a run is near this; reading one that is would exhaust memory

FIX = "restore it from a copy, or move its folder out of the run to report the rest"

Line = Mapping[str, Any]
Kind = Literal["uniform", "otc", "preferring", "shuffled", "matched", "other"]
NAMED: Mapping[str, Kind] = {"OTC": "otc", "Shuffled": "shuffled", "OnlineMatched": "matched"}
# by the type that a run names; what a class cannot say, for it depends on options, it says by default
PREFERS: Mapping[str, bool] = {type(sampler).__name__: prefers_rows(sampler) for sampler in SAMPLERS.values()}


@dataclasses.dataclass(frozen=True)
class SamplerRecord:
    """A sampler of a run: its name there, its settings, and what it is compared as.

    Attributes:
        kind: "uniform" is replay of all merged rows, the baseline. A "shuffled" control draws as the
            sampler that it `matches` does, but other rows of the same sources; a "matched" one draws the
            same share of fresh rows, and any of them. "otc" and "preferring" prefer some rows to others; "other" is
            what does not, or is not known.
    """

    name: str
    settings: Mapping[str, Any]
    kind: Kind
    matches: str | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run directory holds; a run may be unfinished, so any curve may be short or missing.

    Attributes:
        settings: run.json, as today's marline would have written it.
        lines: of each (sampler, seed) the lines of metrics.jsonl by deployment; 0 is the offline
            team. A line without "return" belongs to a team whose return is not known yet.
        trajectories: of each (sampler, seed) the same episode "before" and "after" tuning.
        policies: of each (sampler, seed) the sha256 of the files of the last team.
        dataset: data/dataset.json, or nothing.
        torn: files whose last line was cut and left out.
        starts: by what command, when, where and with which versions it was computed; none where it does not say.
    """

    path: Path
    settings: Mapping[str, Any]
    samplers: tuple[SamplerRecord, ...]
    seeds: tuple[int, ...]
    num_deployments: int
    lines: Mapping[tuple[str, int], Mapping[int, Line]]
    trajectories: Mapping[tuple[str, int], Mapping[str, Any]]
    policies: Mapping[tuple[str, int], Mapping[str, str]]
    dataset: Mapping[str, Any]
    torn: tuple[Path, ...]
    starts: tuple[Start, ...] = ()

    @property
    def task(self) -> str:
        """The task's name; a team that is deployed outside has none."""
        return "own logs" if self.settings["task"] is None else self.settings["task"]

    @property
    def is_campaign(self) -> bool:
        """Whether one team is deployed outside: then that of after deployment k comes back with the logs of k + 1."""
        return self.settings["task"] is None

    @property
    def algorithm(self) -> str:
        described = self.settings.get("algorithm", {})
        kinds = [part.get("type") for part in described.values() if isinstance(part, dict)]
        if "type" not in described and kinds:
            return " + ".join(str(kind) for kind in dict.fromkeys(kinds))
        return str(described.get("type", "unknown"))

    @property
    def baseline(self) -> str | None:
        """The sampler that replays everything uniformly, if there is one."""
        return next((sampler.name for sampler in self.samplers if sampler.kind == "uniform"), None)

    def of_kind(self, *kinds: str) -> list[str]:
        return [sampler.name for sampler in self.samplers if sampler.kind in kinds]

    @property
    def methods(self) -> list[str]:
        """The samplers that prefer some rows to others, or that a control matches: what is to be judged."""
        matched = {sampler.matches for sampler in self.samplers}
        found = [one for one in self.samplers if one.kind in ("otc", "preferring") or one.name in matched]
        return [one.name for one in found if one.kind not in ("uniform", "shuffled", "matched")]

    def shuffled_of(self, name: str) -> str | None:
        """The sampler that draws as `name` does, but other rows of the same sources, if there is one."""
        return self._control("shuffled", name)

    def matched_of(self, name: str) -> str | None:
        """The sampler that draws the same share of fresh rows as `name`, if there is one."""
        return self._control("matched", name)

    def _control(self, kind: Kind, name: str) -> str | None:
        return next((one.name for one in self.samplers if one.kind == kind and one.matches == name), None)

    @property
    def deployed_seeds(self) -> tuple[int, ...]:
        """The seeds of which some team has come back from a deployment."""
        return tuple(
            seed for seed in self.seeds if any(max(self.curve(one.name, seed), default=0) > 0 for one in self.samplers)
        )

    @property
    def seeds_text(self) -> str:
        """How many seeds there are to look at: "5 seeds", or "3 of 5 seeds" while a run goes on."""
        deployed, planned = len(self.deployed_seeds), len(self.seeds)
        every = f"{planned} {'seed' if planned == 1 else 'seeds'}"
        return f"{deployed} of {every}" if 0 < deployed < planned else every

    def curve(self, sampler: str, seed: int, name: str = "return") -> dict[int, float]:
        """Return by deployment, finite or not, as far as it has been measured; or another number of the whole team."""
        lines = self.lines.get((sampler, seed), {})
        return {deployment: float(line[name]) for deployment, line in lines.items() if _is_number(line.get(name))}

    @property
    def when(self) -> str:
        """ "after 3" is said of a run, "in 3" of a campaign."""
        return "in" if self.is_campaign else "after"

    def measured_in(self, deployment: int) -> int:
        """The number by which people know the return of the team of after a deployment: of a campaign the next."""
        return deployment + 1 if self.is_campaign else deployment

    def episodes(self, sampler: str, seed: int, deployment: int) -> list[float]:
        """The return of each episode that the team of after a deployment was measured in, where a run has them."""
        found = self.lines.get((sampler, seed), {}).get(deployment, {}).get("returns")
        return [float(value) for value in found if _is_number(value)] if isinstance(found, list) else []

    def returns(self, sampler: str, deployment: int) -> dict[int, float]:
        """Return by seed, of the seeds that have got there with a finite one."""
        found = {seed: self.curve(sampler, seed).get(deployment, math.nan) for seed in self.seeds}
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def diagnostic(self, sampler: str, seed: int, name: str) -> dict[int, dict[str, float]]:
        """One measured quantity: by deployment, then by agent; what is absent is left out."""
        found = {}
        for deployment, line in self.lines.get((sampler, seed), {}).items():
            agents = (
                line.get(name) if name in ("mean_abs_action", "agent_returns") else _column(line.get("agents"), name)
            )
            if isinstance(agents, dict) and (values := {a: float(v) for a, v in agents.items() if _is_number(v)}):
                found[deployment] = values
        return found


def read_run(path: Path) -> Run:
    """Read a run directory.

    Raises:
        ConfigError: there is no run in `path`.
        NewerError: a newer marline wrote it.
        CorruptionError: a file in it is damaged, or a link, a pipe or a device; the message names it.
    """
    if path.is_dir():
        require_plain_run(path)
    run = RunDirectory(path)
    if not run.configuration.is_file():
        problem = "is not a run: it has no run.json" if path.is_dir() else "does not exist"
        raise ConfigError(f"{path} {problem}; give a directory that marline wrote a run into, such as runs/first")
    settings = migrated_configuration(_read_object(run.configuration), run.configuration, last_writer(path))
    _check_settings(settings, path)
    options = settings["samplers"]
    samplers = tuple(sampler_record(name, its, options) for name, its in options.items())
    lines, trajectories, policies, torn = {}, {}, {}, []
    for seed, folders in _folders(run, settings["seeds"]).items():
        # the common start of all samplers of a seed, of which their own lines begin with a copy
        start, _ = _read_lines(folders[OFFLINE] / METRICS) if OFFLINE in folders else ({}, True)
        for sampler in settings["samplers"]:
            lines[sampler, seed] = start
            if (folder := folders.get(sampler)) is None:
                continue
            if (file := folder / METRICS).is_file():
                lines[sampler, seed], complete = _read_lines(file)
                torn += [] if complete else [file]
            if (file := folder / TRAJECTORIES).is_file():
                trajectories[sampler, seed] = _read_object(file)
            if (manifest := _last_manifest(folder, max(lines[sampler, seed], default=0))) is not None:
                policies[sampler, seed] = file_hashes(_read_object(manifest))
    dataset = _read_object(run.data_list) if run.data_list.is_file() else {}
    return Run(
        path=path,
        settings=settings,
        samplers=samplers,
        seeds=tuple(settings["seeds"]),
        num_deployments=settings["deployments"],
        lines={key: found for key, found in lines.items() if found},
        trajectories=trajectories,
        policies=policies,
        dataset=dataset,
        torn=tuple(torn),
        starts=tuple(read_starts(path)),
    )


def file_hashes(record: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of each file that a manifest names."""
    files = record.get("files")
    entries = files.items() if isinstance(files, dict) else ()
    return {name: str(entry.get("sha256") if isinstance(entry, dict) else entry) for name, entry in entries}


def _check_settings(settings: Mapping[str, Any], path: Path) -> None:
    file = RunDirectory(path).configuration
    checks = {
        "task": isinstance(settings.get("task", 0), str | None),
        "samplers": _is_object_of_objects(settings.get("samplers")) and bool(settings["samplers"]),
        "seeds": isinstance(settings.get("seeds"), list) and all(type(seed) is int for seed in settings["seeds"]),
        "deployments": type(settings.get("deployments")) is int and settings["deployments"] >= 1,
        "algorithm": isinstance(settings.get("algorithm", {}), dict),
    }
    for name, valid in checks.items():
        if not valid:
            raise CorruptionError(f"{file}: {name!r} is missing or not what a run writes; restore it from a copy")


def sampler_record(name: str, options: Mapping[str, Any], samplers: Mapping[str, Any]) -> SamplerRecord:
    """A sampler with these options, beside all of the run."""
    type_name = str(options.get("type"))
    kind: Kind = NAMED.get(type_name, "preferring" if _prefers(type_name, options) else "other")
    matches = None
    if options.get("type") == "Uniform" and options.get("rows", "merged") == "merged":
        kind = "uniform"
    elif kind in ("shuffled", "matched"):
        matches = options.get("matches", name.removeprefix("online-matched-").removeprefix("shuffled-"))
        matches = matches if isinstance(matches, str) and matches in samplers and matches != name else None
    return SamplerRecord(name, options, kind, matches)


def _prefers(type_name: str, options: Mapping[str, Any]) -> bool:
    """As `samplers.prefers_rows`, without importing a stranger's code: one of the user's does unless it denies it."""
    if type_name in PREFERS:
        return PREFERS[type_name]
    known = plugins.known(type_name)
    return plugins.is_code(type_name) and bool(options.get("prefers_rows", getattr(known, "prefers_rows", True)))


def _folders(run: RunDirectory, seeds: list[int]) -> dict[int, dict[str, Path]]:
    # by what is there, not by name: a sampler's name may be no file name, or lead elsewhere
    parents = {seed: run.seed(seed) for seed in seeds}
    return {
        seed: {folder.name: folder for folder in parent.iterdir() if folder.is_dir()} if parent.is_dir() else {}
        for seed, parent in parents.items()
    }


def _last_manifest(folder: Path, last: int) -> Path | None:
    """That of the policies of the last deployment that was measured; of the next there may be some, made anew later."""
    numbers = sorted((number for number in deployment_numbers(folder) if number <= last), reverse=True)
    manifests = [deployment_folder(folder, number) / POLICIES / "manifest.json" for number in numbers]
    return next((manifest for manifest in manifests if manifest.is_file()), None)


def _read_lines(file: Path) -> tuple[dict[int, Line], bool]:
    """The lines by deployment, the last one of each; and whether the file ended with a whole line."""
    lines: dict[int, Line] = {}
    parts = _read_text(file).split("\n") if file.is_file() else []
    for number, part in enumerate(parts, start=1):
        if not part.strip():
            continue
        try:
            line = json.loads(part)
            if type(line["deployment"]) is not int:
                raise ValueError("the deployment is not a number")
            if "return" in line:
                line["return"] = math.nan if line["return"] is None else float(line["return"])
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            if number == len(parts):  # no newline after it: still being written, or cut by a crash
                return lines, False
            raise CorruptionError(f"{file}, line {number} is damaged ({_reason(error)}); {FIX}") from error
        lines[line["deployment"]] = line
    return lines, True


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read_text(file))
    except (ValueError, RecursionError) as error:
        raise CorruptionError(f"{file} is damaged ({_reason(error)}); {FIX}") from error
    if not isinstance(value, dict):
        raise CorruptionError(f"{file} holds no JSON object; {FIX}")
    return value


def _read_text(file: Path) -> str:
    try:
        return read_regular(file, MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptionError(f"{file} cannot be read ({_reason(error)}); {FIX}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _column(agents: object, name: str) -> dict[str, Any]:
    if not isinstance(agents, dict):
        return {}
    return {agent: values[name] for agent, values in agents.items() if isinstance(values, dict) and name in values}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_object_of_objects(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())
