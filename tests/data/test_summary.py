"""The logs of an agent in numbers."""

import dataclasses
from pathlib import Path

import numpy as np

from marline.data.dataset import describe, from_arrays, load, reward_scope_of, save
from marline.data.summary import episodes, returns_by_agent, summarise

LOGS = from_arrays(
    "a",
    {
        "observations": np.zeros((6, 2), np.float32),
        "actions": np.array([[0.5], [1], [-1], [0], [0.9999], [0.2]], np.float32),
        "rewards": np.array([1, 2, 3, 4, 5, 6], np.float32),
        "terminals": np.array([0, 1, 0, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 1, 0, 0, 0], bool),
        "next_observations": np.zeros((6, 2), np.float32),
    },
)


def test_returns_add_up_and_what_follows_the_last_end_counts_as_an_episode() -> None:
    lengths, returns = episodes(LOGS)
    assert lengths.tolist() == [2, 1, 3]
    assert returns.tolist() == [3, 3, 15]
    ended = dataclasses.replace(LOGS, timeouts=np.array([0, 0, 1, 0, 0, 1], bool))
    assert episodes(ended).lengths.tolist() == [2, 1, 3]


def test_summary() -> None:
    found = summarise(LOGS)
    assert (found.num_rows, found.num_episodes, found.mean_length, found.mean_return) == (6, 3, 2.0, 7.0)
    assert (found.share_terminal, found.share_saturated) == (1 / 3, 0.5)


def test_agents_have_returns_of_their_own_where_their_rewards_are() -> None:
    other = dataclasses.replace(LOGS, rewards=2 * LOGS.rewards)
    assert returns_by_agent({"a": LOGS, "b": other}) == {"a": 7.0, "b": 14.0}
    assert returns_by_agent({"a": LOGS, "b": LOGS}) == {} == returns_by_agent({"a": LOGS})
    shared = {name: dataclasses.replace(log, reward_scope="shared") for name, log in (("a", LOGS), ("b", other))}
    assert returns_by_agent(shared) == {}
    own = {name: dataclasses.replace(LOGS, reward_scope="per-agent") for name in "ab"}
    assert returns_by_agent(own) == {"a": 7.0, "b": 7.0}


def test_whose_rewards_are_is_kept_with_the_logs(tmp_path: Path) -> None:
    own = {name: dataclasses.replace(LOGS, reward_scope="per-agent") for name in "ab"}
    save(tmp_path / "own", own)
    save(tmp_path / "unknown", {"a": own["a"], "b": LOGS})
    assert reward_scope_of(tmp_path / "own") == load(tmp_path / "own")["b"].reward_scope == "per-agent"
    assert reward_scope_of(tmp_path / "unknown") is load(tmp_path / "unknown")["a"].reward_scope is None
    assert "rewards" not in describe(tmp_path / "unknown")
