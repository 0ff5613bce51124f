"""A model together with its optimizer, and the slow copy of a model."""

from __future__ import annotations

from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

M = TypeVar("M")


class TrainState(eqx.Module, Generic[M]):
    """A model together with the state of the optimizer that trains it."""

    model: M
    opt_state: optax.OptState

    @staticmethod
    def create(model: M, optimizer: optax.GradientTransformation) -> TrainState[M]:
        # optax says ArrayTree, of which a module is one, though its type does not say so
        return TrainState(model, optimizer.init(model))  # pyright: ignore[reportArgumentType]

    def step(self, gradient: M, optimizer: optax.GradientTransformation) -> TrainState[M]:
        """One step of the optimizer along `gradient`."""
        updates, opt_state = optimizer.update(gradient, self.opt_state, self.model)  # pyright: ignore[reportArgumentType]
        return TrainState(eqx.apply_updates(self.model, updates), opt_state)


def polyak(online: M, target: M, step_size: float) -> M:
    """target + step_size * (online - target), leaf by leaf."""
    return jax.tree.map(lambda o, t: step_size * o + (1.0 - step_size) * t, online, target)


def copy(model: M) -> M:
    """The same values in other buffers: a donated state must not hold one buffer twice."""
    return jax.tree.map(jnp.copy, model)
