"""Tables of a fleet: Parquet, CSV and JSON lines; what is read, and what is refused with its row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline.data.dataset import Dataset, channels_of, describe, from_arrays, load
from marline.data.decentralize import import_log
from marline.data.export import export_parquet
from marline.data.formats import open_log
from marline.data.layout import rows_to_transitions
from marline.data.split import Share, read_split
from marline.errors import ConfigError, DataError, MarlineError
from marline.types import Spec

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
from pyarrow import csv, parquet  # noqa: E402

Arrays = dict[str, np.ndarray]
Columns = dict[str, Any]


def columns_of(agent: str, arrays: Arrays) -> Columns:
    """The columns of one agent's table."""
    ends = arrays["terminals"] | arrays["timeouts"]
    episode = np.cumsum(ends) - ends
    first = np.flatnonzero(np.append(True, ends[:-1]))
    return {
        "agent": np.array([agent] * len(ends)),
        "episode": episode,
        "step": np.arange(len(ends)) - first[episode],
        **{f"obs_{i}": arrays["observations"][:, i] for i in (2, 0, 1, 3)},  # in no order
        **{f"action_{i}": arrays["actions"][:, i] for i in range(arrays["actions"].shape[1])},
        "reward": arrays["rewards"],
        "terminated": arrays["terminals"],
        "truncated": arrays["timeouts"],
    }


def interleaved(tables: list[Columns]) -> Columns:
    """Row after row, as a fleet logs them: all agents at one step, then at the next."""
    return {key: np.stack([table[key] for table in tables], axis=1).reshape(-1) for key in tables[0]}


def one_action(team: dict[str, Arrays]) -> dict[str, Arrays]:
    """The team with one action each: agents in one table have the same columns."""
    return {agent: arrays | {"actions": arrays["actions"][:, :1]} for agent, arrays in team.items()}


def write_parquet(path: Path, columns: Columns) -> None:
    parquet.write_table(pa.table(columns), path, row_group_size=17)


def write_csv(path: Path, columns: Columns) -> None:
    csv.write_csv(pa.table(columns), path)


def write_jsonl(path: Path, columns: Columns) -> None:
    rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
    path.write_text("\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows))


WRITERS: dict[str, Callable[[Path, Columns], None]] = {
    "fleet.parquet": write_parquet,
    "fleet.csv": write_csv,
    "fleet.jsonl": write_jsonl,
}


def assert_d4rl_rows(found: dict[str, Dataset], team: dict[str, Arrays]) -> None:
    assert list(found) == list(team)
    for agent, arrays in team.items():
        whole = rows_to_transitions({key: np.copy(a) for key, a in arrays.items() if key != "next_observations"})
        for key, column in whole.items():
            np.testing.assert_array_equal(getattr(found[agent], key), column)


@pytest.mark.parametrize("name", WRITERS)
def test_a_fleet_in_one_table(team: dict[str, Arrays], tmp_path: Path, name: str) -> None:
    team = one_action(team)
    WRITERS[name](tmp_path / name, interleaved([columns_of(agent, arrays) for agent, arrays in team.items()]))
    import_log(open_log(tmp_path / name), tmp_path / "out")
    found = load(tmp_path / "out")
    assert_d4rl_rows(found, team)
    stamps = found["a"].timestamps
    assert stamps is not None and stamps[:11].tolist() == [*range(10), 0]  # the step tells the time


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("block", [1, 7])
def test_blocks_of_any_size_give_the_same_rows(
    team: dict[str, Arrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int
) -> None:
    monkeypatch.setattr("marline.data.formats.table_files.BLOCK_ROWS", block)
    monkeypatch.setattr("marline.data.formats.table_files._BYTES", 400 * block)
    team = one_action(team)
    WRITERS[name](tmp_path / name, interleaved([columns_of(agent, arrays) for agent, arrays in team.items()]))
    import_log(open_log(tmp_path / name), tmp_path / "out")
    assert_d4rl_rows(load(tmp_path / "out"), team)


def test_a_table_per_agent_and_other_names(team: dict[str, Arrays], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    names = {"agent": "who", "reward": "r", "obs_0": "x", "obs_1": "y", "obs_2": "z", "obs_3": "w", "action_0": "u"}
    for agent, arrays in one_action(team).items():
        table = {names.get(key, key): column for key, column in columns_of(agent, arrays).items() if key != "agent"}
        write_csv(tmp_path / "logs" / f"{agent}.csv", table)
    mapping = {"rewards": "r", "observations": "x,y,z,w", "actions": "u"}
    import_log(open_log(tmp_path / "logs", mapping), tmp_path / "out")
    assert_d4rl_rows(load(tmp_path / "out"), one_action(team))


def test_a_joint_table_is_split(joint: Arrays, team: dict[str, Arrays], tmp_path: Path) -> None:
    table = columns_of("", joint)
    del table["agent"]
    write_parquet(tmp_path / "joint.parquet", table)
    specs = {"a": Spec(4, 2), "b": Spec(4, 1)}
    import_log(open_log(tmp_path / "joint.parquet"), tmp_path / "out", specs=specs)
    assert_d4rl_rows(load(tmp_path / "out"), team)


def test_vectors_in_one_column(team: dict[str, Arrays], tmp_path: Path) -> None:
    arrays = team["a"]
    rows = [
        {
            "agent": "a",
            "observation": [0] * 4 if t == 0 else arrays["observations"][t].tolist(),  # whole numbers first
            "action": arrays["actions"][t].tolist(),
            "reward": 1 if t == 0 else float(arrays["rewards"][t]),
            "terminated": bool(arrays["terminals"][t]),
            "truncated": bool(arrays["timeouts"][t]),
        }
        for t in range(50)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import_log(open_log(tmp_path / "a.jsonl"), tmp_path / "out")
    found = load(tmp_path / "out")["a"]
    arrays = arrays | {"observations": np.concatenate([np.zeros((1, 4)), arrays["observations"][1:]])}
    arrays["rewards"] = np.concatenate([[1], arrays["rewards"][1:]])
    assert_d4rl_rows({"a": found}, {"a": arrays})
    assert found.spec == Spec(4, 2)


def test_parquet_round_trip_keeps_every_bit(team: dict[str, Arrays], tmp_path: Path) -> None:
    masks = np.ones((50, 5), bool)
    masks[:, 4] = False
    discrete = team["b"] | {"actions": np.arange(50) % 3, "action_masks": masks, "next_action_masks": ~masks}
    discrete["next_action_masks"][:, 0] = True
    logs = {
        "a": from_arrays("a", team["a"] | {"timestamps": np.linspace(0, 1, 50)}),
        "b": from_arrays("b", discrete),
    }
    export_parquet(logs, tmp_path / "tables")
    assert parquet.read_schema(tmp_path / "tables" / "a.parquet").names[:4] == ["agent", "episode", "step", "obs_0"]
    for agent, log in logs.items():
        (tmp_path / agent).mkdir()
        (tmp_path / "tables" / f"{agent}.parquet").rename(tmp_path / agent / f"{agent}.parquet")
        import_log(open_log(tmp_path / agent), tmp_path / "out" / agent)
        found = load(tmp_path / "out" / agent)[agent]
        assert found.spec == log.spec
        for key, column in log.columns().items():
            np.testing.assert_array_equal(found.columns()[key], column)


def test_an_episode_without_an_end_counts_as_cut(team: dict[str, Arrays], tmp_path: Path) -> None:
    table = columns_of("a", team["a"])
    table["truncated"] = np.zeros(50, bool)  # of the third episode, which only the next number ends
    write_parquet(tmp_path / "a.parquet", table)
    imported = import_log(open_log(tmp_path / "a.parquet"), tmp_path / "out")
    assert_d4rl_rows(load(tmp_path / "out"), {"a": team["a"]})
    assert any("some episodes end neither terminated nor truncated; they count as cut" in n for n in imported.notes)


def test_missing_steps_cut_an_episode(team: dict[str, Arrays], tmp_path: Path) -> None:
    keep = np.delete(np.arange(50), [4, 5])
    table = {key: column[keep] for key, column in columns_of("a", team["a"]).items()}
    write_parquet(tmp_path / "a.parquet", table)
    imported = import_log(open_log(tmp_path / "a.parquet"), tmp_path / "out")
    found = load(tmp_path / "out")["a"]
    assert found.observations[2:4].tolist() == team["a"]["observations"][[2, 6]].tolist()  # row 3 has no next one
    assert found.timeouts[2]
    assert any("steps are missing within some episodes" in note for note in imported.notes)


def changed(key: str, row: int, value: object) -> Callable[[Columns], Columns]:
    def change(columns: Columns) -> Columns:
        column = np.asarray(columns[key]).tolist()
        column[row] = value
        return columns | {key: column}

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (changed("obs_1", 20, "abc"), ("column 'obs_1' holds string", "conversion error")),
        (changed("reward", 20, None), ("column 'reward' is empty at row 20; fill in every row",)),
        (changed("agent", 20, None), ("column 'agent' is empty at row 20; name the agent",)),
        (changed("terminated", 20, 7), ("hold 7", "hold 7.0")),
        (changed("reward", 20, float("nan")), ("hold NaN in rewards at row 20", "'reward' is empty at row 20")),
        (changed("step", 20, 1), ("goes from step 1 to 1 at row 21; export each step once",)),
        (changed("episode", 20, 0), ("comes back to episode '0' at row 20; sort the table",)),
        (changed("agent", 20, "../x"), ("'../x' cannot name a file",)),
        (changed("agent", 20, "x" * 10_000), ("cannot name a file; use 1 to 100",)),
        (changed("agent", 20, "[/bold]\n<script>"), ("cannot name a file",)),
        (changed("agent", 20, "A"), ("agents 'a' and 'A' differ only in case", "hold no row with a next observation")),
        (lambda c: {k: v for k, v in c.items() if k != "reward"}, ("no column reward or rewards for the rewards",)),
    ],
)
@pytest.mark.parametrize("name", WRITERS)
def test_rows_that_are_refused(
    team: dict[str, Arrays], tmp_path: Path, name: str, change: Callable[[Columns], Columns], told: tuple[str, ...]
) -> None:
    table = change(columns_of("a", team["a"]))
    try:
        WRITERS[name](tmp_path / name, table)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pytest.skip("this format cannot say it: a column has one type")
    with pytest.raises(MarlineError) as caught:
        import_log(open_log(tmp_path / name), tmp_path / "out")
    message = str(caught.value)
    assert name in message or "cannot name a file" in message or "differ only in case" in message
    assert any(part in message for part in told), message
    assert len(message) < 1000 and not (tmp_path / "out").exists()


def test_unknown_keys_of_a_mapping(team: dict[str, Arrays], tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", columns_of("a", team["a"]))
    with pytest.raises(ConfigError, match="unknown key of columns 'reward'; did you mean 'rewards'?"):
        import_log(open_log(tmp_path / "a.csv", {"reward": "r"}), tmp_path / "out")
    with pytest.raises(DataError, match=r"no column gain for the rewards .* --column rewards=NAME"):
        import_log(open_log(tmp_path / "a.csv", {"rewards": "gain"}), tmp_path / "out")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b'{"a": 1'])
def test_files_that_are_something_else(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MarlineError, match=name.replace(".", r"\.")):
        import_log(open_log(tmp_path / name), tmp_path / "out")


def test_a_flipped_byte_in_parquet_is_noticed(team: dict[str, Arrays], tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", columns_of("a", team["a"]))
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[-20] ^= 0xFF
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(MarlineError, match="cannot be read as parquet"):
        import_log(open_log(tmp_path / "a.parquet"), tmp_path / "out")


def test_the_import_says_which_columns_became_what(team: dict[str, Arrays], tmp_path: Path) -> None:
    table = columns_of("a", team["a"])
    del table["truncated"]
    write_parquet(tmp_path / "a.parquet", table | {"action_logp": np.full(50, -0.9), "obs_0²": np.zeros(50)})
    imported = import_log(open_log(tmp_path / "a.parquet"), tmp_path / "out")
    assert load(tmp_path / "out")["a"].spec == Spec(4, 2)
    told = "\n".join(imported.notes)
    assert "observations from 'obs_0', 'obs_1', 'obs_2', 'obs_3'; actions from 'action_0', 'action_1'" in told
    assert "left out 'action_logp', 'obs_0²'" in told
    assert "no column for the timeouts, so no row counts as cut by a time limit" in told
    columns = describe(tmp_path / "out")["provenance"]["columns"]
    assert columns["observations"] == ["obs_0", "obs_1", "obs_2", "obs_3"] and columns["rewards"] == ["reward"]


def test_a_mask_is_not_an_action(team: dict[str, Arrays], tmp_path: Path) -> None:
    table = columns_of("a", team["a"] | {"actions": np.zeros((50, 0))})
    masks = [[True, True, True, False]] * 50
    write_parquet(tmp_path / "a.parquet", table | {"action": np.arange(50) % 3, "action_mask": masks})
    log = open_log(tmp_path / "a.parquet")
    import_log(log, tmp_path / "out")
    found = load(tmp_path / "out")["a"]
    assert found.spec == Spec(4, 4, discrete=True)
    assert found.actions[:9].tolist() == [0, 1, 2] * 3
    assert log.columns["a"]["action_masks"] == [f"action_mask[{i}]" for i in range(4)]


def test_tables_of_other_columns_each(team: dict[str, Arrays], tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for agent, arrays in team.items():  # two actions and one
        table = columns_of(agent, arrays)
        del table["agent"]
        write_parquet(tmp_path / "logs" / f"{agent}.parquet", table)
    import_log(open_log(tmp_path / "logs"), tmp_path / "out")
    columns = describe(tmp_path / "out")["provenance"]["columns"]
    assert columns["a"]["actions"] == ["action_0", "action_1"] and columns["b"]["actions"] == ["action_0"]


@pytest.mark.parametrize("name", WRITERS)
def test_seconds_in_whole_numbers_are_declared_continuous(team: dict[str, Arrays], tmp_path: Path, name: str) -> None:
    table = columns_of("a", team["a"] | {"actions": np.zeros((50, 0))}) | {"action": 5 + np.arange(50) % 56}
    WRITERS[name](tmp_path / name, table)
    imported = import_log(open_log(tmp_path / name), tmp_path / "guessed")
    assert load(tmp_path / "guessed")["a"].spec.discrete
    assert any(
        "whole numbers [n] and were taken for choices; if they are continuous, say so" in n for n in imported.notes
    )
    (tmp_path / "spec.json").write_text('{"agents": {"a": {"low": 5, "high": 60}}}')
    import_log(open_log(tmp_path / name), tmp_path / "out", split=read_split(tmp_path / "spec.json"))
    found = load(tmp_path / "out")["a"]
    assert found.spec == Spec(4, 1)
    np.testing.assert_allclose(found.actions[:9, 0], np.arange(9) / 27.5 - 1, atol=1e-6)


@pytest.mark.parametrize("name", WRITERS)
def test_a_named_column_names_a_number_and_never_a_choice(joint: Arrays, tmp_path: Path, name: str) -> None:
    table = columns_of("", joint | {"actions": np.zeros((50, 0))})
    del table["agent"]
    WRITERS[name](tmp_path / name, table | {"green": 5 + np.arange(50) % 56, "gear": np.arange(50) % 3})
    split = {"light": Share(actions=(0,), low=5.0, high=60.0), "box": Share(actions=(1,), num_actions=3)}
    log = open_log(tmp_path / name, {"actions": "green,gear"})
    import_log(log, tmp_path / "out", split=split)
    found = channels_of(tmp_path / "out")
    assert found["light"].action_names == ("green",) and found["box"].action_names is None
    # alone, it is the one or the other
    log = open_log(tmp_path / name, {"actions": "green"})
    import_log(log, tmp_path / "alone", split={"light": Share(low=5.0, high=60.0)})
    assert channels_of(tmp_path / "alone")["light"].action_names == ("green",)
    log = open_log(tmp_path / name, {"actions": "gear"})
    import_log(log, tmp_path / "choice", split={"box": Share()})
    assert load(tmp_path / "choice")["box"].spec.action_size == 3
    assert channels_of(tmp_path / "choice")["box"].action_names is None


def test_columns_that_cannot_be_names_are_told_and_take_no_others_with_them(joint: Arrays, tmp_path: Path) -> None:
    table = columns_of("", joint | {"actions": np.zeros((50, 0))})
    for taken in ("agent", *(f"obs_{i}" for i in range(4))):
        del table[taken]
    write_csv(tmp_path / "a.csv", table | {"v" * 120: np.arange(50.0), "green": np.linspace(5, 60, 50)})
    log = open_log(tmp_path / "a.csv", {"observations": "v*", "actions": "green"})
    imported = import_log(log, tmp_path / "out", split={"a": Share(low=5.0, high=60.0)})
    told = [note for note in imported.notes if "the columns of the observations give them no names" in note]
    assert len(told) == 1 and "must be 1 to 100 printable letters" in told[0]
    found = channels_of(tmp_path / "out")["a"]
    assert found.observation_names is None and found.action_names == ("green",)


@pytest.mark.parametrize("name", WRITERS)
def test_one_hot_choices_are_no_vector(team: dict[str, Arrays], tmp_path: Path, name: str) -> None:
    one_hot = np.eye(3, dtype=int)[np.arange(50) % 3]
    WRITERS[name](tmp_path / name, columns_of("a", team["a"] | {"actions": one_hot}))
    with pytest.raises(DataError, match="one-hot choices\\? store the index of each, as integers"):
        import_log(open_log(tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    split = {"a": Share(continuous=True)}
    import_log(open_log(tmp_path / name), tmp_path / "out", split=split)
    assert load(tmp_path / "out")["a"].spec == Spec(4, 3)


@pytest.mark.parametrize(
    ("key", "values", "told"),
    [
        ("episode", [float("nan")] * 50, "column 'episode' is empty .* at row 0; name the episode of every row"),
        ("episode", [0.0] * 7 + [float("nan")] + [0.0] * 42, "'episode' is empty .* at row 7"),
        ("episode", ["x"] * 9 + ["None"] * 41, "'episode' is empty .'None'. at row 9"),
        ("episode", [0.5] * 50, "'episode' is 0.5 at row 0; number the episode"),
        ("episode", [[0]] * 50, "'episode' holds list<.*>; name the episode of every row by text or a whole number"),
        ("agent", [float("nan")] * 50, "column 'agent' is empty .* at row 0; name the agent of every row"),
        ("agent", ["a"] * 3 + [" "] * 47, "column 'agent' is empty .* at row 3"),
        ("agent", [{"id": 1}] * 50, "'agent' holds struct<.*>; name the agent"),
        ("step", [0.0, float("nan"), *range(2, 50)], "column 'step' is nan at row 1; number the step of every row"),
        ("step", [[i] for i in range(50)], "column 'step' holds a list at row 0; export one number per row"),
        ("reward", [[0.0]] * 50, "column 'reward' holds a list at row 0"),
        ("terminated", ["maybe"] * 50, "column 'terminated' holds string"),
    ],
)
def test_labels_and_numbers_that_are_none(
    team: dict[str, Arrays], tmp_path: Path, key: str, values: list[Any], told: str
) -> None:
    columns = columns_of("a", team["a"]) | {f"next_obs_{i}": team["a"]["next_observations"][:, i] for i in range(4)}
    parquet.write_table(pa.table(columns | {key: pa.array(values, from_pandas=False)}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=told):
        import_log(open_log(tmp_path / "a.parquet"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_that_are_stored_once_are_read(team: dict[str, Arrays], tmp_path: Path) -> None:
    table = columns_of("a", team["a"])
    table |= {
        key: pa.array(np.asarray(table[key]).tolist()).dictionary_encode() for key in ("agent", "episode", "reward")
    }
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    import_log(open_log(tmp_path / "a.parquet"), tmp_path / "out")
    assert_d4rl_rows(load(tmp_path / "out"), {"a": team["a"]})


def test_a_name_twice_is_refused(team: dict[str, Arrays], tmp_path: Path) -> None:
    lines = "agent,episode,step,obs_0,obs_0,action_0,reward,terminated\na,0,0,1,2,0.5,1,0\na,0,1,1,2,0.5,1,1\n"
    (tmp_path / "a.csv").write_text(lines)
    with pytest.raises(DataError, match="there are 2 columns 'obs_0'; rename or remove all but one"):
        import_log(open_log(tmp_path / "a.csv"), tmp_path / "out")


def test_a_table_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marline.data.files.HARMLESS", 1 << 20)
    zeros = np.zeros(1 << 18, np.float32)
    table = {name: zeros for name in ("obs_0", "action_0", "reward", "terminated")}
    write_table = pa.table(table)
    parquet.write_table(write_table, tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(DataError, match=r"unpacks from [\d,]+ to 8,388,608 bytes, as no log does"):
        import_log(open_log(tmp_path / "a.parquet"), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("deep.jsonl", b'{"obs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "a line with over 1000 brackets"),
        (
            "nested.jsonl",
            b'{"agent": "a", "obs": [[1, 2], [3, 4]], "action": 0, "reward": 0, "terminated": true}',
            "lists in",
        ),
        (
            "latin.csv",
            "agent,obs_0,action_0,reward,terminated,\xe9\na,1,0.5,1,1,x\n".encode("latin1"),
            "cannot be read as csv",
        ),
        (
            "large.csv",
            b"agent,obs_0,action,reward,terminated\na,1,1000000000000,1,1\n",
            "actions go up to 1000000000000; if",
        ),
    ],
)
def test_tables_that_would_be_the_end_of_the_reader(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MarlineError, match=told):
        import_log(open_log(tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "out").exists()
