"""Ends of episodes in which an agent has no choice left, as after its death in StarCraft."""

from __future__ import annotations

import dataclasses

import numpy as np

from marline.data.dataset import Dataset


def end_where_choice_ends(logs: Dataset, gamma: float) -> Dataset:
    """The same logs, each episode ended for the agent by the action after which it had only one.

    Such a tail can be hundreds of equal rows that teach nothing, and that all match each other.
    The rewards that the team earned in it belong to the last choice: its reward becomes the
    discounted sum of all that followed, and nothing follows it.

    A tail that a time limit cut, or that was still going on, stays as it is: the team could have earned more, so its
    last choice ends nothing, and what it was worth is for the critic to tell from the rows of the tail.

    Args:
        logs: of one agent; without masks they are returned as they are.
        gamma: discount of the rewards of the tail.
    """
    if logs.action_masks is None or logs.next_action_masks is None:
        return logs
    forced = logs.action_masks.sum(axis=1) == 1
    forced_next = logs.next_action_masks.sum(axis=1) == 1
    rewards, terminals = logs.rewards.copy(), logs.terminals.copy()
    keep = np.ones(len(logs), bool)
    stops = np.flatnonzero(logs.terminals | logs.timeouts) + 1
    for start, stop in zip(np.concatenate([[0], stops[:-1]]), stops, strict=True):
        free = np.flatnonzero(~forced[start:stop])
        last = start + free[-1] if len(free) else None
        if last is None or not forced_next[last] or last + 1 == stop or not logs.terminals[stop - 1]:
            continue  # never had a choice, chose to the end, or was cut
        tail = rewards[last:stop].astype(np.float64)
        rewards[last] = np.sum(tail * gamma ** np.arange(len(tail)))
        terminals[last] = True
        keep[last + 1 : stop] = False
    if keep.all():
        return logs
    ended = dataclasses.replace(logs, rewards=rewards, terminals=terminals)
    return dataclasses.replace(ended, **{name: column[keep] for name, column in ended.columns().items()})
