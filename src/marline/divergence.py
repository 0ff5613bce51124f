"""When a learner leaves the finite numbers, and what is kept so that somebody can find out why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from marline.data.experience import Experience

MAX_ABS_Q = 1e6


class Divergence(NamedTuple):
    """The update with which a learner left the finite numbers.

    Attributes:
        update: its number in the phase, counted from 0.
        reason: such as "critic_loss is nan".
        kept: the learner stays as it was after so many updates of the phase.
        batch: the rows of that update and of the one before, whose step may have done it: "update", "row" (in B^k,
            where the offline rows come first), and the leaves of a `Transition`, one entry per row.
    """

    update: int
    reason: str
    kept: int
    batch: Mapping[str, np.ndarray]


def first_divergence(metrics: Mapping[str, np.ndarray], *, is_finite: bool) -> tuple[int, str] | None:
    """Place and reason of the first update that counts as divergence.

    Losses must be finite and |Q| at most 1e6, after every update; the learner must be finite after the last.

    Args:
        metrics: one value per update.
        is_finite: whether all numbers of the learner are finite after the last of them.
    """
    found = []
    for name, values in metrics.items():
        wrong = np.zeros(len(values), bool)
        if name.endswith("_loss"):
            wrong = ~np.isfinite(values)
        elif name == "mean_q":
            wrong = ~(np.abs(values) <= MAX_ABS_Q)  # so written, NaN does not pass
        if wrong.any():
            first = int(np.argmax(wrong))
            found.append((first, f"{name} is {values[first]:.3g}"))
    if not found and not is_finite:
        return len(next(iter(metrics.values()))) - 1, "its parameters are not finite"
    return min(found, default=None)


def batches(experience: Experience, rows: np.ndarray, place: int, *, first_update: int) -> dict[str, np.ndarray]:
    """What `Divergence.batch` holds: rows as they were logged, whatever a sampler that rewrites them made of them.

    Args:
        experience: of the learner.
        rows: [updates, batch] drawn by each.
        place: of the update among them.
        first_update: number of the first.
    """
    places = np.arange(max(0, place - 1), place + 1)
    drawn = rows[places].reshape(-1)
    transition = experience[jnp.asarray(drawn)]._asdict()
    return {
        "update": np.repeat(first_update + places, rows.shape[1]).astype(np.int32),
        "row": drawn,
        **{name: np.asarray(leaf) for name, leaf in transition.items() if leaf is not None},
    }
