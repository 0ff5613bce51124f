"""Contrastive losses and scores by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops import contrastive, known_rows

cosine, info_nce = jax.jit(contrastive.cosine), jax.jit(contrastive.info_nce)
neutral_where_unknown = jax.jit(known_rows.neutral_where_unknown)


def test_info_nce_by_hand() -> None:
    anchors, positives = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[np.log(3.0), 0.0], [5.0, 0.0]])
    negatives = jnp.array([[np.log(2.0), 0.0], [0.0, 0.0], [9.0, 9.0]])
    losses = info_nce(anchors, positives, negatives, jnp.array([True, True, False]))
    np.testing.assert_allclose(losses, [np.log(6 / 3), np.log(3)], rtol=1e-6)


def test_cosines_by_hand() -> None:
    assert float(cosine(jnp.array([3.0, 4.0]), jnp.array([4.0, 3.0]))) == pytest.approx(24 / 25)
    assert float(cosine(jnp.array([0.0, 0.0]), jnp.array([1.0, 1.0]))) == 0.0


def test_rows_of_which_nothing_is_known_weigh_the_mean() -> None:
    log_weights = np.log(np.array([1.0, 7.0, 3.0], np.float32))
    weights = np.exp(neutral_where_unknown(log_weights, jnp.array([True, False, True])))
    np.testing.assert_allclose(weights, [1.0, 2.0, 3.0], rtol=1e-6)
    np.testing.assert_array_equal(neutral_where_unknown(log_weights, jnp.array([False, False, False])), [0.0, 0.0, 0.0])
