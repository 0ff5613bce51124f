"""Whether what a run serves is what its logs and its configuration give: computed again, changing nothing."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from jaxtyping import PyTree

from marline import tuning
from marline.data import checkpoints
from marline.runs.driver import Driver, of_seed
from marline.runs.layout import LEARNERS, POLICIES
from marline.tuning import LearnerID, Team
from marline.types import AgentID


def train_again(driver: Driver, updates: int) -> Team:
    """The offline teams after so many updates."""
    team = driver.untrained()
    for step in tuning.pretrain(team, driver.config.algorithm, num_updates=updates, chunk=driver.config.updates):
        team = step.team
    return team


def tune_again(driver: Driver, sampler: str, number: int, before: Team, *, frozen: Collection[LearnerID] = ()) -> Team:
    """The teams after a deployment, given those that came out of the one before it."""
    config = driver.config
    (result,) = tuning.run(
        before,
        lambda *_: driver.logs(sampler, number),
        config.algorithm,
        config.samplers[sampler],
        num_updates=config.updates,
        deployments=[number],
        frozen=frozen,
    )
    return result.team


def is_same(driver: Driver, seed: int, sampler: str | None, step: int, team: Team) -> dict[AgentID, bool]:
    """Of each agent, whether learner and policy have the bytes of those that were published.

    Compared are the learners of a checkpoint and, of a deployment, the policies and learners beside its logs.

    Raises:
        CorruptionError: what was published is damaged.
    """
    history, config = driver.histories(sampler)[seed], driver.config
    learners = {agent: state.learner for agent, state in of_seed(team, seed).items()}
    policies = of_seed(tuning.policies(team, config.algorithm), seed)
    same = _have(history.checkpoint(step), {f"{agent}/learner": learner for agent, learner in learners.items()})
    found = dict(zip(learners, same.values(), strict=True))
    if sampler is not None:
        for kind, trees in ((POLICIES, policies), (LEARNERS, learners)):
            home = history.deployment(step) / kind
            if kind == POLICIES or home.exists():
                same = _have(home, trees)
                found = {agent: found[agent] and same[agent] for agent in found}
    return found


def _have(folder: Path, trees: dict[str, PyTree]) -> dict[str, bool]:
    """Whether each tree has the bytes of that in a folder, which is found whole first."""
    checkpoints.verify(folder)
    files = checkpoints.read_manifest(folder)["files"]
    return {
        name: checkpoints.tree_sha256(tree) == files[f"{name}.safetensors"]["sha256"] for name, tree in trees.items()
    }
