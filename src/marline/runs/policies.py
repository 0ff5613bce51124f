"""The policies of a run directory, as it stands; nothing is changed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax

from marline.algorithms import Algorithm
from marline.configuration.run_config import RunConfig
from marline.data import dataset
from marline.data.experience import Experience
from marline.errors import ConfigError, require
from marline.runs.history import History
from marline.runs.layout import RunDirectory
from marline.tuning import algorithm_of
from marline.types import AgentID, Policy, Spec


def chosen(value: Any, known: tuple[Any, ...], kind: str) -> Any:
    """`value` if it is known, the only one there is if it is None."""
    names = ", ".join(map(str, known))
    if value is None:
        require(len(known) == 1, f"the run has several {kind}s; choose one with --{kind}: {names}")
        return known[0]
    require(value in known, f"the run has no {kind} {value!r}; choose one with --{kind}: {names}")
    return value


def read_policies(
    run: RunDirectory,
    config: RunConfig,
    seed: int,
    sampler: str | None,
    deployment: int | None,
    agents: Collection[AgentID] = (),
) -> tuple[int, Path, dict[AgentID, Policy]]:
    """The policies of a team.

    Args:
        run: where they lie.
        config: of the run.
        seed, sampler: of the team; the offline team is of no sampler.
        deployment: that they were tuned on, 0 for the offline policies; the last there is if None.
        agents: whose; everyone's if empty.

    Returns:
        The deployment that they were tuned on, the folder that they belong to, and policies by agent.

    Raises:
        ConfigError: there are no such policies.
    """
    sizes = {agent: size for agent, size in dataset.outline(run.data).items() if not agents or agent in agents}
    offline = History(run.team(seed))
    if config.offline_updates not in offline.steps():
        raise ConfigError(f"the team in {run.seed(seed)} is not trained yet; wait until its offline training is over")
    history = History(run.team(seed, sampler))
    done = 0 if sampler is None else max(history.steps(), default=0)
    number = done if deployment is None else deployment
    require(0 <= number <= done, f"the team in {history.folder} was tuned on deployments up to {done}, not on {number}")
    algorithms = {agent: algorithm_of(config.algorithm, agent) for agent in sizes}
    learners = {agent: _learner(algorithms[agent], config, *size) for agent, size in sizes.items()}
    if number == 0:
        trained = offline.checkpointed_learners(config.offline_updates, learners)
        return 0, offline.folder, {agent: algorithms[agent].policy(trained[agent]) for agent in sizes}
    shapes = {agent: jax.eval_shape(algorithms[agent].policy, learners[agent]) for agent in sizes}
    return number, history.deployment(number), history.load_policies(number, shapes)


def _learner(algorithm: Algorithm[Any], config: RunConfig, spec: Spec, num_rows: int) -> Any:
    """The shapes of a learner."""
    outline = Experience.outline(
        spec,
        num_offline=num_rows,
        num_deployments=config.deployments,
        rows_per_deployment=config.rows_per_deployment,
    )
    return jax.eval_shape(lambda rows, key: algorithm.init(rows, key=key), outline, jax.random.key(0))
