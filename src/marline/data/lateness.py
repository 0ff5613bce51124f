"""Whether observations were written after the action of their row, instead of before it.

What an agent sees changes by what it does. In logs that are sound, the change from row t to t + 1 is foretold by the
action of row t, or, where machines are slow, of the rows before. Where a recorder writes what is seen after it has
sent the command, the action of row t + 1 comes before what row t + 1 tells: it foretells the change, and those before
do not.

A policy that answers what it sees lets the action of row t + 1 tell of the observation of row t + 1 as well, but then
the observation of row t tells nothing more of that action, for the policy did not look at it. One that answers changes
looks at it, but what it does shows in later rows. So nothing is found where actions are alike for long, or where much
that matters is not seen: it is better to be silent than to be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from marline.data.layout import Columns
from marline.types import Spec

CLEAR = 0.2  # of the variance of a change, which the action of the next row must explain
WELL = 10.0  # times as much as those of its own row and the two before do
UNSEEN = 0.1  # of the variance of an action, which what was seen a row before must explain
_MOST_ROWS = 10_000
_WIDEST = 100  # numbers of an observation, or of an action: beyond, a look takes long and many rows
_FEWEST_PER_NUMBER = 20  # rows per number that foretells
_FEWEST_EPISODES, _BLOCK = 4, 50  # rows, where there are fewer episodes
_RIDGE = 1e-6


class Late(NamedTuple):
    """How well changes of what is seen are foretold, as shares of the variance on held-out episodes.

    Attributes:
        column: of the observations, the one whose change the action of the next row foretells best.
        own: what the actions of the row itself and the two before foretell of any change.
        following: what the action of the next row foretells of the change of that column, beyond them.
    """

    column: int
    own: float
    following: float


def late_observation(columns: Columns, spec: Spec) -> Late | None:
    """Which observation was clearly written after the action of its row; None where none was, or nobody can say.

    Args:
        columns: D4RL's, of one agent, in the order in which they were logged; of values that nothing can be learned
            from nobody can say.
        spec: sizes.
    """
    if max(spec.observation_size, spec.action_size) > _WIDEST:
        return None
    ends = (columns["terminals"] | columns["timeouts"])[:_MOST_ROWS]
    (middle,) = np.nonzero(~ends[:-3] & ~ends[1:-2] & ~ends[2:-1])  # a row, two before and one after it, of one episode
    middle += 2
    width = spec.observation_size + max(4 * spec.action_size, spec.observation_size)
    if len(middle) < _FEWEST_PER_NUMBER * width:
        return None
    observations = columns["observations"][:_MOST_ROWS].astype(np.float64)
    actions = columns["actions"][:_MOST_ROWS]
    if spec.discrete and not ((actions >= 0) & (actions < spec.action_size)).all():
        return None
    actions = np.eye(spec.action_size)[actions] if spec.discrete else actions.astype(np.float64)
    if not (np.isfinite(observations).all() and np.isfinite(actions).all()):
        return None
    episode = np.cumsum(ends)[middle - 1]
    is_held_out = (episode if episode[-1] >= _FEWEST_EPISODES - 1 else middle // _BLOCK) % 2 == 1
    seen, before = observations[middle], observations[middle - 1]
    change, following = observations[middle + 1] - seen, actions[middle + 1]
    acted = [seen, actions[middle], actions[middle - 1], actions[middle - 2]]
    by_own = _explained(acted, change, is_held_out)
    by_following = _explained([*acted, following], change, is_held_out) - by_own
    own = by_own - _explained([seen], change, is_held_out)
    column = int(by_following.argmax())
    late = Late(column, max(float(own.max()), 0.0), float(by_following[column]))
    if late.following < CLEAR or late.own * WELL > late.following:
        return None
    act = actions[middle]
    by_before = _explained([seen, before], act, is_held_out) - _explained([seen], act, is_held_out)
    return late if by_before.max() >= UNSEEN else None


def _explained(known: Sequence[np.ndarray], wanted: np.ndarray, is_held_out: np.ndarray) -> np.ndarray:
    """By column of `wanted`, the share of its variance that a linear law of what is known foretells on other rows.

    Each half foretells the other. A column that does not change counts as foretold by nothing.
    """
    inputs = np.concatenate([_scaled(its) for its in known], axis=1)
    error, total = np.zeros(wanted.shape[1]), np.zeros(wanted.shape[1])
    for others in (is_held_out, ~is_held_out):
        mine = ~others
        center, middle = inputs[mine].mean(axis=0), wanted[mine].mean(axis=0)
        x, y = inputs[mine] - center, wanted[mine] - middle
        law = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y)
        error += (((wanted[others] - middle) - (inputs[others] - center) @ law) ** 2).sum(axis=0)
        total += ((wanted[others] - middle) ** 2).sum(axis=0)
    return np.where(total > 0, 1 - error / np.where(total > 0, total, 1), 0.0)


def _scaled(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0)
    return values / np.where(spread > 0, spread, 1)
