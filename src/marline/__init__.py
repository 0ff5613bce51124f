"""Offline decentralized multi-agent learning, improved over a few deployments with online transition correction."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marline.algorithms import AWAC, BCQ, BREMEN, CQL, IQL, MABCQ, TD3BC, Algorithm, ContinuousCQL
    from marline.campaign.campaign import Campaign
    from marline.campaign.distributed import DistributedCampaign, Site
    from marline.correction import Correction, correct
    from marline.data.channels import Channels
    from marline.data.check import check
    from marline.data.dataset import Dataset, from_arrays, load, save
    from marline.data.decentralize import import_log
    from marline.data.experience import Experience
    from marline.data.files import StorageError
    from marline.envs import (
        CooperativeNavigation,
        DriftingNavigation,
        MultiAgentMujoco,
        ParallelTask,
        PredatorPrey,
        Simulator,
        Task,
        World,
        make_task,
    )
    from marline.errors import ConfigError, CorruptionError, DataError, DivergenceWarning, MarlineError
    from marline.report import write_report
    from marline.rollouts.collection import collect, collect_random, evaluate
    from marline.samplers import (
        OTC,
        BalancedReplay,
        ClassifierRatio,
        EmbeddingDistance,
        Frozen,
        OnlineMatched,
        Sampler,
        Shuffled,
        TwoStageDistance,
        Uniform,
        ValueDistance,
    )
    from marline.samplers.distances import Distance
    from marline.study.study import Study
    from marline.types import Critic, Policy, Spec, Transition

    __version__: str  # of the package that is installed, as pyproject.toml says it

# where each public name lives; imported on first use, so that `marline --help` need not wait for JAX
_HOMES = {
    # studies: samplers and seeds compared on a task
    "Study": "study.study",
    # campaigns on logs
    "Campaign": "campaign.campaign",
    "DistributedCampaign": "campaign.distributed",
    "Site": "campaign.distributed",
    "Channels": "data.channels",
    "Dataset": "data.dataset",
    "from_arrays": "data.dataset",
    "load": "data.dataset",
    "save": "data.dataset",
    "check": "data.check",
    "import_log": "data.decentralize",
    "write_report": "report",
    # algorithms
    "TD3BC": "algorithms",
    "BCQ": "algorithms",
    "AWAC": "algorithms",
    "IQL": "algorithms",
    "CQL": "algorithms",
    "ContinuousCQL": "algorithms",
    "BREMEN": "algorithms",
    "MABCQ": "algorithms",
    # samplers and their distances
    "OTC": "samplers",
    "Uniform": "samplers",
    "Frozen": "samplers",
    "OnlineMatched": "samplers",
    "Shuffled": "samplers",
    "BalancedReplay": "samplers",
    "ClassifierRatio": "samplers",
    "ValueDistance": "samplers",
    "EmbeddingDistance": "samplers",
    "TwoStageDistance": "samplers",
    # correction by itself
    "correct": "correction",
    "Correction": "correction",
    # tasks
    "Task": "envs",
    "CooperativeNavigation": "envs",
    "PredatorPrey": "envs",
    "DriftingNavigation": "envs",
    "MultiAgentMujoco": "envs",
    "ParallelTask": "envs",
    "collect_random": "rollouts.collection",
    "collect": "rollouts.collection",
    "evaluate": "rollouts.collection",
    "make_task": "envs",
    # what parts of one's own follow, see docs/plugins.md
    "Algorithm": "algorithms",
    "Sampler": "samplers",
    "Distance": "samplers.distances",
    "Critic": "types",
    "Policy": "types",
    "Experience": "data.experience",
    "World": "envs",
    "Simulator": "envs",
    # words
    "Spec": "types",
    "Transition": "types",
    "MarlineError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "CorruptionError": "errors",
    "StorageError": "data.files",
    "DivergenceWarning": "errors",
}

__all__ = [
    "AWAC",
    "BCQ",
    "BREMEN",
    "CQL",
    "IQL",
    "MABCQ",
    "OTC",
    "TD3BC",
    "Algorithm",
    "BalancedReplay",
    "Campaign",
    "Channels",
    "ClassifierRatio",
    "ConfigError",
    "ContinuousCQL",
    "CooperativeNavigation",
    "Correction",
    "CorruptionError",
    "Critic",
    "DataError",
    "Dataset",
    "Distance",
    "DistributedCampaign",
    "DivergenceWarning",
    "DriftingNavigation",
    "EmbeddingDistance",
    "Experience",
    "Frozen",
    "MarlineError",
    "MultiAgentMujoco",
    "OnlineMatched",
    "ParallelTask",
    "Policy",
    "PredatorPrey",
    "Sampler",
    "Shuffled",
    "Simulator",
    "Site",
    "Spec",
    "StorageError",
    "Study",
    "Task",
    "Transition",
    "TwoStageDistance",
    "Uniform",
    "ValueDistance",
    "World",
    "check",
    "collect",
    "collect_random",
    "correct",
    "evaluate",
    "from_arrays",
    "import_log",
    "load",
    "make_task",
    "save",
    "write_report",
]


# names that will go with the next release, and those in their place; see docs/compatibility.md
_FORMER: dict[str, str] = {}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("marline")
    if name in _FORMER:
        told = f"marline.{name} goes with the next release; use marline.{_FORMER[name]}"
        warnings.warn(told, DeprecationWarning, stacklevel=2)
        name = _FORMER[name]
    if name not in _HOMES:
        raise AttributeError(f"module 'marline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"marline.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
