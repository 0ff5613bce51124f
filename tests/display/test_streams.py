"""What becomes of a command whose output cannot be written."""

from __future__ import annotations

import errno
import os
import sys

import pytest
from processes import finished

# a stand-in for any command: says much, then does something that must happen
SCRIPT = """
import os, sys
from marline.display.streams import lasting_streams
with lasting_streams() as output:
    for _ in range(20_000):
        print("caf\\u00e9 \\u2588")
    print("done", file=sys.stderr)
    opened = os.open({path!r}, os.O_WRONLY | os.O_CREAT)
os._exit(opened if output.error is None else 100 + output.error.errno)
"""


def after(redirected: str, path: str, **environment: str) -> tuple[int, str, str]:
    """Exit status, output and errors of the script in a shell."""
    command = ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {redirected}', sys.executable, SCRIPT.format(path=path)]
    done = finished(command, env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
def test_a_full_disk_stops_no_work_and_is_told(unbuffered: str, tmp_path: object) -> None:
    status, _, errors = after("> /dev/full", f"{tmp_path}/file", PYTHONUNBUFFERED=unbuffered)
    assert (status, errors) == (100 + errno.ENOSPC, "done\n")


def test_a_reader_who_leaves_is_no_error(tmp_path: object) -> None:
    status, output, errors = after("| head -1", f"{tmp_path}/file")
    assert status > 2 and status < 100 and output == "café █\n" and errors == "done\n"


def test_letters_that_an_encoding_lacks_become_escapes(tmp_path: object) -> None:
    status, output, _ = after("", f"{tmp_path}/file", PYTHONIOENCODING="ascii")
    assert status > 2 and status < 100 and output.startswith("caf\\xe9 \\u2588\n")


def test_a_closed_stream_does_not_become_a_file_of_ours(tmp_path: object) -> None:
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        status, _, _ = after(closed, f"{tmp_path}/file")
        assert 2 < status < 100  # the number under which the file was opened
