"""Standard output and error of a command: a full disk, a reader who left or a narrow alphabet stops no work."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any


class _Sink(io.FileIO):
    """Drops what cannot be written, and keeps the first error to be told at the end."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int | None:
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return len(data)


class Output:
    """What became of standard output.

    Attributes:
        error: why not all of it could be written; None where it was, or where its reader had seen enough.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None


@contextlib.contextmanager
def lasting_streams() -> Iterator[Output]:
    """Let no output raise: letters that an encoding lacks become escapes, and errors are kept for the end.

    Streams that are no files, as tests put in place, stay as they are.
    """
    for descriptor in (0, 1, 2):  # one that is closed would become that of a file of ours, and be printed into
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    output = Output()
    before = sys.stdout, sys.stderr
    sinks = [_replaced(stream) for stream in before]
    sys.stdout, sys.stderr = (stream for stream, _ in sinks)
    try:
        yield output
    finally:
        for stream, sink in sinks:
            if sink is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
        error = sinks[0][1].error if sinks[0][1] is not None else None
        output.error = None if error is None or error.errno == errno.EPIPE else error


def _replaced(stream: Any) -> tuple[Any, _Sink | None]:
    try:
        sink = _Sink(stream.fileno(), "wb", closefd=False) if isinstance(stream, io.TextIOWrapper) else None
    except OSError:  # of a stream that is none of the system's
        sink = None
    if sink is None:
        return (open(os.devnull, "w") if stream is None else stream), None
    text = io.TextIOWrapper(
        sink if stream.write_through else io.BufferedWriter(sink),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    return text, sink
