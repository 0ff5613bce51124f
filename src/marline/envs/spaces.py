"""Gymnasium's spaces as what agents see and do here: flat vectors; vectors in [-1, 1], or numbered choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from marline.data.channels import LARGEST, LONGEST, Channels
from marline.errors import ConfigError, require
from marline.types import Spec

MAX_CHOICES = 4096  # of combined discrete actions: each has an output of the network, and a place in every mask


class Seen(NamedTuple):
    """How an observation space is read."""

    size: int
    flatten: Callable[[Any], np.ndarray]
    has_mask: bool  # a mask of actions comes with the observation, under "action_mask"


class Done(NamedTuple):
    """How an action space is written.

    Attributes:
        spec_size: length of the vector, or number of choices.
        discrete: whether actions are choices.
        act: from a vector in [-1, 1], or the number of a choice, to an action of the space.
        mask: from the environment's mask to one boolean for each choice.
        channels: the bounds of a vector in the space; what choices stand for, where their numbers do not say it.
    """

    spec_size: int
    discrete: bool
    act: Callable[[Any], Any]
    mask: Callable[[Any], np.ndarray]
    channels: Channels


def read(space: Any, where: str) -> Seen:
    """How to flatten what a space holds: numbers in order, choices one-hot, parts of a dict in order of their names.

    A mask beside the observation, as PettingZoo has it ({"observation": ..., "action_mask": ...}), is no part of it.

    Raises:
        ConfigError: a space without a fixed size, such as text or a sequence.
    """
    from gymnasium import spaces

    require(isinstance(space, spaces.Space), f"{where} observes {space!r}, which is no space of Gymnasium's")
    has_mask = isinstance(space, spaces.Dict) and "action_mask" in space.spaces
    if has_mask:
        space = spaces.Dict({name: part for name, part in space.spaces.items() if name != "action_mask"})
    try:
        size = spaces.flatdim(space)
    except (NotImplementedError, ValueError) as error:
        raise ConfigError(f"{where} observes {space}, which has no fixed size ({error}); wrap it into a Box") from None
    require(size > 0, f"{where} observes {space}, which is empty")
    if isinstance(space, spaces.Box):  # the common case, and many times as fast
        return Seen(size, lambda value: np.asarray(value, np.float32).ravel(), has_mask)
    parts = list(space.spaces) if isinstance(space, spaces.Dict) else None

    def flatten(value: Any) -> np.ndarray:
        value = value if parts is None else {name: value[name] for name in parts}
        return np.asarray(spaces.flatten(space, value), np.float32)

    return Seen(size, flatten, has_mask)


def write(space: Any, where: str) -> Done:
    """How to make actions of a space: bounded boxes are scaled to [-1, 1], discrete parts multiplied into one choice.

    Raises:
        ConfigError: a space without bounds, of both kinds, with too many choices, or of another sort.
    """
    from gymnasium import spaces

    require(isinstance(space, spaces.Space), f"{where} acts in {space!r}, which is no space of Gymnasium's")
    leaves = _leaves(space)
    boxes = [leaf for leaf in leaves if isinstance(leaf, spaces.Box)]
    require(len(leaves) > 0, f"{where} has nothing to do: its action space is {space}")
    require(
        len(boxes) in (0, len(leaves)),
        f"{where} acts in {space}, which mixes continuous and discrete parts; wrap it into one or the other",
    )
    return _continuous(space, boxes, where) if boxes else _discrete(space, leaves, where)


def spec(seen: Seen, done: Done) -> Spec:
    """Sizes as algorithms want them."""
    return Spec(seen.size, done.spec_size, discrete=done.discrete)


def _continuous(space: Any, boxes: list[Any], where: str) -> Done:
    require(
        all(max(np.abs(box.low).max(initial=0), np.abs(box.high).max(initial=0)) <= LARGEST for box in boxes),
        f"{where} acts in {space}, which has no bounds to scale [-1, 1] to; wrap it into a bounded Box",
    )
    sizes = [math.prod(box.shape) for box in boxes]

    def act(vector: np.ndarray) -> Any:
        parts = np.split(np.clip(np.asarray(vector, np.float64), -1.0, 1.0), np.cumsum(sizes)[:-1])
        scaled = iter([_scale(part, box) for part, box in zip(parts, boxes, strict=True)])
        return _assemble(space, scaled)

    low, high = (
        np.concatenate([bound.ravel() for bound in bounds]).astype(np.float64).tolist()
        for bounds in ([box.low for box in boxes], [box.high for box in boxes])
    )
    return Done(sum(sizes), False, act, _no_mask, Channels(action_low=low, action_high=high))


def _scale(part: np.ndarray, box: Any) -> np.ndarray:
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    value = low + (part.reshape(box.shape) + 1.0) / 2.0 * (high - low)
    return np.clip(np.rint(value) if box.dtype.kind in "iu" else value, low, high).astype(box.dtype)


def _discrete(space: Any, leaves: list[Any], where: str) -> Done:
    counts = [count for leaf in leaves for count in _counts(leaf, space, where)]
    num_choices = math.prod(counts)
    require(
        num_choices <= MAX_CHOICES,
        f"{where} acts in {space}, which has {num_choices} combinations, more than {MAX_CHOICES}; "
        "split it among agents, or wrap it",
    )

    def act(choice: Any) -> Any:
        digits = [int(digit) for digit in np.unravel_index(int(choice), counts)]
        parts = []
        for leaf in leaves:
            num = len(_counts(leaf, space, where))
            parts.append(_of_digits(leaf, digits[:num]))
            digits = digits[num:]
        return _assemble(space, iter(parts))

    def mask(given: Any) -> np.ndarray:
        """One for each choice, or one for each part of a combined choice: all parts must be allowed."""
        if isinstance(given, tuple | list) and len(given) == len(counts) > 1:
            allowed = np.ones((), bool)
            for part in given:
                allowed = np.logical_and.outer(allowed, np.asarray(part).astype(bool))
        else:
            allowed = np.asarray(given).astype(bool)
        require(
            allowed.size == num_choices,
            f"{where} got an action mask of {allowed.size} entries for {num_choices} choices; give one for each",
        )
        return allowed.ravel()

    return Done(num_choices, True, act, mask, Channels(action_names=_names(space, act, num_choices)))


def _names(space: Any, act: Callable[[Any], Any], num_choices: int) -> list[str] | None:
    """What each choice stands for, unless its number says it or words would be too long."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete) and space.start == 0:
        return None
    names = [_in_words(act(choice)) for choice in range(num_choices)]
    return names if all(len(name) <= LONGEST and name.isprintable() for name in names) else None


def _in_words(action: Any) -> str:
    if isinstance(action, dict):
        return ", ".join(f"{name}: {_in_words(part)}" for name, part in action.items())
    return ", ".join(map(_in_words, action)) if isinstance(action, tuple) else str(np.asarray(action).tolist())


def _counts(leaf: Any, space: Any, where: str) -> list[int]:
    from gymnasium import spaces

    if isinstance(leaf, spaces.Discrete):
        return [int(leaf.n)]
    if isinstance(leaf, spaces.MultiDiscrete):
        return [int(count) for count in leaf.nvec.ravel()]
    if isinstance(leaf, spaces.MultiBinary):
        return [2] * math.prod(leaf.shape)
    raise ConfigError(
        f"{where} acts in {space}; wrap it into Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of those"
    )


def _of_digits(leaf: Any, digits: list[int]) -> Any:
    from gymnasium import spaces

    if isinstance(leaf, spaces.Discrete):
        return leaf.dtype.type(digits[0] + leaf.start)
    start = leaf.start if isinstance(leaf, spaces.MultiDiscrete) else 0
    return (np.array(digits).reshape(leaf.shape) + start).astype(leaf.dtype)


def _leaves(space: Any) -> list[Any]:
    """The parts of which dicts and tuples are made, in order."""
    return [leaf for part in _parts(space).values() for leaf in _leaves(part)] if _parts(space) else [space]


def _assemble(space: Any, parts: Any) -> Any:
    """The inverse of `_leaves`, for values."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {name: _assemble(part, parts) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_assemble(part, parts) for part in space.spaces)
    return next(parts)


def _parts(space: Any) -> dict[Any, Any]:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else {}


def _no_mask(given: Any) -> np.ndarray:
    raise ConfigError("an action mask came for continuous actions, which cannot be masked; leave it out")
