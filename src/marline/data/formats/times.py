"""Times that are written as text, as seconds: ISO 8601 and other formats, fractions and zones; imports pyarrow."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as arrow_compute

compute: Any = arrow_compute  # its functions are made when it is imported
# a fraction after a point or a comma, as Python's logging writes it, and what the clock is ahead of UTC
_PARTS = (
    r"^(?P<whole>.*?[0-9]:[0-9]{2}(?::[0-9]{2})?)(?:[.,](?P<fraction>[0-9]{1,9}))?(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?$"
)
_DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d-%b-%Y", "%d %b %Y", "%Y%m%d")
_SHORT_DATES = ("%d.%m.%y", "%d/%m/%y", "%m/%d/%y")  # taken with a time only, for versions are written so too
_CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_FORMATS = (
    "",
    *_DATES[:-1],
    *(f"{date} {clock}" for date in (*_DATES, *_SHORT_DATES) for clock in _CLOCKS),
    "%Y%m%dT%H%M%S",
    *_CLOCKS,
)
_EARLIEST = -np.float64(70 * 366 * 86400)  # seconds: a time of day alone counts as one of 1900; before, a year was cut


def seconds_of(text: pa.Array, time_format: str = "") -> np.ndarray:
    """[n] seconds since 1970, NaN where the text is null.

    Args:
        text: strings.
        time_format: as `strptime` has it, without fractions and zones, which are found by themselves; ISO 8601 if "".

    Raises:
        pyarrow.ArrowInvalid: a text is no such time.
    """
    parts = compute.extract_regex(text, _PARTS)
    whole, fraction, zone = (compute.struct_field(parts, name) for name in ("whole", "fraction", "zone"))
    whole = compute.coalesce(whole, text)
    times = compute.strptime(whole, time_format, "us") if time_format else whole.cast(pa.timestamp("us"))
    seconds = times.cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.float64) / 1e6
    if compute.any(compute.greater(compute.utf8_length(fraction), 0)).as_py():
        digits = compute.utf8_rpad(fraction.fill_null(""), 9, "0").cast(pa.int64())
        seconds = seconds + digits.to_numpy(zero_copy_only=False) / 1e9
    if compute.any(compute.greater(compute.utf8_length(zone), 0)).as_py():
        ahead = {word: _ahead(word) for word in zone.drop_null().unique().to_pylist()}
        seconds = seconds - np.array([ahead.get(word, 0.0) for word in zone.to_pylist()])
    return np.where(text.is_null().to_numpy(zero_copy_only=False), np.nan, seconds)


def formats_of(text: pa.Array) -> list[str]:
    """The formats, the likeliest first, in which all of some texts may be written; none if they are no times."""
    fitting = []
    for time_format in _FORMATS:
        with contextlib.suppress(pa.ArrowInvalid):
            seconds_of(text.slice(0, 1), time_format)  # most formats, and columns of words, end here
            if (seconds_of(text, time_format) >= _EARLIEST).all():
                fitting.append(time_format)
                if not {"%d/%m", "%m/%d"} & {time_format[:5]}:  # no other reads the same digits
                    break
    return fitting


def _ahead(zone: str) -> float:
    """Seconds that a clock of a zone, such as +02:00, is ahead of UTC."""
    match = re.fullmatch(r"([+-])([0-9]{2}):?([0-9]{2})", zone)
    if match is None:
        return 0.0
    return (1 if match[1] == "+" else -1) * (int(match[2]) * 3600.0 + int(match[3]) * 60.0)
