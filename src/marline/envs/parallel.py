"""Environments of the user's: any PettingZoo ParallelEnv, and any Gymnasium environment as a team of one."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np

from marline.data.channels import Channels
from marline.data.manifest import require_file_name
from marline.envs import spaces
from marline.envs.checked import is_count
from marline.envs.task import Actions, TimeStep
from marline.errors import ConfigError, require
from marline.inputs.arguments import checked
from marline.inputs.users_code import called, users_code
from marline.types import AgentID, Spec

ONLY_AGENT = "agent_0"  # how the agent of a Gymnasium environment is called
DEFAULT_HORIZON = 1000


@dataclasses.dataclass(frozen=True)
@checked
class ParallelTask:
    """A task in an environment that a function makes.

    Each agent sees its observation as a flat vector, choices one-hot; acts in [-1, 1], scaled to the
    bounds of its Box, or by the number of one of its choices, of which a MultiDiscrete space has all
    combinations; and gets its own reward. The return of an episode is the mean over agents. Agents may
    leave early. Masks are taken from `info["action_mask"]`, or from the observation if it is a dict with
    an "action_mask" beside the rest. No agent may come in later than the first step.

    Raises:
        ConfigError: one that is made on trial is no environment, or has spaces that cannot be learned in.

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
        hashable = isinstance(self.make_env, Hashable)
        require(hashable, f"make_env is {self.make_env!r:.60}, which has no hash; give a function that calls it")
        for name in ("max_steps", "num_environments"):
            value = getattr(self, name)
            sound = is_count(value) or (name == "max_steps" and value is None)
            require(sound, f"{name} is {value!r}, but must be a whole number, at least 1")
        _inspect(self.make_env)  # now, so that what is wrong is told where the task is made

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
        running, facts = _make(self.make_env), _inspect(self.make_env)
        require(
            running.specs == facts.specs and running.action_spaces == facts.action_spaces,
            f"{called(self.make_env)} made two environments that differ in agents or spaces; let it make the same each "
            "time",
        )
        return running


class _Facts(NamedTuple):
    specs: dict[AgentID, Spec]
    action_spaces: dict[AgentID, Any]
    channels: dict[AgentID, Channels]
    horizon: int


@functools.cache
def _inspect(make_env: Callable[[], Any]) -> _Facts:
    """What one environment says of itself."""
    running = _make(make_env)
    horizon = running.registered_horizon or DEFAULT_HORIZON
    facts = _Facts(running.specs, running.action_spaces, running.channels, horizon)
    with users_code(f"close() of what {called(make_env)} makes"):
        running.close()
    return facts


def _make(make_env: Callable[[], Any]) -> RunningEnvironment:
    with users_code(f"{called(make_env)}() must make an environment without arguments, and"):
        made = make_env()
    with users_code(f"asking what {called(make_env)} made for its agents and spaces"):
        return RunningEnvironment(as_parallel(made))


def as_parallel(environment: Any) -> Any:
    """A PettingZoo ParallelEnv as it is; a Gymnasium environment as one of a single agent.

    Raises:
        ConfigError: it is neither, with the reason; or Gymnasium is missing, whose spaces both have.
    """
    fix = "environments of your own need Gymnasium: pip install 'marline[parallel]'"
    require(importlib.util.find_spec("gymnasium") is not None, fix)
    name = type(environment).__name__
    require(
        not isinstance(environment, type), f"{environment!r} is a class and no environment; return what it makes, by ()"
    )
    require(
        not _has(environment, "num_envs"),
        f"{name} is a vector of environments; make a single one, for as many as num_environments are run side by side "
        "here",
    )
    if _has(environment, "possible_agents") and callable(getattr(environment, "observation_space", None)):
        fix = "convert it by pettingzoo.utils.aec_to_parallel"
        require(not hasattr(environment, "agent_iter"), f"{environment} is an AEC environment; {fix}")
        return environment
    if _has(environment, "observation_space") and _has(environment, "action_space"):
        return _Alone(environment)
    raise ConfigError(
        f"{name} is neither a PettingZoo ParallelEnv (possible_agents, observation_space(agent)) "
        "nor a Gymnasium environment (observation_space, action_space)"
    )


def _has(environment: Any, name: str) -> bool:
    """`hasattr`, but a property that fails says so, which that takes for one that is not there."""
    if hasattr(type(environment), name):
        getattr(environment, name)
    return hasattr(environment, name)


class RunningEnvironment:
    """A ParallelEnv in flat vectors. Its numbers are passed on as they come; `Checked` looks at them."""

    def __init__(self, parallel: Any) -> None:
        self._parallel = parallel
        agents = [str(agent) for agent in parallel.possible_agents]
        require(len(agents) > 0, f"{parallel} has no possible_agents")
        self._names = dict(zip(parallel.possible_agents, agents, strict=True))  # some number their agents
        require(len(set(agents)) == len(agents), f"{parallel} has two agents of one name among {agents}")
        for name in agents:
            require_file_name(name, "agent")
        self._seen = {
            name: spaces.read(parallel.observation_space(agent), f"agent {name!r}")
            for agent, name in self._names.items()
        }
        self.action_spaces = {name: parallel.action_space(agent) for agent, name in self._names.items()}
        self._done = {name: spaces.write(space, f"agent {name!r}") for name, space in self.action_spaces.items()}

    @property
    def specs(self) -> dict[AgentID, Spec]:
        return {name: spaces.spec(self._seen[name], self._done[name]) for name in self._seen}

    @property
    def registered_horizon(self) -> int | None:
        """Where Gymnasium knows the environment."""
        return getattr(getattr(self._parallel, "spec", None), "max_episode_steps", None)

    @property
    def channels(self) -> dict[AgentID, Channels]:
        return {name: done.channels for name, done in self._done.items()}

    def reset(self, *, seed: int) -> TimeStep:
        observations, infos = _reset_reply(self._parallel.reset(seed=seed))
        self._require_known(observations=observations, infos=infos)
        self._present = [agent for agent in self._names if agent in observations]
        blind = [agent for agent in self._parallel.agents if agent not in observations]
        require(not blind, f"agents has {blind[:1]}, who has no observation at the reset; return one for everybody")
        self._last = observations
        flat, masks = self._flat(observations), self._masks(observations, infos)
        self._masked = set(masks)
        return TimeStep(flat, action_masks=masks)

    def step(self, actions: Actions) -> TimeStep:
        chosen = {agent: self._done[name].act(actions[name]) for agent, name in self._names.items() if name in actions}
        observations, rewards, terminated, truncated, infos = _step_reply(self._parallel.step(chosen))
        self._require_known(
            observations=observations, rewards=rewards, terminations=terminated, truncations=truncated, infos=infos
        )
        there = self._parallel.agents
        late = [agent for agent in there if agent not in self._present]
        require(not late, f"agent {late[:1]} came in during an episode; let all agents be there from the reset on")
        ended = [agent for agent in self._present if _flag(terminated.get(agent, False), agent, "terminated")]
        cut = [agent for agent in self._present if _flag(truncated.get(agent, False), agent, "truncated")]
        cut = [agent for agent in cut if agent not in ended]
        for agent in self._present:
            require(
                agent in there or agent in ended or agent in cut,
                f"agent {agent!r} is no longer among agents, but neither terminated nor truncated says that it left; "
                "let one of them",
            )
        seen = {agent: observations[agent] for agent in self._present if agent in observations}
        self._last = {**self._last, **seen}
        # who left for good may do so without a last look, for nothing follows; who was cut would have gone on from it
        seen = {agent: self._last[agent] for agent in self._present if agent in seen or agent in ended}
        flat, masks = self._flat(seen), self._masks(observations, infos)
        self._present = [agent for agent in self._present if agent not in ended and agent not in cut]
        for agent in self._present + cut:
            require(
                self._names[agent] in masks or self._names[agent] not in self._masked,
                f"agent {agent!r} had an action mask at the reset and has none now; give one at every step",
            )
        return TimeStep(
            flat,
            {self._names[agent]: reward for agent, reward in rewards.items()},
            [self._names[agent] for agent in ended],
            [self._names[agent] for agent in cut],
            masks,
        )

    def render(self) -> np.ndarray:
        try:
            frame = self._parallel.render()
        except Exception as error:  # PettingZoo's own says no more than NotImplementedError
            told = f"{type(error).__name__}: {error}".rstrip(": ")
            raise ConfigError(f"{self._parallel} does not render here ({told})") from error
        require(
            isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] >= 3,
            f"render() of {self._parallel} gave {_sort(frame)} in place of an image, uint8 [height, width, 3]; "
            "make it with render_mode='rgb_array'",
        )
        return frame[:, :, :3]

    def close(self) -> None:
        self._parallel.close()

    def _require_known(self, **replies: Any) -> None:
        """Raise `ConfigError` unless all parts of a reply are dicts by agent, and of this environment's agents."""
        for what, values in replies.items():
            if not isinstance(values, Mapping):
                raise ConfigError(f"{what} is {type(values).__name__} {values!r:.60}; return a dict by agent")
            strange = [agent for agent in values if agent not in self._names]
            if strange:
                known = ", ".join(self._seen)
                raise ConfigError(f"{what} has agent {strange[0]!r}, who is not among possible_agents: {known}")

    def _flat(self, observations: Mapping[Any, Any]) -> dict[AgentID, np.ndarray]:
        flat = {}
        for agent, observation in observations.items():
            name = self._names[agent]
            try:
                flat[name] = self._seen[name].flatten(observation)
            except (ValueError, TypeError, IndexError, KeyError) as error:  # ragged, or another sort of thing
                raise ConfigError(
                    f"agent {name!r} observes {observation!r:.60}, which is not of its space ({error})"
                ) from error
        return flat

    def _masks(self, observations: Mapping[Any, Any], infos: Mapping[Any, Any]) -> dict[AgentID, np.ndarray]:
        masks = {}
        for agent in self._present:
            name, info, given = self._names[agent], infos.get(agent, {}), None
            if not isinstance(info, Mapping):
                raise ConfigError(f"agent {name!r}: its info is {info!r:.60}; return a dict, such as {{}}")
            if not self._seen[name].has_mask:
                given = info.get("action_mask")
            elif agent in observations:
                given = observations[agent]["action_mask"]
            if given is not None:
                masks[name] = self._done[name].mask(given)
        return masks


def _reset_reply(reply: Any) -> tuple[Any, Any]:
    """Observation and info; `ConfigError` for what environments of other times and libraries return."""
    if not isinstance(reply, tuple) or len(reply) != 2:
        raise ConfigError(f"reset() returned {_sort(reply)}; let it return the two of observation and info")
    return reply


def _step_reply(reply: Any) -> tuple[Any, Any, Any, Any, Any]:
    if not isinstance(reply, tuple) or len(reply) != 5:
        old = isinstance(reply, tuple) and len(reply) == 4
        fix = "; divide the old done into terminated, for good, and truncated, by a time limit" if old else ""
        raise ConfigError(
            f"step() returned {_sort(reply)}; let it return the five of observation, reward, terminated, truncated, "
            f"info{fix}"
        )
    return reply


def _sort(reply: Any) -> str:
    if isinstance(reply, np.ndarray):
        return f"{reply.dtype}{list(reply.shape)}"
    return f"{len(reply)} values" if isinstance(reply, tuple) else type(reply).__name__


def _flag(value: Any, agent: Any, what: str) -> bool:
    """Whether an agent ended; a bool, or a single 0 or 1."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    number = isinstance(value, int | float | np.number) or getattr(value, "shape", None) == ()
    if not number or value not in (0, 1):
        raise ConfigError(f"agent {agent!r}: {what} is {type(value).__name__} {value!r:.60}; return True or False")
    return bool(value)


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
        observation, info = _reset_reply(self._environment.reset(seed=seed))
        self.agents = [ONLY_AGENT]
        return {ONLY_AGENT: observation}, {ONLY_AGENT: info}

    def step(self, actions: Mapping[AgentID, Any]) -> tuple[dict[AgentID, Any], ...]:
        reply = _step_reply(self._environment.step(actions[ONLY_AGENT]))
        return tuple({ONLY_AGENT: part} for part in reply)

    def render(self) -> Any:
        return self._environment.render()

    def close(self) -> None:
        self._environment.close()
