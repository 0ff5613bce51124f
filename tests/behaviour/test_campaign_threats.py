"""What strangers may send: nothing that they write is ever run, and what is wrong is told in one sentence."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pickle
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.external_data_helper
import pytest
from field import SETTINGS, SIZES, STEPS, act, contents, copy, offline_logs

import marline
from marline import cli
from marline.campaign.campaign import Campaign
from marline.campaign.read_logs import read_logs
from marline.campaign.status import status
from marline.configuration.run_config import RunConfig
from marline.data import checkpoints, dataset
from marline.data.decentralize import import_log
from marline.data.files import atomic_bytes
from marline.data.formats import open_log
from marline.data.manifest import RESERVED, read_sealed, record_file, write_sealed
from marline.data.migrations import BUNDLE, CHECKPOINT
from marline.errors import MarlineError
from marline.report import write_report, write_tensorboard
from marline.runs.events import RolledBack
from marline.runs.export import export
from marline.runs.ledger import Ledger
from marline.runs.lock import writing
from marline.runs.verify import verify

SOURCES = sorted(Path(marline.__file__).parent.rglob("*.py"))
UNPICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch", "yaml"}
RUNNING = {"eval", "exec", "compile", "__import__"}


def suspicious(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of whatever could run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                if name.partition(".")[0] in UNPICKLING:
                    yield node.lineno, name
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in RUNNING:
                yield node.lineno, node.func.id
            for keyword in node.keywords:
                is_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in ("allow_pickle", "shell") and not is_off:
                    yield node.lineno, keyword.arg


def test_nothing_in_the_sources_unpickles_or_runs_text() -> None:
    assert len(SOURCES) > 100
    found = [(path.name, name) for path in SOURCES for _, name in suspicious(ast.parse(path.read_text("utf-8")))]
    assert found == []
    for text in ("import pickle", "from joblib import load", "eval(x)", "np.load(x, allow_pickle=True)"):
        assert list(suspicious(ast.parse(text)))


class Exploit:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def arrays_of(agent: str = "arm") -> dict[str, Any]:
    """An episode as bundles log it."""
    seen, done = SIZES["arm"]
    return {
        "observations": np.zeros((STEPS, seen), np.float32),
        "actions": np.zeros((STEPS, done), np.float32),
        "rewards": np.zeros(STEPS, np.float32),
        "terminals": np.zeros(STEPS, bool),
        "timeouts": np.arange(STEPS) == STEPS - 1,
        "next_observations": np.zeros((STEPS, seen), np.float32),
        "agent": np.array(agent),
        "deployment": np.array(1),
        "policy_sha256": np.array("0" * 64),
    }


def bring(path: Path) -> object:
    """What `marline ingest`, `train` and `data import` do with a path."""
    read_logs(path)
    return import_log(open_log(path), path.parent / "imported")


def refused(folder: Path, read: Callable[[Path], object], path: Path) -> str:
    """What is said of a path; nothing in its folder has changed."""
    before = contents(folder)
    with pytest.raises(MarlineError) as caught:
        read(path)
    told = str(caught.value)
    assert "\n" not in told and told.isprintable() and len(told) < 1000, told
    assert contents(folder) == before
    return told


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.hdf5", "a.npy", "a.pkl", "a.parquet", "a.csv", "a.jsonl"])
def test_a_pickle_in_disguise_is_no_log(name: str, tmp_path: Path) -> None:
    path = tmp_path / "logs" / name
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(Exploit(tmp_path / "was here")))
    assert name in refused(tmp_path, bring, path)
    assert str(path.parent) in refused(tmp_path, bring, path.parent)
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize("key", ["observations", "rewards", "agent", "policy_sha256"])
def test_pickled_arrays_are_not_read(key: str, tmp_path: Path) -> None:
    arrays = arrays_of()
    arrays[key] = np.array([Exploit(tmp_path / "was here")] * STEPS, dtype=object)
    (tmp_path / "arm").mkdir()
    np.savez(tmp_path / "arm" / "000000.npz", **arrays)
    assert "000000.npz" in refused(tmp_path, read_logs, tmp_path)
    np.save(tmp_path / "arm" / "rewards.npy", arrays[key])
    assert "rewards.npy" in refused(tmp_path, bring, tmp_path / "arm" / "rewards.npy")
    assert not (tmp_path / "was here").exists()


def test_a_pickle_in_place_of_what_marline_writes_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps(Exploit(tmp_path / "was here"))
    run = tmp_path / "run"
    (run / "data").mkdir(parents=True)
    files = ["run.json", "ledger.sqlite", "data/dataset.json", "data/manifest.json", "data/contract.json"]
    for name in files:
        (run / name).write_bytes(content)
    reads: list[tuple[str, Callable[[Path], object]]] = [
        ("run.json", lambda folder: RunConfig.read(folder / "run.json")),
        ("run.json", lambda folder: write_report([folder], folder / "report.html")),
        ("ledger.sqlite", lambda folder: Ledger(folder).events()),
        ("ledger.sqlite", status),
        ("ledger.sqlite", Campaign.open),
        ("dataset.json", lambda folder: dataset.load(folder / "data")),
        ("manifest.json", lambda folder: checkpoints.read_manifest(folder / "data")),
        ("contract.json", lambda folder: read_sealed(folder / "data" / "contract.json", BUNDLE)),
    ]
    for name, read in reads:
        assert name in refused(run, read, run)
    assert not (tmp_path / "was here").exists()


STRANGE = ["../x", "/etc/x", "", ".", "<script>alert(1)</script>", "[/bold]", "a\nb\x1b[31m\x00", "‮x", "x" * 10_000]


@pytest.mark.parametrize("name", STRANGE, ids=range(len(STRANGE)))
def test_agents_with_strange_names_get_no_path_and_no_message(name: str, tmp_path: Path) -> None:
    logs = offline_logs()
    strange = {name: logs["arm"], "cart": logs["cart"]}
    refused(tmp_path, lambda path: Campaign.create(path / "run", strange, **SETTINGS), tmp_path)
    refused(tmp_path, lambda path: dataset.save(path / "data", strange), tmp_path)
    assert list(tmp_path.iterdir()) == []
    arrays = arrays_of(name)  # as a stamp
    np.savez(tmp_path / "000000.npz", **arrays)
    specs = {agent: log.spec for agent, log in logs.items()}
    told = refused(tmp_path, lambda path: read_logs(path, specs), tmp_path)
    assert "the stamp agent has" in told if len(name) > 1000 else "who is not of this team" in told


def seal_again(bundle: Path, **entries: Any) -> None:
    """What somebody does who alters `policy.onnx` and knows how a bundle is sealed."""
    contract = read_sealed(bundle / "contract.json", BUNDLE)
    files = contract["files"] | {"policy.onnx": record_file(bundle / "policy.onnx")}
    kept = {key: value for key, value in contract.items() if key not in RESERVED}
    write_sealed(bundle / "contract.json", BUNDLE.kind, 1, kept | entries, files)


def test_a_bundle_sealed_anew_is_known_by_its_policy_as_long_as_it_says_which_that_is(
    world: Path, tmp_path: Path
) -> None:
    """A seal is no signature: it keeps accidents out, and the ledger keeps out policies that say who they are."""
    run = Campaign.open(copy(world / "run", tmp_path / "run"))
    bundle = run.export().folder / "arm"
    assert verify(run.folder).problems == ()
    model = onnx.load(bundle / "policy.onnx")
    model.doc_string = "improved on site"  # another policy by its bytes, with the same actions
    (bundle / "policy.onnx").write_bytes(model.SerializeToString())
    assert "policy.onnx has" in verify(run.folder).problems[0]
    policy = record_file(bundle / "policy.onnx")["sha256"]
    contract = read_sealed(bundle / "contract.json", BUNDLE)
    stamp = {"agent": "arm", "deployment": 1, "policy_sha256": policy}
    seal_again(bundle, policy_sha256=policy, logs=contract["logs"] | {"stamp": stamp})
    (told,) = verify(run.folder).problems
    assert told == f"{bundle / 'policy.onnx'} is no policy that the ledger knows to have gone out; export it again"
    act(bundle.parent, tmp_path / "logs")
    assert "which never left this run directory; deployment 1 runs" in refused(
        run.folder, lambda _: run.ingest(tmp_path / "logs"), tmp_path
    )
    seal_again(bundle, policy_sha256=policy, logs=contract["logs"])  # who lies about it in the stamp, too, is believed
    act(bundle.parent, tmp_path / "lies")
    assert run.ingest(tmp_path / "lies").outcome == "ingested"


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/hostname", "weights.bin"])
def test_a_policy_that_reads_other_files_does_not_act(place: str, world: Path, tmp_path: Path) -> None:
    """ONNX may keep its numbers in other files, of any name; bundles have none, and nothing follows one."""
    bundle = copy(world / "sent" / "arm", tmp_path / "arm")
    model = onnx.load(bundle / "policy.onnx")
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    for file in ("secret.bin", "arm/weights.bin"):
        (tmp_path / file).write_bytes(weights.raw_data)
    onnx.external_data_helper.set_external_data(weights, place)
    weights.ClearField("raw_data")
    (bundle / "policy.onnx").write_bytes(model.SerializeToString())
    seal_again(bundle)
    with pytest.raises(Exception, match="(?i)external data|model_path"):
        act(tmp_path, tmp_path / "logs", ["arm"])
    assert not (tmp_path / "logs").exists()


PLACES = [
    "run.json",
    "run.lock",
    "run.pid",
    "report.html",
    "ledger.sqlite",
    "ledger.sqlite-journal",
    "ledger.head",
    "data",
    "data/arm.h5",
    "seed-0",
    "seed-0/offline/checkpoint-0000004",
    "seed-0/otc/metrics.jsonl",
    "seed-0/otc/trajectories.json",
    "seed-0/otc/checkpoint-0000001/manifest.json",
    "seed-0/otc/deployment-01",
    "seed-0/otc/deployment-01/bundles",
    "seed-0/otc/deployment-02/logs",
]
READERS: list[Callable[[Path], object]] = [status, verify, Campaign.open, lambda run: write_report([run], run / "x")]


@pytest.mark.parametrize("place", PLACES)
def test_nothing_in_a_run_is_read_or_written_through_links_and_pipes(place: str, world: Path, tmp_path: Path) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    there, victim = folder / place, tmp_path / "victim"
    there.parent.mkdir(parents=True, exist_ok=True)
    if there.exists():
        there.rename(victim)  # what is behind the link is even right
    else:
        victim.write_text("years of work")
    for make in (lambda: there.symlink_to(victim), lambda: os.mkfifo(there)):
        make()
        before = contents(tmp_path)
        for read in READERS:
            with pytest.raises(MarlineError, match=re.escape(str(there))):
                read(folder)
        assert contents(tmp_path) == before
        there.unlink()


def test_every_command_leaves_a_run_with_a_link_in_it_alone(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(world / "run", tmp_path / "run")
    (folder / "report.html").symlink_to(tmp_path / "victim")
    for name in ("report", "export", "play", "resume", "tune"):
        with pytest.raises(SystemExit) as stop:
            cli.main([name, str(folder)])
        assert stop.value.code == 3 and "report.html is a symbolic link" in capsys.readouterr().err
    assert not (tmp_path / "victim").exists()


def test_other_names_of_a_users_file_keep_what_they_had(world: Path, tmp_path: Path) -> None:
    """A hard link cannot be told from a file; what is written takes its place, and nothing is written into it."""
    folder = copy(world / "run", tmp_path / "run")
    for name in ("run.pid", "report.html", "ledger.head", "seed-0/otc/metrics.jsonl"):
        victim, there = tmp_path / name.replace("/", "-"), folder / name
        victim.write_bytes(there.read_bytes() if there.exists() else b"years of work")
        there.parent.mkdir(exist_ok=True)
        there.unlink(missing_ok=True)
        there.hardlink_to(victim)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert len(before) == 4
    Ledger(folder).append(0, RolledBack(to=0, agents=("arm",)))
    atomic_bytes(folder / "seed-0" / "otc" / "metrics.jsonl", b"")  # as histories write it
    with writing(folder):
        assert (folder / "run.pid").read_text() == str(os.getpid())
    write_report([folder], folder / "report.html")
    assert {path: path.read_bytes() for path in before} == before
    (folder / "run.lock").unlink(missing_ok=True)
    (folder / "run.lock").hardlink_to(tmp_path / "run.pid")
    with writing(folder):  # which is not written into
        pass
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    "place",
    [
        "run.json",
        "ledger.sqlite",
        "ledger.sqlite-journal",
        "ledger.head",
        "data/arm.h5",
        "seed-0/otc/metrics.jsonl",
        "seed-0/otc/checkpoint-0000001/arm/learner.safetensors",
        "seed-0/otc/deployment-01/policies/arm.safetensors",
    ],
)
def test_files_without_end_are_not_read(place: str, world: Path, tmp_path: Path) -> None:
    """A file of a tebibyte that takes nothing on the disk, even where the list beside it says so."""
    folder = copy(world / "tuned", tmp_path / "run")
    path = folder / place
    path.touch()
    os.truncate(path, 1 << 40)
    manifest = path.parent.parent / "manifest.json" if path.parent.name == "arm" else path.parent / "manifest.json"
    if manifest.exists() and path.suffix == ".safetensors":
        document = read_sealed(manifest, CHECKPOINT)
        document["files"][str(path.relative_to(manifest.parent))]["size"] = 1 << 40
        entries = {key: value for key, value in document.items() if key not in RESERVED}
        write_sealed(manifest, "marline checkpoint", 1, entries, document["files"])
    assert any(place.rpartition("/")[2].partition("-journal")[0] in problem for problem in verify(folder).problems)
    for read in (status, Campaign.open, lambda run: write_report([run], tmp_path / "report.html")):
        with contextlib.suppress(MarlineError):
            read(folder)


def test_a_sampler_whose_name_leads_elsewhere_is_refused(world: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("../../victim", "/victim", "offline", "..")):
        folder = copy(world / "run", tmp_path / f"run-{number}")
        document = json.loads((folder / "run.json").read_text())
        document["samplers"] = {name: document["samplers"]["otc"]}
        (folder / "run.json").write_text(json.dumps(document))
        with pytest.raises(MarlineError, match="cannot name a file|would share a folder"):
            RunConfig.read(folder / "run.json")
        if name != "offline":
            with pytest.raises(MarlineError, match="cannot name a file|needs tensorboardX"):
                write_tensorboard([folder], tmp_path / "logs")
    assert not (tmp_path / "victim").exists() and not (tmp_path / "logs" / "victim").exists()


def test_where_a_user_wants_a_report_it_is_written_unless_a_link_in_the_run_leads_there(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(world / "tuned", tmp_path / "run")
    mine = tmp_path / "mine.html"
    (tmp_path / "link.html").symlink_to(mine)  # of the user's own
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(folder), "-o", str(tmp_path / "link.html"), "--csv", "/dev/null"])
    assert stop.value.code == 0 and mine.read_text().startswith("<!doctype html>")
    (folder / "page.html").symlink_to(tmp_path / "victim")
    capsys.readouterr()
    for option in ("--output", "--csv", "--summary"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["report", str(folder), option, str(folder / "page.html")])
        assert stop.value.code == 3 and "page.html is a symbolic link" in capsys.readouterr().err
    assert not (tmp_path / "victim").exists()


def test_what_a_newer_marline_wrote_is_left_alone(world: Path, tmp_path: Path) -> None:
    for number, (name, change, read) in enumerate(NEWER):
        folder = copy(world / "tuned", tmp_path / f"run-{number}")
        (path,) = folder.glob(name)
        change(path)
        told = refused(folder, read, folder)
        assert path.name in told and ("upgrade marline" in told or "reads those up to" in told), told


def newer_json(path: Path) -> None:
    """A sealed list, or a configuration, with everything in order but its version."""
    document = json.loads(path.read_text())
    if "seal" in document:
        entries = {key: value for key, value in document.items() if key not in RESERVED}
        write_sealed(path, document["kind"], 3, entries, document["files"])
    else:
        path.write_text(json.dumps(document | {"schema": 3}))


def newer_ledger(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


NEWER: list[tuple[str, Callable[[Path], None], Callable[[Path], object]]] = [
    ("ledger.sqlite", newer_ledger, Campaign.open),
    ("ledger.sqlite", newer_ledger, status),
    ("run.json", newer_json, lambda folder: RunConfig.read(folder / "run.json")),
    ("run.json", newer_json, lambda folder: write_report([folder], folder.parent / "report.html")),
    ("data/dataset.json", newer_json, Campaign.open),
    ("seed-0/otc*/checkpoint-0000001/manifest.json", newer_json, status),
    ("seed-0/otc*/deployment-01/policies/manifest.json", newer_json, lambda folder: export(folder, folder / "out")),
]
