"""Which columns of a table are taken for what, and what is said of it."""

from __future__ import annotations

import pytest

from marline.data.formats.table_columns import describe_columns, find_columns, look_for_columns
from marline.data.layout import by_number
from marline.errors import DataError

LEAST = ["obs_0", "obs_1", "action_0", "reward", "terminated"]


def found(present: list[str], **renamed: str) -> dict[str, list[str]]:
    return find_columns("a.csv", present, renamed)


def test_numbers_say_the_order_and_nothing_else_is_taken() -> None:
    names = ["obs_10", *(f"obs_{i}" for i in range(10)), "obs_mean", "obs_0²", "obs_", "action_0", "action_logp"]
    columns = found([*names, "reward", "terminated", "action_mask"])
    assert columns["observations"] == [f"obs_{i}" for i in range(11)]
    assert columns["actions"] == ["action_0"] and columns["action_masks"] == ["action_mask"]


def test_exact_names_win() -> None:
    columns = found(["action_0", "action", "obs", "obs_0", "obs_1", "reward", "terminated"])
    assert columns["actions"] == ["action"] and columns["observations"] == ["obs"]


def test_padded_numbers_and_numbers_from_1_on_are_numbers() -> None:
    columns = found(["obs_00", "obs_01", "action_2", "action_1", "reward", "terminated"])
    assert columns["observations"] == ["obs_00", "obs_01"] and columns["actions"] == ["action_1", "action_2"]


@pytest.mark.parametrize(
    ("present", "renamed", "told"),
    [
        ([*LEAST, "obs_01"], {}, "'obs_01' and 'obs_1' have one number; rename one"),
        ([*LEAST, "obs_3"], {}, "after 'obs_1' comes 'obs_3', so obs_2 is missing; export it, or say --column"),
        ([*LEAST[1:], "obs_2"], {"actions": "action_0"}, None),
        (["obs_2", "obs_3", *LEAST[2:]], {}, "'obs_2' comes first, so obs_0 is missing"),
        ([*LEAST, "reward"], {}, "there are 2 columns 'reward'; rename or remove all but one"),
        ([*LEAST, "rewards"], {}, "the rewards may be 'reward' or 'rewards'; say which: --column rewards=reward"),
        (["obs_x", "obs_y", *LEAST[2:]], {}, "'obs_x', 'obs_y' are not numbered: to take them all, pass --column"),
        (["Obs_0", *LEAST[2:]], {}, "no column observation or .* for the observations among 'Obs_0'"),
        (LEAST, {"rewards": "action_0"}, "no column actions or action or action_0, action_1, ... for the actions"),
        (LEAST, {"observations": "obs_0,obs_1,obs_0"}, "column 'obs_0' is taken for the observations twice"),
        (LEAST, {"rewards": "obs_0", "terminals": "obs_0"}, "taken for the rewards and the terminals; a column serves"),
        ([*LEAST, "e_0", "e_1"], {"episode": "e_*"}, "'e_0', 'e_1' cannot all be the episode; give"),
    ],
)
def test_columns_that_could_be_something_else(present: list[str], renamed: dict[str, str], told: str | None) -> None:
    if told is None:
        assert found(present, **renamed)["observations"] == ["obs_1", "obs_2"]
        return
    with pytest.raises(DataError, match=told) as caught:
        found(present, **renamed)
    assert str(caught.value).startswith("a.csv: ")


def test_a_column_that_was_given_away_is_not_taken_again() -> None:
    columns = found([*LEAST, "step"], timestamps="step")
    assert columns["timestamps"] == ["step"] and "step" not in columns
    assert found(["x,y", "b", *LEAST[2:]], observations="b")["observations"] == ["b"]


def test_every_guess_is_said() -> None:
    present = [*LEAST, "action_logp", "seed"]
    notes = describe_columns("a.csv", present, found(present))
    assert notes == [
        "a.csv: observations from 'obs_0', 'obs_1'; actions from 'action_0'; rewards from 'reward'; "
        "terminals from 'terminated'",
        "a.csv: left out 'action_logp', 'seed'; to use one, pass --column KEY=NAME",
        "a.csv: no column for the episode, so an episode ends only where a row is terminated or truncated",
        "a.csv: no column for the step, so rows are taken for consecutive steps, in the order of the file",
        "a.csv: no column for the timeouts, so no row counts as cut by a time limit",
    ]
    everything = [*LEAST, "agent", "episode", "step", "truncated"]
    assert len(describe_columns("a.csv", everything, found(everything))) == 1


def test_digits_of_other_scripts_are_no_numbers_to_sort_by() -> None:
    assert sorted(["a_10", "a_2", "a_2²", "a²"], key=by_number) == ["a_2", "a_2²", "a_10", "a²"]


def test_a_name_wins_over_a_pattern_and_two_names_of_a_column_are_told_once() -> None:
    present = ["a.x", "a.torque", "b.x", "reward"]
    own = {"observations": ["a.*"], "actions": ["a.torque"]}
    found = find_columns("t.csv", present, own, continuing=True)
    assert found == {"observations": ["a.x"], "actions": ["a.torque"], "rewards": ["reward"]}
    first = find_columns("t.csv", present, {"observations": ["b.x", "*x"], "actions": ["a.torque"]}, continuing=True)
    assert first["observations"] == ["b.x", "a.x"]
    found, problems = look_for_columns("t.csv", present, {"observations": ["a.x", "a.torque"], "actions": "a.torque"})
    assert found["actions"] == ["a.torque"] and found["observations"] == ["a.x"]
    assert [one.split(";")[0] for one in problems] == [
        "t.csv: column 'a.torque' is taken for the actions and the observations"
    ]
