"""Serve the policy beside this file and log what comes of it, as contract.json tells. Needs numpy and onnxruntime."""

import atexit
import json
import os
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession


class Agent:
    def __init__(self, logs, folder=Path(__file__).parent, seed=None):
        self.logs, self.random, self.rows, self.now = Path(logs), np.random.default_rng(seed), [], {}
        seal = (text := (folder / "contract.json").read_bytes()).rpartition(b'"seal": "')[2][:64]
        if sha256(text.replace(seal, b"0" * 64)).hexdigest().encode() != seal:  # of the text with zeros in its place
            sys.exit(f"{folder / 'contract.json'} is not what was exported; copy the bundle again")
        self.contract = json.loads(text)
        for name, record in self.contract["files"].items():
            if sha256((folder / name).read_bytes()).hexdigest() != record["sha256"]:
                sys.exit(f"{folder / name} is not what was exported; copy the bundle again")
        self.inputs = {tensor["name"]: tensor for tensor in self.contract["inputs"]}
        self.session = InferenceSession((folder / "policy.onnx").read_bytes(), providers=["CPUExecutionProvider"])
        golden = json.loads((folder / "golden.json").read_text("utf-8"))
        if not (np.abs(self.run(golden) - golden["action"]) <= self.contract["golden"]["tolerance"]).all():
            sys.exit(f"the actions of golden.json come out otherwise; do not use {folder} on this machine")
        os.makedirs(logs, exist_ok=True)
        atexit.register(lambda: self.rows and self.save())

    def run(self, batch):
        return np.array(self.session.run(None, {k: np.array(batch[k], t["dtype"]) for k, t in self.inputs.items()})[0])

    def read(self, said, name, *shape):
        try:
            return np.asarray_chkfinite(said[name], float).reshape(shape)
        except (KeyError, TypeError, ValueError):
            what = f"{np.prod(shape):.0f} finite numbers" if shape else "a finite number, true or false"
            raise ValueError(f"{name!r} must be {what}, but is {said.get(name, 'missing')}") from None

    def step(self, said):
        if not isinstance(said, dict):
            raise ValueError(f'a step is an object such as {{"observation": [...]}}, and not {said}')
        said = {"noise": self.random.standard_normal(self.inputs.get("noise", {"shape": []})["shape"][1:])} | said
        given = {name: self.read(said, name, 1, *tensor["shape"][1:]) for name, tensor in self.inputs.items()}
        if self.now:
            came = {f"{name}s": self.read(said, name) for name in ("reward", "terminal", "timeout")}
            self.rows.append(self.now | came | {f"next_{name}s": value[0] for name, value in given.items()})
            if came["terminals"] or came["timeouts"]:
                return {"log": self.save()}
        self.now = {f"{name}s": value[0] for name, value in given.items()} | {"actions": self.run(given)[0]}
        return {"action": self.now["actions"].tolist()}

    def save(self):
        rows, self.rows, self.now = self.rows, [], {}
        rows[-1]["timeouts"] = not rows[-1]["terminals"]  # an episode that breaks off was cut
        number = 1 + max((int(log.stem) for log in self.logs.glob("*.npz")), default=-1)
        arrays = {k: np.array([row[k] for row in rows], t["dtype"]) for k, t in self.contract["logs"]["arrays"].items()}
        with open(self.logs / f"{number:06d}.partial", "wb", buffering=0) as file:
            np.savez(file, **arrays, **self.contract["logs"]["stamp"])
            os.fsync(file.fileno())
        return str(Path(file.name).rename(self.logs / f"{number:06d}.npz"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("say where the logs go: python run_policy.py LOGS")
    number = 0
    try:
        agent = Agent(sys.argv[1])
        for line in sys.stdin:
            number += 1
            print(json.dumps(agent.step(json.loads(line))), flush=True)
    except json.JSONDecodeError as error:
        sys.exit(f"stopped, for line {number} is not JSON: {error.msg}")
    except (OSError, ValueError) as error:
        sys.exit(f"stopped{f' at line {number}' if number else ''}: {error}")
