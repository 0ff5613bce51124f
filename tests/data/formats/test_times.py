"""Times that are written as text."""

from __future__ import annotations

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
from marline.data.formats.times import formats_of, seconds_of  # noqa: E402

NOON = 1_773_489_600.0  # 2026-03-14 12:00 UTC, by date -d


@pytest.mark.parametrize(
    ("text", "written", "seconds"),
    [
        ("2026-03-14T12:00:00Z", "", NOON),
        ("2026-03-14 14:00:00+02:00", "", NOON),
        ("2026-03-14 12:00:00,250", "", NOON + 0.25),  # as Python's logging writes it
        ("2026-03-14", "", NOON - 12 * 3600),
        ("14.03.2026 12:00:00,5", "%d.%m.%Y %H:%M:%S", NOON + 0.5),
        ("14.03.26 12:00", "%d.%m.%y %H:%M", NOON),
        ("03/14/2026 12:00 PM", "%m/%d/%Y %I:%M %p", NOON),
        ("14-Mar-2026 12:00:00", "%d-%b-%Y %H:%M:%S", NOON),
        ("2026/03/14 12:00", "%Y/%m/%d %H:%M", NOON),
    ],
)
def test_how_times_are_written_is_found_and_they_are_seconds(text: str, written: str, seconds: float) -> None:
    assert formats_of(pa.array([text])) == [written]
    found = seconds_of(pa.array([text, None]), written)
    assert found[0] == seconds and np.isnan(found[1])


def test_day_and_month_may_be_exchanged_and_versions_are_no_times() -> None:
    assert formats_of(pa.array(["03/04/2026 08:00"])) == ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"]
    assert formats_of(pa.array(["03/04/2026 08:00", "03/14/2026 08:00"])) == ["%m/%d/%Y %H:%M"]
    for text in ("1.2.3", "v1.2", "14.03", "north", "12"):
        assert formats_of(pa.array([text])) == []
