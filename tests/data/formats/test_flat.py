"""D4RL's keys in HDF5 and NPZ files, and the bad files among them."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from marline.data.dataset import load
from marline.data.decentralize import import_log
from marline.data.formats import open_log
from marline.data.layout import rows_to_transitions
from marline.data.split import Share
from marline.errors import ConfigError, DataError, MarlineError
from marline.types import Spec

Arrays = dict[str, np.ndarray]
SPECS = {"a": Spec(4, 2), "b": Spec(4, 1)}


def write_hdf5(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
        file["infos/qpos"] = np.zeros(3)
    return path


def write_npz(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


Writer = Callable[[Path, Arrays], Path]


@pytest.mark.parametrize(("name", "write"), [("joint.hdf5", write_hdf5), ("joint.npz", write_npz)])
def test_a_joint_file_gives_each_agent_its_own_action(
    joint: Arrays, tmp_path: Path, name: str, write: Callable[[Path, Arrays], Path]
) -> None:
    import_log(open_log(write(tmp_path / name, joint)), tmp_path / "out", specs=SPECS)
    found = load(tmp_path / "out")
    assert list(found) == ["a", "b"]
    for agent, columns in (("a", slice(0, 2)), ("b", slice(2, 3))):
        for key in ("observations", "next_observations", "rewards", "terminals", "timeouts"):
            np.testing.assert_array_equal(getattr(found[agent], key), joint[key])
        np.testing.assert_array_equal(found[agent].actions, joint["actions"][:, columns])
        with h5py.File(tmp_path / "out" / f"{agent}.h5") as file:  # as any reader of D4RL's layout opens it
            assert set(file) == set(joint)


def test_rows_without_a_next_observation_are_dropped_as_d4rl_does(joint: Arrays, tmp_path: Path) -> None:
    del joint["next_observations"]
    imported = import_log(open_log(write_hdf5(tmp_path / "v0.hdf5", joint)), tmp_path / "out", specs=SPECS)
    assert imported.num_rows == {"a": 49, "b": 49}  # the time-out has none, and terminal rows need none
    whole = rows_to_transitions({key: np.copy(column) for key, column in joint.items()})
    found = load(tmp_path / "out")["b"]
    for key in ("observations", "next_observations", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(found, key), whole[key])
    assert any("rows without one dropped (1)" in note for note in imported.notes)


@pytest.mark.parametrize("block_rows", [1, 2, 3, 7, 30])
def test_blocks_of_any_size_give_the_same_rows(
    joint: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    del joint["next_observations"]
    joint["timeouts"][[12, 13, 28, 48]] = True
    monkeypatch.setattr("marline.data.formats.flat.BLOCK_ROWS", block_rows)
    import_log(open_log(write_npz(tmp_path / "v0.npz", joint)), tmp_path / "out", specs=SPECS)
    whole = rows_to_transitions({key: np.copy(column) for key, column in joint.items()})
    found = load(tmp_path / "out")["a"]
    for key in ("observations", "next_observations", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(found, key), whole[key])


def test_a_folder_holds_a_file_per_agent(team: dict[str, Arrays], tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for agent, arrays in team.items():
        write_npz(logs / f"{agent}.npz", arrays)
    import_log(open_log(logs), tmp_path / "out")
    found = load(tmp_path / "out")
    for agent in team:
        np.testing.assert_array_equal(found[agent].actions, team[agent]["actions"])


def test_choices_in_one_column_each(joint: Arrays, tmp_path: Path) -> None:
    joint["actions"] = np.random.default_rng(1).integers(0, 3, (50, 2))
    specs = {"a": Spec(4, 5, discrete=True), "b": Spec(4, 3, discrete=True)}
    import_log(open_log(write_npz(tmp_path / "joint.npz", joint)), tmp_path / "out", specs=specs)
    found = load(tmp_path / "out")
    assert {agent: log.spec for agent, log in found.items()} == specs
    np.testing.assert_array_equal(found["b"].actions, joint["actions"][:, 1])


def test_choices_are_counted_where_nothing_says_how_many(
    team: dict[str, Arrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marline.data.formats.flat.BLOCK_ROWS", 10)
    (tmp_path / "logs").mkdir()
    write_npz(tmp_path / "logs" / "a.npz", team["a"] | {"actions": np.arange(50) // 10})
    import_log(open_log(tmp_path / "logs"), tmp_path / "out")
    assert load(tmp_path / "out")["a"].spec == Spec(4, 5, discrete=True)


def test_actions_in_other_units_are_scaled(joint: Arrays, tmp_path: Path) -> None:
    joint["actions"] = 3 * joint["actions"] + 1  # in [-2, 4]
    split = {"a": Share((0, 3), (0, 2), low=-2.0, high=4.0), "b": Share((1,), (1,), low=-2.0, high=4.0)}
    import_log(open_log(write_npz(tmp_path / "joint.npz", joint)), tmp_path / "out", split=split)
    found = load(tmp_path / "out")["a"]
    np.testing.assert_allclose(found.actions, (joint["actions"][:, [0, 2]] - 1) / 3, atol=1e-6)
    np.testing.assert_array_equal(found.next_observations, joint["next_observations"][:, [0, 3]])


def test_bytes_in_another_order_are_read(team: dict[str, Arrays], tmp_path: Path) -> None:
    big = {key: array.astype(array.dtype.newbyteorder(">")) for key, array in team["a"].items()}
    (tmp_path / "logs").mkdir()
    write_npz(tmp_path / "logs" / "a.npz", big)
    import_log(open_log(tmp_path / "logs"), tmp_path / "out")
    np.testing.assert_array_equal(load(tmp_path / "out")["a"].observations, team["a"]["observations"])


def refused(path: Path, out: Path, **options: object) -> str:
    """Import what must be refused; nothing may be left of it."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(MarlineError) as caught:
        import_log(open_log(path), out, **options)  # pyright: ignore[reportArgumentType]
    assert sorted(out.parent.iterdir()) == before
    return str(caught.value)


def test_values_that_cannot_be_trained_on_are_refused_with_their_row(
    joint: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marline.data.formats.flat.BLOCK_ROWS", 10)
    for key, value, told in (
        ("observations", np.nan, "hold NaN in observations at row 33; remove"),
        ("rewards", np.inf, "hold an infinite value in rewards at row 33; remove"),
        ("rewards", 1e30, "hold 1e+30 in rewards at row 33; nothing beyond 1e+18"),
        ("actions", 1.8, "(first at row 33, 1 rows); re-export with the action scaling used on site"),
    ):
        changed = joint[key].copy()
        changed[33] = value
        path = write_npz(tmp_path / "joint.npz", joint | {key: changed})
        error = refused(path, tmp_path / "out", specs=SPECS)
        assert told in error and 'agent "a"' in error and "joint.npz" in error
    imported = import_log(open_log(path), tmp_path / "out", specs=SPECS, clip_actions=True)
    assert imported.notes == [
        f'logs of agent "{agent}" ({path}): actions beyond [-1, 1] were clipped' for agent in ("a", "b")
    ]
    assert load(tmp_path / "out")["a"].actions[33].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rewards": np.array(["1", "2"] * 25)}, "rewards hold <U1 instead of numbers"),
        ({"terminals": None}, 'no "terminals" among "observations", "actions"'),
        ({"terminals": np.full(50, 2)}, "hold 2 in terminals at row 0; export only 0 and 1"),
        ({"rewards": np.zeros(48, np.float32)}, "observations have 50 rows and rewards 48; export one row per step"),
        ({"observations": np.zeros((51, 4), np.float32)}, "observations[:-1] and next_observations"),
        ({"rewards": np.float32(0)}, '"rewards" is a single number'),
        ({"actions": np.zeros((50, 4), np.float32)}, "has 4 action columns, but the agents a, b have 2, 1"),
        ({"observations": np.zeros((50, 9), np.float32)}, "has 9 observation columns, but the agents a, b have 4, 4"),
        ({"observations": np.zeros((50, 4, 1), np.float32)}, "a, b have 4, 4; say which are whose in a --spec"),
    ],
)
def test_arrays_that_do_not_fit(joint: Arrays, tmp_path: Path, changes: Arrays, told: str) -> None:
    arrays = {key: array for key, array in (joint | changes).items() if array is not None}
    assert told in refused(write_npz(tmp_path / "joint.npz", arrays), tmp_path / "out", specs=SPECS)


def test_a_joint_log_needs_to_be_told_whose_columns_are_whose(joint: Arrays, tmp_path: Path) -> None:
    error = refused(write_npz(tmp_path / "joint.npz", joint), tmp_path / "out")
    assert "say which are whose: --task NAME for a task of the catalogue, or --spec FILE" in error


def test_pickled_objects_are_never_loaded(joint: Arrays, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "joint.npz", joint | {"rewards": np.array([{}] * 50)})
    assert '"rewards" holds pickled objects, which are not read' in refused(path, tmp_path / "out", specs=SPECS)


def test_zip_entries_outside_are_refused(joint: Arrays, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "joint.npz", joint)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../evil.npy", b"")
    assert "has the entry '../evil.npy'" in refused(path, tmp_path / "out", specs=SPECS)


def test_a_header_that_claims_more_than_there_is(joint: Arrays, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "joint.npz", {key: array for key, array in joint.items() if key != "rewards"})
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**11,)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("rewards.npy", header.getvalue())
    assert "observations have 50 rows and rewards 100000000000" in refused(path, tmp_path / "out", specs=SPECS)


def test_cut_or_altered_archives(joint: Arrays, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "joint.npz", joint)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    assert "is no NPZ file, or is cut or altered" in refused(path, tmp_path / "out", specs=SPECS)
    content[400] ^= 1
    path.write_bytes(content)
    assert "is no NPZ file, or is cut or altered" in refused(path, tmp_path / "out", specs=SPECS)


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.h5 does not exist; give D4RL's HDF5"):
        open_log(tmp_path / "nowhere.h5")
    with pytest.raises(DataError, match="holds nothing that is read"):
        open_log(tmp_path)
    (tmp_path / "log.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"log\.pkl is in no format that is read"):
        open_log(tmp_path / "log.pkl")
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(ConfigError, match="leave out --column"):
        open_log(tmp_path / "a.h5", {"agent": "robot"})
    (tmp_path / "b.npz").write_bytes(b"")
    with pytest.raises(DataError, match="holds files of several formats"):
        open_log(tmp_path)


def test_a_link_out_of_the_folder_is_not_followed(team: dict[str, Arrays], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    write_npz(tmp_path / "elsewhere.npz", team["a"])
    (tmp_path / "logs" / "a.npz").symlink_to(tmp_path / "elsewhere.npz")
    assert "is a symbolic link" in refused(tmp_path / "logs", tmp_path / "out")


def test_agents_of_unequal_length_are_told_and_a_row_behind_is_refused(team: dict[str, Arrays], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    write_npz(tmp_path / "logs" / "a.npz", team["a"])
    write_npz(tmp_path / "logs" / "b.npz", {key: array[:40] for key, array in team["b"].items()})
    imported = import_log(open_log(tmp_path / "logs"), tmp_path / "apart")
    assert imported.num_rows == {"a": 50, "b": 40}
    assert any("40 rows and 4 ends of episodes" in n and "each learns from its own" in n for n in imported.notes)
    late = team["b"] | {key: np.roll(team["b"][key], 1) for key in ("terminals", "timeouts")}
    write_npz(tmp_path / "logs" / "b.npz", late)
    assert "differ in terminals from row 0 on" in refused(tmp_path / "logs", tmp_path / "out")


def test_missing_and_unknown_agents_are_named(team: dict[str, Arrays], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    write_npz(tmp_path / "logs" / "a.npz", team["a"])
    assert "has no agent b, only a" in refused(tmp_path / "logs", tmp_path / "out", specs=SPECS)
    write_npz(tmp_path / "logs" / "c.npz", team["b"])
    assert "has an agent 'c', but the team is a, b" in refused(tmp_path / "logs", tmp_path / "out", specs=SPECS)


@pytest.mark.parametrize("shape", [(50, 10**12), (50, 10**30), (50, -4), (50, 4, 10**9)])
def test_arrays_that_claim_to_be_anything(joint: Arrays, tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_npz(tmp_path / "joint.npz", {key: array for key, array in joint.items() if key != "observations"})
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("observations.npy", header.getvalue())
    log = open_log(path)
    with pytest.raises(MarlineError, match='"observations" claims to be .* and has 128 bytes'):
        list(log.blocks())


@pytest.mark.parametrize("content", [b"\x93NUMPY\x01\x00\x28\x23" + b"(" * 9000, b"\x93NUMPY\x01\x00\x02\x00{", b""])
def test_headers_that_are_none(joint: Arrays, tmp_path: Path, content: bytes) -> None:
    path = write_npz(tmp_path / "joint.npz", {key: array for key, array in joint.items() if key != "rewards"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("rewards.npy", content)
    assert "is no NPZ file, or is cut or altered" in refused(path, tmp_path / "out", specs=SPECS)


def test_any_altered_byte_of_a_packed_archive_ends_in_a_sentence(joint: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "joint.npz"
    np.savez_compressed(path, **joint)  # pyright: ignore[reportArgumentType]
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        altered = bytearray(content)
        altered[place] ^= 0x5A
        path.write_bytes(altered)
        with contextlib.suppress(MarlineError):
            list(open_log(path).blocks())


def test_archives_that_unpack_to_gigabytes_are_refused(
    joint: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marline.data.files.HARMLESS", 1 << 20)
    path = tmp_path / "joint.npz"
    np.savez_compressed(path, **joint | {"observations": np.zeros((50, 1 << 16), np.float32)})  # pyright: ignore
    told = refused(path, tmp_path / "out", specs=SPECS)
    assert '"observations" unpacks from' in told and "to 13,107,328 bytes, as no log does" in told
    packed = tmp_path / "other.npz"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name)[:1000])
    assert "is packed in a way that NumPy does not use" in refused(packed, tmp_path / "out", specs=SPECS)


def test_rows_wider_than_any_step_are_refused(joint: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marline.data.formats.log.BLOCK_BYTES", 20)
    for name, write in (("joint.hdf5", write_hdf5), ("joint.npz", write_npz)):
        told = refused(write(tmp_path / name, joint), tmp_path / "out", specs=SPECS)
        assert "has rows of 50 bytes, which no step of an agent has" in told
        (tmp_path / name).unlink()


@pytest.mark.parametrize(("name", "write"), [("a.hdf5", write_hdf5), ("a.npz", write_npz)])
def test_whole_numbers_one_in_a_row_are_choices_and_said_to_be(
    team: dict[str, Arrays], tmp_path: Path, name: str, write: Callable[[Path, Arrays], Path]
) -> None:
    (tmp_path / "logs").mkdir()
    write(tmp_path / "logs" / name, team["a"] | {"actions": (np.arange(50) % 4)[:, None], "timeout": np.zeros(50)})
    imported = import_log(open_log(tmp_path / "logs"), tmp_path / "out", clip_actions=True)
    found = load(tmp_path / "out")["a"]
    assert found.spec == Spec(4, 4, discrete=True) and found.actions[:5].tolist() == [0, 1, 2, 3, 0]
    assert any("whole numbers [n, 1] and were taken for choices" in note for note in imported.notes)
    told = refused_after(
        write, tmp_path / "logs" / name, team["a"] | {"actions": np.eye(3, dtype=int)[np.arange(50) % 3]}
    )
    assert "one-hot choices? store the index of each" in told and "clip" not in told
    told = refused_after(write, tmp_path / "logs" / name, team["a"] | {"actions": np.arange(100).reshape(50, 2) % 7})
    assert "actions are 2 whole numbers in a row; choices? store one" in told


def refused_after(write: Callable[[Path, Arrays], Path], path: Path, arrays: Arrays) -> str:
    path.unlink()
    write(path, arrays)
    return refused(path.parent, path.parent.parent / "refused")


def test_a_name_that_is_nearly_a_key_is_said_to_be_left_out(team: dict[str, Arrays], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    arrays = {key: array for key, array in team["a"].items() if key not in ("timeouts", "next_observations")}
    strange = {
        "truncations": team["a"]["timeouts"],
        "next_observation": team["a"]["next_observations"],
        "qpos": np.ones(50),
    }
    write_npz(tmp_path / "logs" / "a.npz", arrays | strange)
    notes = import_log(open_log(tmp_path / "logs"), tmp_path / "out").notes
    left = [note.partition(": ")[2] for note in notes if "was left out" in note]
    assert left == [
        '"truncations" was left out; if it holds the timeouts, rename it to timeouts',
        '"next_observation" was left out; if it holds the next_observations, rename it to next_observations',
    ]


@pytest.mark.parametrize("kind", [int, np.float32, bool])
def test_one_hot_rows_are_not_cut_down_to_their_first_column(
    team: dict[str, Arrays], tmp_path: Path, kind: type
) -> None:
    write_npz(tmp_path / "logs.npz", team["a"] | {"actions": np.eye(3, dtype=kind)[np.arange(50) % 3]})
    with pytest.raises(DataError, match="choices are one column, but there are 3 of actions, one-hot; store the index"):
        import_log(open_log(tmp_path / "logs.npz"), tmp_path / "out", split={"a": Share(num_actions=3)})
    assert not (tmp_path / "out").exists()


def test_whole_numbers_in_a_range_are_cut_to_it(team: dict[str, Arrays], tmp_path: Path) -> None:
    actions = np.arange(50) % 3
    actions[7] = 9  # half of [0, 2] are whole numbers in [-1, 1], too
    write_npz(tmp_path / "logs.npz", team["a"] | {"actions": actions})
    split = {"a": Share(low=0.0, high=2.0)}
    with pytest.raises(DataError, match=r"hold 9 as action 0, beyond its range of \[0, 2\].* or pass --clip-actions"):
        import_log(open_log(tmp_path / "logs.npz"), tmp_path / "out", split=split)
    import_log(open_log(tmp_path / "logs.npz"), tmp_path / "out", split=split, clip_actions=True)
    assert load(tmp_path / "out")["a"].actions[6:9, 0].tolist() == [-1, 1, 1]
    write_npz(tmp_path / "logs.npz", team["a"] | {"actions": 3 + np.arange(50) % 3})
    with pytest.raises(
        DataError, match=r"action 0 mostly is, so the range of \[0, 2\] is another; correct low and high"
    ):
        import_log(open_log(tmp_path / "logs.npz"), tmp_path / "other", split=split, clip_actions=True)


def test_what_cutting_would_destroy_is_not_cut(team: dict[str, Arrays], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "a.npz"
    seconds = np.random.default_rng(2).uniform(5, 60, (50, 1))
    for actions, told in (
        (seconds, "column 0 is beyond it in 100 % of the rows, so it is on another scale"),
        (np.round(seconds), "column 0 holds whole numbers only, which cutting would make alike"),
    ):
        write_npz(path, team["a"] | {"actions": actions})
        plain = refused(tmp_path / "logs", tmp_path / "out")
        assert told in plain and "--clip-actions" not in plain and '"low" and "high" in a --spec file' in plain
        with pytest.raises(MarlineError, match="which were not clipped"):
            import_log(open_log(tmp_path / "logs"), tmp_path / "out", clip_actions=True)
        assert not (tmp_path / "out").exists()
