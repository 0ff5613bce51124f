"""Policy networks, and the policies that several algorithms make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.ops.gaussian import clamped_log_std, log_density, squashed_log_density
from marline.types import ActionMask, Spec


class DeterministicActor(eqx.Module):
    """tanh of a perceptron: actions in (-1, 1)."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> DeterministicActor:
        return DeterministicActor(MLP.create(spec.observation_size, spec.action_size, hidden, key=key))

    def __call__(self, observation: Float[Array, " obs"]) -> Float[Array, " act"]:
        return jnp.tanh(self.mlp(observation))


class GaussianActor(eqx.Module):
    """N(tanh(f(s)), std^2), the same std in every state: a mean in (-1, 1), a density without bounds.

    The density is not squashed, so that logged actions at the bounds have a finite one.
    """

    mlp: MLP
    free_log_std: Float[Array, " act"]
    bound_log_std: Callable[[Array], Array] = eqx.field(static=True)

    @staticmethod
    def create(
        spec: Spec, hidden: Sequence[int], bound_log_std: Callable[[Array], Array], *, key: PRNGKeyArray
    ) -> GaussianActor:
        """A fresh actor; `bound_log_std` maps the free parameter, which starts at 0, to the log-std."""
        mlp = MLP.create(spec.observation_size, spec.action_size, hidden, key=key)
        return GaussianActor(mlp, jnp.zeros(spec.action_size), bound_log_std)

    @property
    def action_size(self) -> int:
        return self.free_log_std.shape[0]

    @property
    def log_std(self) -> Float[Array, " act"]:
        return self.bound_log_std(self.free_log_std)

    def mode(self, observation: Float[Array, " obs"]) -> Float[Array, " act"]:
        """The mean action."""
        return jnp.tanh(self.mlp(observation))

    def sample(self, observation: Float[Array, " obs"], noise: Float[Array, " act"]) -> Float[Array, " act"]:
        """The action that standard normal noise leads to, clipped to [-1, 1]."""
        return jnp.clip(self.mode(observation) + jnp.exp(self.log_std) * noise, -1.0, 1.0)

    def log_density(self, observation: Float[Array, " obs"], action: Float[Array, " act"]) -> Float[Array, ""]:
        """log pi(a|s) of the Gaussian, before any clipping."""
        return log_density(action, self.mode(observation), self.log_std)


class SquashedGaussianActor(eqx.Module):
    """tanh of a Gaussian whose mean and log-std depend on the state: actions in (-1, 1)."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> SquashedGaussianActor:
        return SquashedGaussianActor(MLP.create(spec.observation_size, 2 * spec.action_size, hidden, key=key))

    @property
    def action_size(self) -> int:
        return self.mlp.layers[-1].bias.shape[0] // 2

    def mode(self, observation: Float[Array, " obs"]) -> Float[Array, " act"]:
        """tanh of the mean."""
        mean, _ = jnp.split(self.mlp(observation), 2)
        return jnp.tanh(mean)

    def sample(
        self, observation: Float[Array, " obs"], noise: Float[Array, " act"]
    ) -> tuple[Float[Array, " act"], Float[Array, ""]]:
        """The action that standard normal noise leads to, and its log density."""
        mean, free_log_std = jnp.split(self.mlp(observation), 2)
        log_std = clamped_log_std(free_log_std)
        unsquashed = mean + jnp.exp(log_std) * noise
        return jnp.tanh(unsquashed), squashed_log_density(unsquashed, noise, log_std)


class MeanPolicy(eqx.Module):
    """The mode of pi(.|s), without noise: what a stochastic actor is deployed as."""

    actor: GaussianActor | SquashedGaussianActor

    def __call__(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Float[Array, " act"]:
        return self.actor.mode(observation)


class CategoricalActor(eqx.Module):
    """Choices drawn by softmax among the actions allowed."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> CategoricalActor:
        return CategoricalActor(MLP.create(spec.observation_size, spec.action_size, hidden, key=key))

    def log_probabilities(
        self, observation: Float[Array, " obs"], action_mask: ActionMask | None = None
    ) -> Float[Array, " choices"]:
        """log pi(.|s): of actions that are not allowed the least number, so that they weigh nothing."""
        logits = self.mlp(observation)
        allowed = logits if action_mask is None else jnp.where(action_mask, logits, jnp.finfo(logits.dtype).min)
        return jax.nn.log_softmax(allowed)


class SampledPolicy(eqx.Module):
    """A draw from pi(.|s) of choices."""

    actor: CategoricalActor

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Int[Array, ""]:
        return jax.random.categorical(key, self.actor.log_probabilities(observation, action_mask))
