"""A sampler of one's own: half of each batch is of the last deployment. Also from the command line:
marline run --task cooperative-navigation-2 --sampler uniform custom_sampler:HalfRecent --trust --run runs/mine"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

import marline


@dataclasses.dataclass(frozen=True)
class HalfRecent:
    batch_size: int = 128

    def init(self, experience, *, key):
        return ()  # no memory

    def begin_deployment(self, state, experience, critic, *, key):
        return state, {}  # nothing to prepare, nothing to measure

    def sample(self, state, experience, critic, *, key):
        starts = jnp.where(jnp.arange(self.batch_size) % 2 == 0, experience.online_start, 0)
        return jax.random.randint(key, starts.shape, starts, experience.size), state, {}


def main(folder: Path, **settings) -> marline.Study:
    samplers = {"mine": HalfRecent(), "uniform": "uniform"}
    return marline.Study.create(folder, task="cooperative-navigation-2", samplers=samplers, **settings).run()
