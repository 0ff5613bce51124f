"""OG-MARL's vaults, written here by tensorstore in the layout that flashbax gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline.data.dataset import load
from marline.data.decentralize import import_log
from marline.data.formats import open_log
from marline.data.layout import rows_to_transitions
from marline.errors import ConfigError, CorruptionError, DataError
from marline.types import Spec

ts = pytest.importorskip("tensorstore", reason="tensorstore is not installed")
Arrays = dict[str, np.ndarray]


def write_vault(folder: Path, tree: dict[str, Any], filled: int) -> Path:
    """Arrays [batch, time, agent, ...] of a tree, on a time axis without end."""
    folder.mkdir(parents=True)

    def write(name: str, array: np.ndarray, shape: tuple[int, ...], compress: bool = True) -> None:
        database = {"driver": "ocdbt", "base": folder.as_uri(), "path": name}
        metadata = {"compressor": {"id": "gzip", "level": 5}} if compress else {}
        spec = {"driver": "zarr", "kvstore": database, "metadata": metadata}
        store = ts.open(spec, dtype=array.dtype.name, shape=shape, create=True).result()
        store[tuple(slice(0, size) for size in array.shape)].write(array).result()

    def walk(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
        shapes: dict[str, Any] = {}
        for key, value in tree.items():
            if isinstance(value, dict):
                shapes[key] = walk(value, f"{prefix}{key}.")
            else:
                write(f"{prefix}{key}.", value, (value.shape[0], 10**13, *value.shape[2:]))
                shapes[key] = str(value.shape)
        return shapes

    metadata = {"version": 1.2, "structure_shape": walk(tree, "")}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    write("vault_index", np.array([filled], np.int32), (1,), compress=False)
    return folder


def stacked(team: dict[str, Arrays]) -> dict[str, Any]:
    """Two agents with choices among three, one batch; legals allow whatever was done."""
    actions = np.stack([np.arange(50) % 3, np.arange(50) // 5 % 3], axis=1).astype(np.int32)
    legals = np.arange(50)[:, None, None] % 2 + np.eye(3)[actions] > 0
    tree: dict[str, Any] = {
        key: np.stack([arrays[mine] for arrays in team.values()], axis=1)[None].astype(np.float32)
        for key, mine in (
            ("observations", "observations"),
            ("rewards", "rewards"),
            ("terminals", "terminals"),
            ("truncations", "timeouts"),
        )
    }
    return tree | {"actions": actions[None], "infos": {"legals": legals[None], "state": np.zeros((1, 50, 7))}}


def test_a_vault_is_read(team: dict[str, Arrays], tmp_path: Path) -> None:
    tree = stacked(team)
    specs = dict.fromkeys(team, Spec(4, 3, discrete=True))
    import_log(open_log(write_vault(tmp_path / "x.vlt" / "Good", tree, 50)), tmp_path / "out", specs=specs)
    found = load(tmp_path / "out")
    assert list(found) == ["a", "b"]  # numbered in the vault, named by the team
    for i, (agent, arrays) in enumerate(team.items()):
        rows = {key: np.copy(arrays[key]) for key in ("observations", "rewards", "terminals", "timeouts")}
        rows |= {"actions": tree["actions"][0, :, i], "action_masks": tree["infos"]["legals"][0, :, i]}
        for key, column in rows_to_transitions(rows).items():
            np.testing.assert_array_equal(getattr(found[agent], key), column)


def test_blocks_and_batches(team: dict[str, Arrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marline.data.formats.vault._ROWS", 7)
    tree = {key: np.concatenate([value] * 2) for key, value in stacked(team).items() if key != "infos"}
    import_log(open_log(write_vault(tmp_path / "Good", tree, 33)), tmp_path / "out")
    found = load(tmp_path / "out")["agent_1"]
    assert len(found) == 2 * 31  # of 33 rows each, but for the time-out and the last
    np.testing.assert_array_equal(found.rewards[:31], found.rewards[31:])
    np.testing.assert_array_equal(found.rewards[:29], team["b"]["rewards"][:29])


def test_a_vault_that_claims_to_hold_what_was_never_written(team: dict[str, Arrays], tmp_path: Path) -> None:
    folder = write_vault(tmp_path / "Good", stacked(team), 10**9)
    with pytest.raises(DataError, match=r"unpacks from [\d,]+ to [\d,]+ bytes, as no log does"):
        import_log(open_log(folder), tmp_path / "out")
    folder = write_vault(tmp_path / "negative", stacked(team), -5)
    with pytest.raises(CorruptionError, match="-5 of 10000000000000 steps are filled"):
        import_log(open_log(folder), tmp_path / "out")


def test_vaults_that_are_refused(team: dict[str, Arrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = stacked(team)
    folder = write_vault(tmp_path / "uneven", tree | {"rewards": tree["rewards"][:, :, :1]}, 50)
    with pytest.raises(DataError, match="all of them need a row for every batch, step and agent"):
        import_log(open_log(folder), tmp_path / "out")
    with pytest.raises(DataError, match="holds vaults; choose one of uneven in it"):
        open_log(tmp_path)
    folder = write_vault(tmp_path / "missing", {key: tree[key] for key in ("observations", "actions", "rewards")}, 50)
    with pytest.raises(DataError, match='no "terminals" among "observations", "actions", "rewards"'):
        import_log(open_log(folder), tmp_path / "out")
    folder = write_vault(tmp_path / "cut", tree, 50)
    for file in (folder / "d").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CorruptionError, match="is not a whole vault"):
        import_log(open_log(folder), tmp_path / "out")
    (folder / "metadata.json").write_text("{}")
    with pytest.raises(DataError, match="is not the metadata of a vault"):
        import_log(open_log(folder), tmp_path / "out")
    monkeypatch.setitem(__import__("sys").modules, "tensorstore", None)
    with pytest.raises(
        ConfigError, match=r"Vaults need tensorstore, which is not installed: pip install 'marline\[vault\]'"
    ):
        import_log(open_log(folder), tmp_path / "out")
