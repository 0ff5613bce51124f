"""A log of two agents that every format tells in its own way."""

from __future__ import annotations

import numpy as np
import pytest

ROWS = 50
Arrays = dict[str, np.ndarray]


@pytest.fixture
def joint() -> Arrays:
    """Five episodes, the third cut by a time limit: 4 observations and 3 actions, of which agent b has the last."""
    rng = np.random.default_rng(0)
    step = np.arange(ROWS)
    return {
        "observations": rng.normal(size=(ROWS, 4)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (ROWS, 3)).astype(np.float32),
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "terminals": np.isin(step, (9, 19, 39, 49)),
        "timeouts": step == 29,
        "next_observations": rng.normal(size=(ROWS, 4)).astype(np.float32),
    }


@pytest.fixture
def team(joint: Arrays) -> dict[str, Arrays]:
    """The same rows as each agent sees them: everything but the other's action."""
    return {"a": joint | {"actions": joint["actions"][:, :2]}, "b": joint | {"actions": joint["actions"][:, 2:]}}
