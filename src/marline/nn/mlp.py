"""The multilayer perceptron behind every network here."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray


class Linear(eqx.Module):
    """An affine map; its weight is laid out for `x @ weight`, which is quicker on a CPU than the transpose."""

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return x @ self.weight + self.bias


class MLP(eqx.Module):
    """ReLU hidden layers and a linear output; leaves are arrays only, so plain `jax.jit` passes it."""

    layers: tuple[Linear, ...]

    @staticmethod
    def create(in_size: int, out_size: int, hidden: Sequence[int], *, key: PRNGKeyArray) -> MLP:
        """Layers with PyTorch's default initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
        sizes = [in_size, *hidden, out_size]
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        ends = np.cumsum([size * (fan_in + 1) for size, fan_in in shapes])
        # one draw for all layers: each draw costs a quarter of a second to compile
        numbers = jax.random.uniform(key, (int(ends[-1]),), minval=-1.0, maxval=1.0)
        layers = []
        for (size, fan_in), part in zip(shapes, jnp.split(numbers, ends[:-1]), strict=True):
            weight, bias = jnp.split(fan_in**-0.5 * part, [size * fan_in])
            layers.append(Linear(weight.reshape(fan_in, size), bias))
        return MLP(tuple(layers))

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return self._after_first(self.layers[0](x))

    def of_many(self, shared: Float[Array, " k"], varying: Float[Array, "n m"]) -> Float[Array, "n out"]:
        """The outputs for n inputs that begin alike, `concatenate([shared, varying[i]])`.

        What the shared part adds to the first layer is computed once.
        """
        first = self.layers[0]
        head, tail = jnp.split(first.weight, [shared.shape[0]])
        start = shared @ head + first.bias
        return jax.vmap(lambda x: self._after_first(x @ tail + start))(varying)

    def _after_first(self, x: Float[Array, " _"]) -> Float[Array, " out"]:
        for layer in self.layers[1:]:
            x = layer(jax.nn.relu(x))
        return x
