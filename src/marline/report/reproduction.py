"""The command that makes a run again, worked out from what the run says about itself."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from marline.algorithms import ALGORITHMS
from marline.configuration import CONTROL, describe, select_samplers
from marline.envs import make_task
from marline.errors import MarlineError
from marline.report.records import Run
from marline.samplers import OTC, EmbeddingDistance

PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
COUNTS = ("dataset_size", "offline_updates", "deployments", "updates", "evaluation_episodes", "data_seed")


SHUFFLED = "shuffled"
CONTROLS = {"matched": CONTROL, "shuffled": SHUFFLED}


def command(run: Run, more: Sequence[str] = ()) -> str | None:
    """`marline run ...`, or nothing where no such command leads to these settings.

    Args:
        more: samplers to run beside those of the run.
    """
    try:
        return shlex.join(_tokens(run, more))
    except (MarlineError, LookupError, TypeError, ValueError, OverflowError):
        return None


def _tokens(run: Run, more: Sequence[str]) -> list[str]:
    settings = run.settings
    options = {name: settings[name] for name in COUNTS}
    if not all(type(value) is int for value in options.values()) or run.seeds != tuple(range(len(run.seeds))):
        raise ValueError("made in another way")
    if not PLAIN.fullmatch(settings["task"]):
        raise ValueError("a name that nobody should paste into a shell")
    fraction = f"{settings['rows_per_deployment'] / settings['dataset_size']:.6g}"
    if max(1, round(float(fraction) * settings["dataset_size"])) != settings["rows_per_deployment"]:
        raise ValueError("no short fraction gives these rows")
    kind = {kind.__name__: name for name, kind in ALGORITHMS.items()}[settings["algorithm"]["type"]]
    algorithm = _flat(settings["algorithm"])
    hidden = algorithm.pop("hidden")
    if algorithm.get("known_reward") == describe(make_task(settings["task"])):
        algorithm.pop("known_reward")  # the command finds it
    controls = {CONTROLS[one.kind]: None for one in run.samplers if one.matches is not None}
    names = [*(one.name for one in run.samplers if one.matches is None), *controls]
    return [
        *("marline", "run", "--run", "runs/again", "--task", settings["task"], "--algorithm", kind),
        *("--sampler", *names, *more, "--seeds", str(len(run.seeds)), "--deployment-fraction", fraction),
        *(token for name, value in options.items() for token in (f"--{name.replace('_', '-')}", str(value))),
        *_exploration(settings.get("sequential_exploration")),
        *("--hidden", *(str(int(width)) for width in hidden)),
        *_changed("--algorithm-option", _difference(algorithm, _flat(describe(ALGORITHMS[kind]())))),
        *_changed("--sampler-option", _sampler_options(settings["samplers"], names, tuple(hidden))),
    ]


def _exploration(epsilon: Any) -> list[str]:
    if epsilon is None:
        return []
    if not isinstance(epsilon, int | float):
        raise ValueError("no probability")
    return ["--sequential-exploration", str(epsilon)]


def _sampler_options(samplers: Mapping[str, Any], names: list[str], hidden: tuple[int, ...]) -> dict[str, Any]:
    """What one --sampler-option sets in every OTC sampler; an error if the samplers differ in more than that."""
    known, matches = select_samplers(tuple(names))
    if set(known) != set(samplers):
        raise ValueError("other samplers")
    found: list[dict[str, Any]] = []
    for name, sampler in known.items():
        written = {key: value for key, value in samplers[name].items() if key != "matches"}
        if written.get("type") == "Shuffled":  # which has the options of what it shuffles
            written = {**written, "of": describe(sampler)["of"]}
        if isinstance(sampler, OTC):
            if sampler.distance == "embedding":
                sampler = dataclasses.replace(sampler, distance=EmbeddingDistance(hidden=hidden))
            found.append(_difference(written, describe(sampler)))
        elif _difference(written, describe(sampler)) or samplers[name].get("matches") != matches.get(name):
            raise ValueError("options that no flag sets")
    if any(changed != found[0] for changed in found):
        raise ValueError("samplers with different options")
    return found[0] if found else {}


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
