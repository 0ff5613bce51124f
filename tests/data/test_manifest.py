"""Lists of files: as long as a run of many agents makes them, and no longer than what is read again."""

from pathlib import Path

import jax.numpy as jnp
import pytest

from marline.data import manifest
from marline.data.checkpoints import read_manifest, save_checkpoint
from marline.data.manifest import LARGEST, read_sealed, write_sealed
from marline.data.migrations import CHECKPOINT
from marline.errors import ConfigError, CorruptionError


def test_a_list_of_more_than_64_mib_comes_back(tmp_path: Path) -> None:
    """That is what 2,000 agents come to at deployment 27."""
    path, records = tmp_path / "manifest.json", "0123456789abcde\n" * (1 << 22)
    write_sealed(path, "marline checkpoint", 1, {"records": records}, {})
    assert 1 << 26 < path.stat().st_size < LARGEST
    assert read_sealed(path, CHECKPOINT)["records"] == records


def test_a_list_that_would_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {"learner": {"weight": jnp.zeros(3)}}
    save_checkpoint(tmp_path / "c", tree, {"records": "x" * 1000})
    size = (tmp_path / "c" / "manifest.json").stat().st_size
    monkeypatch.setattr(manifest, "LARGEST", size)
    assert read_manifest(tmp_path / "c")["records"] == "x" * 1000
    save_checkpoint(tmp_path / "c", tree, {"records": "y" * 1000})  # just as long
    told = (
        rf"manifest.json of this checkpoint would have {size + 1:,} bytes, and no more than {size:,} are read again; "
        "plan fewer agents or fewer deployments in one run"
    )
    for folder in ("c", "new"):
        with pytest.raises(ConfigError, match=told):
            save_checkpoint(tmp_path / folder, tree, {"records": "z" * 1001})
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert read_manifest(tmp_path / "c")["records"] == "y" * 1000
    monkeypatch.setattr(manifest, "LARGEST", size - 1)
    other = (tmp_path / "c").rename(tmp_path / "other")  # what was read here and nobody touched is not read again
    with pytest.raises(
        CorruptionError, match=rf"other/manifest.json has more than the {size - 1:,} bytes that marline writes"
    ):
        read_manifest(other)
