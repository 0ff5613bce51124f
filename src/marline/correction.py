"""Online transition correction by itself, for anybody's training loop.

It is written in NumPy throughout: a compiled program would be one per shape, compiled for seconds
and kept for good, and the arrays of a training loop of one's own come in many shapes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from marline.errors import DataError, require
from marline.inputs.arguments import checked_arguments

BLOCK_ENTRIES = 1 << 16  # of the matrix of distances that exists at a time: it stays in cache


class Correction(NamedTuple):
    """What `correct` found: rows to train on, and why.

    Attributes:
        indices: `[num]` rows drawn from P, with replacement.
        probabilities: `[n]` P(j), Eq. (3).
        distances: `[n]` next-state distance of each row to its match.
        matches: `[n]` online row that each row is matched with, Eq. (1).
    """

    indices: np.ndarray
    probabilities: np.ndarray
    distances: np.ndarray
    matches: np.ndarray


@checked_arguments
def correct(
    state_action: ArrayLike,
    next_state: ArrayLike,
    online_state_action: ArrayLike,
    online_next_state: ArrayLike,
    *,
    alpha: float = 1.0,
    num: int = 128,
    seed: int = 0,
) -> Correction:
    """Draw the rows of a minibatch that best match what was seen online.

    Each of the n rows is matched with the online row whose state-action features are nearest in
    L1 distance, uniformly among ties. Rows are ranked by the L1 distance between their next-state
    features and those of their match, at random among ties, and drawn with probability proportional
    to rank^-alpha. Values that are estimated from sampled actions should be so with the same noise for
    all rows, offline and online, or a row will differ from itself.

    Args:
        state_action: `[n, e]` features of the state-action pairs, or `[n]` for one feature: raw
            and standardised, embedded, or Q(s, a).
        next_state: `[n, f]` or `[n]` features of the next states: raw, embedded, or
            V(s') / mean V.
        online_state_action: `[m, e]` or `[m]`, of the rows of the last deployment.
        online_next_state: `[m, f]` or `[m]`, likewise.
        alpha: exponent of the rank; 0 is uniform sampling.
        num: rows to draw.
        seed: of all randomness, at least 0; the same seed gives the same rows.

    Raises:
        DataError: arrays of the wrong shape, or that hold NaN or infinity; names the argument and row.
        ConfigError: alpha negative or not finite, num below 1, or seed negative.

    Example:
        Today an action 1 leads to 0.9. Of three logged rows with that action the last resembles it most.

        >>> found = marline.correct([1, 1, 1], [-0.9, 0.2, 0.8], [1], [0.9], alpha=2, num=4)
        >>> print(found.distances.round(1), found.probabilities.round(2))
        [1.8 0.7 0.1] [0.08 0.18 0.73]
    """
    require(0 <= alpha < math.inf, f"alpha is {alpha}, but must be finite and at least 0; 0 is uniform")
    require(num >= 1, f"num is {num}, but at least 1 row must be drawn")
    require(seed >= 0, f"seed is {seed}, but must be at least 0")
    queries, compared = _features("state_action", state_action), _features("next_state", next_state)
    references = _features("online_state_action", online_state_action)
    online = _features("online_next_state", online_next_state)
    _same("rows", "state_action", len(queries), "next_state", len(compared))
    _same("rows", "online_state_action", len(references), "online_next_state", len(online))
    _same("features", "state_action", queries.shape[1], "online_state_action", references.shape[1])
    _same("features", "next_state", compared.shape[1], "online_next_state", online.shape[1])

    random = np.random.default_rng(seed)
    matches = _match(queries, references, random)
    distances = _l1(compared, online[matches])
    order = np.lexsort((random.random(len(distances)), distances))
    by_rank = np.arange(1, len(order) + 1) ** -float(alpha)
    by_rank /= by_rank.sum()
    probabilities = np.empty_like(by_rank)
    probabilities[order] = by_rank
    cumulative = by_rank.cumsum()
    drawn = np.searchsorted(cumulative, random.random(num) * cumulative[-1], side="right")
    # rounding may not point past the last row
    return Correction(order[np.minimum(drawn, len(order) - 1)], probabilities, distances, matches)


def _match(queries: np.ndarray, references: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The nearest reference of each query; uniform among ties."""
    if queries.shape[1] == 1:
        return _match_scalar(queries[:, 0], references[:, 0], random)
    block = max(1, BLOCK_ENTRIES // len(references))
    matches = []
    for start in range(0, len(queries), block):
        distances = _l1(queries[start : start + block, None], references[None])
        query, slot = np.nonzero(distances == distances.min(axis=1, keepdims=True))
        first, count = np.unique(query, return_index=True, return_counts=True)[1:]
        matches.append(slot[first + _one_of(count, random)])
    return np.concatenate(matches)


def _match_scalar(queries: np.ndarray, references: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same by sorting: the nearest references are a run of equal values below the query, one above it, or both."""
    order = np.argsort(references, kind="stable")
    ascending = references[order]
    split = np.searchsorted(ascending, queries)
    below, above = np.maximum(split - 1, 0), np.minimum(split, len(references) - 1)
    gap_below, gap_above = (_l1(queries[:, None], ascending[place, None]) for place in (below, above))
    first = np.where(gap_below <= gap_above, np.searchsorted(ascending, ascending[below], side="left"), above)
    stop = np.where(gap_above <= gap_below, np.searchsorted(ascending, ascending[above], side="right"), below + 1)
    return order[first + _one_of(stop - first, random)]


def _one_of(count: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A whole number in [0, count) for each count, all equally likely."""
    return (random.random(len(count)) * count).astype(np.intp)


def _l1(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """L1 distances over the last axis, one feature at a time, so that no array has them all."""
    total = np.zeros(np.broadcast_shapes(first.shape, second.shape)[:-1], np.float32)
    with np.errstate(over="ignore"):  # infinitely far is far enough
        for feature in range(first.shape[-1]):
            difference = first[..., feature] - second[..., feature]
            total += np.abs(difference, out=difference)
    return total


def _features(name: str, values: ArrayLike) -> np.ndarray:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is not an array of numbers ({error}); pass floats of shape [rows, features]") from None
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        shape = np.shape(values)
        raise DataError(
            f"{name} has shape {list(shape)}, but must be [rows, features] or [rows], with at least one of each"
        )
    broken = ~np.isfinite(array).all(axis=1)
    if broken.any():
        raise DataError(
            f"{name} holds NaN or infinity in {broken.sum()} rows, first in row {broken.argmax()}; drop them"
        )
    return array


def _same(what: str, first: str, count: int, second: str, other: int) -> None:
    if count != other:
        raise DataError(f"{first} has {count} {what} but {second} has {other}; they must agree")
