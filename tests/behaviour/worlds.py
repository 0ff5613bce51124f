"""Small worlds with a partner who changes between the logs and the deployments, and campaigns in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from tabular import TabularQ

from marline import tuning
from marline.data.dataset import Dataset
from marline.policy import NumpyPolicy
from marline.samplers import OTC, OnlineMatched, Sampler
from marline.tuning import LearnerID, Team
from marline.types import Policy, Spec

AGENT = "agent"
NUM_ACTIONS = 2
SOURCES = ("share_offline", "share_earlier", "share_current")
PRETRAIN_UPDATES = 200
NUM_UPDATES = 100  # after a deployment; with a step of 0.1 the table forgets in a few dozen
NUM_GAME_STATES = 5  # also of the game with fewer: worlds of one size share their compiled programs


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """A finite world of one agent and a partner, who plays 1 with a probability that changes.

    What happens is fixed by state, own action and the partner's, axes `[s, a, b]` below.

    Attributes:
        observations: what the agent sees of each state.
        next_state: `[s, a, b]` the next state.
        reward: `[s, a, b]`.
        terminal: `[s]` whether an episode ends with the step taken here.
        partner_offline: probability that the partner plays 1 while the logs are recorded.
        partner_online: the same in deployment.
        horizon: steps after which an episode is cut.
        start: the first state of every episode.
    """

    observations: tuple[tuple[float, ...], ...]
    next_state: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    partner_offline: float
    partner_online: float
    horizon: int
    start: int = 0

    @property
    def spec(self) -> Spec:
        return Spec(len(self.observations[0]), NUM_ACTIONS, discrete=True)

    def logs(
        self, action_probabilities: np.ndarray, partner: float, num_rows: int, random: np.random.Generator
    ) -> Dataset:
        """`num_rows` steps, episode after episode, of a policy given as `[s, a]` probabilities."""
        rows: list[tuple[int, int, int, bool]] = []
        state, time = self.start, 0
        chances = random.random((num_rows, 2))
        for own, other in chances.tolist():
            action, played = int(own >= action_probabilities[state, 0]), int(other < partner)
            time += 1
            cut = time == self.horizon
            rows.append((state, action, played, cut))
            over = cut or bool(self.terminal[state])
            state, time = (self.start, 0) if over else (int(self.next_state[state, action, played]), time)
        states, actions, others, cuts = (np.array(column) for column in zip(*rows, strict=True))
        seen = np.array(self.observations, np.float32)
        terminals = self.terminal[states]
        return Dataset(
            spec=self.spec,
            observations=seen[states],
            actions=actions.astype(np.int64),
            rewards=self.reward[states, actions, others].astype(np.float32),
            terminals=terminals,
            timeouts=cuts & ~terminals,
            next_observations=seen[self.next_state[states, actions, others]],
        )

    def expected_return(self, actions: np.ndarray) -> float:
        """Exact undiscounted return in deployment of the policy that takes `actions[s]` in state s."""
        partner = np.array([1.0 - self.partner_online, self.partner_online])
        states = np.arange(len(actions))
        after, reward = self.next_state[states, actions], self.reward[states, actions]
        value = np.zeros(len(actions))
        for _ in range(self.horizon):
            value = (reward + ~self.terminal[:, None] * value[after]) @ partner
        return float(value[self.start])


def greedy_actions(world: World, policy: Policy) -> np.ndarray:
    """What a policy does in each state."""
    return NumpyPolicy(policy)(np.array(world.observations))


@dataclasses.dataclass(frozen=True)
class Study:
    """Campaigns of several samplers from the same offline learners: comparisons are paired by seed.

    Logs are of uniformly random actions, and a deployment brings 1 % of their number.

    Attributes:
        world: where it happens.
        team: offline learners, one per seed.
        num_offline: rows of the logs.
        num_deployments: K.
        exploration: share of random actions in deployment; returns are measured without them.
    """

    world: World
    team: Team
    num_offline: int
    num_deployments: int
    exploration: float

    @staticmethod
    def create(
        world: World, *, seeds: range, num_offline: int, num_deployments: int, exploration: float = 0.0
    ) -> Study:
        """Record logs for every seed and train on them."""
        algorithm = TabularQ(world.observations)
        random_policy = np.full((len(world.observations), NUM_ACTIONS), 1.0 / NUM_ACTIONS)
        team: dict[LearnerID, Any] = {}
        for seed in seeds:
            logs = world.logs(random_policy, world.partner_offline, num_offline, np.random.default_rng([seed, 0]))
            team |= tuning.init_team(
                {AGENT: logs},
                algorithm,
                seeds=[seed],
                num_deployments=num_deployments,
                rows_per_deployment=num_offline // 100,
            )
        *_, (_, trained, *_) = tuning.pretrain(team, algorithm, num_updates=PRETRAIN_UPDATES, chunk=NUM_UPDATES)
        return Study(world, trained, num_offline, num_deployments, exploration)

    @property
    def algorithm(self) -> TabularQ:
        return TabularQ(self.world.observations)

    def run(self, sampler: Sampler[Any], shares: np.ndarray | None = None) -> Result:
        """One campaign; `shares` is what `OnlineMatched` is to draw."""
        team = tuning.init_samplers(self.team, sampler)
        if isinstance(sampler, OnlineMatched):
            assert shares is not None
            for (learner, state), per_deployment in zip(list(team.items()), shares, strict=True):
                memory = state.sampler
                for number, share in enumerate(per_deployment, start=1):
                    memory = sampler.prescribe(memory, number, jnp.array(share, jnp.float32))
                team = {**team, learner: state._replace(sampler=memory)}
        results = list(
            tuning.run(
                team,
                self.deploy,
                self.algorithm,
                sampler,
                num_updates=NUM_UPDATES,
                deployments=range(1, self.num_deployments + 1),
            )
        )
        teams = [self.team, *(result.team for result in results)]

        def measured(name: str) -> np.ndarray:
            return np.array([[result.metrics[learner][name] for result in results] for learner in self.team])

        return Result(
            returns=np.array([self._returns(team) for team in teams]).T,
            tables=np.array([[np.asarray(state.learner.table) for state in team.values()] for team in teams]),
            shares=np.stack([measured(name) for name in SOURCES], axis=-1),
            distances=measured("mean_distance") if isinstance(sampler, OTC) else None,
        )

    def against_control(self, sampler: Sampler[Any]) -> tuple[Result, Result]:
        """A campaign, and that of its control: the same shares of offline, earlier and current rows."""
        corrected = self.run(sampler)
        return corrected, self.run(OnlineMatched(), corrected.shares)

    def deploy(self, number: int, policies: Mapping[LearnerID, Policy]) -> dict[LearnerID, Dataset]:
        """Logs of each learner's own policy; the noise depends on seed and number alone."""
        logs = {}
        for learner, policy in policies.items():
            best = np.eye(NUM_ACTIONS)[greedy_actions(self.world, policy)]
            acting = (1.0 - self.exploration) * best + self.exploration / NUM_ACTIONS
            random = np.random.default_rng([learner[0], number])
            logs[learner] = self.world.logs(acting, self.world.partner_online, self.num_offline // 100, random)
        return logs

    def _returns(self, team: Team) -> list[float]:
        policies = tuning.policies(team, self.algorithm)
        return [self.world.expected_return(greedy_actions(self.world, policy)) for policy in policies.values()]


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a campaign led to.

    Attributes:
        returns: `[seeds, 1 + K]` the return in deployment after offline training and each tuning.
        tables: `[1 + K, seeds, s, a]` the learners' values then.
        shares: `[seeds, K, 3]` shares of offline, earlier and current rows in the batches.
        distances: `[seeds, K]` mean transition distance of the candidates, of corrected campaigns.
    """

    returns: np.ndarray
    tables: np.ndarray
    shares: np.ndarray
    distances: np.ndarray | None

    @property
    def mean_return(self) -> np.ndarray:
        """`[seeds]` the mean over deployments 1..K."""
        return self.returns[:, 1:].mean(axis=1)


def matrix_game(payoff: np.ndarray, partner_offline: float, partner_online: float) -> World:
    """One step; the next observation is the partner's action, and the payoff comes with the step.

    The step ends the episode, so that V(s') is 0 whatever happened.
    """
    reward = np.zeros((NUM_GAME_STATES, 2, 2))
    reward[0] = payoff
    return World(
        observations=_one_hot(NUM_GAME_STATES),
        next_state=np.broadcast_to(np.array([1, 2]), reward.shape),
        reward=reward,
        terminal=np.ones(NUM_GAME_STATES, bool),
        partner_offline=partner_offline,
        partner_online=partner_online,
        horizon=1,
    )


def matrix_game_paid_later(payoff: np.ndarray, partner_offline: float, partner_online: float) -> World:
    """The same in two steps: the next state is the joint outcome, whose payoff any action there collects."""
    next_state = np.zeros((NUM_GAME_STATES, 2, 2), int)
    next_state[0] = [[1, 2], [3, 4]]
    reward = np.zeros((NUM_GAME_STATES, 2, 2))
    reward[1:] = payoff.reshape(4, 1, 1)
    return World(
        observations=_one_hot(NUM_GAME_STATES),
        next_state=next_state,
        reward=reward,
        terminal=np.arange(NUM_GAME_STATES) > 0,
        partner_offline=partner_offline,
        partner_online=partner_online,
        horizon=2,
    )


def chain(num_states: int, partner_offline: float, partner_online: float, *, horizon: int) -> World:
    """A walk from position 0, where the step taken in the last position pays 1 and ends the episode.

    Action 1 steps up and action 0 down while the partner plays 0; while it plays 1 they change
    places. The agent sees its position.
    """
    position, up = np.arange(num_states), np.array([[-1, 1], [1, -1]])
    next_state = np.clip(position[:, None, None] + up[None], 0, num_states - 1)
    reward = np.zeros((num_states, 2, 2))
    reward[-1] = 1.0
    return World(
        observations=tuple((float(place),) for place in position),
        next_state=next_state,
        reward=reward,
        terminal=position == num_states - 1,
        partner_offline=partner_offline,
        partner_online=partner_online,
        horizon=horizon,
    )


def _one_hot(num_states: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in np.eye(num_states).tolist())
