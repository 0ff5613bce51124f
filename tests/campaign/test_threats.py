"""What strangers may send: nothing that they write is ever run, and what is wrong is told in one sentence."""

from __future__ import annotations

import ast
import json
import os
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.external_data_helper
import pytest
from field import SIZES, STEPS, act, contents, copy, offline_logs

import marline
from marline.campaign.campaign import Campaign
from marline.campaign.exporting import export
from marline.campaign.ledger import Ledger
from marline.campaign.receiving import read_logs
from marline.campaign.status import status
from marline.campaign.verify import verify
from marline.configuration import RunConfig
from marline.data import checkpoints, dataset
from marline.data.decentralize import import_log
from marline.data.formats import open_log
from marline.data.manifest import RESERVED, read_sealed, record_file, write_sealed
from marline.errors import MarlineError
from marline.export.bundle import KIND
from marline.report import write_report

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
    assert found == [("cli.py", "__import__")]  # of a module that is named there
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
        ("contract.json", lambda folder: read_sealed(folder / "data" / "contract.json", "marline bundle", 1)),
    ]
    for name, read in reads:
        assert name in refused(run, read, run)
    assert not (tmp_path / "was here").exists()


STRANGE = ["../x", "/etc/x", "", ".", "<script>alert(1)</script>", "[/bold]", "a\nb\x1b[31m\x00", "‮x", "x" * 10_000]


@pytest.mark.parametrize("name", STRANGE, ids=range(len(STRANGE)))
def test_agents_with_strange_names_get_no_path_and_no_message(name: str, tmp_path: Path) -> None:
    logs = offline_logs()
    strange = {name: logs["arm"], "cart": logs["cart"]}
    refused(tmp_path, lambda path: Campaign.create(path / "run", strange), tmp_path)
    refused(tmp_path, lambda path: dataset.save(path / "data", strange), tmp_path)
    assert list(tmp_path.iterdir()) == []
    arrays = arrays_of(name)  # as a stamp
    np.savez(tmp_path / "000000.npz", **arrays)
    specs = {agent: log.spec for agent, log in logs.items()}
    told = refused(tmp_path, lambda path: read_logs(path, specs), tmp_path)
    assert "the stamp agent has" in told if len(name) > 1000 else "who is not of this team" in told


def seal_again(bundle: Path, **entries: Any) -> None:
    """What somebody does who alters `policy.onnx` and knows how a bundle is sealed."""
    contract = read_sealed(bundle / "contract.json", KIND, 1)
    files = contract["files"] | {"policy.onnx": record_file(bundle / "policy.onnx")}
    kept = {key: value for key, value in contract.items() if key not in RESERVED}
    write_sealed(bundle / "contract.json", KIND, 1, kept | entries, files)


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
    contract = read_sealed(bundle / "contract.json", KIND, 1)
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


def test_what_a_newer_marline_wrote_is_left_alone(world: Path, tmp_path: Path) -> None:
    for number, (name, change, read) in enumerate(NEWER):
        folder = copy(world / "tuned", tmp_path / f"run-{number}")
        (path,) = folder.glob(name)
        change(path)
        told = refused(folder, read, folder)
        assert path.name in told and ("upgrade marline" in told or "this marline reads 1" in told), told


def newer_json(path: Path) -> None:
    """A sealed list, or a configuration, with everything in order but its version."""
    document = json.loads(path.read_text())
    if "seal" in document:
        entries = {key: value for key, value in document.items() if key not in RESERVED}
        write_sealed(path, document["kind"], 3, entries, document["files"])
    else:
        path.write_text(json.dumps(document | {"schema": 2}))


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
