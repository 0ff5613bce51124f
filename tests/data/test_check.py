"""The linter of logs: every bad input really made, and its message read."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from marline.data.check import check
from marline.data.dataset import Dataset, from_arrays
from marline.errors import DataError
from marline.types import Spec

ROWS = 200


def logs(**changes: Any) -> Dataset:
    """Faultless logs: episodes of 10, 15 and 25 steps in turn, the short ones terminal."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(ROWS + 1, 3)).astype(np.float32)
    step = np.arange(ROWS) % 50
    made = Dataset(
        observations=states[:-1],
        actions=rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        rewards=rng.normal(size=ROWS).astype(np.float32),
        terminals=np.isin(step, (9, 24)),
        timeouts=step == 49,
        next_observations=states[1:],
        spec=Spec(3, 2),
    )
    return dataclasses.replace(made, **changes)


def numbered(**changes: Any) -> Dataset:
    """Faultless logs of discrete actions; the last one is never allowed nor taken."""
    masks = np.ones((ROWS, 4), bool)
    masks[:, 3] = False
    discrete = {"actions": np.arange(ROWS) % 3, "action_masks": masks, "next_action_masks": masks}
    return logs(**({**discrete, "spec": Spec(3, 4, discrete=True)} | changes))


def other(**changes: Any) -> Dataset:
    """A faultless second agent, which acts in its own way."""
    return logs(**({"actions": np.random.default_rng(1).uniform(-1, 1, (ROWS, 2)).astype(np.float32)} | changes))


def with_value(column: np.ndarray, row: int, value: float) -> np.ndarray:
    column = column.copy()
    column[row] = value
    return column


def problem(dataset: Dataset) -> str:
    with pytest.raises(DataError) as caught:
        check({"arm_left": dataset})
    assert str(caught.value).startswith('logs of agent "arm_left"')
    return str(caught.value).removeprefix('logs of agent "arm_left"')


def warnings(dataset: Dataset) -> list[str]:
    return [warning.removeprefix('logs of agent "arm_left": ') for warning in check({"arm_left": dataset})]


def test_faultless_logs_pass() -> None:
    assert check({"a": logs(), "b": other()}) == []
    assert check({"a": numbered()}) == []
    assert check({"a": numbered(action_masks=None, next_action_masks=None)}) == []


def test_no_agents() -> None:
    with pytest.raises(DataError, match="there are no logs to check; give those of at least one agent"):
        check({})


def test_no_rows() -> None:
    empty = logs(**{key: column[:0] for key, column in logs().columns().items()})
    assert problem(empty) == " hold no rows; leave the agent out or export its logs again"


@pytest.mark.parametrize("key", ["observations", "next_observations", "rewards", "actions"])
def test_values_that_are_not_finite(key: str) -> None:
    column = getattr(logs(), key)
    assert problem(logs(**{key: with_value(column, 137, np.nan)})) == (
        f" hold NaN in {key} at row 137 and in 1 of 200 rows altogether; remove those episodes or repair the export"
    )
    both = with_value(with_value(column, 199, np.nan), 3, -np.inf)
    assert problem(logs(**{key: both})).startswith(f" hold an infinite value in {key} at row 3 and in 2 of 200 rows")


def test_one_nan_in_a_million_rows() -> None:
    rows = 1_000_003  # not a multiple of anything
    zeros = np.zeros((rows, 2), np.float32)
    flags = np.zeros(rows, bool)
    made = Dataset(with_value(zeros, rows - 1, np.nan), zeros, zeros[:, 0], flags, flags, zeros, Spec(2, 2))
    assert "NaN in observations at row 1000002 and in 1 of 1000003 rows" in problem(made)


def test_values_too_large_to_square() -> None:
    assert problem(logs(rewards=with_value(logs().rewards, 5, -1e30))) == (
        " hold -1e+30 in rewards at row 5; nothing beyond 1e+18 can be learned from in float32: rescale them, "
        "or remove the row"
    )


def test_columns_that_do_not_fit() -> None:
    made = logs()
    assert "rewards 200; export one row per step" in problem(logs(terminals=made.terminals[:-1]))
    assert "observations have type float64 and shape (200, 3) instead of float32 and [n, 3]" in problem(
        logs(observations=made.observations.astype(float))
    )
    assert "actions have type float32 and shape (200, 2) instead of float32 and [n, 5]" in problem(
        logs(spec=Spec(3, 5))
    )
    assert "actions have type float32 and shape (200,) instead of int64 and [n]" in problem(
        numbered(actions=np.full(ROWS, 0.5, np.float32))
    )


def test_actions_out_of_bounds() -> None:
    actions = with_value(with_value(logs().actions, 20, -1.8), 30, 1.4)
    assert problem(logs(actions=actions)) == (
        " hold actions in [-1.8, 1.4] but its spec is [-1, 1] (first at row 20, 2 rows); "
        "re-export with the action scaling used on site, or pass --clip-actions"
    )
    assert check({"a": logs(actions=actions)}, clip_actions=True) == [
        'logs of agent "a" hold actions in [-1.8, 1.4] but its spec is [-1, 1]; 2 rows are clipped'
    ]
    assert check({"a": logs(actions=actions).clipped()}) == []
    assert check({"a": logs(actions=with_value(logs().actions, 3, 1.0000001))}) == []


def test_the_source_is_named() -> None:
    made = from_arrays("a", logs(actions=logs().actions * 3).columns(), source="logs/a.h5")
    with pytest.raises(DataError, match=r'^logs of agent "a" \(logs/a.h5\) hold actions in'):
        check({"a": made})


def test_discrete_actions_out_of_range() -> None:
    for value in (4, -1):
        assert problem(numbered(actions=with_value(numbered().actions, 11, value))) == (
            f" hold action {value} at row 11 (1 such rows) but its spec has actions 0 to 3; "
            "count actions from 0, or correct the spec"
        )


def test_masks_that_forbid() -> None:
    mask = numbered().action_masks
    assert mask is not None
    assert problem(numbered(next_action_masks=with_value(mask, 8, False))) == (
        ": next_action_masks allow no action at row 8; allow at least one, such as doing nothing"
    )
    assert problem(numbered(actions=with_value(numbered().actions, 9, 3))) == (
        " took action 3 at row 9, which its mask forbids (1 such rows); export the mask of the same step as the action"
    )


def test_what_never_changes() -> None:
    made = logs()
    flat = made.observations.copy()
    flat[:, 1] = 0.25
    following = np.concatenate([flat[1:], flat[:1]])
    assert warnings(logs(observations=flat, next_observations=following)) == [
        "observations never change in column 1; they carry no information"
    ]
    assert warnings(logs(rewards=np.full(ROWS, 2, np.float32))) == ["all rewards are 2, so there is nothing to improve"]
    assert warnings(logs(actions=np.zeros((ROWS, 2), np.float32))) == [
        "actions never change in column 0, 1; they carry no information"
    ]


def test_a_single_transition() -> None:
    one = logs(**{key: column[:1] for key, column in logs().columns().items()})
    assert "observations never change in column 0, 1, 2; they carry no information" in warnings(one)


def test_terminal_and_timeout_both_set() -> None:
    made = logs()
    assert warnings(logs(timeouts=made.timeouts | (np.arange(ROWS) == 59))) == [
        "terminal and timeout are both set at row 59 and in 1 rows; they count as terminal"
    ]


def test_truncation_stored_as_terminal() -> None:
    every = np.arange(ROWS) % 25 == 24
    none = np.zeros(ROWS, bool)
    message = "all 8 episodes are terminal after 25 steps; if a time limit cut them, store that as timeouts"
    assert warnings(logs(terminals=every, timeouts=none))[0].startswith(message)
    assert warnings(logs(terminals=none, timeouts=every)) == []
    assert warnings(logs(terminals=np.ones(ROWS, bool), timeouts=none)) == []  # one-step episodes: a bandit


def test_an_episode_without_an_end() -> None:
    cut = {key: column[:195] for key, column in logs().columns().items()}
    assert warnings(logs(**cut)) == ["the last 20 rows belong to an episode without an end; they are kept"]
    none = np.zeros(ROWS, bool)
    assert warnings(logs(terminals=none, timeouts=none)) == [
        "the last 200 rows belong to an episode without an end; they are kept"
    ]


def test_next_observations_that_do_not_follow() -> None:
    made = logs()
    ends = made.terminals | made.timeouts
    assert warnings(logs(next_observations=with_value(made.next_observations, 9, 7.0))) == []  # an episode's end
    assert ends[9] and not ends[12]
    rounded = np.nextafter(made.next_observations, np.float32(9))  # as by a program that adds in another order
    assert warnings(logs(next_observations=rounded)) == []
    assert warnings(logs(next_observations=with_value(made.next_observations, 12, 7.0))) == [
        "the next observation is not the observation of the following row at row 12 and in 1 rows; "
        "fine if rows were shuffled or left out, else episode ends are missing"
    ]


def test_repeated_episodes() -> None:
    made = logs()
    twice = {key: np.concatenate([column, column[10:25]]) for key, column in made.columns().items()}
    assert warnings(logs(**twice)) == [
        "1 of 13 episodes repeat an earlier one, such as the one from row 10; the same log may have been exported twice"
    ]
    twice["rewards"][-1] += 1
    assert warnings(logs(**twice)) == []


def test_agents_out_of_step() -> None:
    made = logs()
    told = check({"a": made, "b": logs(**{key: column[:-1] for key, column in made.columns().items()})})
    assert 'agent "b": 199 rows and 11 ends of episodes, but 200 and 12 in logs of agent "a"; each learns' in told[-1]
    shifted = {key: np.roll(column, 1, axis=0) for key, column in made.columns().items()}
    with pytest.raises(
        DataError, match=r"differ in terminals from row 9 on \(16 rows\): their rows are not the same steps"
    ):
        check({"a": made, "b": logs(**shifted)})
    told = check({"a": made, "b": other(), "c": logs(timeouts=np.zeros(ROWS, bool))})
    assert any('agent "c": other timeouts than logs of agent "a" from row 49 on' in warning for warning in told)


def test_a_shared_reward_that_differs() -> None:
    made = logs()
    assert check({"a": made, "b": other(rewards=with_value(made.rewards, 4, 0.5))}) == [
        'logs of agent "b": other rewards than logs of agent "a" from row 4 on (1 rows); if each has its own, say so '
        "with --rewards per-agent when importing; a team that shares its reward logs the same for everyone"
    ]


def test_whose_rewards_are_is_declared() -> None:
    made = logs()
    team = {"a": made, "b": other(rewards=with_value(made.rewards, 4, 0.5))}
    own = {agent: dataclasses.replace(log, reward_scope="per-agent") for agent, log in team.items()}
    assert check(own) == []
    shared = {agent: dataclasses.replace(log, reward_scope="shared") for agent, log in team.items()}
    assert "(1 rows); they are declared shared" in check(shared)[0]


def test_notes_of_reading_are_passed_on() -> None:
    columns = logs().columns()
    made = from_arrays("a", columns | {"rewards": columns["rewards"].astype(float)})
    assert check({"a": made}) == ['logs of agent "a": rewards came as float64 and were converted to float32']


def test_strange_names_do_not_reach_the_message() -> None:
    with pytest.raises(DataError) as caught:
        check({"a\n" + "x" * 10_000: logs(rewards=np.full(ROWS, np.nan, np.float32))})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_advice_never_makes_things_worse() -> None:
    seconds = logs().actions * 30 + 30
    told = problem(logs(actions=seconds))
    assert "is on another scale, and cutting would destroy it; say what becomes -1 and 1" in told
    assert "--clip-actions" not in told
    indices = np.stack([np.arange(ROWS) % 4, np.zeros(ROWS)], axis=1).astype(np.float32)
    told = problem(logs(actions=indices))
    assert "column 0 holds whole numbers only" in told and "--clip-actions" not in told
    for actions in (seconds, indices):
        with pytest.raises(DataError, match='"low" and "high" in a --spec file'):
            check({"a": logs(actions=actions)}, clip_actions=True)


def test_choices_in_disguise_are_warned_of() -> None:
    disguised = (np.arange(2 * ROWS) % 2).astype(np.float32).reshape(ROWS, 2)
    disguised[::3] = 1 - disguised[::3]
    assert any("whole numbers in every row; if they are choices" in text for text in warnings(logs(actions=disguised)))
