"""What comes back from the field in tables, read by a mapping: whose columns are whose, and words that nobody knew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline.campaign.read_logs import read_logs
from marline.errors import DataError
from marline.types import Spec

pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def test_a_joint_table_is_split_as_the_mapping_says(tmp_path: Path) -> None:
    head = "episode,step,obs_0,obs_1,action_0,action_1,reward,terminated,truncated"
    rows = [f"0,{step},0.{step},0.5,0.1,-0.2,1,0,{int(step == 3)}" for step in range(4)]
    (tmp_path / "joint.csv").write_text("\n".join([head, *rows]))
    agents = {"a": {"observations": "0:1", "actions": [1]}, "b": {"observations": "1:2", "actions": [0]}}
    specs = {"a": Spec(1, 1), "b": Spec(1, 1)}
    logs = read_logs(tmp_path / "joint.csv", specs, mapping={"agents": agents}).logs
    assert logs["a"].actions.tolist() == pytest.approx(np.full((3, 1), -0.2)) and len(logs["b"]) == 3
    assert logs["b"].actions.tolist() == pytest.approx(np.full((3, 1), 0.1))
    assert logs["b"].observations.tolist() == [[0.5]] * 3


TABLE = """agent,episode,step,hp,zone,move,reward,terminated
a,0,0,1,north,left,0,0
a,0,1,2,cellar,right,0,0
a,0,2,3,south,left,0,0
a,0,3,4,north,right,0,1
"""
COLUMNS = {"observations": ["hp", "zone"], "actions": "move"}


def mapping(other: str | None, rows: dict[str, Any], choices: list[str]) -> dict[str, Any]:
    zone = {"one_hot": ["north", "south"], **({} if other is None else {"other": other})}
    return {
        "columns": COLUMNS,
        "values": {"zone": zone, "move": {"choices": choices, "other": "missing"}},
        "rows": rows,
    }


def test_words_that_nobody_listed_are_refused_missing_or_none_of_the_known(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text(TABLE)

    def read(other: str | None, rows: dict[str, Any], choices: tuple[str, ...] = ("left", "right")) -> Any:
        return read_logs(tmp_path / "day.csv", {"a": Spec(3, 2, True)}, mapping=mapping(other, rows, [*choices])).logs[
            "a"
        ]

    with pytest.raises(DataError, match=r"'cellar' at row 1, .* other = \"missing\" or \"zeros\""):
        read(None, {})
    with pytest.raises(DataError, match="'cellar' at row 1.* it counts as missing"):
        read("missing", {})
    zeros = read("zeros", {})
    assert zeros.observations.tolist() == [[1, 1, 0], [2, 0, 0], [3, 0, 1], [4, 1, 0]]
    cut = read("missing", {"missing": "cut"})  # the row before has no next observation, and is lost too
    assert cut.observations.tolist() == [[3, 0, 1], [4, 1, 0]] and cut.actions.tolist() == [0, 1]
    cut = read("zeros", {"missing": "cut"}, ("right", "jump"))
    assert cut.actions.tolist() == [0] and cut.terminals.tolist() == [True]


def test_all_agents_of_another_team_are_named(tmp_path: Path) -> None:
    rows = [f"{agent},0,{step},0.{step},0.1,1,0" for step in range(3) for agent in ("leg", "arm")]
    (tmp_path / "other.csv").write_text("\n".join(["agent,episode,step,obs_0,action_0,reward,terminated", *rows]))
    told = "other.csv holds logs of 'arm', 'leg', not of this team, which is a, b; are these the right logs"
    with pytest.raises(DataError, match=told):
        read_logs(tmp_path / "other.csv", {"a": Spec(1, 1), "b": Spec(1, 1)})
