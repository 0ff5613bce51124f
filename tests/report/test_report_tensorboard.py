"""TensorBoard logs hold the numbers of the run, once."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marline.cli import main
from marline.report import write_tensorboard
from marline.report.records import read_run

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="TensorBoard logs need marline[tensorboard]")


def events(file: Path) -> Iterator[Any]:
    """The records of a TFRecord file: length, its checksum, the message, its checksum."""
    content, place = file.read_bytes(), 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        yield event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
        place += 12 + length + 4


def test_every_curve_is_there_once(write_run: Callable[..., Path], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0, 1), deployments=2)
    for _ in range(2):  # written again, nothing is doubled
        assert write_tensorboard([path], tmp_path / "logs") == tmp_path / "logs"
    run = read_run(path)
    files = sorted((tmp_path / "logs").rglob("*tfevents*"))
    assert [str(file.parent.relative_to(tmp_path / "logs")) for file in files] == sorted(
        f"run/{sampler.name}/seed-{seed}" for sampler in run.samplers for seed in (0, 1)
    )
    first, *steps = events(tmp_path / "logs" / "run" / "otc-value" / "seed-1" / files[0].name)
    assert first.file_version == "brain.Event:2"
    assert [event.step for event in steps] == [0, 1, 2]
    told = {value.tag: value.simple_value for value in steps[-1].summary.value}
    assert told["return"] == pytest.approx(run.curve("otc-value", 1)[2])
    assert told["alpha/agent_0"] == pytest.approx(run.diagnostic("otc-value", 1, "alpha")[2]["agent_0"])


def test_from_the_command_line(write_run: Callable[..., Path], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1)
    with pytest.raises(SystemExit) as left:
        main(["report", str(path), "--tensorboard", str(tmp_path / "logs")])
    assert not left.value.code
    assert len(list((tmp_path / "logs").rglob("*tfevents*"))) == 4
