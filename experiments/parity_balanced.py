"""Our side of the comparison of Balanced Replay in docs/parity.md: the replay alone, no algorithm learning.

    python experiments/parity_balanced.py --csv balanced.csv      # about a minute on one core
    python experiments/parity_balanced.py --logs logs.npz         # the rows, for another implementation to replay

One agent of `CooperativeNavigation(1)`: 100,000 logged rows of random play, then two deployments of 10,000 rows
each, whose actions are part random, part towards the landmark, and 1000 batches after either. Options are those
that the authors publish: 256 x 256 units, 256 rows per batch, T = 5, online fraction 0.75, Adam at 3e-4.
"""

from __future__ import annotations

import argparse
import csv
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.envs import CooperativeNavigation
from marline.rollouts.collection import collect, collect_random
from marline.samplers import BalancedReplay
from marline.samplers.balanced import State
from marline.types import ActionMask

TASK = CooperativeNavigation(1)
NUM_OFFLINE, NUM_ONLINE, NUM_UPDATES, EVERY, SCORED = 100_000, 10_000, 1000, 100, 10_000
PURPOSE = (0.3, 0.7)  # of each deployment's policy
SAMPLER = BalancedReplay(batch_size=256)
MEASURES = ("share_online", "effective_sample_size", "ratio_offline", "ratio_online")


class Seeking(eqx.Module):
    """Heads for the landmark with a part of its speed; the rest is random, so that no action is impossible offline."""

    purpose: float

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Float[Array, " act"]:
        wander = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return self.purpose * jnp.clip(10.0 * observation[2:4], -1.0, 1.0) + (1.0 - self.purpose) * wander


def collect_logs() -> list[Dataset]:
    """B^0, D^1 and D^2."""
    (agent,) = TASK.agents
    logs = [collect_random(TASK, NUM_OFFLINE, seed=0)]
    logs += [collect(TASK, {agent: Seeking(part)}, NUM_ONLINE, key=jax.random.key(1)) for part in PURPOSE]
    return [log[agent] for log in logs]


def replay(logs: list[Dataset], seed: int) -> Iterator[tuple[int, dict[str, float], State]]:
    """Batches drawn so far, what was measured, and the sampler's memory, now and then."""
    offline, *deployments = logs
    experience = Experience.create(
        offline.transition(), offline.spec, num_deployments=len(deployments), rows_per_deployment=NUM_ONLINE
    )
    key = jax.random.key(seed)
    state = jax.jit(SAMPLER.init)(experience, key=jax.random.fold_in(key, 0))
    done = 0
    for number, rows in enumerate(deployments, start=1):
        experience = experience.merge(rows.transition(), number)
        state, _ = SAMPLER.begin_deployment(state, experience, None, key=key)
        for _ in range(NUM_UPDATES // EVERY):
            state, measured = draw(state, experience, jax.random.fold_in(key, 1 + done))
            done += EVERY
            yield done, {name: float(value) for name, value in measured.items()}, state


@functools.partial(jax.jit, donate_argnums=0)
def draw(state: State, experience: Experience, key: PRNGKeyArray) -> tuple[State, dict[str, Array]]:
    """`EVERY` batches; of the drawn rows those that are online, and the state of things afterwards."""

    def step(state: State, key: PRNGKeyArray) -> tuple[State, Array]:
        rows, state, _ = SAMPLER.sample(state, experience, None, key=key)
        return state, jnp.mean(rows >= NUM_OFFLINE)

    state, shares = jax.lax.scan(step, state, jax.random.split(key, EVERY))
    priorities = state.tree.priorities
    scored = [experience[start + jnp.arange(SCORED)] for start in (0, NUM_OFFLINE)]  # of the logs, and of D^1
    ratios = [jax.vmap(state.network.model)(rows.observation, rows.action) for rows in scored]
    values = jnp.mean(shares), jnp.sum(priorities) ** 2 / jnp.sum(priorities**2), *(jnp.mean(w) for w in ratios)
    return state, dict(zip(MEASURES, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="also write the curves here")
    parser.add_argument("--logs", type=Path, help="write the rows here and stop")
    parser.add_argument("--priorities", type=Path, help="also write every row's priority at the end here")
    args = parser.parse_args()
    logs = collect_logs()
    if args.logs:
        names = ("observations", "actions", "rewards", "terminals", "next_observations")
        columns: dict[str, Any] = {name: np.concatenate([getattr(log, name) for log in logs]) for name in names}
        np.savez(args.logs, **columns)
        return
    lines: list[tuple[str, ...]] = [("side", "seed", "updates", *MEASURES)]
    priorities = []
    for seed in range(args.seeds):
        for done, measured, state in replay(logs, seed):
            lines.append(("marline", str(seed), str(done), *(f"{measured[name]:.4f}" for name in MEASURES)))
            print(*lines[-1], flush=True)
            if done == NUM_UPDATES * len(PURPOSE):
                priorities.append(np.asarray(state.tree.priorities)[: sum(map(len, logs))])
    if args.priorities:
        np.save(args.priorities, np.stack(priorities))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(lines)


if __name__ == "__main__":
    sys.exit(main())
