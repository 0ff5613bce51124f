"""What a test starts ends with it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from processes import finished, started, wait_until

# writes the number of a child of its own, and then neither ends
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100_000)"])
print(child.pid, flush=True)
time.sleep(100_000)
"""


def is_alive(number: int) -> bool:
    """Whether a process runs; one that only waits to be fetched does not."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(number: int) -> bool:
    return wait_until(lambda: not is_alive(number))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who is alive")
def test_children_of_a_program_end_with_the_test_that_fails() -> None:
    child = 0
    with pytest.raises(ZeroDivisionError), started([sys.executable, "-c", PARENT]) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert is_alive(child)
        raise ZeroDivisionError
    assert gone(process.pid) and gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_a_program_ends_with_the_tests_that_are_killed() -> None:
    script = f"""
import os, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from processes import started
with started([sys.executable, "-c", "import time; time.sleep(100_000)"]) as process:
    print(process.pid, flush=True)
    os._exit(1)
"""
    assert gone(int(finished([sys.executable, "-c", script]).stdout))


def test_a_program_that_hangs_is_given_up() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        finished([sys.executable, "-c", "import time; time.sleep(100_000)"], patience=0.2)
    assert finished([sys.executable, "-c", "print(input())"], input="x").stdout == "x\n"
