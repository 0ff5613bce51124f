"""Whether every file of a run is what was written: against the hashes beside it, and what other parts say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from marline.configuration.run_config import RunConfig
from marline.data import checkpoints, dataset
from marline.data.files import StorageError, small_sha256
from marline.data.manifest import Manifest, read_sealed, verify_files
from marline.data.migrations import BUNDLE
from marline.errors import CorruptionError, MarlineError, NewerError
from marline.runs.events import Exported, of_kind
from marline.runs.history import History, list_sha256
from marline.runs.integrity import examine, histories, known_folders
from marline.runs.layout import (
    BUNDLES,
    LEARNERS,
    LOGS,
    METRICS,
    POLICIES,
    WAITING,
    RunDirectory,
    checkpoint_steps,
    contracts,
    deployment_numbers,
    divergences,
    require_run,
)
from marline.runs.ledger import HEAD, Event, Ledger, require_same_configuration

MOST_NAMED = 6  # parts in a note


class Verified(NamedTuple):
    """What was looked at, what is wrong with it, and what cannot be told, one sentence each."""

    num_files: int
    num_events: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def verify(folder: Path) -> Verified:
    """Check every file of a campaign or a study, and that they belong together; nothing is changed.

    Raises:
        ConfigError: there is no run in the folder, or it names code that is not trusted or not there.
        NewerError: a newer marline wrote something in it.
        CorruptionError: a link, a pipe or a device is in it.
    """
    path = require_run(folder)
    problems: list[str] = []
    notes: list[str] = []
    num_files = 1
    events: list[Event] = []

    def attempt(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except (StorageError, NewerError):  # what cannot be read is not known to be altered
            raise
        except MarlineError as error:
            problems.append(str(error))
            return None

    config: RunConfig | None = None
    newer: NewerError | None = None
    try:
        config = RunConfig.read(path)
    except CorruptionError as error:  # but code that nobody said to trust is no damage
        problems.append(str(error))
    except NewerError as error:
        newer = error
    ledger = Ledger(folder)
    if ledger.path.exists():
        num_files += 1
        attempt(ledger.check)
        events = attempt(ledger.events) or []
        if not events and not problems:
            problems.append(f"{ledger.path} holds no event; restore a copy, or the next command enters what files tell")
        if not ledger.is_anchored:
            notes.append(f"no {HEAD} is beside {ledger.path}, so an older ledger that was put back would not be told")
    elif config is not None and config.task is None:
        problems.append(f"{ledger.path} is missing; restore a copy: files do not tell what was exported or rolled back")
    attempt(lambda: require_same_configuration(path, events))
    for home, read in _sealed_folders(folder):
        manifest = attempt(lambda home=home, read=read: read(home))
        if manifest is not None:
            num_files += 1 + len(manifest["files"])
            attempt(lambda home=home, manifest=manifest: verify_files(home, manifest))
    for home, wanted in known_folders(folder, events):
        if not home.exists():
            problems.append(f"{home} is missing, and the ledger knows it; restore a copy")
        elif attempt(lambda home=home: list_sha256(home)) != wanted:
            problems.append(f"{home} is not what the ledger knows: it was altered or replaced; restore a copy")
    belonging = attempt(lambda: examine(folder, events))
    if belonging is not None:
        problems += belonging.problems
        notes += belonging.notes
    if newer is not None:
        if not problems:
            raise newer
        problems.append(str(newer))
    for path, known in _sent(folder, events).items():
        if path.exists() and attempt(lambda path=path: small_sha256(path)) not in known:
            problems.append(f"{path} is no policy that the ledger knows to have gone out; export it again")
    for history in histories(folder):
        steps = history.steps()
        records = attempt(lambda history=history, steps=steps: history.records_at(steps[-1])) if steps else None
        if records is not None and _lines(history) != records:
            problems.append(
                f"{history.folder / METRICS} does not say what the last checkpoint does; the next "
                "command that goes on with the campaign writes it anew"
            )
    notes += _unfinished(folder, config) if config is not None and config.task is not None else []
    return Verified(num_files, len(events), tuple(dict.fromkeys(problems)), tuple(notes))


def _unfinished(folder: Path, config: RunConfig) -> list[str]:
    """What a study still lacks: nothing in its files tells a part that was lost from one not computed yet."""
    parts = [
        f"{name} of seed {seed}"
        for seed in config.seeds
        for name in config.samplers
        if max(checkpoint_steps(RunDirectory(folder).team(seed, name)), default=0) < config.deployments
    ]
    if not parts:
        return []
    few = ", ".join(parts[:MOST_NAMED]) + (f" and {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else "")
    return [
        f"of {len(config.samplers) * len(config.seeds)} parts, {len(parts)} did not reach the last deployment ({few})"
    ]


def _sealed_folders(folder: Path) -> Iterator[tuple[Path, Callable[[Path], Manifest]]]:
    """Every folder with a list of its files, and what reads the list."""
    yield RunDirectory(folder).data, dataset.describe
    for history in histories(folder):
        for step in history.steps():
            yield history.checkpoint(step), checkpoints.read_manifest
        homes = [history.folder, *(history.deployment(number) for number in deployment_numbers(history.folder))]
        for home in homes:
            for name in (LOGS, WAITING):
                if (home / name).exists():
                    yield home / name, dataset.describe
            for name in (POLICIES, LEARNERS):
                if (home / name).exists():
                    yield home / name, checkpoints.read_manifest
            for batch in divergences(home):
                yield batch, checkpoints.read_manifest
            for contract in contracts(home):
                yield contract.parent, _read_contract


def _read_contract(folder: Path) -> Manifest:
    return read_sealed(folder / "contract.json", BUNDLE)


def _sent(folder: Path, events: list[Event]) -> dict[Path, set[str]]:
    """What the ledger knows to have gone out as each of the policies that lie in bundles in the run directory.

    A bundle's own list vouches for its files; but who alters one can write the list anew.
    """
    known: dict[Path, set[str]] = {}
    for event, exported in of_kind(Exported, events):
        number = event.deployment - 1  # the last one that they were tuned on
        teams = [team for team in histories(folder) if (team.sampler is None) == (number == 0)]
        for home in [team.deployment(number) if number else team.folder for team in teams]:
            for agent, policy in exported.policies.items():
                known.setdefault(home / BUNDLES / agent / "policy.onnx", set()).add(policy)
    return known


def _lines(history: History) -> list[Any] | None:
    try:
        return history.records()
    except CorruptionError:
        return None
