"""Words that go with a number."""

from __future__ import annotations

from marline.display.words import plural, size_of_study


def test_one_is_singular() -> None:
    assert (plural(1, "seed"), plural(0, "seed"), plural(1000, "row")) == ("1 seed", "0 seeds", "1,000 rows")
    assert size_of_study(3, 1) == "3 samplers x 1 seed"
