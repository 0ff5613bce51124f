"""Teams of marines taught online by `experiments/smax_team.py`, whose logs others learn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax

from marline.behaviour_policy.team import SHARES
from marline.data.checkpoints import load_checkpoint
from marline.envs import Smax
from marline.nn.actors import CategoricalActor, SampledPolicy
from marline.types import AgentID

HIDDEN = (64, 64)
MOST = 2.0  # a battle pays at most: all of the enemies' health, and a victory


def target_return(kind: str) -> float:
    """What a team must earn to be of that kind: the share that a robot's must of an expert's return."""
    return SHARES[kind] * MOST


def shipped_battle_team(task: Smax, kind: str) -> Path | None:
    """The folder of a team's policy that comes with the package."""
    name = f"smax-{task.num_allies}m_vs_{task.num_enemies}m-{kind}"
    folder = Path(__file__).parent / "policies" / name
    return folder if folder.is_dir() else None


def read_battle_team(folder: Path, task: Smax) -> Mapping[AgentID, SampledPolicy]:
    """All marines act by the same network, each drawing for itself."""
    spec = task.specs[task.agents[0]]
    outline = jax.eval_shape(lambda key: CategoricalActor.create(spec, HIDDEN, key=key), jax.random.key(0))
    trees, _ = load_checkpoint(folder, {"actor": outline})
    return dict.fromkeys(task.agents, SampledPolicy(trees["actor"]))
