"""The parts of trust region policy optimisation (Schulman et al. 2015, 1502.05477).

Gradients, products and line searches are those of a loss, which goes down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from marline.ops.gaussian import log_density

P = TypeVar("P")  # parameters: any pytree of arrays


def generalized_advantages(
    rewards: Float[Array, " time"],
    values: Float[Array, " time"],
    last_value: Float[Array, ""],
    gamma: float,
    gae_lambda: float,
) -> tuple[Float[Array, " time"], Float[Array, " time"]]:
    """A_t = sum_l (gamma lambda)^l delta_(t+l) (Schulman et al. 2016, 1506.02438, Eq. 16), and A_t + V(s_t).

    Args:
        rewards: r_t of one rollout that was cut, not ended, after its last step.
        values: V(s_t).
        last_value: V of the state after the last step.
        gamma: discount of future rewards.
        gae_lambda: decay of the trace; 0 is the one-step residual, 1 the whole return.
    """
    next_values = jnp.concatenate([values[1:], last_value[None]])
    residuals = rewards + gamma * next_values - values

    def step(later: Array, residual: Array) -> tuple[Array, Array]:
        advantage = residual + gamma * gae_lambda * later
        return advantage, advantage

    _, advantages = jax.lax.scan(step, jnp.zeros_like(last_value), residuals, reverse=True)
    return advantages, advantages + values


def baseline_features(observation: Float[Array, " obs"], time: Int[Array, ""] | int) -> Float[Array, " features"]:
    """[o, o^2, t/100, (t/100)^2, (t/100)^3, 1], o clipped to +-10 (Duan et al. 2016, 1604.06778, appendix)."""
    observation = jnp.clip(observation, -10.0, 10.0)
    late = jnp.asarray(time) / 100.0
    return jnp.concatenate([observation, observation**2, jnp.stack([late, late**2, late**3, jnp.ones_like(late)])])


def ridge_fit(
    features: Float[Array, "n features"], targets: Float[Array, " n"], ridge: float
) -> Float[Array, " features"]:
    """argmin_w mean (features w - targets)^2 + ridge |w|^2.

    Powers of the time are all but collinear, and their normal equations beyond single precision:
    this is a QR factorisation of the features with sqrt(ridge) times the identity below them.
    """
    num_rows, num_features = features.shape
    stacked = jnp.concatenate([features * num_rows**-0.5, ridge**0.5 * jnp.eye(num_features)])
    orthogonal, triangular = jnp.linalg.qr(stacked)
    projected = orthogonal[:num_rows].T @ (targets * num_rows**-0.5)
    return jax.scipy.linalg.solve_triangular(triangular, projected)


def gaussian_kl(
    mean: Float[Array, " n"],
    log_std: Float[Array, " n"],
    other_mean: Float[Array, " n"],
    other_log_std: Float[Array, " n"],
) -> Float[Array, ""]:
    """KL(N(mean, std^2) || N(other_mean, other_std^2)) of diagonal Gaussians, summed over dimensions."""
    squared = jnp.exp(2.0 * (log_std - other_log_std)) + jnp.square((mean - other_mean) * jnp.exp(-other_log_std))
    return jnp.sum(other_log_std - log_std + 0.5 * (squared - 1.0))


def mean_gaussian_kl(
    mean: Float[Array, "batch n"],
    log_std: Float[Array, " n"],
    other_mean: Float[Array, "batch n"],
    other_log_std: Float[Array, " n"],
) -> Float[Array, ""]:
    """Mean of `gaussian_kl` over a batch of means, under one standard deviation each."""
    return jnp.mean(jax.vmap(gaussian_kl, in_axes=(0, None, 0, None))(mean, log_std, other_mean, other_log_std))


def surrogate_loss(
    mean: Float[Array, "batch n"],
    log_std: Float[Array, " n"],
    action: Float[Array, "batch n"],
    old_log_density: Float[Array, " batch"],
    advantages: Float[Array, " batch"],
) -> Float[Array, ""]:
    """-mean pi(a|s) / pi_old(a|s) A (1502.05477, Eq. 14)."""
    log_densities = jax.vmap(log_density, in_axes=(0, 0, None))(action, mean, log_std)
    return -jnp.mean(jnp.exp(log_densities - old_log_density) * advantages)


def gaussian_fisher_product(distribution: Callable[[P], tuple[Array, Array]], parameters: P) -> Callable[[P], P]:
    """v -> F v, F the Hessian of the mean KL at `parameters` (1502.05477, appendix C).

    There F is J^T M J: J is the Jacobian of means and log standard deviations, and M, the Hessian
    of the KL in these, is 1 / (batch std^2) for a mean and 2 for a log standard deviation.

    Args:
        distribution: parameters -> means [batch, n], log standard deviations [n].
        parameters: where F is taken.
    """
    (mean, log_std), push = jax.linearize(distribution, parameters)
    pull = jax.linear_transpose(push, parameters)
    precision = jnp.exp(-2.0 * log_std)[None, :] / mean.shape[0]

    def product(vector: P) -> P:
        mean_change, log_std_change = push(vector)
        return pull((precision * mean_change, 2.0 * log_std_change))[0]

    return product


def conjugate_gradient(product: Callable[[P], P], target: P, num_iterations: int) -> P:
    """x with product(x) = target, nearly; `product` is symmetric and positive definite (Hestenes & Stiefel 1952).

    It starts at 0 and ends early once the residual is a millionth of the target: what is left is rounding.
    """
    enough = 1e-12 * inner(target, target)

    def searching(carry: tuple[Array, P, P, P, Array]) -> Array:
        return (carry[0] < num_iterations) & (carry[-1] > enough)

    def step(carry: tuple[Array, P, P, P, Array]) -> tuple[Array, P, P, P, Array]:
        number, solution, residual, direction, squared = carry
        image = product(direction)
        length = squared / inner(direction, image)
        residual = _plus(residual, -length, image)
        left = inner(residual, residual)
        return (
            number + 1,
            _plus(solution, length, direction),
            residual,
            _plus(residual, left / squared, direction),
            left,
        )

    zero = jax.tree.map(jnp.zeros_like, target)
    start = jnp.int32(0), zero, target, target, inner(target, target)
    return jax.lax.while_loop(searching, step, start)[1]


def natural_step(product: Callable[[P], P], gradient: P, *, damping: float, max_kl: float, num_iterations: int) -> P:
    """-scale (F + c I)^-1 gradient, the step x of a trust region: 1/2 x^T (F + c I) x = max_kl (1502.05477, C).

    Args:
        product: v -> F v.
        gradient: of the loss; where it is 0 the step is 0.
        damping: c.
        max_kl: the size delta of the trust region.
        num_iterations: of the conjugate gradient.
    """

    def damped(vector: P) -> P:
        return _plus(product(vector), damping, vector)

    direction = conjugate_gradient(damped, gradient, num_iterations)
    curvature = inner(direction, damped(direction))
    scale = jnp.sqrt(2.0 * max_kl / jnp.where(curvature > 0.0, curvature, jnp.inf))
    return jax.tree.map(lambda leaf: -scale * leaf, direction)


def line_search(
    evaluate: Callable[[Array], tuple[Array, Array]],
    expected_improvement: Float[Array, ""],
    *,
    max_kl: float,
    num_halvings: int,
) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
    """The longest of 1, 1/2, 1/4, ... steps that may be taken (1502.05477, appendix C).

    A step may be taken if the loss falls, by at least a tenth of what its slope promises, and the
    KL is at most 1.5 `max_kl`; that 0 / 0 or an infinity passes is ruled out.

    Args:
        evaluate: fraction of the step -> how far the loss falls, KL to the old policy.
        expected_improvement: how far the loss falls along its slope over the full step.
        max_kl: the size of the trust region.
        num_halvings: the shortest step tried is 2^-num_halvings of the full one.

    Returns:
        The fraction, its KL and whether there is one; 0, 0 and False otherwise.
    """

    def allowed(fraction: Array) -> tuple[Array, Array]:
        improvement, kl = evaluate(fraction)
        enough = improvement >= 0.1 * fraction * expected_improvement
        return kl, (improvement > 0.0) & jnp.isfinite(improvement) & enough & (kl <= 1.5 * max_kl)

    def searching(carry: tuple[Array, Array, Array]) -> Array:
        fraction, _, accepted = carry
        return ~accepted & (fraction > 0.5 * 2.0**-num_halvings)

    def halve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        kl, accepted = allowed(carry[0])
        return jnp.where(accepted, carry[0], 0.5 * carry[0]), kl, accepted

    start = jnp.float32(1.0), jnp.float32(0.0), jnp.bool_(False)
    fraction, kl, accepted = jax.lax.while_loop(searching, halve, start)
    return jnp.where(accepted, fraction, 0.0), jnp.where(accepted, kl, 0.0), accepted


def inner(first: P, second: P) -> Float[Array, ""]:
    """The inner product of two pytrees."""
    products = jax.tree.map(lambda one, other: jnp.sum(one * other), first, second)
    return jax.tree.reduce(jnp.add, products)


def _plus(first: P, factor: Array | float, second: P) -> P:
    return jax.tree.map(lambda one, other: one + factor * other, first, second)
