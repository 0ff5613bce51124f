"""Gymnasium's spaces as flat observations and as actions, by hand and for every sort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marline.envs.spaces import read, spec, write
from marline.errors import ConfigError
from marline.types import Spec

gymnasium = pytest.importorskip("gymnasium", reason="environments of the user's need: pip install 'marline[parallel]'")
spaces = gymnasium.spaces

BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))


def test_observations_by_hand() -> None:
    both = spaces.Dict({"where": BOX, "kind": spaces.Discrete(3), "flags": spaces.MultiDiscrete([2, 2])})
    seen = read(both, "a")
    value = {"where": np.array([1.0, 5.0], np.float32), "kind": np.int64(2), "flags": np.array([0, 1])}
    assert seen.size == 9 and not seen.has_mask
    # in the order of the space, which is that of the names
    np.testing.assert_array_equal(seen.flatten(value), [1, 0, 0, 1, 0, 0, 1, 1, 5])
    assert seen.flatten(value).dtype == np.float32


def test_a_mask_beside_the_observation_is_no_part_of_it() -> None:
    space = spaces.Dict({"observation": BOX, "action_mask": spaces.MultiBinary(3)})
    seen = read(space, "a")
    assert seen.has_mask and seen.size == 2
    value = {"observation": np.array([1.0, 2.0], np.float32), "action_mask": np.array([1, 0, 1], np.int8)}
    np.testing.assert_array_equal(seen.flatten(value), [1, 2])


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (BOX, 2),
        (spaces.Box(-1, 1, (2, 3)), 6),
        (spaces.Box(0, 5, (2,), np.int64), 2),
        (spaces.Dict({"arm": BOX, "legs": spaces.Tuple([spaces.Box(-1, 1, (3,))])}), 5),
    ],
)
def test_continuous_actions_fill_their_space(space: Any, size: int) -> None:
    done = write(space, "a")
    assert spec(read(BOX, "a"), done) == Spec(2, size)
    for vector in (np.full(size, -1.0), np.linspace(-1, 1, size), np.full(size, 1.0), np.full(size, 1.7)):
        assert space.contains(done.act(vector.astype(np.float32)))
    np.testing.assert_allclose(spaces.flatten(space, done.act(np.full(size, -1.0))), spaces.flatten(space, low(space)))


def low(space: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: low(part) for name, part in space.spaces.items()}
    return tuple(low(part) for part in space.spaces) if isinstance(space, spaces.Tuple) else space.low


def test_the_bounds_of_boxes_are_the_scale_of_actions() -> None:
    both = spaces.Dict({"arm": BOX, "legs": spaces.Tuple([spaces.Box(0, 5, (2,), np.int64)])})
    channels = write(both, "a").channels
    assert (channels.action_low, channels.action_high) == ((-2, 0, 0, 0), (2, 10, 5, 5))
    unit = np.array([0.5, -0.25, 1.0, -1.0], np.float32)
    np.testing.assert_allclose(spaces.flatten(both, write(both, "a").act(unit)), channels.to_field(unit))


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (spaces.Discrete(3), None),  # their numbers say it
        (spaces.Discrete(3, start=-1), ("-1", "0", "1")),
        (spaces.MultiDiscrete([1, 2]), ("[0, 0]", "[0, 1]")),
        (
            spaces.Dict({"gear": spaces.Discrete(2, start=1), "light": spaces.MultiBinary(1)}),
            ("gear: 1, light: [0]", "gear: 1, light: [1]", "gear: 2, light: [0]", "gear: 2, light: [1]"),
        ),
        (spaces.Dict({"x" * 100: spaces.Discrete(2)}), None),  # too long to be a name
    ],
)
def test_choices_say_what_they_stand_for(space: Any, names: Any) -> None:
    assert write(space, "a").channels.action_names == names


def test_the_middle_of_a_box() -> None:
    np.testing.assert_allclose(write(BOX, "a").act(np.array([0.0, 0.5])), [0.0, 7.5])


@pytest.mark.parametrize(
    ("space", "num"),
    [
        (spaces.Discrete(4), 4),
        (spaces.Discrete(3, start=-1), 3),
        (spaces.MultiDiscrete([2, 3]), 6),
        (spaces.MultiBinary(3), 8),
        (spaces.Dict({"gear": spaces.Discrete(3), "lights": spaces.MultiBinary(2)}), 12),
    ],
)
def test_every_choice_is_another_action_of_the_space(space: Any, num: int) -> None:
    done = write(space, "a")
    assert spec(read(BOX, "a"), done) == Spec(2, num, discrete=True)
    actions = [done.act(np.int32(choice)) for choice in range(num)]
    assert all(space.contains(action) for action in actions)
    assert len({str(action) for action in actions}) == num
    np.testing.assert_array_equal(done.mask(np.arange(num) % 2), np.arange(num) % 2 == 1)


def test_a_mask_of_parts_allows_what_all_parts_allow() -> None:
    done = write(spaces.MultiDiscrete([2, 3]), "a")
    allowed = done.mask((np.array([1, 0]), np.array([1, 0, 1])))
    assert [tuple(done.act(choice)) for choice in np.flatnonzero(allowed)] == [(0, 0), (0, 2)]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "no bounds"),
        (spaces.Box(-3e38, 3e38, (2,)), "no bounds"),
        (spaces.Box(-1.7e308, 1.7e308, (2,), np.float64), "no bounds"),
        (spaces.Box(-1, 1, (0,)), "which is empty"),
        (spaces.Tuple([BOX, spaces.Box(-1, 1, (0, 3))]), "which is empty"),
        (spaces.Dict({"a": BOX, "b": spaces.Discrete(2)}), "mixes continuous and discrete"),
        (spaces.MultiDiscrete([100, 100]), "10000 combinations"),
        (spaces.Text(5), "wrap it into"),
        ((3, 4), "no space of Gymnasium's"),
    ],
)
def test_actions_that_cannot_be_learned_are_refused(space: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"agent 'x' acts in .*{told}"):
        write(space, "agent 'x'")


def test_observations_without_a_size_and_wrong_masks_are_refused() -> None:
    with pytest.raises(ConfigError, match="no fixed size"):
        read(spaces.Sequence(BOX), "agent 'x'")
    with pytest.raises(ConfigError, match="no space of Gymnasium's"):
        read(None, "agent 'x'")
    with pytest.raises(ConfigError, match="a mask of 2 entries|action mask of 2 entries for 4 choices"):
        write(spaces.Discrete(4), "agent 'x'").mask(np.ones(2))
    with pytest.raises(ConfigError, match="cannot be masked"):
        write(BOX, "agent 'x'").mask(np.ones(2))


def test_choices_seen_are_one_hot_where_they_are_there() -> None:
    np.testing.assert_array_equal(read(spaces.Discrete(3, start=-1), "a").flatten(-1), [1, 0, 0])
    np.testing.assert_array_equal(read(spaces.MultiDiscrete([2, 3]), "a").flatten([1, 0]), [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(read(spaces.MultiBinary(3), "a").flatten([1, 0, 1]), [1, 0, 1])
    pair = spaces.Tuple([spaces.Discrete(2), spaces.Box(-9, 9, (2, 1))])
    np.testing.assert_array_equal(read(pair, "a").flatten((1, np.array([[3.5], [4.5]]))), [0, 1, 3.5, 4.5])
    for space in (BOX, spaces.MultiDiscrete([2, 3]), pair, spaces.Dict({"b": BOX, "a": spaces.MultiBinary([2, 2])})):
        space.seed(0)
        for value in (space.sample() for _ in range(5)):
            np.testing.assert_array_equal(read(space, "a").flatten(value), spaces.flatten(space, value))


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Discrete(3), 3),
        (spaces.Discrete(3), -1),  # which Gymnasium counts from the end
        (spaces.Discrete(3), 0.5),
        (spaces.Discrete(3), np.nan),
        (spaces.Discrete(3), [0, 1]),
        (spaces.MultiDiscrete([2, 3]), [2, 0]),  # which Gymnasium takes for the second part's first
        (spaces.MultiDiscrete([2, 3]), [1]),
        (spaces.MultiBinary(2), [0, 2]),
        (BOX, np.zeros(3)),
        (BOX, {"x": 1.0}),
        (spaces.Dict({"a": BOX}), np.zeros(2)),
        (spaces.Dict({"a": BOX}), {"a": np.zeros(2), "b": 1}),
        (spaces.Dict({"a": BOX, "b": BOX}), {"a": np.zeros(1), "b": np.zeros(3)}),
        (spaces.Tuple([BOX]), (np.zeros(2), np.zeros(2))),
    ],
)
def test_what_is_not_of_its_space_is_refused(space: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match="^agent 'x' observes .*make both agree"):
        read(space, "agent 'x'").flatten(value)


def test_masks_hold_zeros_and_ones_of_the_right_parts() -> None:
    pair = write(spaces.MultiDiscrete([2, 3]), "agent 'x'")
    with pytest.raises(ConfigError, match=r"mask of \[3, 2\] entries for parts of \[2, 3\] choices"):
        pair.mask((np.ones(3), np.ones(2)))
    with pytest.raises(ConfigError, match="nothing else"):
        pair.mask((np.array([0.0, -np.inf]), np.ones(3)))
    with pytest.raises(ConfigError, match="nothing else"):
        write(spaces.Discrete(2), "agent 'x'").mask([0.0, -np.inf])
    flat = write(spaces.MultiDiscrete([2, 1]), "a").mask([1, 0])  # as many entries as parts
    np.testing.assert_array_equal(flat, [True, False])


def test_a_box_of_switches_is_rounded() -> None:
    done = write(spaces.Box(0, 1, (2,), bool), "a")
    assert done.act(np.array([-0.5, 0.5])).tolist() == [False, True]
