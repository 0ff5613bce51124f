"""What is missing in a table, and what a mapping has done about it: by hand, row by row."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline.data.dataset import Dataset, channels_of, load, mapping_of
from marline.data.decentralize import Imported, import_log
from marline.data.formats import open_log
from marline.data.mapping import ImportMapping, from_document
from marline.errors import DataError, MarlineError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
from pyarrow import parquet  # noqa: E402


def read(path: Path, out: Path, **said: Any) -> tuple[dict[str, Dataset], Imported]:
    mapping = from_document(said, "m")
    imported = import_log(open_log(path, mapping), out, split=mapping.split)
    return load(out), imported


def write(path: Path, text: str) -> Path:
    data = "\n".join(line.strip() for line in text.strip().splitlines()).encode() + b"\n"
    path.write_bytes(gzip.compress(data) if path.name.lower().endswith(".gz") else data)
    return path


SHORT = """agent,step,x,u,reward
    a,0,0,.1,0
    a,1,1,.1,1
    a,2,,.1,2
    a,3,3,.1,3
    a,4,4,.1,4
    a,6,6,.1,6
    a,7,7,.1,7"""
SAID: dict[str, Any] = {"columns": {"observations": "x", "actions": "u"}, "rows": {"continuing": True}}


def said(**rows: Any) -> dict[str, Any]:
    return {**SAID, "rows": {**SAID["rows"], **rows}}


def test_a_row_with_nothing_in_it_is_left_out_and_the_episode_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", SHORT)
    with pytest.raises(DataError, match="column 'x' is empty at row 2; fill in every row.*missing = \"cut\""):
        read(path, tmp_path / "no", **SAID)
    assert not (tmp_path / "no").exists()
    found, imported = read(path, tmp_path / "out", **said(missing="cut"))
    assert found["a"].observations[:, 0].tolist() == [0, 3, 6]
    assert found["a"].next_observations[:, 0].tolist() == [1, 4, 7]
    assert found["a"].timeouts.all() and not found["a"].terminals.any()
    assert any("1 rows in which something is missing were left out" in note for note in imported.notes)
    assert mapping_of(tmp_path / "out") == {"version": 1, **said(missing="cut")}


def test_a_value_stands_for_a_few_that_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", SHORT)
    found, imported = read(path, tmp_path / "one", **SAID, values={"x": {"fill": 1}})
    assert found["a"].observations[:, 0].tolist() == [0, 1, 1, 3, 6]  # the missing step 5 has no action to be made up
    assert any("1 missing values were filled" in note for note in imported.notes)
    every = {"x": {"fill": 2}, "u": {"fill": 1}, "reward": {"fill": 1}}
    found, imported = read(path, tmp_path / "all", **SAID, values=every)
    assert found["a"].observations[:, 0].tolist() == [0, 1, 1, 3, 4, 4, 6]
    assert found["a"].rewards.tolist() == [0, 1, 2, 3, 4, 4, 6]
    assert any("1 missing steps were made up" in note for note in imported.notes)


@pytest.mark.parametrize("block", [30, 60, 4000])
def test_values_are_filled_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("marline.data.formats.table_files._BYTES", block)
    rows = "\n".join(f"a,{e},{n},{'' if n in (2, 3, 4) or n == 0 else n},.1,1" for e in range(2) for n in range(8))
    path = write(tmp_path / "a.csv", f"agent,episode,step,x,u,reward\n{rows}")
    found, _ = read(path, tmp_path / "out", **said(missing="cut"), values={"x": {"fill": 2}})
    # nothing goes before the first value of an episode, nor for a third row
    assert found["a"].observations[:, 0].tolist() == [1, 1, 5, 6] * 2
    assert found["a"].timeouts.tolist() == [False, True] * 4


def test_what_one_agent_lacks_neither_stops_nor_cuts_another(tmp_path: Path) -> None:
    rows = [f"{agent},{n},{n},.5,1" for n in range(10) for agent in "ab" if (agent, n) not in (("a", 3), ("b", 8))]
    path = write(tmp_path / "a.csv", "agent,step,x,u,reward\n" + "\n".join(rows))
    found, imported = read(path, tmp_path / "out", **SAID)
    assert found["a"].observations[:, 0].tolist() == [0, 1, 4, 5, 6, 7, 8]
    assert found["b"].observations[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert any("each learns from its own" in note for note in imported.notes)
    found, imported = read(path, tmp_path / "aligned", **said(align=True))
    for agent in "ab":
        assert found[agent].observations[:, 0].tolist() == [0, 1, 4, 5, 6]
    assert any('agent "b": 1 rows of steps that not every agent has were left out' in note for note in imported.notes)
    with pytest.raises(DataError, match="no column of steps or times to align by"):
        read(
            path,
            tmp_path / "no",
            columns={**SAID["columns"], "rewards": "step"},
            rows={**said()["rows"], "align": True},
        )


def test_rows_in_no_order_and_twice(tmp_path: Path) -> None:
    order = [3, 0, 2, 1, 1, 4]
    rows = "\n".join(f"a,{e},{n},{n},.5,{e}" for n in order for e in (1, 0))
    path = write(tmp_path / "a.csv", f"agent,episode,step,x,u,reward\n{rows}")
    with pytest.raises(DataError, match="comes back to episode '1' at row 2; sort the table.*sort = true"):
        read(path, tmp_path / "no", **SAID)
    with pytest.raises(DataError, match='from step 1 to 1 at row .*repeated = "first"'):
        read(path, tmp_path / "no", **said(sort=True))
    found, _ = read(path, tmp_path / "out", **said(sort=True, repeated="first"))
    assert found["a"].observations[:, 0].tolist() == [0, 1, 2, 3] * 2
    assert found["a"].rewards.tolist() == [0] * 4 + [1] * 4


def test_times_tell_gaps(tmp_path: Path) -> None:
    minutes = np.array([0, 5, 10, 25, 30, 35])
    times = np.datetime64("2026-05-04T00:00") + minutes.astype("timedelta64[m]")
    table = {"agent": ["a"] * 6, "time": times.astype("datetime64[us]"), "x": minutes * 1.0, "u": [0.1] * 6}
    parquet.write_table(pa.table({**table, "reward": [1.0] * 6}), tmp_path / "A.PARQUET")
    found, _ = read(tmp_path / "A.PARQUET", tmp_path / "out", **said(every=300))
    stamps = found["a"].timestamps
    assert found["a"].observations[:, 0].tolist() == [0, 5, 25, 30] and stamps is not None
    assert np.diff(stamps).tolist() == [300, 1200, 300]
    german = [str(time).replace("T", " ") for time in times]
    german = [f"{text[8:10]}.{text[5:7]}.{text[:4]} {text[11:]}" for text in german]
    parquet.write_table(pa.table({**table, "time": german, "reward": [1.0] * 6}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="'04.05.2026 00:00' at row 0, which is no time of ISO 8601"):
        read(tmp_path / "b.parquet", tmp_path / "no", **said(every=300))
    found, _ = read(
        tmp_path / "b.parquet", tmp_path / "text", **said(every=300), table={"time_format": "%d.%m.%Y %H:%M"}
    )
    assert found["a"].timestamps is not None and found["a"].timestamps.tolist() == stamps.tolist()


def test_decimal_commas_words_and_ranges(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.CSV.gz",
        """who;x[1];phase;green;move;cost;"a,b"
        1;0,5;NS;5;up;1;1
        1;-999;EW;60;down;2;2
        1;1,5;NS;30;up;ERR;3
        1;2,5;EW;30;up;4;4
        1;3,5;EW;30;up;5;5""",
    )
    common = {
        "table": {"separator": ";", "decimal": ",", "nothing": ["ERR"]},
        "rows": {"continuing": True, "missing": "cut"},
        "values": {
            "x*": {"low": 0, "unit": "m"},
            "phase": {"one_hot": ["NS", "EW"]},
            "cost": {"factor": -1},
            "green": {"low": 5, "high": 60, "unit": "s"},
            "move": {"choices": ["down", "up"]},
        },
        "agents": {"left": {"from": 1}},
    }
    columns = {"agent": "who", "observations": ["x[1]", "phase", "a,b"], "actions": "green", "rewards": "cost"}
    found, _ = read(path, tmp_path / "green", columns=columns, **common)
    left = found["left"]
    assert left.observations.tolist() == [[2.5, 0, 1, 4]] and left.rewards.tolist() == [-4]
    assert left.channels.observation_names == ("x[1]", "phase=NS", "phase=EW", "a,b")
    assert left.channels.observation_units == ("m", None, None, None)
    assert left.channels.action_units == ("s",) and left.channels.scale() == "[5, 60]"
    assert left.actions.tolist() == [[np.float32(-1 / 11)]]
    found, _ = read(path, tmp_path / "move", columns={**columns, "actions": "move"}, **common)
    assert found["left"].spec.discrete and found["left"].spec.action_size == 2
    assert channels_of(tmp_path / "move")["left"].action_names == ("down", "up")
    with pytest.raises(DataError, match="'phase' holds 'EW' at row 1, which is none of its one_hot"):
        read(path, tmp_path / "no", columns=columns, **{**common, "values": {"phase": {"one_hot": ["NS"]}}})


def test_agents_side_by_side(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv", "t,l.x,l.u,r.x,r.u,reward\n" + "\n".join(f"{n},{n},.5,{-n},.25,1" for n in range(4))
    )
    agents = {
        "left": {"observations": ["l.x"], "actions": "l.u"},
        "right": {"observations": ["r.x"], "actions": "r.u", "values": {"r.u": {"low": 0, "high": 1}}},
    }
    found, _ = read(path, tmp_path / "out", columns={"step": "t"}, rows={"continuing": True}, agents=agents)
    assert found["left"].observations[:, 0].tolist() == [0, 1, 2]
    assert found["right"].observations[:, 0].tolist() == [0, -1, -2]
    assert found["right"].field_actions()[:, 0].tolist() == [0.25] * 3


def test_a_gzipped_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marline.data.files.HARMLESS", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"agent,step,x,u,reward\n" + b"a,1,0,0,0\n" * (1 << 19)))
    with pytest.raises(DataError, match="as no log does"):
        read(tmp_path / "a.csv.gz", tmp_path / "out", **SAID)
    for content in (b"", b"\x1f\x8b", gzip.compress(b"a,b\n1,2\n")[:-6]):
        (tmp_path / "a.csv.gz").write_bytes(content)
        with pytest.raises(MarlineError, match=r"a\.csv\.gz"):
            read(tmp_path / "a.csv.gz", tmp_path / "out", **SAID)


def test_a_mapping_of_columns_is_for_tables(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(MarlineError, match="no table with columns to map"):
        open_log(tmp_path / "a.npz", ImportMapping(sort=True))
