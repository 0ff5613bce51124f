"""Whether every file of a campaign is what was written: against the hashes beside it, and those in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from marline.campaign.history import History
from marline.campaign.ledger import Ledger
from marline.campaign.reconciling import list_sha256
from marline.campaign.run_directory import require_run
from marline.configuration import RunConfig
from marline.data import checkpoints, dataset
from marline.data.files import StorageError, sha256_file
from marline.data.manifest import Manifest, read_sealed, verify_files
from marline.errors import CorruptionError, MarlineError


class Verified(NamedTuple):
    """What was looked at, and what is wrong with it, one sentence each."""

    num_files: int
    num_events: int
    problems: tuple[str, ...]


def verify(folder: Path) -> Verified:
    """Check every file of a campaign; nothing is changed.

    Raises:
        ConfigError: there is no campaign in the folder.
    """
    path = require_run(folder)
    problems: list[str] = []
    num_files, events = 1, []

    def attempt(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except StorageError:  # what may not be read is not known to be altered
            raise
        except MarlineError as error:
            problems.append(str(error))
            return None

    attempt(lambda: RunConfig.read(path))
    ledger = Ledger(folder)
    if ledger.path.exists():
        num_files += 1
        attempt(ledger.check)
        events = attempt(ledger.events) or []
        if not events and not problems:
            problems.append(f"{ledger.path} holds no event; restore a copy, or the next command enters what files tell")
    else:
        problems.append(f"{ledger.path} is missing; restore a copy: files do not tell what was exported or rolled back")
    for home, read in _sealed_folders(folder):
        manifest = attempt(lambda home=home, read=read: read(home))
        if manifest is not None:
            num_files += 1 + len(manifest["files"])
            attempt(lambda home=home, manifest=manifest: verify_files(home, manifest))
    for home, wanted in _recorded(folder, events):
        if not home.exists():
            problems.append(f"{home} is missing, and the ledger knows it; restore a copy")
        elif (sha256_file(home) if home.is_file() else attempt(lambda home=home: list_sha256(home))) != wanted:
            problems.append(f"{home} is not what the ledger knows: it was altered or replaced; restore a copy")
    for path, known in _sent(folder, events).items():
        if path.exists() and sha256_file(path) not in known:
            problems.append(f"{path} is no policy that the ledger knows to have gone out; export it again")
    for history in _histories(folder):
        steps = history.steps()
        records = attempt(lambda history=history, steps=steps: history.records_at(steps[-1])) if steps else None
        if records is not None and _lines(history) != records:
            problems.append(
                f"{history.folder / 'metrics.jsonl'} does not say what the last checkpoint does; the next "
                "command that goes on with the campaign writes it anew"
            )
    return Verified(num_files, len(events), tuple(dict.fromkeys(problems)))


def _sealed_folders(folder: Path) -> Iterator[tuple[Path, Callable[[Path], Manifest]]]:
    """Every folder with a list of its files, and what reads the list."""
    yield folder / "data", dataset.describe
    for history in _histories(folder):
        for step in history.steps():
            yield history.checkpoint(step), checkpoints.read_manifest
        homes = [history.folder, *sorted(history.folder.glob("deployment-*"))]
        for home in homes:
            for name in ("logs", "waiting"):
                if (home / name).exists():
                    yield home / name, dataset.describe
            for name in ("policies", "learners"):
                if (home / name).exists():
                    yield home / name, checkpoints.read_manifest
            for batch in sorted((home / "diverged").glob("[!.]*")):
                yield batch, checkpoints.read_manifest
            for contract in sorted((home / "bundles").glob("[!.]*/contract.json")):
                yield contract.parent, _read_contract


def _read_contract(folder: Path) -> Manifest:
    return read_sealed(folder / "contract.json", "marline bundle", 1)


def _recorded(folder: Path, events: list[Any]) -> Iterator[tuple[Path, str]]:
    """Files and lists of files whose hashes the ledger has; of two events the later counts."""
    found: dict[Path, str] = {}
    homes = {home.name: home for history in _histories(folder) for home in history.folder.glob("deployment-*")}
    for event in events:
        home = homes.get(f"deployment-{event.deployment:02d}", folder / f"deployment-{event.deployment:02d}")
        if event.kind == "created":
            found |= {folder / "run.json": event.body["run.json"], folder / "data": event.body["data"]}
        elif event.kind == "trained":
            (offline,) = folder.glob("seed-*/offline")
            found[History(offline).checkpoint(event.body["updates"])] = event.body["checkpoint"]
        elif event.kind == "ingested":
            found[home / "logs"] = event.body["logs"]
        elif event.kind == "tuned":
            found |= {home / name: event.body[name] for name in ("policies", "learners") if name in event.body}
    yield from found.items()


def _sent(folder: Path, events: list[Any]) -> dict[Path, set[str]]:
    """What the ledger knows to have gone out as each of the policies that lie in bundles in the run directory.

    A bundle's own list vouches for its files; but who alters one can write the list anew.
    """
    known: dict[Path, set[str]] = {}
    for event in events:
        if event.kind == "exported":
            place = f"seed-*/*/deployment-{event.deployment - 1:02d}" if event.deployment > 1 else "seed-*/offline"
            for home in folder.glob(place):
                for agent, policy in event.body["policies"].items():
                    known.setdefault(home / "bundles" / agent / "policy.onnx", set()).add(policy)
    return known


def _histories(folder: Path) -> list[History]:
    return [History(home) for home in sorted(folder.glob("seed-*/[!.]*")) if home.is_dir()]


def _lines(history: History) -> list[Any] | None:
    try:
        return history.records()
    except CorruptionError:
        return None
