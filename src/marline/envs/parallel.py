"""Environments of the user's: any PettingZoo ParallelEnv, and any Gymnasium environment as a team of one."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from marline.data.channels import Channels
from marline.envs import spaces
from marline.envs.task import Actions, TimeStep
from marline.errors import ConfigError, require
from marline.types import AgentID, Spec

ONLY_AGENT = "agent_0"  # how the agent of a Gymnasium environment is called
DEFAULT_HORIZON = 1000


@dataclasses.dataclass(frozen=True)
class ParallelTask:
    """A task in an environment that a function makes.

    Each agent sees its observation as a flat vector, choices one-hot; acts in [-1, 1], scaled to the
    bounds of its Box, or by the number of one of its choices, of which a MultiDiscrete space has all
    combinations; and gets its own reward. The return of an episode is the mean over agents. Agents may
    leave early. Masks are taken from `info["action_mask"]`, or from the observation if it is a dict with
    an "action_mask" beside the rest. No agent may come in later than the first step.

    Attributes:
        make_env: makes an environment, every time another one; with `num_environments` 1, it may return
            the same one again.
        max_steps: after which an episode is cut; if not given, what Gymnasium has registered for the
            environment, or 1000. An environment may cut sooner.
        num_environments: how many are stepped side by side in a process, so that policies act in batches.
        description: for people.
    """

    make_env: Callable[[], Any]
    max_steps: int | None = None
    num_environments: int = 8
    description: str = "an environment of the user's"

    def __post_init__(self) -> None:
        require(callable(self.make_env), f"make_env is {self.make_env!r}, but must be a function that makes one")
        require(self.max_steps is None or self.max_steps >= 1, f"max_steps is {self.max_steps}, but must be at least 1")
        require(self.num_environments >= 1, f"num_environments is {self.num_environments}, but must be at least 1")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return tuple(self.specs)

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return _inspect(self.make_env).specs

    @property
    def channels(self) -> Mapping[AgentID, Channels]:
        return _inspect(self.make_env).channels

    @property
    def horizon(self) -> int:
        return self.max_steps or _inspect(self.make_env).horizon

    def make(self) -> RunningEnvironment:
        return RunningEnvironment(as_parallel(self.make_env()))


class _Facts(NamedTuple):
    specs: dict[AgentID, Spec]
    channels: dict[AgentID, Channels]
    horizon: int


@functools.cache
def _inspect(make_env: Callable[[], Any]) -> _Facts:
    """What one environment says of itself."""
    parallel = as_parallel(make_env())
    running = RunningEnvironment(parallel)
    registered = getattr(getattr(parallel, "spec", None), "max_episode_steps", None)
    facts = _Facts(running.specs, running.channels, registered or DEFAULT_HORIZON)
    running.close()
    return facts


def as_parallel(environment: Any) -> Any:
    """A PettingZoo ParallelEnv as it is; a Gymnasium environment as one of a single agent.

    Raises:
        ConfigError: it is neither, with the reason; or Gymnasium is missing, whose spaces both have.
    """
    fix = "environments of your own need Gymnasium: pip install 'marline[parallel]'"
    require(importlib.util.find_spec("gymnasium") is not None, fix)
    if hasattr(environment, "possible_agents") and callable(getattr(environment, "observation_space", None)):
        fix = "convert it by pettingzoo.utils.aec_to_parallel"
        require(not hasattr(environment, "agent_iter"), f"{environment} is an AEC environment; {fix}")
        return environment
    if hasattr(environment, "observation_space") and hasattr(environment, "action_space"):
        return _Alone(environment)
    raise ConfigError(
        f"{type(environment).__name__} is neither a PettingZoo ParallelEnv (possible_agents, observation_space(agent)) "
        "nor a Gymnasium environment (observation_space, action_space)"
    )


class RunningEnvironment:
    """A ParallelEnv in flat vectors."""

    def __init__(self, parallel: Any) -> None:
        self._parallel = parallel
        agents = [str(agent) for agent in parallel.possible_agents]
        require(len(agents) > 0, f"{parallel} has no possible_agents")
        self._names = dict(zip(parallel.possible_agents, agents, strict=True))  # some number their agents
        require(len(set(agents)) == len(agents), f"{parallel} has two agents of one name among {agents}")
        self._seen = {
            name: spaces.read(parallel.observation_space(agent), f"agent {name!r}")
            for agent, name in self._names.items()
        }
        self._done = {
            name: spaces.write(parallel.action_space(agent), f"agent {name!r}") for agent, name in self._names.items()
        }

    @property
    def specs(self) -> dict[AgentID, Spec]:
        return {name: spaces.spec(self._seen[name], self._done[name]) for name in self._seen}

    @property
    def channels(self) -> dict[AgentID, Channels]:
        return {name: done.channels for name, done in self._done.items()}

    def reset(self, *, seed: int) -> TimeStep:
        observations, infos = self._parallel.reset(seed=seed)
        self._present = [agent for agent in self._names if agent in observations]
        self._last = observations
        return self._time_step(observations, infos)

    def step(self, actions: Actions) -> TimeStep:
        chosen = {agent: self._done[name].act(actions[name]) for agent, name in self._names.items() if name in actions}
        observations, rewards, terminated, truncated, infos = self._parallel.step(chosen)
        self._last = {**self._last, **observations}  # some leave without a last look
        late = [agent for agent in self._parallel.agents if agent not in self._present]
        require(not late, f"agent {late[:1]} came in during an episode; let all agents be there from the reset on")
        ended = [agent for agent in self._present if terminated.get(agent, False)]
        gone = [agent for agent in self._present if agent not in self._parallel.agents]
        cut = [
            agent for agent in self._present if agent not in ended and (truncated.get(agent, False) or agent in gone)
        ]
        step = self._time_step({agent: self._last[agent] for agent in self._present}, infos)
        step = step._replace(
            rewards={self._names[agent]: float(rewards.get(agent, 0.0)) for agent in self._present},
            terminated=[self._names[agent] for agent in ended],
            truncated=[self._names[agent] for agent in cut],
        )
        self._present = [agent for agent in self._present if agent not in ended and agent not in cut]
        return step

    def render(self) -> np.ndarray:
        try:
            frame = self._parallel.render()
        except Exception as error:  # PettingZoo's own says no more than NotImplementedError
            told = f"{type(error).__name__}: {error}".rstrip(": ")
            raise ConfigError(f"{self._parallel} does not render here ({told})") from error
        require(
            isinstance(frame, np.ndarray) and frame.ndim == 3,
            f"render() of {self._parallel} gave {type(frame).__name__} in place of an image; "
            "make it with render_mode='rgb_array'",
        )
        return np.asarray(frame[:, :, :3], np.uint8)

    def close(self) -> None:
        self._parallel.close()

    def _time_step(self, observations: Mapping[Any, Any], infos: Mapping[Any, Any]) -> TimeStep:
        flat, masks = {}, {}
        for agent, observation in observations.items():
            name = self._names[agent]
            seen, done = self._seen[name], self._done[name]
            flat[name] = seen.flatten(observation)
            given = observation["action_mask"] if seen.has_mask else infos.get(agent, {}).get("action_mask")
            if given is not None:
                mask = done.mask(given)
                masks[name] = mask if mask.any() else np.ones_like(mask)  # who has left may have no choice at all
        return TimeStep(flat, action_masks=masks)


class _Alone:
    """A Gymnasium environment as a ParallelEnv of one agent."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self.spec = getattr(environment, "spec", None)
        self.possible_agents = [ONLY_AGENT]
        self.agents = [ONLY_AGENT]

    def observation_space(self, agent: AgentID) -> Any:
        return self._environment.observation_space

    def action_space(self, agent: AgentID) -> Any:
        return self._environment.action_space

    def reset(self, *, seed: int) -> tuple[dict[AgentID, Any], dict[AgentID, Any]]:
        observation, info = self._environment.reset(seed=seed)
        self.agents = [ONLY_AGENT]
        return {ONLY_AGENT: observation}, {ONLY_AGENT: info}

    def step(self, actions: Mapping[AgentID, Any]) -> tuple[dict[AgentID, Any], ...]:
        result = self._environment.step(actions[ONLY_AGENT])
        if result[2] or result[3]:
            self.agents = []
        return tuple({ONLY_AGENT: part} for part in result)

    def render(self) -> Any:
        return self._environment.render()

    def close(self) -> None:
        self._environment.close()
