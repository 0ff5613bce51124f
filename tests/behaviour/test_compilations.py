"""Compiling takes longer than tuning a small network: once per sampler is enough."""

from __future__ import annotations

import logging
import re

import jax
import pytest
from worlds import Study, chain

from marline.samplers import OTC, Shuffled


@pytest.mark.parametrize("distance", ["value", pytest.param("two-stage", marks=pytest.mark.slow)])
def test_a_campaign_compiles_its_programs_once(distance: str, caplog: pytest.LogCaptureFixture) -> None:
    world = chain(3, 0.1, 0.9, horizon=5)  # no other test's: programs compiled before would go unnoticed
    campaigns = Study.create(world, seeds=range(2), num_offline=1000, num_deployments=3)
    sampler = OTC(distance, num_candidates=32, num_references=8, batch_size=16, num_estimate=64)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        campaigns.run(sampler)
        campaigns.run(Shuffled(sampler))  # begins a deployment by the program of the sampler inside
    compiled = [re.match(r"Compiling (?:jit\()?(\w+)", record.getMessage()) for record in caplog.records]
    names = [match[1] for match in compiled if match]
    assert {name: names.count(name) for name in ("_init_sampler", "begin_deployment", "_exchange", "tune")} == {
        "_init_sampler": 2,
        "begin_deployment": 1,
        "_exchange": 1,
        "tune": 2,
    }
