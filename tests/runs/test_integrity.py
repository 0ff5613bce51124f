"""Parts of a run directory that are sound, and belong to another run or another day."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from field import contents, copy, flip

from marline.campaign.campaign import Campaign
from marline.campaign.status import status
from marline.data.manifest import RESERVED, read_sealed, record_file, write_sealed
from marline.data.migrations import CHECKPOINT
from marline.errors import CorruptionError
from marline.runs.events import RolledBack, read_content
from marline.runs.history import History, list_sha256
from marline.runs.integrity import examine, require_belonging
from marline.runs.ledger import Ledger
from marline.runs.verify import verify


def seal_again(folder: Path, **entries: Any) -> None:
    """Write the list of a checkpoint anew, for the files that are there now; entries that are None go."""
    path = folder / "manifest.json"
    manifest = read_sealed(path, CHECKPOINT)
    files = {name: record_file(folder / name) for name in manifest["files"]}
    kept = {key: value for key, value in manifest.items() if key not in RESERVED} | entries
    write_sealed(path, CHECKPOINT.kind, 1, {key: value for key, value in kept.items() if value is not None}, files)


def exchange_learner(folder: Path) -> None:
    """Put the learner of another training into the last checkpoint: of equal shapes, soundly sealed."""
    (home,) = folder.glob("seed-0/otc*")
    (other,) = folder.glob("seed-0/offline/checkpoint-*")
    shutil.copy(other / "arm" / "learner.safetensors", home / "checkpoint-0000001" / "arm" / "learner.safetensors")
    seal_again(home / "checkpoint-0000001")


def told(folder: Path) -> str:
    """What all that goes on from it says; nothing has changed."""
    before = contents(folder)
    with pytest.raises(CorruptionError) as caught:
        Campaign.open(folder)
    assert contents(folder) == before
    assert any(str(caught.value).partition(";")[0] in problem for problem in verify(folder).problems)
    return str(caught.value)


@pytest.mark.slow
def test_a_checkpoint_of_another_training_with_equal_shapes_is_named_and_not_used(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    require_belonging(folder)
    assert examine(folder, Ledger(folder).events()) == ((), ())
    exchange_learner(folder)
    assert "checkpoint-0000001 is not what the ledger knows: it is of another run or was replaced" in told(folder)


def test_a_whole_checkpoint_from_another_place_is_named_and_not_used(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    (home,) = folder.glob("seed-0/otc*")
    (offline,) = folder.glob("seed-0/offline/checkpoint-*")
    shutil.rmtree(home / "checkpoint-0000001")
    shutil.copytree(offline, home / "checkpoint-0000001")
    assert "checkpoint-0000001" in told(folder)
    assert f"{home / 'checkpoint-0000001'} is of another place: checkpoint 4 of 'seed-0/offline'; restore a copy" in (
        verify(folder).problems
    )


@pytest.mark.parametrize("kind", ["policies", "learners"])
def test_what_came_out_of_a_deployment_is_pinned(kind: str, world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    (home,) = folder.glob("seed-0/otc*/deployment-01")
    shutil.copy(home / kind / "arm.safetensors", home / kind / "lift.safetensors")  # of equal shapes
    seal_again(home / kind)
    assert f"{home / kind} is not what the ledger knows" in told(folder)
    assert [one for one in verify(folder).problems if "checkpoint-0000001 was made with: it is of another run" in one]


def test_a_ledger_and_its_head_from_before_the_last_tuning_are_told(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    for name in ("ledger.sqlite", "ledger.head"):
        shutil.copy(world / "run" / name, folder / name)
    assert "does not hold the 4 events on which" in told(folder)


def test_an_older_ledger_does_not_undo_a_rollback_unseen(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    Ledger(folder).append(1, RolledBack(to=0, agents=("arm",)))
    assert status(folder).agents["arm"].tuned_on == 0
    shutil.copy(world / "tuned" / "ledger.sqlite", folder / "ledger.sqlite")
    with pytest.raises(CorruptionError, match="an older ledger, or that of another run, was put in its place"):
        status(folder)
    assert "an older ledger" in told(folder)


def test_a_damaged_part_is_left_to_those_who_know_how_to_do_without_it(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    (home,) = folder.glob("seed-0/otc*")
    for name in ("checkpoint-0000001/arm/learner.safetensors", "checkpoint-0000001/manifest.json"):
        flip(home / name)
        require_belonging(folder)


@pytest.mark.parametrize(
    "made", ["x", [], {}, {"place": 1}, {"place": "seed-0/otc", "before": []}, {"place": "seed-0/otc", "ledger": 1}]
)
def test_what_a_stranger_says_of_a_checkpoint_ends_in_a_sentence(made: object, world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    (home,) = folder.glob("seed-0/otc*")
    seal_again(home / "checkpoint-0000001", made_from=made)
    problems = examine(folder, Ledger(folder).events()).problems
    assert all("\n" not in problem and "checkpoint-0000001" in problem for problem in problems)
    wanted = "is of another place" if made == {"place": 1} else "does not say properly what it was made from"
    assert [problem for problem in problems if wanted in problem]


def of_an_earlier_marline(folder: Path) -> Path:
    """A campaign as 0.1.0 left it: checkpoints and ledger say less, and there is no head."""
    checkpoints = {path.parent.name: path for path in folder.glob("seed-0/*/checkpoint-*")}
    for path in checkpoints.values():
        seal_again(path, made_from=None)
    events = Ledger(folder).events()
    for name in ("ledger.sqlite", "ledger.head"):
        (folder / name).unlink()
    for event in events:
        body = {key: value for key, value in event.body.items() if key not in ("identity", "anchored")}
        if event.kind == "trained":
            body["checkpoint"] = list_sha256(checkpoints["offline"])
        Ledger(folder).append(event.deployment, read_content(event.kind, body))
    (folder / "ledger.head").unlink()
    return folder


@pytest.mark.slow
def test_what_an_earlier_marline_left_is_read_and_verify_tells_what_it_cannot_see(world: Path, tmp_path: Path) -> None:
    folder = of_an_earlier_marline(copy(world / "tuned", tmp_path / "run"))
    found = verify(folder)
    assert found.problems == () and len(found.notes) == 3
    assert "no ledger.head is beside" in found.notes[0] and "of an earlier marline" in found.notes[1]
    assert status(folder).stage == "ready"
    exchange_learner(folder)  # which nothing there tells ...
    assert verify(folder).problems == ()
    run = Campaign.open(folder)
    assert run.replay() == {"arm": False, "cart": True, "lift": True}  # ... but training it again
    run.rollback(0, ["cart"])  # from then on there is a head
    assert json.loads((folder / "ledger.head").read_text())["number"] == len(run.ledger.events())
    (home,) = folder.glob("seed-0/otc*")
    assert History(home).steps() == [1]
