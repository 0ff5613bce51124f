"""Algorithms and samplers from what a person writes: names, variants with options, and the controls beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from marline import plugins
from marline.algorithms import ALGORITHMS, Algorithm
from marline.configuration.run_config import require_recordable
from marline.errors import ConfigError, require, require_name
from marline.inputs.options import Written, option_names, read_values, read_written, with_options
from marline.inputs.users_code import users_code
from marline.samplers import OTC, SAMPLERS, OnlineMatched, Retarget, Sampler, Shuffled, prefers_rows, rewrites
from marline.samplers.distances import DISTANCES, Distance
from marline.tuning import Algorithms
from marline.types import AgentID

SHUFFLED, MATCHED = "shuffled", "online-matched"
CONTROLS = (SHUFFLED, MATCHED)  # in the order in which they follow what they are the controls of
GROUPS = {  # names that stand for several samplers
    "five-shares": tuple(f"fresh-share-{share}=fresh-share(share={share})" for share in (0.05, 0.1, 0.25, 0.5, 0.75))
}


def select_algorithm(texts: Sequence[str], agents: Sequence[AgentID]) -> Algorithms:
    """An algorithm, or one for each agent: NAME, NAME(OPTION=VALUE, ...) or AGENT=NAME(...) for each agent.

    Raises:
        ConfigError: an unknown name or option, or an agent without an algorithm or with two.
    """
    written = [read_written(text, "--algorithm") for text in texts]
    if len(written) == 1 and written[0].name is None:
        return _algorithm(written[0])
    chosen: dict[AgentID, Algorithm[Any]] = {}
    for text, one in zip(texts, written, strict=True):
        require(
            one.name is not None, f"--algorithm {text!r}: name one algorithm for all agents, or AGENT=NAME for each"
        )
        assert one.name is not None
        require_name(one.name, agents, "agent")
        require(one.name not in chosen, f"--algorithm names agent {one.name!r} twice; name each once")
        chosen[one.name] = _algorithm(one)
    missing = [agent for agent in agents if agent not in chosen]
    require(not missing, f"--algorithm names no algorithm for {', '.join(missing)}; name one for every agent")
    return {agent: chosen[agent] for agent in agents}


def _algorithm(written: Written) -> Algorithm[Any]:
    found = find(written.kind, ALGORITHMS, "algorithm", Algorithm)
    return with_options(found, read_values(written.options, written.kind), written.kind)


def find(
    name: str, presets: Mapping[str, Any], what: str, protocol: type[Any], *, besides: Collection[str] = ()
) -> Any:
    """What a name stands for: one of marline's own, of an installed package, or MODULE:NAME in trusted code.

    Args:
        name: as it was written.
        presets: marline's own, by name: objects, or types whose defaults will do.
        what: algorithm, sampler, distance: whose entry points are looked at.
        protocol: that it must follow.
        besides: what else may stand in its place, for the message.

    Raises:
        ConfigError: there is no such thing, it may not be imported, is something else or cannot be recorded.
    """
    if name in presets:
        return presets[name]() if isinstance(presets[name], type) else presets[name]
    packaged = plugins.installed(f"{what}s")
    if not plugins.is_code(name):
        require_name(name, [*presets, *packaged, *besides], what)
    found = plugins.load(packaged.get(name, name), what)
    if isinstance(found, type):
        with users_code(
            f"{what} {name!r}: {found.__name__}() must make one without arguments (give every field a default), and"
        ):
            found = found()
    require(
        isinstance(found, protocol),
        f"{what} {name!r} is {found!r}, but must be a {what}: see marline.testing.check_{what}",
    )
    require_recordable(found, f"{what} {name!r}")
    return found


class Selection(NamedTuple):
    """Samplers by name, in the order in which they must run, and what each control is the control of."""

    samplers: dict[str, Sampler[Any]]
    matches: dict[str, str]


def select_samplers(
    chosen: Sequence[str] | Mapping[str, str | Sampler[Any]],
    *,
    options: Mapping[str, Any] | None = None,
    hidden: tuple[int, ...] = (),
    present: Mapping[str, Sampler[Any]] | None = None,
) -> Selection:
    """Samplers as they are written: NAME, NAME(OPTION=VALUE, ...) or VARIANT=NAME(...); or such, and objects, by name.

    `shuffled` and `online-matched` stand for a control of every sampler that prefers rows; `shuffled(VARIANT)` is
    the control of one. `five-shares` stands for `fresh-share` with five shares.

    Args:
        chosen: each a sampler.
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
    if isinstance(chosen, Mapping):
        named = list(chosen.items())
    else:
        named = [(None, text) for item in dict.fromkeys(chosen) for text in GROUPS.get(item, (item,))]
    for given, item in named:
        if not isinstance(item, str):
            assert given is not None
            require(
                isinstance(item, Sampler), f"sampler {given!r} is {item!r}, but must be a sampler, or the name of one"
            )
            require_recordable(item, f"sampler {given!r}")
            if isinstance(item, OTC) and isinstance(item.distance, str):  # as the name would be read
                item = item.spelled_out(hidden).by_name()
            samplers[given] = item
            continue
        written = read_written(item, "--sampler")
        kind = written.kind
        if kind in CONTROLS:
            named_so = written.name is not None or given not in (None, kind)
            require(not named_so, f"--sampler {item!r}: a control is named after its sampler; name it {kind}")
            of = controls.setdefault(kind, set())
            controls[kind] = None if of is None or not written.options else of | written.options.keys()
            continue
        require(
            written.name is None or given in (None, written.name), f"sampler {given!r} is {item!r}: one name is enough"
        )
        require(
            kind not in GROUPS,
            f"--sampler {item!r} stands for several samplers; write {kind} alone, or one of "
            + ", ".join(GROUPS.get(kind, ())),
        )
        name = written.name or given or _default_name(kind, written.options)
        require(name not in samplers, f"--sampler names {name!r} twice; give one of them another name: NAME={item}")
        known = {name: SAMPLERS[name] for name in SAMPLERS if name not in CONTROLS}
        preset = find(kind, known, "sampler", Sampler, besides=(*CONTROLS, *GROUPS))
        samplers[name] = _with_all_options(kind, preset, options, read_values(written.options, kind), hidden)
    _require_taken(options, samplers.values())
    return _with_controls(samplers, dict(present or {}), controls)


def _default_name(kind: str, its: Mapping[str, str]) -> str:
    """A sampler's kind and options, as the name of a folder."""
    words = [kind, *(word for item in its.items() for word in item)]
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(words)).strip("-")


def _with_all_options(
    kind: str, sampler: Sampler[Any], shared: Mapping[str, Any], its: dict[str, Any], hidden: tuple[int, ...]
) -> Sampler[Any]:
    """A sampler with its own options, and those of the shared ones that it has."""
    if isinstance(sampler, OTC):
        distance = its.pop("distance", sampler.distance)
        if isinstance(distance, str) and distance not in DISTANCES:
            written = read_written(distance, "distance")
            distance = find(written.kind, DISTANCES, "distance", Distance)
            distance = with_options(distance, read_values(written.options, written.kind), written.kind)
        sampler = dataclasses.replace(sampler, distance=distance).spelled_out(hidden)
    known = option_names(sampler)
    taken = {name: value for name, value in shared.items() if name in known and _takes(sampler, name)}
    sampler = with_options(sampler, taken | its, kind)
    return sampler.by_name() if isinstance(sampler, OTC) else sampler


def _takes(sampler: Sampler[Any], option: str) -> bool:
    """Whether a shared option is for this sampler: references are not what is being varied."""
    return prefers_rows(sampler) or option == "batch_size"


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


def _no_source(name: str, sampler: Sampler[Any]) -> str:
    """Why a sampler has no control that prefers random rows."""
    if not rewrites(sampler):
        return f"{name} prefers no rows, so there is nothing to control for"
    its = "retarget-logs" if isinstance(sampler, Retarget) else "a control of its own"
    return f"{name} prefers no rows and rewrites them; compare it with {its}"


def _with_controls(
    samplers: dict[str, Sampler[Any]], present: dict[str, Sampler[Any]], controls: Mapping[str, set[str] | None]
) -> Selection:
    """Each control right after what it is the control of, so that an unfinished run has pairs."""
    sources = [name for name, sampler in (present | samplers).items() if prefers_rows(sampler)]
    for kind, of in controls.items():
        for name in of or ():
            known = [*present, *samplers]
            require(bool(known), f"{kind}({name}): there is no sampler {name!r} to control for; add it to --sampler")
            require_name(name, known, f"sampler to be {kind}")
            require(name in sources, f"{kind}({name}): {_no_source(name, (present | samplers)[name])}")
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
        if type(preset) is not type(sampler) or kind in CONTROLS:
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


def _flat(value: Any) -> dict[str, Any]:
    """Options of a sampler and of what it is made of."""
    options = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, OTC):
        distance = options.pop("distance")
        options |= _flat(DISTANCES[distance] if isinstance(distance, str) else distance)
    for name in [name for name, part in options.items() if dataclasses.is_dataclass(part)]:
        options = _flat(options.pop(name)) | options
    return options
