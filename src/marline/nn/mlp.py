"""The multilayer perceptron behind every network here."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray


class Linear(eqx.Module):
    """An affine map with PyTorch's default initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    @staticmethod
    def create(in_size: int, out_size: int, *, key: PRNGKeyArray) -> Linear:
        weight_key, bias_key = jax.random.split(key)
        bound = in_size**-0.5
        return Linear(
            jax.random.uniform(weight_key, (out_size, in_size), minval=-bound, maxval=bound),
            jax.random.uniform(bias_key, (out_size,), minval=-bound, maxval=bound),
        )

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return self.weight @ x + self.bias


class MLP(eqx.Module):
    """ReLU hidden layers and a linear output; leaves are arrays only, so plain `jax.jit` passes it."""

    layers: tuple[Linear, ...]

    @staticmethod
    def create(in_size: int, out_size: int, hidden: Sequence[int], *, key: PRNGKeyArray) -> MLP:
        sizes = [in_size, *hidden, out_size]
        keys = jax.random.split(key, len(sizes) - 1)
        return MLP(tuple(Linear.create(i, o, key=k) for i, o, k in zip(sizes[:-1], sizes[1:], keys, strict=True)))

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)
