"""What simulators return is checked as files are: at every reset and step, whoever wrote the environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Float32

from marline.data.check import LARGEST
from marline.data.manifest import require_file_name
from marline.envs.task import Actions, Concurrent, Environment, Simulator, Task, TimeStep
from marline.errors import ConfigError, MarlineError, require
from marline.inputs.users_code import require_theirs, told, users_code
from marline.types import AgentID, Spec

_NOBODY = ()
_SURE = np.float32(LARGEST) ** 2  # no sum of squares up to this has a larger value in it
SHOWN = 60  # characters of a wrong value in a message


class Moment(NamedTuple):
    """A `TimeStep` that was found sound, in memory of its own: the environment may reuse what it returned.

    Attributes:
        observations: of all agents side by side; zeros for who is not there.
        rewards: of those who were there; empty at a reset.
        terminated, truncated: who of them just ended.
        action_masks: boolean vectors, for agents of which some actions are forbidden.
    """

    observations: Float32[np.ndarray, " total"]
    rewards: Mapping[AgentID, float]
    terminated: tuple[AgentID, ...]
    truncated: tuple[AgentID, ...]
    action_masks: Mapping[AgentID, np.ndarray]


def require_task(task: Task, name: str) -> None:
    """Raise `ConfigError` unless what a task says of itself can be played, and its agents can name files."""
    with users_code(f"task {name}: what it says of itself"):
        agents, specs, horizon = tuple(task.agents), dict(task.specs), task.horizon
        seats = task.num_environments if isinstance(task, Simulator) else 1
    require(len(agents) > 0, f"task {name} has no agents")
    for agent in agents:
        require(isinstance(agent, str), f"task {name} has an agent {agent!r}; agents are named by text")
        require_file_name(agent, f"task {name}: agent")
    lower = [agent.lower() for agent in agents]
    twice = [agent for agent in agents if lower.count(agent.lower()) > 1]
    require(
        not twice,
        f"task {name} has agents {', '.join(map(repr, twice))}, which differ at most in case, and so may not be two "
        "files; rename one",
    )
    require(
        set(agents) == set(specs),
        f"task {name} has agents {', '.join(agents)}, but specs of {', '.join(map(str, specs))}; give one of each",
    )
    for agent, spec in specs.items():
        known = isinstance(spec, Spec) and is_count(spec.observation_size) and is_count(spec.action_size)
        require(known, f"task {name}: the spec of agent {agent!r} is {spec!r}; give a Spec with sizes of 1 or more")
    for what, value in (("horizon", horizon), ("num_environments", seats)):
        require(is_count(value), f"task {name}: {what} is {value!r}, but must be a whole number, at least 1")


class Checked:
    """A running environment of a simulator whose every reply is checked.

    Attributes:
        environment: as the simulator made it.
        present: who acts next: those who were there at the reset and did not end since.
    """

    def __init__(self, environment: Environment, name: str, specs: Mapping[AgentID, Spec]) -> None:
        self.environment, self.present = environment, ()
        self._begin = environment.begin if isinstance(environment, Concurrent) else None
        self._name, self._specs, self._agents = name, specs, tuple(specs)
        self._shapes = [(spec.observation_size,) for spec in specs.values()]
        self._nothing = {agent: np.zeros(spec.observation_size, np.float32) for agent, spec in specs.items()}
        self._episode = self._time = 0
        self._started: tuple[AgentID, ...] = ()

    def reset(self, *, seed: int, episode: int) -> Moment:
        """Start an episode; its number is for messages.

        Raises:
            ConfigError: what came is not what the task promises, or the environment failed; one sentence with task,
                episode, step, agent, the rule and the fix.
        """
        self._episode, self._time = episode, 0
        try:
            shown = self.environment.reset(seed=seed)
        except (Exception, SystemExit) as error:
            self._failed("reset", error)
        self._require_time_step(shown, "reset")
        seen = self._by_agent(shown.observations, "observations")
        self._started = self.present = tuple(agent for agent in self._agents if agent in seen)
        if not self.present:
            self._refuse("nobody is there: observations is empty; return one for every agent that takes part")
        return Moment(self._observations(seen), {}, (), (), self._masks(shown.action_masks, ()))

    def begin(self, actions: Actions) -> None:
        """Let an environment that computes elsewhere set out on the step that is asked for next.

        Raises:
            ConfigError: as of `reset`.
        """
        if self._begin is None:
            return
        try:
            self._begin(actions)
        except (Exception, SystemExit) as error:
            self._time += 1
            self._failed("begin", error)

    def step(self, actions: Actions) -> Moment:
        """One step of all who are present.

        Raises:
            ConfigError: as of `reset`.
        """
        self._time += 1
        try:
            shown = self.environment.step(actions)
        except (Exception, SystemExit) as error:
            self._failed("step", error)
        self._require_time_step(shown, "step")
        seen, rewards, terminated, truncated, masks = shown
        observations, rewards = self._observations(seen), self._rewards(rewards)
        # in nearly all steps nobody ends
        terminated = _NOBODY if terminated is _NOBODY else self._ended(terminated, "terminated")
        truncated = _NOBODY if truncated is _NOBODY else self._ended(truncated, "truncated")
        masks = {} if type(masks) is dict and not masks else self._masks(masks, terminated)
        if terminated or truncated:
            self.present = tuple(agent for agent in self.present if agent not in (*terminated, *truncated))
        return Moment(observations, rewards, terminated, truncated, masks)

    def close(self) -> None:
        with users_code(f"task {self._name}: close() of the environment"):
            self.environment.close()

    def _failed(self, method: str, error: BaseException) -> NoReturn:
        """Tell what an environment raised, which may be code of the user's and so anything."""
        require_theirs(error)
        if isinstance(error, MarlineError):
            raise ConfigError(f"{self._here()}: {error}") from error
        fix = "; let it be reset(self, *, seed=None, options=None)" if _takes_no_seed(error) else ""
        raise ConfigError(f"{self._here()}: {method}() failed with {told(error)}{fix}") from error

    def _require_time_step(self, shown: Any, method: str) -> None:
        if not isinstance(shown, TimeStep):
            self._refuse(f"{method}() returned {_short(shown)}; return a marline.envs.TimeStep")

    def _observations(self, seen: Any) -> Float32[np.ndarray, " total"]:
        """Those of all agents, in a copy; what is not known to be sound by few operations is looked at closely."""
        if type(seen) is dict and len(seen) == len(self._agents) == len(self.present):
            try:
                parts = [seen[agent] for agent in self._agents]
                if [part.shape for part in parts] == self._shapes:
                    flat = np.concatenate(parts, dtype=np.float32, casting="same_kind")
                    if flat.dot(flat) <= _SURE:
                        return flat
            except (KeyError, AttributeError, TypeError, RuntimeWarning):
                pass  # which warns of values beyond float32
        seen = self._by_agent(seen, "observations")
        late = [agent for agent in seen if agent not in self._started]
        if late:
            self._refuse("came in during an episode; let all agents be there from the reset on", late[0])
        return np.concatenate([self._observation(agent, seen) for agent in self._agents]).astype(np.float32)

    def _observation(self, agent: AgentID, seen: Mapping[AgentID, Any]) -> np.ndarray:
        """One agent's, looked at closely."""
        if agent not in self.present:
            return self._nothing[agent]
        if agent not in seen:
            self._refuse("is there and sees nothing; return an observation of it, the last one when it leaves", agent)
        try:
            values = np.asarray(seen[agent])
        except ValueError:
            values = np.array(None)  # ragged
        if values.dtype.kind not in "fiub":
            self._refuse(f"its observation is {_short(seen[agent])}; return an array of numbers", agent)
        size = self._specs[agent].observation_size
        if values.shape != (size,):
            self._refuse(
                f"its observation has shape {values.shape}, but its space or spec has {size} numbers; make both agree",
                agent,
            )
        values = values.astype(np.float64)
        wrong = ~(np.abs(values) <= LARGEST)
        if wrong.any():
            place = int(np.argmax(wrong))
            value = f"{values[place]:.6g} at place {place}"
            self._refuse(f"its observation holds {value}; {_finite('observations')}", agent)
        return values

    def _rewards(self, rewards: Any) -> dict[AgentID, float]:
        if type(rewards) is not dict or len(rewards) > len(self.present):
            rewards = self._by_agent(rewards, "rewards")
        earned = {}
        for agent in self.present:
            if agent not in rewards:
                self._refuse("is there and has no reward; return one for every agent, when it leaves too", agent)
            reward = rewards[agent]
            if type(reward) is not float:
                reward = self._number(agent, reward)
            if not -LARGEST <= reward <= LARGEST:
                self._refuse(f"its reward is {reward}; {_finite('rewards')}", agent)
            earned[agent] = reward
        return earned

    def _number(self, agent: AgentID, reward: Any) -> float:
        if not (isinstance(reward, int | float | np.number | np.bool_) or getattr(reward, "shape", None) == ()):
            self._refuse(f"its reward is {_short(reward)}; return a single number, such as float(reward)", agent)
        try:
            return float(reward)
        except (TypeError, ValueError, OverflowError):
            self._refuse(f"its reward is {_short(reward)}; return a single number within float32", agent)

    def _ended(self, ended: Any, what: str) -> tuple[AgentID, ...]:
        if isinstance(ended, str | Mapping) or not isinstance(ended, Collection):
            self._refuse(f"{what} is {_short(ended)}; name the agents that ended, such as [] or ['{self._agents[0]}']")
        for agent in ended:
            if agent not in self._specs:
                self._refuse(f"{what} names {_short(agent)}, who is no agent of this task: {', '.join(self._agents)}")
        return tuple(agent for agent in self.present if agent in ended)

    def _masks(self, given: Any, terminated: Collection[AgentID]) -> dict[AgentID, np.ndarray]:
        masks = {}
        for agent, mask in self._by_agent(given, "action_masks").items():
            if agent not in self.present:
                continue
            if not self._specs[agent].discrete:
                self._refuse("has an action mask, but continuous actions, which cannot be masked; leave it out", agent)
            masks[agent] = self._mask(agent, mask, may_be_empty=agent in terminated)
        return masks

    def _mask(self, agent: AgentID, given: Any, *, may_be_empty: bool) -> np.ndarray:
        num = self._specs[agent].action_size
        if isinstance(given, np.ndarray) and given.dtype == np.bool_:
            mask = given.copy()
        else:
            mask = as_mask(given, f"{self._here()}: agent {agent!r}")
        if mask.shape != (num,):
            self._refuse(f"its action mask has shape {mask.shape} for {num} choices; give one entry for each", agent)
        if not mask.any():
            if not may_be_empty:
                self._refuse(
                    "its action mask allows nothing; allow at least one choice, such as doing nothing, with 1 for what "
                    "is allowed and 0 for what is not",
                    agent,
                )
            mask = np.ones_like(mask)  # whose episode is over for good needs no choice
        return mask

    def _by_agent(self, values: Any, what: str) -> Mapping[AgentID, Any]:
        """Something of each agent; refused if it is no dict, or of somebody unknown."""
        if not isinstance(values, Mapping):
            self._refuse(f"{what} is {_short(values)}; return a dict by agent")
        for agent in values:
            if agent not in self._specs:
                self._refuse(f"{what} has {_short(agent)}, who is no agent of this task: {', '.join(self._agents)}")
        return values

    def _refuse(self, wrong: str, agent: AgentID | None = None) -> NoReturn:
        raise ConfigError(f"{self._here()}: {wrong}" if agent is None else f"{self._here()}: agent {agent!r}: {wrong}")

    def _here(self) -> str:
        return f"task {self._name}, episode {self._episode}, {f'step {self._time}' if self._time else 'reset'}"


def as_mask(given: Any, where: str) -> np.ndarray:
    """A mask as booleans, in memory of its own; `ConfigError` for anything but booleans, zeros and ones."""
    try:
        values = np.asarray(given)
    except ValueError:
        values = np.array(None)  # ragged
    if values.dtype.kind not in "fiub" or not ((values == 0) | (values == 1)).all():
        raise ConfigError(
            f"{where}: its action mask is {_short(given)}; give 1 or True for what is allowed and 0 or False for what "
            "is not, nothing else (no 0 and -inf, as it is added to logits)"
        )
    return values.astype(bool)


def _finite(what: str) -> str:
    return f"return finite {what}, and none beyond {LARGEST:.0e}, which cannot be learned from in float32"


def is_count(value: object) -> bool:
    """Whether something is a whole number from 1 on."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def _takes_no_seed(error: BaseException) -> bool:
    return isinstance(error, TypeError) and "'seed'" in str(error)


def _short(value: object) -> str:
    shown = " ".join(repr(value).split())
    return f"{type(value).__name__} " + (shown if len(shown) <= SHOWN else shown[:SHOWN] + " ...")
