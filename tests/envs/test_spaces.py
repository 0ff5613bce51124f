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
