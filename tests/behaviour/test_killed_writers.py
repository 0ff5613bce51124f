"""A writer that is really killed leaves the old state or the new one, wherever it was."""

import sys
from pathlib import Path

from processes import finished

# One process forks a writer per kill point, so that the imports are paid once. The writers kill
# themselves at their n-th system call of interest, then some more are killed after n microseconds.
SCRIPT = """
import itertools, os, signal, sys, time, traceback
from pathlib import Path
import numpy as np
from marline.data import checkpoints, dataset, files
from marline.types import Spec

def logs(version, rows=200):
    columns = {"observations": np.full((rows, 3), version), "actions": np.zeros((rows, 1)), "timeouts": np.zeros(rows)}
    columns |= {"rewards": np.zeros(rows), "terminals": np.zeros(rows), "next_observations": np.zeros((rows, 3))}
    return dataset.from_arrays("a", columns)

class File:
    def write(self, path, version):
        files.atomic_json(path, {"version": version, "more": [version] * 3000})
    def read(self, path):
        import json
        value = json.loads(path.read_text())
        assert value["more"] == [value["version"]] * 3000
        return value["version"]

class Lines:
    def write(self, path, version):
        files.append_line(path, version)
    def read(self, path):
        lines = files.read_lines(path)
        assert lines == sorted(set(lines))
        return lines[-1]

class Logs:
    def write(self, path, version):
        dataset.save(path, {"a": logs(version), "b": logs(version)}, {"version": version}, replace=True)
    def read(self, path):
        loaded = dataset.load(path)
        version = dataset.describe(path)["provenance"]["version"]
        assert sorted(loaded) == ["a", "b"]
        assert all((d.observations == version).all() for d in loaded.values())
        return version

class Weights:
    def write(self, path, version):
        checkpoints.save_checkpoint(path, {"x": np.full(2000, version, np.int32), "y/z": np.zeros(3, np.int32)},
                                    {"version": version})
    def read(self, path):
        checkpoints.verify(path)
        return checkpoints.read_manifest(path)["version"]

def fork(kind, path, version, point):
    child = os.fork()
    if child == 0:
        left = [point]
        def hook(event, args):
            if event != "os.kill" and event.startswith(("open", "os.", "shutil.", "fcntl.", "ctypes.")):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        if point is not None:
            sys.addaudithook(hook)
        try:
            kind.write(path, version)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return child

def after(child, kind, path, old, new):
    status = os.waitpid(child, 0)[1]
    finished = os.WIFEXITED(status)
    assert not finished or os.WEXITSTATUS(status) == 0, "the writer failed"
    now = kind.read(path)
    assert now in ((new,) if finished else (old, new)), (now, old, new, finished)
    return now, finished

for kind in (File(), Lines(), Logs(), Weights()):
    path = Path(sys.argv[1], type(kind).__name__, "target")
    kind.write(path, 0)
    now, version, outcomes = 0, 0, set()
    for point in itertools.count():
        version += 1
        before = now
        now, finished = after(fork(kind, path, version, point), kind, path, now, version)
        outcomes.add((now == before, finished))
        if finished:
            break
    # Some were killed with the old state in place, all but appending (one call) also with the new one.
    assert outcomes >= {(True, False)} and (point < 4 or (False, False) in outcomes), (point, outcomes)
    for microseconds in range(0, 15000, 3000):
        version += 1
        child = fork(kind, path, version, None)
        time.sleep(microseconds / 1e6)
        os.kill(child, signal.SIGKILL)
        now, _ = after(child, kind, path, now, version)
    kind.write(path, version + 1)
    assert kind.read(path) == version + 1
    assert os.listdir(path.parent) == [path.name], os.listdir(path.parent)
    print(type(kind).__name__, point)
"""


def test_a_killed_writer_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    run = finished(command)
    assert run.returncode == 0, run.stderr
    tried = dict(line.split() for line in run.stdout.splitlines())
    assert list(tried) == ["File", "Lines", "Logs", "Weights"]
    assert int(tried["Logs"]) > 20
