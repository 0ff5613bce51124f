"""Gymnasium's spaces as what agents see and do here: flat vectors; vectors in [-1, 1], or numbered choices."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from marline.data.channels import LONGEST, Channels
from marline.data.check import LARGEST
from marline.envs.checked import as_mask
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
    flatten = _flattening(space, where)

    def without_mask(value: Any) -> np.ndarray:
        if not isinstance(value, Mapping) or "action_mask" not in value:
            raise ConfigError(f'{where} observes {_described(value)}, without the "action_mask" that its space has')
        return flatten({name: part for name, part in value.items() if name != "action_mask"})

    return Seen(size, without_mask if has_mask else flatten, has_mask)


def _flattening(space: Any, where: str) -> Callable[[Any], np.ndarray]:
    """How to flatten a value as Gymnasium does, which however reads what is not of the space as something else.

    Numbers keep their type, and are not looked at: that is done wherever they come from.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        size = math.prod(space.shape)

        def flat(value: Any) -> np.ndarray:
            values = np.asarray(value).ravel()
            if values.size != size:
                raise ConfigError(f"{where} observes {_described(value)}, but its space is {space}; make both agree")
            return values

        return flat
    if isinstance(space, spaces.Dict | spaces.Tuple):
        flattenings = {name: _flattening(part, where) for name, part in _parts(space).items()}

        def all_parts(value: Any) -> np.ndarray:
            parts = dict(enumerate(value)) if isinstance(space, spaces.Tuple) else value
            if not isinstance(parts, Mapping) or parts.keys() != flattenings.keys():
                raise ConfigError(
                    f"{where} observes {_described(value)}, but its space has the parts "
                    f"{', '.join(map(str, flattenings))}; make both agree"
                )
            return np.concatenate([flattening(parts[name]) for name, flattening in flattenings.items()])

        return all_parts
    if isinstance(space, spaces.MultiBinary):
        return lambda value: _digits(value, np.zeros(space.shape, int), np.full(space.shape, 2), space, where)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        counts = np.array(space.n if isinstance(space, spaces.Discrete) else space.nvec).ravel()
        offsets = np.cumsum(counts) - counts

        def one_hot(value: Any) -> np.ndarray:
            flat = np.zeros(int(counts.sum()), np.float32)
            flat[offsets + _digits(value, np.array(space.start), counts, space, where)] = 1.0
            return flat

        return one_hot
    return lambda value: np.asarray(spaces.flatten(space, value))


def _digits(value: Any, start: np.ndarray, counts: np.ndarray, space: Any, where: str) -> np.ndarray:
    """Whole numbers of a discrete space, counted from 0; `ConfigError` unless all are there and within it."""
    digits = np.asarray(value).ravel()
    sound = digits.dtype.kind in "fiub" and digits.shape == counts.ravel().shape
    if sound:
        digits = digits.astype(np.float64) - start.ravel()
        sound = bool(((digits >= 0) & (digits < counts.ravel()) & (digits == np.floor(digits))).all())
    if not sound:
        raise ConfigError(f"{where} observes {_described(value)}, which is not in its space {space}; make both agree")
    return digits.astype(np.int64)


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(str, value)) or 'nothing'}"
    return f"{type(value).__name__} {value!r:.60}" if shape is None or shape == () else f"an array of shape {shape}"


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
        all((np.abs(_real(bounds)) <= LARGEST).all() for box in boxes for bounds in (box.low, box.high)),
        f"{where} acts in {space}, which has no bounds to scale [-1, 1] to; wrap it into a bounded Box",
    )
    sizes = [math.prod(box.shape) for box in boxes]
    require(min(sizes) > 0, f"{where} acts in {space}, which is empty; leave the empty Box out")

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
    low, high = _real(box.low), _real(box.high)
    value = low + (part.reshape(box.shape) + 1.0) / 2.0 * (high - low)
    return np.clip(np.rint(value) if box.dtype.kind in "iub" else value, low, high).astype(box.dtype)


def _real(bounds: np.ndarray) -> np.ndarray:
    return bounds.astype(np.float64)


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
        if isinstance(given, tuple | list) and len(given) == len(counts) > 1 and all(map(np.ndim, given)):
            parts = [as_mask(part, where) for part in given]
            sizes = [part.size for part in parts]
            require(
                sizes == counts,
                f"{where} got an action mask of {sizes} entries for parts of {counts} choices; give one for each",
            )
            return functools.reduce(np.logical_and.outer, parts).ravel()
        allowed = as_mask(given, where)
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
