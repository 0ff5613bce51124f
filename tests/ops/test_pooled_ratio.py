"""What all of today's rows say of an outcome, on numbers that are known by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from marline.ops import pooled_ratio as ops
from marline.ops.pooled_ratio import Pooled

pooled_law, pooled_ratio, visits_of = jax.jit(ops.pooled_law), jax.jit(ops.pooled_ratio), jax.jit(ops.visits_of)


def test_references_count_as_the_law_of_the_logs_weighs_them_where_today_has_been() -> None:
    """Two of today's rows; kernels to two references are 1 and 0, then 0 and 0; the third reference does not count.

    (1 + 1/2) / 2 and (0 + 1/2) / 2 of the first row, a half each of the second.
    """
    given = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    visits = visits_of(given, jnp.array([True, True, False]), jnp.array([True, True]))
    np.testing.assert_allclose(visits, [(0.75 + 0.5) / 2, (0.25 + 0.5) / 2, 0.0], rtol=1e-6)
    alone = visits_of(given, jnp.array([True, True, False]), jnp.array([True, False]))
    np.testing.assert_allclose(alone, [0.75, 0.25, 0.0], rtol=1e-6)


def test_the_ratio_by_hand() -> None:
    """The logs foretell .8 and .2 of two outcomes; of four rows today three have the second; kappa is 1.

    (1 + .8) / (5 * .8) = .45, (3 + .2) / (5 * .2) = 3.2.
    """
    of_logs, of_today = np.eye(2, dtype=np.float32), np.array([[1, 0, 0, 0], [0, 1, 1, 1]], np.float32)
    visits = np.array([0.8, 0.2], np.float32)
    ratio = pooled_ratio(of_logs, of_today, np.ones((2, 4), np.float32), visits, 1.0)
    np.testing.assert_allclose(ratio, [0.45, 3.2], rtol=1e-6)
    np.testing.assert_allclose(
        visits @ np.asarray(ratio), 1.0, rtol=1e-6
    )  # today's law drawn towards the logs' sums to 1
    nowhere = pooled_ratio(of_logs, of_today, np.zeros((2, 4), np.float32), visits, 1.0)
    np.testing.assert_allclose(nowhere, [1.0, 1.0], rtol=1e-6)


def test_outcomes_of_an_action_sum_to_one() -> None:
    """Of an action with nine logged rows of the first outcome and one of the second, kernels 0 between the two."""
    law, ratios = np.array([[0.9, 0.1], [0.45, 3.2]], np.float32)
    rows = np.full(10, 0.1, np.float32), np.repeat(ratios, [9, 1])
    pooled = Pooled(jnp.asarray(rows[0]), jnp.asarray(rows[1]), jnp.bool_(True))
    given = np.ones((2, 10), np.float32)
    found = pooled_law(law, ratios, given, pooled)
    np.testing.assert_allclose(found, law * ratios / (0.9 * 0.45 + 0.1 * 3.2), rtol=1e-5)
    np.testing.assert_allclose(np.sum(found), 1.0, rtol=1e-5)
    unused = pooled_law(law, ratios, given, pooled._replace(is_used=jnp.bool_(False)))
    np.testing.assert_array_equal(unused, law)
