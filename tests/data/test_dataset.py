"""Logs in memory and on disk: conversions, round trips, and damage that must be noticed."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.data import dataset
from marline.data.dataset import Dataset, from_arrays
from marline.data.manifest import record_file, write_sealed
from marline.data.migrations import DATASET
from marline.errors import ConfigError, CorruptionError, DataError, MarlineError, NewerError
from marline.types import Spec

Arrays = dict[str, Any]


def arrays(rows: int = 20, **changes: Any) -> Arrays:
    """Well-formed logs of continuous actions, every fifth row the end of an episode."""
    rng = np.random.default_rng(rows)
    states = rng.normal(size=(rows + 1, 3)).astype(np.float32)
    return {
        "observations": states[:-1],
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.arange(rows) % 10 == 9,
        "timeouts": np.arange(rows) % 10 == 4,
        "next_observations": states[1:],
    } | changes


def discrete(rows: int = 20, **changes: Any) -> Arrays:
    masks = np.ones((rows, 4), bool)
    masks[:, 3] = False
    return arrays(rows, actions=np.arange(rows) % 3, action_masks=masks, next_action_masks=masks) | changes


def team(rows: int = 20) -> dict[str, Dataset]:
    made = {"b_10": arrays(rows), "b_9": arrays(rows), "a.left-1": discrete(rows)}
    return {agent: from_arrays(agent, columns) for agent, columns in made.items()}


def assert_same(a: Dataset, b: Dataset) -> None:
    assert a.spec == b.spec
    assert a.columns().keys() == b.columns().keys()
    for key, column in a.columns().items():
        assert column.dtype == b.columns()[key].dtype
        np.testing.assert_array_equal(column, b.columns()[key])


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    saved = team()
    dataset.save(tmp_path / "new" / "logs", saved, {"source": "a test", "seed": np.int64(3)})
    loaded = dataset.load(tmp_path / "new" / "logs")
    assert list(loaded) == list(saved)
    for agent in saved:
        assert_same(saved[agent], loaded[agent])
        assert loaded[agent].source == str(tmp_path / "new" / "logs" / f"{agent}.h5")
        assert loaded[agent].notes == ()
    described = dataset.describe(tmp_path / "new" / "logs")
    assert described["provenance"] == {"source": "a test", "seed": 3}
    assert [agent["num_transitions"] for agent in described["agents"]] == [20, 20, 20]
    assert sorted(os.listdir(tmp_path / "new")) == ["logs"]


def test_the_same_logs_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        dataset.save(tmp_path / name, team(), {})
    for file in os.listdir(tmp_path / "one"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_dataset_is_replaced_only_on_request(tmp_path: Path) -> None:
    dataset.save(tmp_path / "x", team(20), {})
    with pytest.raises(ConfigError, match="exists already"):
        dataset.save(tmp_path / "x", team(30), {})
    assert len(dataset.load(tmp_path / "x")["b_9"]) == 20
    dataset.save(tmp_path / "x", {"c": team(30)["b_9"]}, {}, replace=True)
    assert sorted(os.listdir(tmp_path / "x")) == ["c.h5", "dataset.json"]


def test_a_transition_has_discounts_and_masks() -> None:
    made = from_arrays("a", discrete())
    transition = made.transition()
    np.testing.assert_array_equal(transition.discount, np.where(np.arange(20) % 10 == 9, 0, 1))
    assert transition.discount.dtype == np.float32
    assert made.num_episodes == 4
    np.testing.assert_array_equal(np.asarray(transition.action_mask), made.action_masks)
    everything = dataclasses.replace(made, action_masks=None).transition().action_mask
    assert everything is not None and everything.shape == (20, 4) and np.all(everything)
    assert from_arrays("a", arrays()).transition().action_mask is None


def test_clipping_cuts_peaks_of_continuous_actions() -> None:
    actions = np.full((20, 2), 0.5, np.float32)
    actions[:10] = -1.5
    wide = from_arrays("a", arrays(actions=actions))
    assert (wide.clipped().actions == np.maximum(actions, -1)).all()
    assert (wide.actions == actions).all()
    numbered = from_arrays("a", discrete())
    assert numbered.clipped() is numbered


def test_other_numbers_are_converted_and_said() -> None:
    original = arrays()
    made = from_arrays(
        "a",
        {
            "observations": original["observations"].astype(">f8"),
            "actions": original["actions"].astype(np.float16),
            "rewards": np.arange(20),
            "terminals": original["terminals"].astype(float).tolist(),
            "timeouts": original["timeouts"].astype(np.uint8),
            "next_observations": original["next_observations"].astype(">f4"),
            "infos": {"left": "alone"},
        },
    )
    assert_same(made, from_arrays("a", original | {"rewards": made.rewards, "actions": made.actions}))
    assert [note.split(": ")[1] for note in made.notes] == [
        "observations came as >f8 and were converted to float32",
        "rewards came as int64 and were converted to float32",
    ]
    large = from_arrays("a", arrays(rewards=np.arange(20) + 1_700_000_000.0))
    assert "some rewards are beyond 16777216, where float32 keeps about 7 digits; subtract an offset" in large.notes[1]


def test_float32_arrays_are_not_copied() -> None:
    columns = arrays()
    assert from_arrays("a", columns).observations is columns["observations"]


def test_rows_become_transitions() -> None:
    # Episodes: rows 0-2 (time-out), 3-4 (terminal), 5-7 (time-out at once after a terminal: row 5), 6-7 unfinished.
    columns = {
        "observations": np.arange(8.0, dtype=np.float32)[:, None],
        "actions": np.zeros((8, 1), np.float32),
        "rewards": np.arange(8.0, dtype=np.float32),
        "terminals": np.array([0, 0, 0, 0, 1, 0, 0, 0]),
        "timeouts": np.array([0, 0, 1, 0, 0, 1, 0, 0]),
    }
    made = from_arrays("a", columns)
    assert made.rewards.tolist() == [0, 1, 3, 4, 6]
    assert made.observations[:, 0].tolist() == [0, 1, 3, 4, 6]
    # row 4 ended for good: what row 5 saw is another episode's, and its own observation says that nobody knows
    assert made.next_observations[:, 0].tolist() == [1, 2, 4, 4, 7]
    transition = jax.tree.map(jnp.asarray, made.transition())
    assert np.asarray(transition.next_is_known).tolist() == [True, True, True, False, True]
    assert made.terminals.tolist() == [False, False, False, True, False]
    assert made.timeouts.tolist() == [False, True, False, False, True]
    assert "the next row was taken and rows without one dropped (3)" in made.notes[0]


def test_masks_follow_rows_too() -> None:
    columns = discrete(4, terminals=np.zeros(4, bool), timeouts=np.zeros(4, bool))
    columns["action_masks"] = np.eye(4, dtype=bool)
    columns["actions"] = np.arange(4)
    del columns["next_observations"], columns["next_action_masks"]
    made = from_arrays("a", columns)
    np.testing.assert_array_equal(made.action_masks, np.eye(4, dtype=bool)[:3])
    np.testing.assert_array_equal(made.next_action_masks, np.eye(4, dtype=bool)[1:])


def test_missing_timeouts_are_said() -> None:
    columns = arrays()
    del columns["timeouts"]
    made = from_arrays("a", columns)
    assert not made.timeouts.any()
    assert "no timeouts key" in made.notes[0]


def test_the_spec_is_inferred() -> None:
    assert from_arrays("a", arrays()).spec == Spec(3, 2)
    assert from_arrays("a", discrete()).spec == Spec(3, 4, discrete=True)
    unmasked = arrays(actions=np.arange(20) % 3)
    assert from_arrays("a", unmasked).spec == Spec(3, 3, discrete=True)
    assert from_arrays("a", unmasked, spec=Spec(3, 5, discrete=True)).spec.action_size == 5
    assert (
        from_arrays("a", arrays(actions=np.arange(20.0) % 3), spec=Spec(3, 5, discrete=True)).actions.dtype == np.int64
    )


def without(key: str, **others: Any) -> Arrays:
    return {name: column for name, column in (arrays() | others).items() if name != key}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (without("terminals"), 'no "terminals" among "observations", "actions", "rewards", "timeouts"'),
        (without("terminals", terminal=np.zeros(20)), 'no "terminals" among .*; rename "terminal" to it'),
        (without("observations", obs=1), 'no "observations"'),
        ({}, 'no "observations" among nothing; export it too'),
        (arrays(observations=["a"] * 20), "observations hold <U1 instead of numbers; export them as float32"),
        (arrays(observations=np.array([None] * 20)), "observations hold object instead of numbers"),
        (arrays(rewards=np.zeros(20, complex)), "rewards hold complex128 instead of numbers"),
        (arrays(observations=[[1, 2], [3]]), "observations are ragged .* export one row of equal length per step"),
        (
            arrays(observations=np.zeros((20, 3, 2))),
            r"observations have shape \(20, 3, 2\) instead of \[n, size\]; flatten",
        ),
        (arrays(observations=np.zeros(20)), r"observations have shape \(20,\) instead of \[n, size\]"),
        (
            arrays(rewards=np.zeros((20, 1))),
            r"rewards have type float32 and shape \(20, 1\) instead of float32 and \[n\]",
        ),
        (
            arrays(next_observations=np.zeros((20, 4))),
            r"next_observations .* \(20, 4\) instead of float32 and \[n, 3\]",
        ),
        (arrays(observations=np.zeros((20, 0))), "leaves nothing to observe or to do; export at least one column"),
        (arrays(rewards=np.zeros(19)), "observations have 20 rows and rewards 19"),
        (arrays(timeouts=np.zeros(21)), "timeouts have 21 rows and rewards 20; export one row per step everywhere"),
        (arrays(observations=np.zeros((21, 3))), r"21 rows and rewards 20; split them into observations\[:-1\]"),
        (arrays(actions=np.zeros(20)), r"actions have shape \(20,\) and type float64; export continuous actions as"),
        (
            arrays(rewards=np.full(20, 1e39)),
            r"hold rewards up to 1e\+39 at row 0, which float32 cannot hold; rescale them",
        ),
        (arrays(terminals=np.arange(20) * 0.5), r"hold 0\.5 in terminals at row 1; export only 0 and 1 there"),
        (arrays(terminals=np.full(20, np.nan)), "hold nan in terminals at row 0"),
        (discrete(action_masks=np.ones((20, 4)) * 2), "action_masks at row 0; export only 0 and 1"),
        (discrete(action_masks=np.ones((19, 4))), "action_masks have 19 rows and rewards 20"),
        (discrete(next_action_masks=np.ones((20, 3))), "next_action_masks have .* instead of bool and"),
    ],
)
def test_malformed_arrays_are_named(columns: Arrays, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        from_arrays("arm_left", columns, source="x.h5")
    assert str(caught.value).startswith('logs of agent "arm_left" (x.h5)')


def test_fractional_actions_are_named() -> None:
    columns = arrays(actions=np.where(np.arange(20) == 7, 1.5, 1.0))
    with pytest.raises(
        DataError, match=r"discrete action 1\.5 at row 7, which is no whole number; export action indices"
    ):
        from_arrays("a", columns, spec=Spec(3, 4, discrete=True))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 10_000, "a\nb", "<script>", "[/bold]", "x.", "ä"])
def test_agents_whose_names_are_no_file_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"^agent '.*' cannot name a file; use 1 to 100 of the letters") as caught:
        dataset.save(tmp_path / "x", {name: team()["b_9"]}, {})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
    assert not (tmp_path / "x").exists()


def test_other_logs_that_cannot_be_saved(tmp_path: Path) -> None:
    good = team()["b_9"]
    cases: list[tuple[dict[str, Dataset], str]] = [
        ({}, "there are no logs to save"),
        ({"a": good, "A": good}, "agents 'a' and 'A' differ only in case"),
        (
            {"a": from_arrays("a", {k: v[:0] for k, v in arrays().items()})},
            'logs of agent "a" hold no rows; leave the agent',
        ),
        ({"a": dataclasses.replace(good, rewards=good.rewards[:5])}, "observations have 20 rows and rewards 5"),
        (
            {"a": dataclasses.replace(good, spec=Spec(4, 2))},
            r"instead of float32 and \[n, 4\]; reshape them, or correct",
        ),
    ]
    for logs, message in cases:
        with pytest.raises(DataError, match=message):
            dataset.save(tmp_path / "x", logs, {})
    with pytest.raises(ConfigError, match="object has no JSON form"):
        dataset.save(tmp_path / "x", {"a": good}, {"what": object()})
    assert os.listdir(tmp_path) == []


def test_plain_d4rl_files_are_read(tmp_path: Path) -> None:
    for name in ("agent_10.h5", "agent_2.hdf5"):
        with h5py.File(tmp_path / name, "w") as file:
            for key, column in without("next_observations").items():
                file.create_dataset(key, data=column, compression="gzip")
            file["infos/qpos"] = np.zeros(3)
    (tmp_path / "README.txt").write_text("left alone")
    loaded = dataset.load(tmp_path)
    assert list(loaded) == ["agent_2", "agent_10"]
    expected = from_arrays("agent_2", without("next_observations"))
    assert_same(loaded["agent_2"], expected)
    assert [note.split("; ")[0].split("), ")[-1] for note in loaded["agent_2"].notes][-1].endswith("may go unnoticed")
    specs = {"agent_2": Spec(3, 2), "agent_10": Spec(3, 5)}
    with pytest.raises(DataError, match=r'agent "agent_10" .*actions have type float32 and shape \(20, 2\)'):
        dataset.load(tmp_path, specs=specs)


def test_folders_that_hold_no_logs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.h5 or \.hdf5 file; export one <agent>\.h5 per agent"):
        dataset.load(tmp_path)
    with pytest.raises(DataError, match="none does not exist"):
        dataset.load(tmp_path / "none")
    for name in ("a.h5", "a.hdf5"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"holds agent 'a' twice, as \.h5 and \.hdf5; remove one"):
        dataset.load(tmp_path)
    (tmp_path / "a.hdf5").rename(tmp_path / "a b.h5")
    (tmp_path / "a.h5").unlink()
    with pytest.raises(DataError, match="agent 'a b' cannot name a file"):
        dataset.load(tmp_path)


def test_a_flipped_byte_in_any_file_is_noticed(tmp_path: Path) -> None:
    dataset.save(tmp_path, {"a": team(8)["b_9"], "b": team(8)["a.left-1"]}, {"note": "some text"})
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        step = 5 if path.suffix == ".json" else 199
        for at in [*range(0, len(data), step), len(data) - 1]:
            altered = bytearray(data)
            altered[at] ^= 1 << (at % 8)
            path.write_bytes(altered)
            with pytest.raises(CorruptionError) as caught:
                dataset.load(tmp_path)
            assert str(path) in str(caught.value)
        path.write_bytes(data)
    assert list(dataset.load(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: os.truncate(path, 100), r"b_9\.h5 has 100 bytes instead of \d+; restore a copy"),
        (lambda path: path.unlink(), r"b_9\.h5 is missing; restore a copy"),
        (lambda path: path.rename(path.with_name("b_11.h5")), r"b_9\.h5 is missing"),
        (lambda path: os.truncate(path.with_name("dataset.json"), 50), r"dataset\.json was altered"),
        (lambda path: path.with_name("dataset.json").write_bytes(b""), r"dataset\.json was altered"),
        (lambda path: path.with_name("dataset.json").write_bytes(b"[]"), r"dataset\.json was altered"),
        (lambda path: path.with_name("dataset.json").write_bytes(b"[" * 10**6), r"dataset\.json was altered"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    dataset.save(tmp_path, team(), {})
    damage(tmp_path / "b_9.h5")
    with pytest.raises(CorruptionError, match=message):
        dataset.load(tmp_path)


def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    dataset.save(tmp_path / "x", team(), {})
    (tmp_path / "x" / "b_9.h5").rename(tmp_path / "elsewhere")
    (tmp_path / "x" / "b_9.h5").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptionError, match=r"b_9\.h5 (is a symbolic link|has \d+ bytes|cannot be read)"):
        dataset.load(tmp_path / "x")


def test_lists_of_files_that_are_sealed_but_wrong(tmp_path: Path) -> None:
    dataset.save(tmp_path, {"a": team()["b_9"]}, {})
    manifest = dataset.MANIFEST
    files = {"a.h5": record_file(tmp_path / "a.h5")}
    agents = dataset.describe(tmp_path)["agents"]
    cases: list[tuple[tuple[Any, ...], type[MarlineError], str]] = [
        (
            ("other thing", 1, {"agents": agents}, files),
            DataError,
            "belongs to a 'other thing', not to a 'marline dataset'",
        ),
        (
            (DATASET.kind, 3, {"agents": agents}, files),
            NewerError,
            "has schema 3, and marline .* reads those up to 2: upgrade",
        ),
        ((DATASET.kind, 1, {"agents": []}, files), CorruptionError, "does not list one file per agent"),
        ((DATASET.kind, 1, {}, files), CorruptionError, "does not list one file per agent"),
        (
            (DATASET.kind, 1, {"agents": agents}, {"../a.h5": files["a.h5"]}),
            CorruptionError,
            "has no proper list of files",
        ),
        ((DATASET.kind, 1, {"agents": agents}, {"a.h5": {}}), CorruptionError, "has no proper list of files"),
        (
            (DATASET.kind, 1, {"agents": [agents[0] | {"num_transitions": 3}]}, files),
            CorruptionError,
            r"has 20 rows, not the 3 of dataset\.json",
        ),
    ]
    for (kind, schema, entries, listed), error, message in cases:
        write_sealed(tmp_path / manifest, kind, schema, entries, listed)
        with pytest.raises(error, match=message):
            dataset.load(tmp_path)
    with pytest.raises(ConfigError, match=r"dataset\.json keeps the key 'seal' for itself"):
        write_sealed(tmp_path / manifest, DATASET.kind, 1, {"seal": ""}, files)


def test_the_last_row_of_an_episode_that_ended_is_kept() -> None:
    columns = discrete(4, terminals=[0, 1, 0, 1], timeouts=[0, 1, 0, 0])
    columns["observations"] = np.arange(4.0)[:, None]
    columns["action_masks"] = np.eye(4, dtype=bool)
    columns["actions"] = np.arange(4)
    del columns["next_observations"], columns["next_action_masks"]
    made = from_arrays("a", columns)
    assert made.rewards.tolist() == np.float32(columns["rewards"]).tolist()
    assert made.terminals.tolist() == [False, True, False, True] and not made.timeouts.any()
    assert made.next_observations[:, 0].tolist() == [1, 1, 3, 3]  # nothing of the second episode in the first
    assert made.next_action_masks is not None
    np.testing.assert_array_equal(made.next_action_masks, np.eye(4, dtype=bool)[[1, 1, 3, 3]])


def test_whole_numbers_are_choices_unless_they_are_declared() -> None:
    column = (np.arange(20) % 4)[:, None]
    made = from_arrays("a", arrays(actions=column))
    assert made.spec == Spec(3, 4, discrete=True) and made.actions.tolist() == column[:, 0].tolist()
    assert any("whole numbers [n, 1] and were taken for choices; if they are continuous" in note for note in made.notes)
    assert from_arrays("a", arrays(actions=column), spec=Spec(3, 4, discrete=True)).actions.shape == (20,)
    for actions in (column, column[:, 0]):
        declared = from_arrays("a", arrays(actions=actions), spec=Spec(3, 1))
        assert declared.actions.shape == (20, 1) and declared.actions.dtype == np.float32
    with pytest.raises(DataError, match="one-hot choices"):
        from_arrays("a", arrays(actions=np.eye(4, dtype=np.uint8)[column[:, 0]]))
    with pytest.raises(DataError, match="actions are 2 whole numbers in a row"):
        from_arrays("a", arrays(actions=np.ones((20, 2), bool) & (np.arange(40) % 3 > 0).reshape(20, 2)))


def test_what_is_on_another_scale_is_not_clipped() -> None:
    made = from_arrays("a", arrays(actions=np.linspace(5, 60, 40).reshape(20, 2)))
    with pytest.raises(DataError, match="which were not clipped: column 0 is beyond it in 100 %"):
        made.clipped()
