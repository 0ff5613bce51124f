"""The command that makes a run again, worked out from what the run says about itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marline.algorithms import ALGORITHMS
from marline.configuration.run_config import describe, rebuild
from marline.configuration.selection import CONTROLS, select_samplers, write_sampler
from marline.display import shell
from marline.envs import make_task
from marline.errors import MarlineError
from marline.report.records import Run
from marline.samplers import prefers_rows

PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
COUNTS = ("dataset_size", "offline_updates", "deployments", "updates", "evaluation_episodes", "data_seed")


def command(run: Run) -> str | None:
    """`marline run ...`, or nothing where no such command leads to these settings."""
    try:
        return shell.command_elsewhere(*_tokens(run))
    except (MarlineError, LookupError, TypeError, ValueError, OverflowError):
        return None


def _tokens(run: Run) -> list[str]:
    settings = run.settings
    options = {name: settings[name] for name in COUNTS}
    if not all(type(value) is int for value in options.values()) or run.seeds != tuple(range(len(run.seeds))):
        raise ValueError("made in another way")
    if settings.get("evaluation_seed") != 0:
        raise ValueError("episodes of each seed's own, as marline 0.1.0 had them")
    if not PLAIN.fullmatch(settings["task"]):
        raise ValueError("a name that nobody should paste into a shell")
    fraction = f"{settings['rows_per_deployment'] / settings['dataset_size']:.6g}"
    if max(1, round(float(fraction) * settings["dataset_size"])) != settings["rows_per_deployment"]:
        raise ValueError("no short fraction gives these rows")
    kind = {kind.__name__: name for name, kind in ALGORITHMS.items()}[settings["algorithm"]["type"]]
    algorithm = _flat(settings["algorithm"])
    hidden = algorithm.pop("hidden")
    task = describe(make_task(settings["task"]))
    if algorithm.get("known_reward") == task:
        algorithm.pop("known_reward")  # the command finds it
    return [
        *("run", "--run", "runs/again", "--task", settings["task"], "--algorithm", kind),
        *("--sampler", *_samplers(settings["samplers"], tuple(int(width) for width in hidden), task)),
        *("--seeds", str(len(run.seeds)), "--deployment-fraction", fraction),
        *(token for name, value in options.items() for token in (f"--{name.replace('_', '-')}", str(value))),
        *_exploration(settings.get("sequential_exploration")),
        *("--hidden", *(str(int(width)) for width in hidden)),
        *_changed("--algorithm-option", _difference(algorithm, _flat(describe(ALGORITHMS[kind]())))),
    ]


def _exploration(epsilon: Any) -> list[str]:
    if epsilon is None:
        return []
    if not isinstance(epsilon, int | float):
        raise ValueError("no probability")
    return ["--sequential-exploration", str(epsilon)]


def _samplers(written: Mapping[str, Any], hidden: tuple[int, ...], task: Mapping[str, Any]) -> list[str]:
    """Each sampler as a command names it; an error if that leads to others than those of the run."""
    options = {name: {key: value for key, value in its.items() if key != "matches"} for name, its in written.items()}
    for its in options.values():
        if its.get("known_reward") == task:
            its["known_reward"] = None  # the command finds it
    samplers = {name: rebuild(its) for name, its in options.items()}
    matches = {name: its["matches"] for name, its in written.items() if "matches" in its}
    texts = [write_sampler(name, sampler, hidden) for name, sampler in samplers.items() if name not in matches]
    for kind in CONTROLS:
        of = [source for control, source in matches.items() if control == f"{kind}-{source}"]
        everywhere = len(of) == sum(prefers_rows(samplers[name]) for name in samplers if name not in matches)
        texts += [kind] if of and everywhere else [f"{kind}({', '.join(of)})"] if of else []
    if select_samplers(texts, hidden=hidden) != (samplers, matches):
        raise ValueError("samplers that no command names")
    return texts


def _flat(written: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an algorithm and of the one it is made of."""
    base = written.get("base", {})
    return {**base, **{name: value for name, value in written.items() if name != "base"}}


def _difference(written: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    changed = {name: value for name, value in written.items() if value != known[name]}
    if "type" in changed:
        raise ValueError("another type")
    return changed


def _changed(flag: str, options: Mapping[str, Any]) -> list[str]:
    for value in options.values():
        if not isinstance(value, int | float) and not (isinstance(value, str) and PLAIN.fullmatch(value)):
            raise ValueError("an option that no flag sets")
    return [flag, *(f"{name}={value}" for name, value in options.items())] if options else []
