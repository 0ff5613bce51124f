"""Observations written after the action of their row are told, and nothing else is taken for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from marline.data.check import check
from marline.data.dataset import Dataset
from marline.data.lateness import late_observation
from marline.types import Spec

LENGTH, EPISODES = 20, 40
Policy = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of what is seen, and what was seen a step before


def rest(seen: np.ndarray, before: np.ndarray) -> np.ndarray:
    return np.zeros(2)


def answer(seen: np.ndarray, before: np.ndarray) -> np.ndarray:
    return -np.tanh(2 * seen)


def answer_changes(seen: np.ndarray, before: np.ndarray) -> np.ndarray:
    return -0.2 * seen - 3 * (seen - before)


def logs(policy: Policy, *, explores: float, delay: int = 0) -> Dataset:
    """Of a point that is pushed about, with some noise; pushes take effect after `delay` steps."""
    rng = np.random.default_rng(0)
    seen, acted, came = [], [], []
    for _ in range(EPISODES):
        place = before = rng.normal(size=2)
        pushes = [np.zeros(2)] * delay
        for _ in range(LENGTH):
            push = np.clip(policy(place, before) + explores * rng.uniform(-1, 1, 2), -1, 1)
            pushes.append(push)
            seen.append(place)
            acted.append(push)
            before, place = place, place + 0.3 * pushes[-1 - delay] + 0.05 * rng.normal(size=2)
            came.append(place)
    rows = len(seen)
    return Dataset(
        observations=np.array(seen, np.float32),
        actions=np.array(acted, np.float32),
        rewards=rng.normal(size=rows).astype(np.float32),
        terminals=np.zeros(rows, bool),
        timeouts=np.arange(rows) % LENGTH == LENGTH - 1,
        next_observations=np.array(came, np.float32),
        spec=Spec(2, 2),
    )


def late(sound: Dataset) -> Dataset:
    """As one records them who writes what is seen when the action was done; nothing comes after the last row."""
    keep = ~sound.timeouts
    columns = {key: column[keep] for key, column in sound.columns().items()}
    columns["observations"], columns["timeouts"] = sound.next_observations[keep], np.roll(sound.timeouts, -1)[keep]
    columns["next_observations"] = sound.next_observations[np.flatnonzero(keep) + 1]
    return dataclasses.replace(sound, **columns)


@pytest.mark.parametrize(("policy", "explores"), [(rest, 1.0), (answer, 1.0)])
def test_what_was_written_after_the_action_of_its_row_is_told(policy: Policy, explores: float) -> None:
    sound = logs(policy, explores=explores)
    assert check({"a": sound}) == []
    (told,) = check({"a": late(sound)})
    assert "by the action of the next row (" in told and "written after the action of their row; write what" in told


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("explores", [0.0, 0.3])
@pytest.mark.parametrize("policy", [rest, answer, answer_changes])
def test_policies_that_answer_and_machines_that_are_slow_are_not_taken_for_it(
    policy: Policy, explores: float, delay: int
) -> None:
    made = logs(policy, explores=explores, delay=delay)
    assert late_observation(made.columns(), made.spec) is None


def test_choices_are_looked_at_and_few_rows_or_wide_ones_are_not() -> None:
    made = late(logs(rest, explores=1.0))
    steps = np.diff(made.observations[:, 0], append=0) > 0
    chosen = {**made.columns(), "actions": np.roll(steps, 1).astype(np.int64)}
    assert late_observation(chosen, Spec(2, 2, discrete=True)) is not None
    for wrong, spec in [
        ({"actions": np.full(len(made), 7)}, Spec(2, 2, discrete=True)),
        ({"actions": np.full((len(made), 2), np.nan)}, made.spec),
        ({"observations": np.full((len(made), 2), np.inf)}, made.spec),
    ]:
        assert late_observation({**made.columns(), **wrong}, spec) is None
    few = {key: column[:150] for key, column in made.columns().items()}
    assert late_observation(few, made.spec) is None
    wide = {**made.columns(), "observations": np.zeros((len(made), 300), np.float32)}
    assert late_observation(wide, Spec(300, 2)) is None
