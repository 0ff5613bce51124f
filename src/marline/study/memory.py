"""How much memory learners take that are stacked, told before they start; what does not fit is trained in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from marline.configuration.run_config import RunConfig
from marline.data.experience import Experience
from marline.display.words import size_of_study
from marline.runs.driver import memory_template
from marline.runtime import physical_memory
from marline.samplers import draws_by_plan, trains
from marline.tuning import algorithm_of
from marline.types import AgentID, Spec

USABLE = 0.75  # share of what is free; the rest is for what a step computes on the way
OFFLINE_COPIES = 2  # of the offline rows: as each agent has them, and stacked
LEARNER_COPIES = 3  # before and after an update, and their gradients
ROWS_COPIES = 2  # of the online rows: while some of them are merged or taken in by a sampler
GIB = 2**30


class Plan(NamedTuple):
    """Who is trained at once.

    Attributes:
        seeds: in groups, one after another.
        samplers: of each of these groups, in groups again.
        rows: bytes of the offline rows, which all share.
        most: bytes of everything, in the largest group.
        available: bytes.
    """

    seeds: list[tuple[int, ...]]
    samplers: list[list[str]]
    rows: int
    most: int
    available: int

    def __str__(self) -> str:
        num_seeds, num_samplers = max(map(len, self.seeds)), max(map(len, self.samplers))
        told = (
            f"{size_of_study(num_samplers, num_seeds)} are trained at once: about {self.most / GIB:.2f} GiB, "
            f"{self.rows / GIB:.2f} of them offline rows, of {self.available / GIB:.1f} GiB"
        )
        if len(self.seeds) * len(self.samplers) > 1:
            told += (
                f"; as not all fit, there are {len(self.seeds)} groups of seeds and {len(self.samplers)} of samplers, "
                "one after another"
            )
        if self.most > self.available:
            told += "; even so it may not fit: plan fewer offline rows or deployments, or add --device cpu"
        return told


def plan_memory(
    config: RunConfig,
    sizes: Mapping[AgentID, tuple[Spec, int]],
    seeds: Sequence[int],
    available: int,
) -> Plan:
    """Divide what is to be trained into as few groups as fit into memory: by seeds first, then by samplers.

    Samplers stay in their order, so that a control is never before the sampler that it matches.

    Args:
        config: of the study.
        sizes: spec and number of offline rows of each agent.
        seeds: to be trained.
        available: bytes.
    """
    rows, of_seed = 0, dict.fromkeys(config.samplers, 0)
    for agent, (spec, num_rows) in sizes.items():
        outline = Experience.outline(
            spec,
            num_offline=num_rows,
            num_deployments=config.deployments,
            rows_per_deployment=config.rows_per_deployment,
        )
        rows += OFFLINE_COPIES * (_size(outline.offline_rows) + _size(outline.offline_ends))
        for name, taken in bytes_of_learners(config, agent, outline).items():
            of_seed[name] += taken
    left = available - rows
    together = sum(of_seed.values())
    num_seeds = min(len(seeds), left // max(1, together))
    if num_seeds > 0:
        num_groups = -(-len(seeds) // num_seeds)
        groups = [tuple(seeds[number::num_groups]) for number in range(num_groups)]
        return Plan(groups, [list(config.samplers)], rows, rows + max(map(len, groups)) * together, available)
    samplers: list[list[str]] = [[]]
    for name, taken in of_seed.items():
        if samplers[-1] and sum(of_seed[other] for other in samplers[-1]) + taken > left:
            samplers.append([])
        samplers[-1].append(name)
    most = max(sum(of_seed[name] for name in names) for names in samplers)
    return Plan([(seed,) for seed in seeds], samplers, rows, rows + most, available)


def bytes_of_learners(config: RunConfig, agent: AgentID, outline: Experience) -> dict[str, int]:
    """By sampler, what an agent's learner takes under one seed: networks, online rows, and what rows are drawn by."""
    algorithm, key = algorithm_of(config.algorithm, agent), jax.eval_shape(lambda: jax.random.key(0))
    learner = jax.eval_shape(lambda rows, key: algorithm.init(rows, key=key), outline, key)
    networks, rows = LEARNER_COPIES * _size(learner), ROWS_COPIES * _size(outline.online_rows)
    memories = {name: memory_template(outline, its) for name, its in config.samplers.items() if trains(its)}
    plans = {
        name: jax.eval_shape(config.samplers[name].plan, memory, outline)  # pyright: ignore[reportAttributeAccessIssue]
        for name, memory in memories.items()
        if draws_by_plan(config.samplers[name])
    }
    # of several that draw by plans, all have a table if one has
    plan = max(map(_size, plans.values()), default=0)
    return {
        name: networks + rows + _size(memories[name]) + (plan if name in plans else _size(memories[name]))
        if name in memories
        else 0
        for name in config.samplers
    }


def available_memory() -> int:
    """Bytes that may be used: of the device where it tells, else of the machine."""
    stats = jax.devices()[0].memory_stats() or {}
    free = stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)
    return int(USABLE * (free or physical_memory()))


def _size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
