"""What strangers may send: nothing that they write is ever run, and what is wrong is told in one sentence."""

from __future__ import annotations

import ast
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field import SIZES, STEPS, contents, offline_logs

import marline
from marline.campaign.campaign import Campaign
from marline.campaign.ledger import Ledger
from marline.campaign.receiving import read_logs
from marline.campaign.status import status
from marline.configuration import RunConfig
from marline.data import checkpoints, dataset
from marline.data.decentralize import import_log
from marline.data.formats import open_log
from marline.data.manifest import read_sealed
from marline.errors import MarlineError
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
