"""Before a deployment: what logs can tell of a new policy against the one that was deployed last."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from marline.statistics.intervals import mean_interval
from marline.types import Spec

LIMITS = (
    "the value is what one agent's change would be worth if all others went on as in its logs, which they do not, "
    "and the interval knows the scatter of first states alone, not the error of the estimate; "
    "read it as a warning when it is low, never as a promise when it is high"
)
NUM_FEATURES = 200
RIDGE = 1e-3  # of the mean square of the features
TOLERANCE = 0.05  # of values: the share that may lie beyond what rewards allow, and by what share of its width more do
FAMILIAR = 0.95  # share of logged rows that are as near to another one as is called familiar


class Steps(NamedTuple):
    """Logged steps, and what both policies would do at them.

    Attributes:
        observation, next_observation: [n, obs].
        action: [n, act] or [n] choices, as logged.
        reward, discount: [n]; the discount is 0 where the episode ended for good.
        next_deployed, next_new: [n, ...] actions of both policies at the next observation.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    next_observation: np.ndarray
    next_deployed: np.ndarray
    next_new: np.ndarray


class Seen(NamedTuple):
    """Observations of the last deployment, and what both policies do there.

    Attributes:
        observation: [m, obs].
        is_first: [m] whether an episode begins with it.
        deployed, new: [m, ...] actions of both policies.
    """

    observation: np.ndarray
    is_first: np.ndarray
    deployed: np.ndarray
    new: np.ndarray


class OffPolicyEstimate(NamedTuple):
    """What can be told before a deployment.

    Attributes:
        value_difference: of the new policy over the deployed one, by fitted Q evaluation: discounted return from the
            first states of the last deployment; NaN where these logs give no estimate.
        low, high: Student's t interval over these first states; NaN if there are fewer than two, or no estimate.
        deviation: of the new actions from the deployed ones in the last deployment: mean absolute difference of a
            dimension in [-1, 1], or the share of other choices.
        unfamiliar: share of new actions that no logged row of the agent is near to, where it is the same of 5 % of
            the logged rows.
        unfamiliar_deployed: the same of the policy that was deployed.
        no_value: why there is no estimate of the value; empty where there is one.
    """

    value_difference: float
    low: float
    high: float
    deviation: float
    unfamiliar: float
    unfamiliar_deployed: float
    no_value: str = ""


class _Unsettled(Exception):
    """The fitted values of a policy are no estimate; the message says why."""


def compare_policies(steps: Steps, seen: Seen, spec: Spec, *, gamma: float, seed: int = 0) -> OffPolicyEstimate:
    """Compare two policies of an agent on its logs.

    Fitted Q evaluation (Le, Voloshin & Yue 2019) over linear functions of random Fourier features (Rahimi & Recht
    2007), whose fixed point is solved for at once, as in LSTD-Q (Lagoudakis & Parr 2003): nothing is tuned, and the
    same logs give the same numbers. Of a policy whose iterated regressions would not settle, or whose values are more
    than rewards allow, there is no estimate.

    Args:
        steps: a sample of all logged rows of the agent.
        seen: of the last deployment; at least one row.
        spec: of the agent.
        gamma: discount per step.
        seed: of the features.
    """
    logged = _pairs(steps.observation, steps.action, spec)
    center, scale = logged.mean(axis=0), logged.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)  # what never changes in the logs counts as it is

    def standardised(observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        return (_pairs(observation, action, spec) - center) / scale

    logged = (logged - center) / scale
    features = _Fourier(logged, np.random.default_rng(seed))
    now = features(logged)

    def first_values(next_action: np.ndarray, action: np.ndarray, whose: str) -> np.ndarray:
        following = features(standardised(steps.next_observation, next_action))
        weights = _fixed_point(now, following, steps.reward, gamma * steps.discount, whose)
        first = standardised(seen.observation[seen.is_first], action[seen.is_first])
        return features(first) @ weights

    difference, no_value = np.zeros(int(seen.is_first.sum())), ""
    if not (np.array_equal(steps.next_new, steps.next_deployed) and np.array_equal(seen.new, seen.deployed)):
        try:
            deployed = first_values(steps.next_deployed, seen.deployed, "the deployed policy")
            difference = first_values(steps.next_new, seen.new, "the new policy") - deployed
        except _Unsettled as reason:
            difference, no_value = np.zeros(0), str(reason)
    interval = mean_interval(difference)
    familiar = _Familiar(logged)
    return OffPolicyEstimate(
        value_difference=float(difference.mean()) if len(difference) else math.nan,
        low=interval.low,
        high=interval.high,
        deviation=float(np.mean(seen.new != seen.deployed if spec.discrete else np.abs(seen.new - seen.deployed))),
        unfamiliar=familiar.share_beyond(standardised(seen.observation, seen.new)),
        unfamiliar_deployed=familiar.share_beyond(standardised(seen.observation, seen.deployed)),
        no_value=no_value,
    )


def _pairs(observation: np.ndarray, action: np.ndarray, spec: Spec) -> np.ndarray:
    """Observation and action side by side, choices as one-hot rows, in float64."""
    action = np.eye(spec.action_size)[action] if spec.discrete else action
    return np.concatenate([observation, action], axis=1).astype(np.float64)


class _Fourier:
    """Cosines of random projections, beside the inputs themselves and a constant."""

    def __init__(self, inputs: np.ndarray, random: np.random.Generator) -> None:
        some = inputs[random.integers(0, len(inputs), (2, 500))]
        width = float(np.median(np.linalg.norm(some[0] - some[1], axis=1)))  # the median heuristic
        self._directions = random.normal(size=(inputs.shape[1], NUM_FEATURES)) / max(width, 1e-6)
        self._phases = random.uniform(0, 2 * np.pi, NUM_FEATURES)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        cosines = np.cos(inputs @ self._directions + self._phases)
        return np.concatenate([np.ones((len(inputs), 1)), inputs, cosines], axis=1)


def _fixed_point(
    now: np.ndarray, following: np.ndarray, reward: np.ndarray, discount: np.ndarray, whose: str
) -> np.ndarray:
    """Weights w with w = argmin over v of |now v - (reward + discount following w)|^2 + ridge |v|^2.

    Regressing on w gives A w + b, and doing so again and again settles where all eigenvalues of A are below 1 in size.
    On the logs of another policy nothing holds them there (Tsitsiklis & Van Roy 1997); what then solves the equation
    is a number, but no value (Perdomo, Krishnamurthy, Bartlett & Kakade 2023).

    Raises:
        _Unsettled: the regressions do not settle, or too many values are beyond what rewards allow.
    """
    gram = now.T @ now + RIDGE * np.mean(now**2) * len(now) * np.eye(now.shape[1])
    step = np.linalg.solve(gram, now.T @ (discount[:, None] * following))
    growth = float(np.abs(np.linalg.eigvals(step)).max())
    if growth >= 1:
        raise _Unsettled(
            f"fitted Q evaluation of {whose} does not settle on these logs "
            f"(each regression may multiply its errors by {growth:.3f}, where less than 1 is needed)"
        )
    weights = np.linalg.solve(np.eye(len(step)) - step, np.linalg.solve(gram, now.T @ reward.astype(np.float64)))
    _require_possible(np.concatenate([now, following]) @ weights, reward, float(discount.max()), whose)
    return weights


def _require_possible(values: np.ndarray, reward: np.ndarray, discount: float, whose: str) -> None:
    """Returns are sums of rewards: values far beyond what they can come to are errors of the fit."""
    if discount >= 1:  # they can come to anything
        return
    # what follows a terminal row is worth 0
    low, high = min(float(reward.min()), 0.0) / (1 - discount), max(float(reward.max()), 0.0) / (1 - discount)
    slack = TOLERANCE * (high - low)
    beyond = float(np.mean((values < low - slack) | (values > high + slack)))
    if beyond > TOLERANCE:
        raise _Unsettled(
            f"{100 * beyond:.0f} % of the fitted values of {whose} are beyond {low:.3g} to {high:.3g}, "
            "which is all that the logged rewards can come to"
        )


class _Familiar:
    """How near the logged rows are to each other, and whether others are as near to them."""

    def __init__(self, logged: np.ndarray) -> None:
        from scipy.spatial import KDTree  # which takes as long to import as half of JAX

        self._tree = KDTree(logged)
        # the nearest one is the row itself
        self._limit = float(np.quantile(self._tree.query(logged, k=2)[0][:, 1], FAMILIAR))

    def share_beyond(self, rows: np.ndarray) -> float:
        return float(np.mean(self._tree.query(rows)[0] > self._limit))
