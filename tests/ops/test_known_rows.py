"""Means over the rows that are known, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from marline.ops import known_rows

mean_of_known = jax.jit(known_rows.mean_of_known)


def test_a_mean_over_some_rows() -> None:
    values, known = jnp.array([[1.0, 2.0], [50.0, 60.0], [3.0, 6.0]]), jnp.array([True, False, True])
    np.testing.assert_array_equal(mean_of_known(values, known), [2.0, 4.0])
    np.testing.assert_allclose(mean_of_known(values, None), [18.0, 68.0 / 3], rtol=1e-6)
    np.testing.assert_array_equal(mean_of_known(values, jnp.array([False, False, False])), [0.0, 0.0])
    gradient = jax.jit(jax.grad(lambda values: jnp.sum(mean_of_known(values, known))))(values)
    np.testing.assert_array_equal(gradient, [[0.5, 0.5], [0.0, 0.0], [0.5, 0.5]])
