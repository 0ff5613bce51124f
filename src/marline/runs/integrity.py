"""Whether the parts of a run directory belong together: a sound file may be one of another run, or of another day.

Every checkpoint says under its own seal what it was made from: which configuration, which offline logs, which
checkpoint before it, which logs and policies of every deployment so far, and, in a campaign, which was the newest
event of the ledger. The ledger of a campaign names all of that from its side. So a part that was exchanged for that of
another run, however sound, or a configuration that was edited, does not fit what was made with the right one.

Checkpoints that an earlier marline wrote say nothing of this: `notes` tells so, and nothing is refused for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from marline.configuration.run_config import RunConfig
from marline.data import checkpoints, dataset
from marline.data.manifest import Manifest, read_sealed
from marline.data.migrations import BUNDLE
from marline.data.provenance import recorded_configurations
from marline.data.scratch import is_scratch
from marline.errors import CorruptionError, MarlineError, NewerError
from marline.runs.events import Created, Ingested, Trained, Tuned
from marline.runs.history import History, identity, list_sha256
from marline.runs.layout import (
    LEARNERS,
    LOGS,
    METRICS,
    POLICIES,
    RunDirectory,
    configuration_sha256,
    contracts,
    decisive_sha256,
    deployment_folder,
    deployment_numbers,
    known_places,
    require_run,
)
from marline.runs.ledger import Event, Ledger, require_same_configuration, told

_UNKNOWN = "{} is not what the ledger knows: it is of another run or was replaced"


class Found(NamedTuple):
    """What does not belong together, and what cannot be told, one sentence each."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]


def require_belonging(folder: Path) -> None:
    """Raise `CorruptionError` for the first part of a run directory that belongs to something else.

    What is damaged is left to its readers, who may know how to do without it.
    """
    problems: tuple[str, ...] = ()
    for _ in range(2):  # a second time, because a writer may have gone on between the reading of two parts
        events = Ledger(folder).events()
        require_same_configuration(RunDirectory(folder).configuration, events)
        problems = examine(folder, events).problems
        if not problems:
            return
    raise CorruptionError(next(iter(problems)))


def read_configuration(folder: Path, *, trust: bool = False, types: Iterable[type[Any]] = ()) -> RunConfig:
    """`RunConfig.read` of a run directory; what names a field that there is not may have been altered.

    Raises:
        CorruptionError: it was, or is no configuration.
        ConfigError: as of `RunConfig.read`.
    """
    try:
        return RunConfig.read(require_run(folder), trust=trust, types=types)
    except NewerError:
        require_belonging(folder)
        raise


def require_measured(folder: Path) -> None:
    """Raise `CorruptionError` for the first metrics.jsonl with a line that is another in the last checkpoint.

    Lines that a kill kept from being written are no matter, nor are damaged files: whoever reads those says so.
    """
    for history in histories(folder):
        try:
            lines = history.records()
            sealed = {its["deployment"]: its for step in history.steps()[-1:] for its in history.records_at(step)}
        except MarlineError:
            continue
        for line in lines:
            if sealed.get(line["deployment"], line) != line:
                raise CorruptionError(
                    f"{history.folder / METRICS} says of deployment {line['deployment']} what the last "
                    "checkpoint does not: it was altered, or is of another team; the next command "
                    "that goes on writes it anew"
                )


def examine(folder: Path, events: Sequence[Event] = ()) -> Found:
    """Compare the parts of a run directory with what they say of each other, and with what the ledger says of them."""
    problems: list[str] = []
    notes: list[str] = []
    identities = _identities(folder, events)
    for home, wanted in known_folders(folder, events):
        if home not in identities and wanted != _list_sha256(home):
            problems += _if_sound(home, _UNKNOWN.format(home))
    known, configuration = _known_places(folder), RunDirectory(folder).configuration
    for history in histories(folder):
        # seeds and samplers only come: what an older configuration leaves out would be missing from every table
        if known is not None and history.place not in known and history.steps():
            problems.append(
                f"{history.folder} is of a seed or sampler that {configuration} does not name: that was altered, "
                "or is an older one, or the folder is of another run"
            )
            continue
        for step in history.steps():
            checkpoint = history.checkpoint(step)
            try:
                manifest = checkpoints.read_manifest(checkpoint)
                if identities.get(checkpoint, identity(checkpoint)) != identity(checkpoint):
                    problems += _if_sound(checkpoint, _UNKNOWN.format(checkpoint))
                made = manifest.get("made_from")
                if made is None:
                    notes.append(f"{checkpoint} is of an earlier marline, and does not say what it was made from")
                    continue
                found = list(_contradictions(folder, history, step, manifest, made, events))
            except (TypeError, ValueError, LookupError, AttributeError):
                found = [f"{checkpoint} does not say properly what it was made from"]
            except MarlineError:
                continue
            for sentence in found:
                problems += _if_sound(checkpoint, sentence)
        problems += _of_other_policies(folder, history)
    problems += _of_other_logs(folder)
    problems += _of_other_starts(folder)
    return Found(tuple(f"{problem}; restore a copy" for problem in problems), tuple(notes))


def histories(folder: Path) -> list[History]:
    """All teams of a run directory."""
    homes = RunDirectory(folder).teams()
    return [History(home) for home in homes if home.is_dir() and not is_scratch(home)]


def known_folders(folder: Path, events: Sequence[Event]) -> Iterator[tuple[Path, str]]:
    """Folders whose lists the ledger has the hashes of; of two events the later counts."""
    found: dict[Path, str] = {}
    teams = histories(folder)
    homes = {number: team.deployment(number) for team in teams for number in deployment_numbers(team.folder)}
    for event in events:
        home = homes.get(event.deployment, deployment_folder(folder, event.deployment))
        content = event.content
        if isinstance(content, Created):
            found[RunDirectory(folder).data] = content.data
        elif isinstance(content, Trained):
            for team in teams:
                if team.sampler is None:
                    found[team.checkpoint(content.updates)] = content.checkpoint
        elif isinstance(content, Ingested):
            found[home / LOGS] = content.logs
        elif isinstance(content, Tuned):
            hashes = {POLICIES: content.policies, LEARNERS: content.learners}
            found |= {home / name: sha256 for name, sha256 in hashes.items() if sha256 is not None}
    yield from found.items()


def _identities(folder: Path, events: Sequence[Event]) -> dict[Path, str]:
    """What the ledger knows of the checkpoints; of two events the later counts."""
    found: dict[Path, str] = {}
    for history in histories(folder):
        for event in events:
            content = event.content
            kind = Trained if history.sampler is None else Tuned
            if isinstance(content, kind) and content.identity is not None:
                step = content.updates if isinstance(content, Trained) else event.deployment
                found[history.checkpoint(step)] = content.identity
    return found


def _contradictions(
    folder: Path,
    history: History,
    step: int,
    manifest: Manifest,
    made: Mapping[str, Any],
    events: Sequence[Event],
) -> Iterator[str]:
    """A sentence for everything that a checkpoint was made from and that is another now."""
    checkpoint = history.checkpoint(step)
    if (made["place"], manifest["step"]) != (history.place, step):
        yield f"{checkpoint} is of another place: checkpoint {manifest['step']!r} of {made['place']!r}"
        return
    configuration, data = RunDirectory(folder).configuration, RunDirectory(folder).data
    if "run.json" in made and made["run.json"] != decisive_sha256(configuration, history.sampler):
        yield f"{configuration} is not what {checkpoint} was made with: one of them was altered, or is of another run"
    if "data" in made and made["data"] != _list_sha256(data):
        yield from _if_sound(data, f"{data} are not the logs that {checkpoint} was made with")
    if "before" in made:
        others = [team.checkpoint(number) for team in histories(folder) for number in team.steps()]
        for other in others:
            if str(other.relative_to(folder)) == made["before"]["checkpoint"]:
                if identity(other) != made["before"]["identity"]:
                    yield from _if_sound(other, f"{other} is not the one that {checkpoint} was made from")
    for number, parts in made.get("deployments", {}).items():
        for kind in (LOGS, POLICIES, LEARNERS):
            home = history.deployment(int(number)) / kind
            if kind in parts and not home.exists():
                lost = "these logs cannot be made again" if kind == LOGS else f"{checkpoint} was made with it"
                yield f"{home} is missing, and {lost}"
            elif kind in parts and parts[kind] != _list_sha256(home):
                yield from _if_sound(home, f"{home} is not what {checkpoint} was made with: it is of another run")
    if "ledger" in made and events and not _is_rebuilt(events[0]):
        number = int(made["ledger"]["number"])
        if len(events) < number or told(events[:number]) != made["ledger"]["told"]:
            yield (
                f"the ledger of {folder} does not hold the {number} events on which {checkpoint} builds: an older one, "
                "or that of another run, was put in its place"
            )


def _is_rebuilt(first: Event) -> bool:
    return isinstance(first.content, Created) and first.content.rebuilt


def _of_other_logs(folder: Path) -> Iterator[str]:
    """The offline logs say for which configuration they were put here."""
    try:
        source = dataset.describe(RunDirectory(folder).data)["provenance"].get("run.json")
    except (MarlineError, LookupError, AttributeError):
        return
    configuration, data = RunDirectory(folder).configuration, RunDirectory(folder).data
    if source is not None and source != decisive_sha256(configuration):
        yield f"{configuration} is not what {data} came with: one of them was altered, or is of another run"


def _of_other_starts(folder: Path) -> Iterator[str]:
    """Every start of a study tells by which configuration it was."""
    known, configuration = recorded_configurations(folder), RunDirectory(folder).configuration
    if known and configuration_sha256(configuration) not in known:
        yield f"{configuration} is none by which this run was ever started: it was altered, or is of another run"


def _known_places(folder: Path) -> set[str] | None:
    """Where the teams of the configuration lie; None where it is damaged."""
    try:
        return known_places(RunDirectory(folder).configuration)
    except MarlineError:
        return None


def _of_other_policies(folder: Path, history: History) -> Iterator[str]:
    """Bundles of a study say of which policies they are; those of a campaign are known to its ledger."""
    numbers = deployment_numbers(history.folder)
    for contract in contracts(history.folder) + [path for n in numbers for path in contracts(history.deployment(n))]:
        try:
            made = read_sealed(contract, BUNDLE).get("made_from")
            if made is None:
                continue
            home = folder / made["policies"]["folder"]
            known = [history.checkpoint(step) for step in history.steps()] + [
                history.deployment(number) / POLICIES for number in range(1, max(history.steps(), default=0) + 1)
            ]
            if made["run.json"] != decisive_sha256(RunDirectory(folder).configuration, history.sampler):
                yield f"{contract.parent} was exported from another run"
            elif home in known and home.exists() and list_sha256(home) != made["policies"]["sha256"]:
                yield from _if_sound(home, f"{contract.parent} was exported from other policies than those in {home}")
        except (LookupError, TypeError, AttributeError):
            yield f"{contract.parent} does not say properly what it was exported from"
        except MarlineError:
            continue


def _list_sha256(folder: Path) -> str | None:
    """As `list_sha256`; None where there is no such list."""
    try:
        return list_sha256(folder)
    except CorruptionError:
        return None


def _if_sound(folder: Path, sentence: str) -> Iterator[str]:
    """The sentence, unless the folder is gone or damaged."""
    try:
        if (folder / checkpoints.MANIFEST).exists():
            checkpoints.verify(folder)
        else:
            dataset.describe(folder)
    except MarlineError:
        return
    yield sentence
