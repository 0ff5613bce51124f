"""Names, units and ranges: the affine map by hand, what is refused, and every way that logs take with them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline.data import dataset
from marline.data.channels import Channels, ranged
from marline.data.dataset import Dataset, from_arrays
from marline.data.decentralize import import_log
from marline.data.export import EXPORTS
from marline.data.formats import open_log
from marline.data.formats.log import Block, Log
from marline.data.manifest import RESERVED, write_sealed
from marline.data.migrations import DATASET
from marline.data.split import Share, read_split
from marline.errors import ConfigError, DataError
from marline.types import RewardScope, Spec

FLOW = Channels(
    observation_names=["level", "inflow", "temperature"],
    observation_units=["m", "l/min", None],
    action_names=["valve", "pump"],
    action_units=["%", "l/min"],
    action_low=[-1.8, 5],
    action_high=[1.8, 60],
)


def arrays(rows: int = 20) -> dict[str, Any]:
    """As logged: the valve in [-1.8, 1.8], the pump in [5, 60]."""
    random = np.random.default_rng(rows)
    return {
        "observations": random.normal(size=(rows, 3)).astype(np.float32),
        "actions": np.stack([random.uniform(-1.8, 1.8, rows), random.uniform(5, 60, rows)], axis=1),
        "rewards": random.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 5 == 4,
        "next_observations": random.normal(size=(rows, 3)).astype(np.float32),
    }


def logs(channels: Channels = FLOW) -> Dataset:
    return from_arrays("plant", arrays(), channels=channels)


def test_the_way_to_the_field_and_back_by_hand() -> None:
    scale = Channels(action_low=[5], action_high=[60])
    unit = np.array([[-1], [0], [1], [0.5]], np.float32)
    assert scale.to_field(unit).tolist() == [[5.0], [32.5], [60.0], [46.25]]
    assert scale.from_field(np.array([[5.0], [32.5], [60.0], [46.25], [61.0]])).tolist() == [
        *unit.tolist(),
        [pytest.approx(57 / 55)],
    ]
    assert Channels().to_field(unit) is unit and Channels().from_field(unit) is unit
    assert not Channels(action_low=[-1, -1], action_high=[1, 1]).has_scale


@pytest.mark.parametrize(("low", "high"), [(5, 60), (-1.8, 1.8), (0.3, 0.7), (1000.1, 1001.1), (0, 1), (-1e30, 1e30)])
def test_what_went_to_the_field_comes_back_with_the_same_bits(low: float, high: float) -> None:
    scale = ranged(low, high, 1)
    unit = np.random.default_rng(0).uniform(-1, 1, (10_000, 1)).astype(np.float32)
    unit = np.concatenate([unit[np.abs(unit[:, 0]) > 1e-4], np.array([[-1], [0], [1]], np.float32)])
    field = scale.to_field(unit)
    assert field.dtype == np.float64 and field.min() == low and field.max() == high
    np.testing.assert_array_equal(scale.from_field(field).astype(np.float32), unit)
    answers = scale.answers(unit)  # in float32, and still not outside by its rounding
    assert answers.dtype == np.float32 and low <= answers.astype(float).min() <= answers.astype(float).max() <= high
    back = scale.from_field(answers)
    assert back.dtype == np.float32 and np.abs(back).max() <= 1
    off = np.spacing(np.float32(max(abs(low), abs(high)))) / ((high - low) / 2)
    np.testing.assert_allclose(back, unit, rtol=0, atol=2 * off + 1e-7)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"action_low": [0]}, "only one of action_low and action_high"),
        ({"action_low": [0], "action_high": [1, 2]}, "there are 1 action_low and 2 action_high"),
        ({"action_low": [2], "action_high": [1]}, "action 0 goes from 2 to 1; give the lower bound first"),
        (
            {"action_low": [float("nan")], "action_high": [1]},
            "entry 0 of action_low is nan, but must be a finite number",
        ),
        ({"action_low": [0], "action_high": [float("inf")]}, "entry 0 of action_high is inf"),
        ({"action_low": [-1], "action_high": [10**400]}, "a whole number beyond float32, but must be a finite"),
        ({"action_low": [True], "action_high": [2]}, "entry 0 of action_low is True"),
        ({"action_low": ["0"], "action_high": [2]}, "entry 0 of action_low is '0'"),
        ({"action_low": 0, "action_high": 1}, "action_low are 0, but must be a list, one per column"),
        ({"action_names": "valve"}, "action_names are 'valve', but must be a list"),
        ({"action_names": ["a", "a"]}, "action_names name ['a'] twice"),
        ({"action_names": [None]}, "entry 0 of action_names is None, but must be 1 to 100 printable letters"),
        ({"observation_names": ["a\nb"]}, "printable letters"),
        ({"observation_units": ["m" * 101]}, "1 to 100 printable letters"),
        ({"observation_units": [[]]}, "entry 0 of observation_units is []"),
        ({"action_range": [0, 1]}, "unknown key of channels 'action_range'"),
        (["action_low"], "channels are ['action_low']; write an object of"),
    ],
)
def test_what_a_stranger_wrote_is_refused_in_a_sentence(fields: Any, told: str) -> None:
    with pytest.raises(DataError, match=r"^dataset\.json: agent 'a': ") as caught:
        Channels.from_json(fields, "dataset.json: agent 'a'")
    assert told in str(caught.value)
    with pytest.raises(DataError, match="are no JSON"):
        Channels.from_text("{", "a.npz")


def test_they_belong_to_the_dataset_and_come_back_from_disk(tmp_path: Path) -> None:
    plant, other = logs(), dataclasses.replace(logs(), channels=Channels())
    np.testing.assert_allclose(plant.actions[:, 1], (arrays()["actions"][:, 1] - 32.5) / 27.5, atol=1e-6)
    dataset.save(tmp_path / "data", {"plant": plant, "other": other})
    loaded = dataset.load(tmp_path / "data")
    assert loaded["plant"].channels == FLOW and loaded["other"].channels == Channels()
    np.testing.assert_array_equal(loaded["plant"].actions, plant.actions)
    assert dataset.channels_of(tmp_path / "data") == {"plant": FLOW, "other": Channels()}
    assert dataset.digest({"a": plant}) != dataset.digest({"a": other})
    assert dataset.describe(tmp_path / "data")["schema"] == 2  # which a marline that would forget them refuses
    dataset.save(tmp_path / "plain", {"other": other})
    assert json.loads((tmp_path / "plain" / "dataset.json").read_text())["schema"] == 1


def test_a_dataset_whose_list_says_nonsense_of_its_columns_is_not_read(tmp_path: Path) -> None:
    dataset.save(tmp_path, {"plant": logs()})
    manifest = dataset.describe(tmp_path)
    entries = {key: value for key, value in manifest.items() if key not in RESERVED}
    for channels, told in (
        ({"action_low": [0], "action_high": [1]}, "there are 1 action_low for 2 columns; give one for each"),
        ({"action_low": "0", "action_high": "1"}, "action_low are '0', but must be a list"),
        ("field", "channels are 'field'"),
    ):
        changed = {**entries, "agents": [{**entries["agents"][0], "channels": channels}]}
        write_sealed(tmp_path / dataset.MANIFEST, DATASET.kind, 2, changed, manifest["files"])
        with pytest.raises(DataError, match=r"dataset\.json: agent 'plant': ") as caught:
            dataset.load(tmp_path)
        assert told in str(caught.value)


def test_ranges_in_python() -> None:
    found = from_arrays("plant", arrays(), low=[-1.8, 5], high=[1.8, 60])
    assert found.channels == Channels(action_low=[-1.8, 5], action_high=[1.8, 60])
    np.testing.assert_array_equal(found.actions, logs().actions)
    np.testing.assert_allclose(found.field_actions(), arrays()["actions"], rtol=1e-6)
    both = from_arrays("plant", arrays(), low=-100, high=100, channels=FLOW)  # what is said last counts
    assert both.channels.action_low == (-100, -100) and both.channels.action_names == ("valve", "pump")
    # a range says that a single column of whole numbers is a number
    whole = from_arrays("a", arrays() | {"actions": np.arange(20)}, low=0, high=40)
    assert whole.spec == Spec(3, 1) and whole.actions[10].tolist() == [-0.5]
    # [-1, 1] is a range, too
    signs = from_arrays("a", arrays() | {"actions": np.arange(20) % 3 - 1}, low=-1, high=1)
    assert signs.spec == Spec(3, 1) and signs.actions[:3].tolist() == [[-1], [0], [1]]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"low": 1}, "only one of low and high"),
        ({"low": 0, "high": [1, 2, 3]}, "high has 3 entries for 2 actions"),
        ({"low": 3, "high": 0}, "give the lower bound first"),
        ({"low": 1e6, "high": 1e6 + 1}, "float32 tells only 16 values apart"),
        ({"channels": Channels(action_low=[0], action_high=[1])}, "actions have 2 columns, but there are ranges of 1"),
        ({"channels": Channels(observation_names=["a"])}, "there are 1 observation_names for 3 columns"),
    ]
    for options, told in wrong:
        with pytest.raises((ConfigError, DataError), match=told):
            from_arrays("plant", arrays(), **options)


@pytest.mark.parametrize(
    "scope", ["per-agent", *(pytest.param(its, marks=pytest.mark.slow) for its in ("shared", None))]
)
@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_tell_whose_the_rewards_are(kind: str, scope: RewardScope | None, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow.parquet")
    plant = dataclasses.replace(logs(), reward_scope=scope)
    EXPORTS[kind]({"one": plant, "two": plant}, tmp_path / "out")
    (each,) = {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("one")}
    for source, back, split in (("out", "back", None), (f"out/{each}", "lone", {"one": Share()})):
        import_log(open_log(tmp_path / source), tmp_path / back, split=split)
        assert {its.reward_scope for its in dataset.load(tmp_path / back).values()} == {scope}
    import_log(open_log(tmp_path / "out"), tmp_path / "said", reward_scope="shared")  # what the user says wins
    assert dataset.load(tmp_path / "said")["two"].reward_scope == "shared"
    import_log(open_log(tmp_path / "back"), tmp_path / "again")
    assert dataset.load(tmp_path / "again")["two"].reward_scope == scope


@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_are_on_the_fields_scale_and_say_so(kind: str, tmp_path: Path) -> None:
    plant = logs()
    if kind == "minari":  # which has no rows whose next observation is not that of the next row
        plant = dataclasses.replace(plant, next_observations=np.roll(plant.observations, -1, axis=0))
    EXPORTS[kind]({"plant": plant}, tmp_path / "out")
    metadata: dict[str, Any] = {}
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(tmp_path / "out" / "plant.parquet")
        pump, recorded = np.array(table["action_1"]), json.loads(table.schema.metadata[b"marline"])
    else:
        import h5py

        with h5py.File(tmp_path / "out" / "plant-v0" / "data" / "main_data.hdf5") as file:
            pump = np.concatenate([np.asarray(file[f"episode_{number}/actions"])[:, 1] for number in range(4)])
        metadata = json.loads((tmp_path / "out" / "plant-v0" / "data" / "metadata.json").read_text())
        recorded, space = metadata["marline"], json.loads(metadata["action_space"])
        assert (space["low"], space["high"], space["dtype"]) == ([-1.8, 5], [1.8, 60], "float64")
    np.testing.assert_allclose(pump, arrays()["actions"][:, 1], rtol=1e-6)
    assert recorded == {"plant": FLOW.to_json()}
    import_log(open_log(tmp_path / "out"), tmp_path / "back")
    back = dataset.load(tmp_path / "back")["plant"]
    assert back.channels == FLOW
    np.testing.assert_array_equal(back.actions, plant.actions)
    if kind == "parquet":  # the scale belongs to the table, whatever its file is called
        (tmp_path / "out" / "plant.parquet").rename(tmp_path / "out" / "moved.parquet")
        import_log(open_log(tmp_path / "out"), tmp_path / "moved")
        np.testing.assert_array_equal(dataset.load(tmp_path / "moved")["plant"].actions, plant.actions)
    else:
        metadata["marline"] = {"plant": {"action_low": [0], "action_high": "all"}}
        (tmp_path / "out" / "plant-v0" / "data" / "metadata.json").write_text(json.dumps(metadata))
        with pytest.raises(
            DataError, match=r"metadata\.json: agent 'plant': action_high are 'all', but must be a list"
        ):
            open_log(tmp_path / "out")


@pytest.mark.parametrize("kind", ["folder", *EXPORTS])
def test_what_an_action_is_comes_back_from_an_export_even_where_its_values_do_not_tell(
    kind: str, tmp_path: Path
) -> None:
    choices = Channels(action_names=["off", "low", "high"])
    never = arrays() | {"actions": np.zeros(20, int)}  # only the first of three choices
    one_hot = arrays() | {"actions": np.eye(2)[np.arange(20) % 2]}  # numbers that look like choices
    team = {
        "named": from_arrays("named", never, spec=Spec(3, 3, discrete=True), channels=choices),
        "plain": from_arrays("plain", never, spec=Spec(3, 4, discrete=True)),
        "numbers": from_arrays("numbers", one_hot, spec=Spec(3, 2)),
    }
    dataset.save(tmp_path / "folder", team)
    if kind != "folder":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        EXPORTS[kind](team, tmp_path / kind)
    import_log(open_log(tmp_path / kind), tmp_path / "back")
    back = dataset.load(tmp_path / "back")
    for agent, logs in team.items():
        assert (back[agent].spec, back[agent].channels) == (logs.spec, logs.channels)
        np.testing.assert_array_equal(back[agent].actions, logs.actions)


def test_sizes_of_a_table_that_was_changed_since_are_not_believed(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    logs = from_arrays("a", arrays() | {"actions": np.arange(20) % 2}, spec=Spec(3, 2, discrete=True))
    EXPORTS["parquet"]({"a": logs}, tmp_path / "tables")
    path = tmp_path / "tables" / "a.parquet"
    table = parquet.read_table(path)
    place = table.schema.get_field_index("action")
    parquet.write_table(table.set_column(place, "action", arrow.array(np.linspace(-1, 1, 20))), path)
    import_log(open_log(tmp_path / "tables"), tmp_path / "out")
    assert dataset.load(tmp_path / "out")["a"].spec == Spec(3, 1)


def test_a_dataset_folder_is_imported_with_its_scale(tmp_path: Path) -> None:
    dataset.save(tmp_path / "data", {"plant": logs()})
    import_log(open_log(tmp_path / "data"), tmp_path / "back")
    import_log(open_log(tmp_path / "data" / "plant.h5"), tmp_path / "one", split={"plant": Share()})
    for name in ("back", "one"):
        back = dataset.load(tmp_path / name)["plant"]
        assert back.channels == FLOW
        np.testing.assert_array_equal(back.actions, logs().actions)


def test_what_the_source_calls_its_columns_is_shared_out(tmp_path: Path) -> None:
    """A reader fills `Log.channels`; a split says which columns are whose, and what it declares itself comes first."""
    source = Log(tmp_path, "test", lambda: iter([Block(None, arrays())]), channels={None: FLOW})
    split = {
        "valve": Share((0, 2), (0,), low=-2.0, high=2.0, action_names=("handle",)),
        "pump": Share((1,), (1,), observation_units="m3/h"),
    }
    import_log(source, tmp_path / "data", split=split)
    found = dataset.channels_of(tmp_path / "data")
    assert found["valve"] == Channels(["level", "temperature"], ["m", None], ["handle"], ["%"], [-2], [2])
    assert found["pump"] == Channels(["inflow"], ["m3/h"], ["pump"], ["l/min"], [5], [60])
    loaded = dataset.load(tmp_path / "data")
    np.testing.assert_allclose(loaded["valve"].actions[:, 0], arrays()["actions"][:, 0] / 2, atol=1e-6)


def test_a_spec_tells_ranges_names_and_units(tmp_path: Path) -> None:
    def read(entry: dict[str, Any]) -> Share:
        (tmp_path / "spec.json").write_text(json.dumps({"agents": {"a": entry}}))
        return read_split(tmp_path / "spec.json")["a"]

    shown = {"observations": arrays()["observations"], "actions": arrays()["actions"]}
    share = read({"low": [-1.8, 5], "high": [1.8, 60], "names": ["valve", "pump"], "units": "l/min"})
    named = Channels(action_names=["valve", "pump"], action_units=["l/min"] * 2)
    assert share.channels(shown, Channels()) == ranged([-1.8, 5], [1.8, 60], 2).or_else(named)
    share = read({"names": {"observations": ["x", "y", "z"]}, "units": {"observations": ["m", None, "m"]}})
    assert share.channels(shown, FLOW) == Channels(["x", "y", "z"], ["m", None, "m"]).or_else(FLOW)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"low": 5}, "only one of low and high is given; give both"),
        ({"low": [0, 0], "high": [1]}, "low and high are lists of unequal length"),
        ({"low": [0, 0], "high": [1, 0]}, "give two numbers, the lower first"),
        ({"low": [], "high": []}, "give two numbers"),
        ({"low": "0", "high": "1"}, r"\[low, high\] is \['0', '1'\]; give two numbers"),
        ({"actions": [0, 1, 0]}, "actions name a column twice"),
        ({"observations": [2, 2]}, "observations name a column twice"),
        ({"low": 0, "high": 1e39}, "give two numbers"),
        ({"low": 1e6, "high": 1e6 + 1}, "float32 tells only 16 values apart; log it without its offset"),
        ({"names": "valve"}, "names of actions are 'valve'; give a list"),
        ({"names": {"rewards": ["r"]}}, "names 'rewards'"),
        ({"units": [1]}, "entry 0 of action_units is 1"),
        ({"actions": [0], "discrete": 2, "names": ["off"]}, "there are 1 names for 2 choices"),
        ({"actions": [0], "discrete": 2, "units": "m"}, "choices have no units"),
    ]
    for entry, told in wrong:
        with pytest.raises(ConfigError, match=rf"spec\.json: agent 'a'.*{told}|{told}.*"):
            read(entry)


def test_actions_beyond_their_range_are_named_as_in_the_field(tmp_path: Path) -> None:
    beyond = arrays()
    beyond["actions"][7, 1] = 61.0
    for columns in (beyond, beyond | {"actions": beyond["actions"].astype(np.float32)}):
        (tmp_path / "plant").mkdir(exist_ok=True)
        np.savez(tmp_path / "plant" / "plant.npz", **columns)
        with pytest.raises(DataError) as caught:
            import_log(open_log(tmp_path / "plant"), tmp_path / "out", channels={"plant": FLOW})
        where = f'logs of agent "plant" ({tmp_path / "plant"}) '
        told = "hold 61 as pump (l/min), beyond its range of [5, 60] (first at row 7, 1 rows); correct the range"
        assert str(caught.value).startswith(where + told)
    assert not (tmp_path / "out").exists()
    imported = import_log(open_log(tmp_path / "plant"), tmp_path / "out", channels={"plant": FLOW}, clip_actions=True)
    assert any("actions beyond [-1.8, 1.8] x [5, 60] were clipped" in note for note in imported.notes)
    assert dataset.load(tmp_path / "out")["plant"].field_actions()[7, 1] == 60.0


def test_contradictions_are_told_in_words() -> None:
    changes: list[tuple[dict[str, Any], str | None]] = [
        ({"action_high": [1.8, 50]}, "have actions in [-1.8, 1.8] x [5, 50], not in [-1.8, 1.8] x [5, 60]"),
        ({"action_low": None, "action_high": None}, "have actions in [-1, 1], not in [-1.8, 1.8] x [5, 60]"),
        ({"observation_names": ["level", "temperature", "inflow"]}, "have 'temperature' as entry 1 of"),
        ({"action_units": ["%", "m3/h"]}, "have 'm3/h' as entry 1 of action_units, not 'l/min'"),
        ({"action_names": None, "observation_units": None}, None),
    ]
    for change, told in changes:
        found = FLOW.difference(dataclasses.replace(FLOW, **change))
        assert found is None if told is None else told in str(found)
