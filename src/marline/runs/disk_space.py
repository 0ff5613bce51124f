"""How much a run will write, so that one that cannot end is refused before the start and not after days."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from marline.configuration.run_config import RunConfig
from marline.data.experience import Experience
from marline.data.files import require_space
from marline.data.manifest import LARGEST
from marline.errors import require
from marline.runs.driver import memory_template
from marline.tuning import algorithm_of
from marline.types import AgentID, Spec

CHECKPOINTS = 3  # the two that are kept, and the one that is being written
MEASURED_BYTES = 1000  # of one agent at one deployment, in the list of every later checkpoint: OTC measures most


def require_room(folder: Path, config: RunConfig, sizes: Mapping[AgentID, tuple[Spec, int]]) -> None:
    """Refuse a run that cannot come to its end.

    Args:
        folder: the run directory, not made yet.
        config: of the run.
        sizes: spec and number of offline rows of each agent.

    Raises:
        StorageError: the disk has no room for all of the run.
        ConfigError: what is measured would be more than is read again.
    """
    require_space(folder, estimate_bytes(config, sizes))
    most = LARGEST // (MEASURED_BYTES * len(sizes))
    require(
        config.deployments <= most,
        f"{config.deployments:,} deployments of {len(sizes):,} agents are planned, and what is measured of them would "
        f"be more than the {LARGEST:,} bytes that are read of one list; plan at most {most:,} deployments of so many",
    )


def estimate_bytes(config: RunConfig, sizes: Mapping[AgentID, tuple[Spec, int]]) -> int:
    """Bytes of logs, policies and checkpoints once all deployments are done; from shapes, nothing is computed."""
    total = 0
    for agent, (spec, num_rows) in sizes.items():
        outline = Experience.outline(
            spec,
            num_offline=num_rows,
            num_deployments=config.deployments,
            rows_per_deployment=config.rows_per_deployment,
        )
        algorithm, key = algorithm_of(config.algorithm, agent), jax.eval_shape(lambda: jax.random.key(0))
        learner = jax.eval_shape(lambda rows, key, its=algorithm: its.init(rows, key=key), outline, key)
        policy = _size(jax.eval_shape(algorithm.policy, learner))
        kept = policy if config.task is not None else policy + _size(learner)
        per_deployment = config.rows_per_deployment * _row_size(spec) + kept
        per_seed = CHECKPOINTS * _size(learner)
        for sampler in config.samplers.values():
            memory = _size(memory_template(outline, sampler))
            per_seed += CHECKPOINTS * (_size(learner) + memory) + config.deployments * per_deployment
        total += num_rows * _row_size(spec) + len(config.seeds) * per_seed
    return total


def _row_size(spec: Spec) -> int:
    """Of a logged row: observation, next observation, action, reward, two flags and, where discrete, two masks."""
    action, masks = (8, 2 * spec.action_size) if spec.discrete else (4 * spec.action_size, 0)
    return 8 * spec.observation_size + action + 4 + 2 + masks


def _size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
