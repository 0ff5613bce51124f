"""What a campaign promises when files are damaged, the disk is full, or processes are killed or meet."""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import jax
import pytest
from field import act, contents, copy, create, flip, offline_logs, policies
from processes import PATIENCE, finished, started, wait_until
from safetensors.numpy import load_file

from marline import cli
from marline.campaign.campaign import Campaign
from marline.configuration.run_config import RunConfig
from marline.data.dataset import load, outline, save
from marline.data.files import StorageError, to_json
from marline.data.manifest import LARGEST, RESERVED, read_sealed, write_sealed
from marline.data.migrations import CHECKPOINT
from marline.errors import ConfigError, CorruptionError
from marline.runs import disk_space as room
from marline.runs.creation import start_run
from marline.runs.disk_space import estimate_bytes
from marline.runs.events import Exported, Later
from marline.runs.history import History
from marline.runs.ledger import Ledger
from marline.runs.verify import verify


def test_one_altered_bit_in_any_file_is_found_and_the_file_named(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    run = Campaign.open(folder)
    bundles = run.export().folder
    act(bundles, tmp_path / "logs")
    run.ingest(tmp_path / "logs" / "arm")  # so that something waits
    assert verify(folder).problems == ()
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.lock", "ledger.sqlite")]
    assert len(files) > 40
    for path in files:
        before = flip(path)
        # a manifest names its folder
        assert any(str(path) in told or str(path.parent) in told for told in verify(folder).problems), path
        path.write_bytes(before)
    (folder / "data" / "arm.h5").unlink()
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", str(folder)])
    assert stop.value.code == 3
    assert "data/arm.h5 is missing; restore a copy" in capsys.readouterr().err


def test_a_folder_that_was_replaced_by_a_sound_one_is_found(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    (home,) = folder.glob("seed-0/otc*/deployment-01")
    shutil.rmtree(home / "logs")
    save(home / "logs", offline_logs())
    assert [told for told in verify(folder).problems if f"{home / 'logs'} is not what the ledger knows" in told]


def test_the_ledger_takes_events_and_gives_none_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.events() == []
    for number in range(3):
        ledger.append(number, Later("looked-at", {"alpha": {"arm\n<b>": 0.5 * number}}))
    assert [event.body["alpha"] for event in ledger.events("looked-at")] == [{"arm\n<b>": 0.5 * n} for n in range(3)]
    with closing(sqlite3.connect(ledger.path)) as connection:
        for statement in ("DELETE FROM events", "UPDATE events SET kind = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
        connection.execute("DROP TRIGGER no_delete")
        connection.execute("DELETE FROM events WHERE number = 2")
        connection.commit()
    with pytest.raises(CorruptionError, match="event 2 breaks its seal"):
        ledger.events()


def test_an_altered_byte_of_an_event_is_found(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in range(3):
        ledger.append(number, Exported(policies={"arm": "0123456789abcdef" * 4}))
    content = ledger.path.read_bytes()
    for event in ledger.events():
        for text in (event.time.encode() + b"exported", b'{"policies"', event.seal.encode()):
            start = (
                content.find(text)
                if text != b'{"policies"'
                else content.find(text, content.find(event.seal.encode()) - 120)
            )
            assert start > 0
            flip(ledger.path, start + len(text) // 2)
            with pytest.raises(CorruptionError, match="ledger.sqlite"):
                ledger.check()
            ledger.path.write_bytes(content)
    for torn in reversed(range(0, len(content), 4096)):
        ledger.path.write_bytes(content[:torn])
        if torn == 0:
            (tmp_path / "ledger.head").unlink()
            assert ledger.events() == []  # as after a crash before the first event: `verify` says that it is empty
        else:
            with pytest.raises(CorruptionError, match="ledger.sqlite"):
                ledger.check()


@pytest.mark.slow
def test_a_torn_checkpoint_is_made_again_and_torn_logs_are_named(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    (home,) = folder.glob("seed-0/otc*")
    file = home / "checkpoint-0000001" / "arm" / "learner.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    run = Campaign.open(folder)
    assert run.number == 0 and run.notes == (
        f"{home / 'checkpoint-0000001'} is damaged, so what came after the one before it is done again",
    )
    run.tune()
    assert policies(folder, 1) == policies(world / "tuned", 1) and verify(folder).problems == ()
    assert [event.kind for event in run.ledger.events()].count("tuned") == 1

    logs = home / "deployment-01" / "logs" / "cart.h5"
    logs.write_bytes(logs.read_bytes()[:-10])
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", str(folder)])
    error = capsys.readouterr().err
    assert stop.value.code == 3 and "cart.h5" in error and "Traceback" not in error


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_changes_nothing_and_what_was_asked_can_be_asked_again(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "run", tmp_path / "run")
    run, before = Campaign.open(folder), contents(folder)
    for limit in (100, 4096):
        with full_disk(limit), pytest.raises(StorageError, match="cannot write .*logs.* choose another disk"):
            run.ingest(world / "logs")
        assert contents(folder) == before
    run.ingest(world / "logs")
    before = contents(folder)
    with full_disk(100), pytest.raises(StorageError, match="cannot write .*policies"):
        run.tune()
    with full_disk(4096), pytest.raises(StorageError, match="cannot write .*ledger.sqlite"):
        run.rollback(0)
    assert contents(folder) == before
    Campaign.open(folder).tune()
    assert policies(folder, 1) == policies(world / "tuned", 1)


def test_a_run_that_cannot_fit_on_the_disk_is_refused_before_it_starts(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = str(world / "run" / "data")
    train = ["train", logs, "--rows-per-deployment", "10", "--sampler", "uniform"]
    run = ["run", "--task", "cooperative-navigation-2", "--sampler", "uniform", "--dataset-size", "1000"]
    for plan, deployments, told in [
        (train, 10**8, "it needs .* left; free some space or choose another disk"),
        (run, 10**8, "it needs .* left; free some space or choose another disk"),
        (train, 10**9, "10,000,000,060 rows are planned for agent 'arm', and rows are counted in 32 bits"),
    ]:
        with pytest.raises(SystemExit) as stop:
            cli.main([*plan, "--run", str(tmp_path / "run"), "--deployments", str(deployments)])
        assert stop.value.code == 2 and re.search(told, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_what_a_run_needs_is_estimated_from_above_but_not_far(world: Path) -> None:
    config = RunConfig.read(world / "tuned" / "run.json")
    estimate = estimate_bytes(config, outline(world / "tuned" / "data"))
    arrays = [leaf for path in (world / "tuned").rglob("*.safetensors") for leaf in load_file(path).values()]
    rows = [log.columns().values() for log in load(world / "tuned" / "data").values()]
    kept = sum(leaf.nbytes for leaf in [*arrays, *(column for log in rows for column in log)])
    assert kept < estimate < 3 * kept  # one of two deployments is done, and one checkpoint of three is there


def test_a_plan_whose_lists_would_not_be_read_again_is_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, sizes = RunConfig.read(world / "tuned" / "run.json"), outline(world / "tuned" / "data")
    (home,) = (world / "tuned").glob("seed-0/otc*")
    records = History(home).records_at(1)
    per_agent = len(to_json({"records": records})) / len(sizes)
    assert room.MEASURED_BYTES / 2 < per_agent < room.MEASURED_BYTES
    assert LARGEST // (2_000 * room.MEASURED_BYTES) == 134  # as docs/scaling.md says
    monkeypatch.setattr(room, "LARGEST", 3 * 2 * room.MEASURED_BYTES)
    room.require_room(tmp_path / "run", config, sizes)
    with pytest.raises(ConfigError, match=r"3 deployments of 3 agents are planned, .* plan at most 2 deployments"):
        room.require_room(tmp_path / "run", dataclasses.replace(config, deployments=3), sizes)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_file_cut_at_any_block_is_the_old_state_or_is_named(world: Path, tmp_path: Path) -> None:
    """Disks write in blocks: whatever a power cut leaves of a file, no half of it is taken for the whole."""
    folder = copy(world / "tuned", tmp_path / "run")
    whole = policies(folder, 1)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "run.lock")
    for path in files:
        content = path.read_bytes()
        for size in range(0, len(content), 4096):
            os.truncate(path, size)
            told = verify(folder).problems
            assert any(str(path) in one or str(path.parent) in one for one in told), (path, size)
            path.write_bytes(content)
    (home,) = folder.glob("seed-0/otc*")
    for path in sorted(home.glob("checkpoint-0000001/**/*.*")):  # of those that can be made again
        content = path.read_bytes()
        for size in range(0, len(content), 4096):
            os.truncate(path, size)
            run = Campaign.open(folder)
            assert run.number == 0 and "is damaged, so what came after the one before it is done again" in run.notes[0]
        path.write_bytes(content)
    run = Campaign.open(folder)
    assert run.number == 1 and run.notes == () and policies(folder, 1) == whole


@pytest.mark.slow
def test_a_second_interruption_stops_at_once_and_loses_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first makes it save what was done; the second comes while it does."""
    whole, run = create(tmp_path / "whole", offline_updates=8), create(tmp_path / "run", offline_updates=8)
    whole.train()
    sync, seen = os.fsync, []

    def again(file: int) -> None:
        seen.append(file)
        sync(file)
        raise KeyboardInterrupt

    def first(done: int) -> None:
        monkeypatch.setattr(os, "fsync", again)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.train(first)
    monkeypatch.undo()
    assert len(seen) == 1 and checkpoints(run.folder) == []  # it was at work, and it stopped there
    with pytest.raises(KeyboardInterrupt):
        run.train(interrupt)  # and with only one, the four updates are saved
    assert checkpoints(run.folder) == [4]
    run = Campaign.open(run.folder)
    run.train()
    assert learners(run.folder, 8) == learners(whole.folder, 8) and verify(run.folder).problems == ()


def interrupt(done: int) -> None:
    raise KeyboardInterrupt


def learners(folder: Path, step: int) -> dict[str, str]:
    return contents(folder / "seed-0" / "offline" / f"checkpoint-{step:07d}")


def test_another_version_or_device_is_told_and_refused_by_the_strict(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(world / "run", tmp_path / "run")
    (manifest,) = folder.glob("seed-0/offline/checkpoint-*/manifest.json")
    entries = read_sealed(manifest, CHECKPOINT)
    versions = entries["versions"] | {"jax": "0.4.1", "device": "NVIDIA H200"}
    kept = {key: value for key, value in entries.items() if key not in RESERVED}
    write_sealed(manifest, "marline checkpoint", 1, kept | {"versions": versions}, entries["files"])
    told = rf"was made with jax 0.4.1, not {jax.__version__}; device NVIDIA H200, not cpu; .* not bit-identical"
    (note,) = Campaign.open(folder).notes
    assert re.search(told, note)
    for command in (["train", "--run", str(folder)], ["tune", str(folder)]):
        before = contents(folder)
        with pytest.raises(SystemExit) as stop:
            cli.main([*command, "--strict"])
        assert stop.value.code == 2 and re.search(told, capsys.readouterr().err)
        assert contents(folder) == before
    assert Campaign.open(copy(world / "run", tmp_path / "same"), strict=True).notes == ()


def test_what_a_killed_writer_left_of_its_lock_holds_nobody_up(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "run", tmp_path / "run")
    (folder / "run.lock").touch()
    (folder / "run.pid").write_text("4242")  # as SIGKILL leaves them
    Campaign.open(folder).rollback(0)
    assert not (folder / "run.pid").exists()


@pytest.mark.slow
def test_stopped_training_goes_on_and_a_second_writer_leaves(tmp_path: Path, world: Path) -> None:
    folder = tmp_path / "run"
    options = "--hidden 4 --offline-updates 10000000 --updates 500".split()
    command = [sys.executable, "-m", "marline", "train", "--run", str(folder)]
    first = folder / "seed-0" / "offline" / "checkpoint-0010000"
    stops = (
        (signal.SIGTERM, 143, [str(world / "run" / "data"), *options], first),
        (signal.SIGINT, 130, [], folder / "run.pid"),  # which a writer leaves behind only if it is killed
    )
    for sent, status, arguments, moment in stops:
        with started([*command, *arguments]) as process:
            wait_until(moment.exists, process)
            with pytest.raises(ConfigError, match=f"is being written by process {process.pid}"):
                Campaign.open(folder).rollback(0)
            last = max(checkpoints(folder))
            os.kill(process.pid, sent)
            _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, error
        assert f"Go on with: {sys.executable} -m marline train --run {folder}" in error and "Traceback" not in error
        assert max(checkpoints(folder)) >= last >= 10_000
    assert verify(folder).problems == ()


def checkpoints(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("checkpoint-")) for path in folder.glob("seed-0/offline/checkpoint-*")]


def test_what_killed_writers_left_is_nothing_and_goes(world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    run = Campaign.open(folder)
    (home,) = folder.glob("seed-0/otc*")
    bundles = run.export().folder
    half = ".0123456789abcdef.partial"
    left = [home.parent / f".{home.name}{half}", home / f".checkpoint-0000000{half}", home / "diverged" / f".arm{half}"]
    for path in [*left, bundles / f".arm{half}"]:
        path.mkdir(parents=True)
        (path / "contract.json").write_text("{")
    lines = [path for path in folder.glob("seed-0/*/metrics.jsonl")]
    assert len(lines) == 2 and verify(folder).problems == ()
    before = {path: path.read_bytes() for path in lines}
    for path in lines:
        path.write_bytes(path.read_bytes()[:-9])
    assert len(verify(folder).problems) == 2
    run.rollback(1)
    assert verify(folder).problems == () and not left[1].exists()
    assert {path: path.read_bytes() for path in lines} == before


def test_what_a_killed_start_left_behind_is_no_content(world: Path, tmp_path: Path) -> None:
    config = RunConfig.read(world / "run" / "run.json")
    (tmp_path / ".run.json.0123456789abcdef.partial").mkdir()
    start_run(tmp_path, config)
    assert RunConfig.read(tmp_path / "run.json") == config
    (tmp_path / "run.json").rename(tmp_path / "notes.txt")
    with pytest.raises(ConfigError, match="is not empty and not a run directory"):
        start_run(tmp_path, config)


@pytest.mark.parametrize(
    ("what", "kills"),
    [
        ("campaign", 10),
        ("run", 3),
    ],
)
@pytest.mark.slow
def test_killed_at_some_moments_it_ends_as_if_it_had_been_left_alone(what: str, kills: int) -> None:
    script = Path(__file__).parents[2] / "experiments" / "kill_campaign.py"
    done = finished([sys.executable, script, "--what", what, "--kills", kills, "--by-time", "0", "--seed", "3"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{what}: {kills} kills in" in done.stdout
