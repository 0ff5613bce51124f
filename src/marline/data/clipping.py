"""Whether continuous actions may be cut to [-1, 1]: a few peaks may, another scale or choices may not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marline.data.channels import Channels

TOLERANCE = 1e-6  # of the bounds on actions: scaling in float32 may step over by this
MOSTLY = 0.5  # share of the rows beyond the bounds from which on a column is on another scale


class Reach(NamedTuple):
    """How far continuous actions go beyond [-1, 1], by column.

    Attributes:
        rows: how many there are.
        outside: [act] rows beyond [-1, 1].
        fractions: [act] rows that are no whole number.
        low, high: [act] the extremes.
    """

    rows: int
    outside: np.ndarray
    fractions: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(actions: np.ndarray) -> Reach:
        """That of rows [n, act], before anything is cut."""
        outside = np.count_nonzero(np.abs(actions) > 1 + TOLERANCE, axis=0)
        fractions = np.count_nonzero(actions != np.floor(actions), axis=0)
        low, high = actions.min(axis=0, initial=np.inf), actions.max(axis=0, initial=-np.inf)
        return Reach(len(actions), outside, fractions, low, high)

    def joined(self, other: Reach) -> Reach:
        """That of both blocks together."""
        return Reach(
            self.rows + other.rows,
            self.outside + other.outside,
            self.fractions + other.fractions,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def unclippable(self, channels: Channels) -> str | None:
        """Why cutting these actions would be wrong, and what to do instead; None where it takes off a few peaks.

        Whole numbers are suspicious only where nobody said which range they are in: in one, they may be seconds.
        """
        most = np.flatnonzero(self.outside > MOSTLY * self.rows)
        if channels.has_scale:
            if not most.size:
                return None
            return (
                f"{channels.action(int(most[0]))} mostly is, so the range of {channels.scale()} is another; correct "
                "low and high, the ends of what the agent can do, and import the logs again"
            )
        whole = np.flatnonzero((self.outside > 0) & (self.fractions == 0))
        if whole.size:
            column = int(whole[0])
            return (
                f"column {column} holds whole numbers only, which cutting would make alike; if they are choices, "
                f"store them as integers [n], and if not, {self._range(column)}"
            )
        if most.size:
            column = int(most[0])
            share = 100 * self.outside[column] / self.rows
            return (
                f"column {column} is beyond it in {share:.0f} % of the rows, so it is on another scale, and cutting "
                f"would destroy it; {self._range(column)}"
            )
        return None

    def _range(self, column: int) -> str:
        return (
            'say what becomes -1 and 1, the ends of what the agent can do, as "low" and "high" in a --spec file of '
            f"marline data import (the logs reach from {self.low[column]:.4g} to {self.high[column]:.4g}); or, if a "
            "policy on [-1, 1] acted, log what it answered"
        )
