"""A policy that drives a whole robot, shared out among the agents that each have some of its joints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from marline.behaviour_policy.sac import Policy
from marline.envs import Robot
from marline.nn.actors import SquashedGaussianActor
from marline.nn.mlp import MLP, Linear
from marline.types import AgentID, Spec

# what D4RL takes for an expert's return (its scores are percentages of the way there from random play)
EXPERT_RETURNS: dict[Robot, float] = {"HalfCheetah": 12135.0, "Walker2d": 4592.3, "Hopper": 3234.3}
# which part of it a policy must reach
SHARES = {"medium": 1 / 3, "expert": 1.0}
SEEDS = 0, 1  # that policies which come with the package were taught with


def shipped_policy(robot: Robot, version: int, kind: str, seed: int = 0) -> Path | None:
    """The folder of a policy that comes with the package, if one was taught with that seed."""
    name = f"{robot.lower()}-v{version}-{kind}"
    folder = Path(__file__).parent / "policies" / (f"{name}-{seed}" if seed else name)
    return folder if folder.is_dir() else None


def shipped_teams(robot: Robot, version: int) -> dict[str, Path]:
    """Folders of the medium policies that come with the package, by the seed that each was taught with alone.

    They return the same, and walk each in its own way. Fewer than two are no choice, and none is given.
    """
    found = {f"seed-{seed}": shipped_policy(robot, version, "medium", seed) for seed in SEEDS}
    teams = {name: folder for name, folder in found.items() if folder is not None}
    return teams if len(teams) > 1 else {}


def share_out(actor: SquashedGaussianActor, specs: Mapping[AgentID, Spec]) -> dict[AgentID, Policy]:
    """The same layers for each agent but the last, of which it has what drives its own joints.

    The Gaussian has no correlations, and every agent sees the whole state: together they act as the one policy does.
    """
    policies, first_joint = {}, 0
    *layers, last = actor.mlp.layers
    for agent, spec in specs.items():
        joints = np.arange(first_joint, first_joint + spec.action_size)
        columns = np.concatenate([joints, actor.action_size + joints])  # means, and then spreads
        mine = Linear(last.weight[:, columns], last.bias[columns])
        policies[agent] = Policy(SquashedGaussianActor(MLP((*layers, mine))))
        first_joint += spec.action_size
    return policies
