"""Algorithms and samplers from what a person writes: names, variants with options, and the controls beside them."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from marline.algorithms import ALGORITHMS, Algorithm
from marline.configuration import option_names, with_options
from marline.errors import ConfigError, require, require_name
from marline.samplers import OTC, SAMPLERS, EmbeddingDistance, OnlineMatched, Sampler, Shuffled, prefers_rows
from marline.samplers.distances import DISTANCES
from marline.tuning import Algorithms
from marline.types import AgentID

SHUFFLED, MATCHED = "shuffled", "online-matched"
CONTROLS = (SHUFFLED, MATCHED)  # in the order in which they follow what they are the controls of
_VARIANT = re.compile(r"(?:(?P<name>[^=()]*)=)?(?P<kind>[^=()]+)(?:\((?P<options>.*)\))?", re.DOTALL)
_BETWEEN_OPTIONS = re.compile(r",(?![^(\[]*[)\]])")  # a comma that no bracket holds


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


class Selection(NamedTuple):
    """Samplers by name, in the order in which they must run, and what each control is the control of."""

    samplers: dict[str, Sampler[Any]]
    matches: dict[str, str]


def select_samplers(
    texts: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
    hidden: tuple[int, ...] = (),
    present: Mapping[str, Sampler[Any]] | None = None,
) -> Selection:
    """Samplers as they are written: NAME, NAME(OPTION=VALUE, ...) or VARIANT=NAME(...).

    `shuffled` and `online-matched` stand for a control of every sampler that prefers rows; `shuffled(VARIANT)` is
    the control of one.

    Args:
        texts: each a sampler.
        options: for all that have them, unless they say otherwise themselves; `batch_size` is for references and
            controls too, for samplers are compared on batches of one size.
        hidden: widths of the algorithm's networks, which an embedding shares unless it has its own.
        present: samplers that the run has already, which controls may be of.

    Raises:
        ConfigError: an unknown name or option, two samplers of one name, or a control of nothing.
    """
    options = dict(options or {})
    controls: dict[str, set[str] | None] = {}  # by kind, of which samplers; None stands for all that prefer rows
    samplers: dict[str, Sampler[Any]] = {}
    for text in dict.fromkeys(texts):
        name, kind, its = _read(text)
        if kind in CONTROLS:
            require(name is None, f"--sampler {text!r}: a control is named after its sampler; write {kind}")
            of = controls.setdefault(kind, set())
            controls[kind] = None if of is None or not its else of | its.keys()
            continue
        require_name(kind, [*SAMPLERS, *CONTROLS], "sampler")
        name = _default_name(kind, its) if name is None else name
        require(name not in samplers, f"--sampler names {name!r} twice; give one of them another name: NAME={text}")
        samplers[name] = _with_all_options(kind, SAMPLERS[kind], options, _values(its, kind), hidden)
    _require_taken(options, samplers.values())
    return _with_controls(samplers, dict(present or {}), controls)


def _read(text: str) -> tuple[str | None, str, dict[str, str]]:
    """Given name, kind and options of a sampler as it is written; the options of a control are the samplers it is of."""
    match = _VARIANT.fullmatch(text.strip())
    require(match is not None, f"--sampler {text!r} is not NAME, NAME(OPTION=VALUE, ...) or VARIANT=NAME(...)")
    assert match is not None
    kind, written = match["kind"].strip(), match["options"]
    parts = [part.strip() for part in _BETWEEN_OPTIONS.split(written)] if written and written.strip() else []
    its = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in parts)}
    require(len(its) == len(parts), f"--sampler {text!r} sets an option twice")
    return match["name"] and match["name"].strip(), kind, its


def _default_name(kind: str, its: Mapping[str, str]) -> str:
    """A sampler's kind and options, as the name of a folder."""
    words = [kind, *(word for item in its.items() for word in item)]
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(words)).strip("-")


def _values(texts: Mapping[str, str], kind: str) -> dict[str, Any]:
    for name, text in texts.items():
        require(bool(name and text), f"{kind}({name}): give every option a value, as in {kind}(alpha=1)")
    return {name: read_value(text) for name, text in texts.items()}


def _with_all_options(
    kind: str, sampler: Sampler[Any], shared: Mapping[str, Any], its: Mapping[str, Any], hidden: tuple[int, ...]
) -> Sampler[Any]:
    if isinstance(sampler, OTC):
        distance = DISTANCES[sampler.distance] if isinstance(sampler.distance, str) else sampler.distance
        if isinstance(distance, EmbeddingDistance) and hidden:
            distance = dataclasses.replace(distance, hidden=hidden)
        sampler = dataclasses.replace(sampler, distance=distance)
    known = option_names(sampler) if prefers_rows(sampler) else ["batch_size"]
    known = [name for name in known if name in option_names(sampler)]
    sampler = with_options(sampler, {name: shared[name] for name in shared if name in known} | dict(its), kind)
    if isinstance(sampler, OTC):  # a distance that is as the catalogue has it keeps its name there
        same = [word for word, preset in DISTANCES.items() if preset == sampler.distance]
        sampler = dataclasses.replace(sampler, distance=same[0]) if same else sampler
    return sampler


def _require_taken(options: Mapping[str, Any], samplers: Iterable[Sampler[Any]]) -> None:
    takers = [sampler for sampler in samplers if prefers_rows(sampler)]
    others = set(options) - {"batch_size"}
    require(
        not others or bool(takers),
        "--sampler-option sets options of samplers that prefer rows, and none is named; add one to --sampler",
    )
    known = [name for sampler in takers for name in option_names(sampler)]
    for name in others:
        require_name(name, dict.fromkeys(known), "option of these samplers")


def _with_controls(
    samplers: dict[str, Sampler[Any]], present: dict[str, Sampler[Any]], controls: Mapping[str, set[str] | None]
) -> Selection:
    """Each control right after what it is the control of, so that an unfinished run has pairs."""
    sources = [name for name, sampler in (present | samplers).items() if prefers_rows(sampler)]
    for kind, of in controls.items():
        for name in of or ():
            require_name(name, [*present, *samplers], f"sampler to be {kind}")
            require(name in sources, f"{kind}({name}): {name} prefers no rows, so there is nothing to control for")
        require(
            bool(sources),
            f"{kind} is the control of a sampler that prefers rows, and none is named; add one of "
            + ", ".join(name for name, sampler in SAMPLERS.items() if prefers_rows(sampler)),
        )
    selection = Selection({}, {})
    for name in [*(name for name in sources if name not in samplers), *samplers]:
        if name in samplers:
            _add(selection, name, samplers[name])
        for kind in CONTROLS:
            if kind in controls and name in sources and name in (controls[kind] or sources):
                control = f"{kind}-{name}"
                _add(selection, control, _control(kind, (present | samplers)[name]))
                selection.matches[control] = name
    return selection


def _add(selection: Selection, name: str, sampler: Sampler[Any]) -> None:
    require(name not in selection.samplers, f"two samplers would be called {name!r}; give one of them another name")
    selection.samplers[name] = sampler


def _control(kind: str, source: Sampler[Any]) -> Sampler[Any]:
    if kind == SHUFFLED:
        return Shuffled(source)
    batch_size = getattr(source, "batch_size", None)
    return OnlineMatched() if batch_size is None else OnlineMatched(batch_size=batch_size)


def write_sampler(name: str, sampler: Sampler[Any], hidden: tuple[int, ...]) -> str:
    """What `select_samplers` reads as this sampler of this name, as short as can be.

    Raises:
        ConfigError: nothing that can be written is this sampler.
    """
    found = []
    for kind, preset in SAMPLERS.items():
        if type(preset) is not type(sampler):
            continue
        usual = _flat(_with_all_options(kind, preset, {}, {}, hidden))
        changed = {key: value for key, value in _flat(sampler).items() if key not in usual or usual[key] != value}
        options = ", ".join(
            f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in changed.items()
        )
        text = f"{kind}({options})" if options else kind
        text = text if name == kind and not options else f"{name}={text}"
        try:
            if select_samplers((text,), hidden=hidden).samplers == {name: sampler}:
                found.append(text)
        except ConfigError:  # of another distance, which has other options
            continue
    require(bool(found), f"{name} is no sampler that a command names")
    return min(found, key=len)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(value: Any) -> dict[str, Any]:
    """Options of a sampler and of the distance that it is made of."""
    options = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, OTC):
        distance = options.pop("distance")
        options |= _flat(DISTANCES[distance] if isinstance(distance, str) else distance)
    return options


def parse_options(items: Iterable[str], flag: str) -> dict[str, Any]:
    """NAME=VALUE pairs; values are Python literals, true, false, nan, inf, or words."""
    parsed = {}
    for item in items:
        name, equals, text = item.partition("=")
        require(bool(name and equals and text), f"{flag} {item!r} is not NAME=VALUE; write for example alpha=2")
        parsed[name] = read_value(text)
    return parsed


def read_value(text: str) -> Any:
    """A Python literal, true, false, nan or inf in any case, or else the text itself."""
    words = {"true": True, "false": False, "nan": math.nan, "inf": math.inf}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
