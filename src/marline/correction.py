"""Online transition correction by itself, for anybody's training loop: NumPy in, NumPy out."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from marline.arguments import checked_arguments
from marline.errors import DataError, require
from marline.ops.matching import best_match, best_match_scalar
from marline.ops.prioritization import draw, rank_order, rank_probabilities

BLOCK_ENTRIES = 1 << 24  # of the matrix of distances that exists at a time


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
    features and those of their match, and drawn with probability proportional to rank^-alpha.

    Args:
        state_action: `[n, e]` features of the state-action pairs, or `[n]` for one feature: raw
            and standardised, embedded, or Q(s, a).
        next_state: `[n, f]` or `[n]` features of the next states: raw, embedded, or
            V(s') / mean V.
        online_state_action: `[m, e]` or `[m]`, of the rows of the last deployment.
        online_next_state: `[m, f]` or `[m]`, likewise.
        alpha: exponent of the rank; 0 is uniform sampling.
        num: rows to draw.
        seed: of all randomness; the same seed gives the same rows.

    Raises:
        DataError: arrays of the wrong shape, or that hold NaN or infinity; names the argument and row.
        ConfigError: alpha negative or not finite, or num below 1.
    """
    require(0 <= alpha < math.inf, f"alpha is {alpha}, but must be finite and at least 0; 0 is uniform")
    require(num >= 1, f"num is {num}, but at least 1 row must be drawn")
    require(-(2**63) <= seed < 2**63, f"seed is {seed}, but must fit into 64 bits")
    queries, compared = _features("state_action", state_action), _features("next_state", next_state)
    references = _features("online_state_action", online_state_action)
    online = _features("online_next_state", online_next_state)
    _same("rows", "state_action", len(queries), "next_state", len(compared))
    _same("rows", "online_state_action", len(references), "online_next_state", len(online))
    _same("features", "state_action", queries.shape[1], "online_state_action", references.shape[1])
    _same("features", "next_state", compared.shape[1], "online_next_state", online.shape[1])

    match_key, rank_key, draw_key = jax.random.split(jax.random.key(seed), 3)
    matches = _match(queries, references, match_key)
    distances = np.abs(compared - online[matches]).sum(axis=1, dtype=np.float32)
    order = rank_order(jnp.asarray(distances), key=rank_key)
    by_rank = rank_probabilities(len(queries), alpha)
    probabilities = jnp.zeros(len(queries)).at[order].set(by_rank)
    indices = order[draw(by_rank, num, key=draw_key)]
    return Correction(np.asarray(indices), np.asarray(probabilities), distances, matches)


def _match(queries: np.ndarray, references: np.ndarray, key: jax.Array) -> np.ndarray:
    if queries.shape[1] == 1:
        return np.asarray(best_match_scalar(jnp.asarray(queries[:, 0]), jnp.asarray(references[:, 0]), key=key))
    block = max(1, BLOCK_ENTRIES // len(references))
    parts = [
        best_match(
            jnp.asarray(queries[start : start + block]), jnp.asarray(references), key=jax.random.fold_in(key, start)
        )
        for start in range(0, len(queries), block)
    ]
    return np.concatenate([np.asarray(part) for part in parts])


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
