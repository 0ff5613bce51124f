"""Offline reinforcement learning, one algorithm per file."""

from __future__ import annotations

from typing import Any

from marline.algorithms.algorithm import Algorithm, Informed, Prepares
from marline.algorithms.awac import AWAC
from marline.algorithms.bcq import BCQ
from marline.algorithms.bremen import BREMEN
from marline.algorithms.cql import CQL
from marline.algorithms.cql_continuous import ContinuousCQL
from marline.algorithms.iql import IQL
from marline.algorithms.mabcq import MABCQ
from marline.algorithms.td3_bc import TD3BC

ALGORITHMS: dict[str, type[Algorithm[Any]]] = {
    "td3-bc": TD3BC,
    "bcq": BCQ,
    "awac": AWAC,
    "cql": CQL,
    "cql-continuous": ContinuousCQL,
    "iql": IQL,
    "bremen": BREMEN,
    "mabcq": MABCQ,
}

__all__ = [
    "ALGORITHMS",
    "AWAC",
    "BCQ",
    "BREMEN",
    "CQL",
    "IQL",
    "MABCQ",
    "TD3BC",
    "Algorithm",
    "ContinuousCQL",
    "Informed",
    "Prepares",
]
