"""What all of today's rows say of an outcome, on numbers that are known by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from marline.ops.pooled_ratio import Pooled, pooled_law, pooled_ratio, visits_of


def test_references_count_as_the_law_of_the_logs_weighs_them_where_today_has_been() -> None:
    """Two of today's rows; kernels to two references are 1 and 0, then 0 and 0; the third reference does not count.

    (1 + 1/2) / 2 and (0 + 1/2) / 2 of the first row, a half each of the second.
    """
    given = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    visits = visits_of(given, jnp.array([True, True, False]), jnp.ones(2, bool))
    np.testing.assert_allclose(visits, [(0.75 + 0.5) / 2, (0.25 + 0.5) / 2, 0.0], rtol=1e-6)
    alone = visits_of(given, jnp.array([True, True, False]), jnp.array([True, False]))
    np.testing.assert_allclose(alone, [0.75, 0.25, 0.0], rtol=1e-6)


def test_the_ratio_by_hand() -> None:
    """The logs foretell .8 and .2 of two outcomes; of four rows today three have the second; kappa is 1.

    (1 + .8) / (5 * .8) = .45, (3 + .2) / (5 * .2) = 3.2.
    """
    of_logs, of_today = jnp.eye(2), jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    visits = jnp.array([0.8, 0.2])
    ratio = pooled_ratio(of_logs, of_today, jnp.ones((2, 4)), visits, 1.0)
    np.testing.assert_allclose(ratio, [0.45, 3.2], rtol=1e-6)
    np.testing.assert_allclose(visits @ ratio, 1.0, rtol=1e-6)  # today's law drawn towards the logs' sums to 1
    np.testing.assert_allclose(pooled_ratio(of_logs, of_today, jnp.zeros((2, 4)), visits, 1.0), [1.0, 1.0], rtol=1e-6)


def test_outcomes_of_an_action_sum_to_one() -> None:
    """Of an action with nine logged rows of the first outcome and one of the second, kernels 0 between the two."""
    counts, ratios = np.array([9.0, 1.0]), jnp.array([0.45, 3.2])
    pooled = Pooled(jnp.ones(10) / 10, jnp.repeat(ratios, np.array([9, 1]), total_repeat_length=10), jnp.bool_(True))
    given = jnp.ones((2, 10))
    law = jnp.asarray(counts / 10)
    found = pooled_law(law, ratios, given, pooled)
    np.testing.assert_allclose(found, law * ratios / (0.9 * 0.45 + 0.1 * 3.2), rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(found), 1.0, rtol=1e-5)
    unused = pooled_law(law, ratios, given, pooled._replace(is_used=jnp.bool_(False)))
    np.testing.assert_array_equal(unused, law)
