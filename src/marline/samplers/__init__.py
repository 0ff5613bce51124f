"""Which logged rows each update sees."""

from __future__ import annotations

from typing import Any

from marline.samplers.adaptive_share import AdaptiveShare
from marline.samplers.balanced import BalancedReplay
from marline.samplers.best_ratio import BestRatio
from marline.samplers.classifier_ratio import ClassifierRatio
from marline.samplers.contrastive import Contrastive
from marline.samplers.distances import EmbeddingDistance, TwoStageDistance, ValueDistance
from marline.samplers.draw_plan import DrawPlan, Planned, draws_by_plan
from marline.samplers.dynamics_ratio import DynamicsRatio
from marline.samplers.fresh_share import FreshShare
from marline.samplers.frozen import Frozen
from marline.samplers.gated import Gated
from marline.samplers.online_matched import OnlineMatched
from marline.samplers.oracle import Oracle
from marline.samplers.otc import OTC
from marline.samplers.powers import POWERS
from marline.samplers.residual import Residual
from marline.samplers.retarget import Retarget
from marline.samplers.return_times_ratio import ReturnTimesRatio
from marline.samplers.return_weighted import ReturnWeighted
from marline.samplers.rewriting import Rewriting, batch_of, rewrites
from marline.samplers.sampler import Sampler, prefers_rows, trains
from marline.samplers.shuffled import Shuffled
from marline.samplers.two_sided import TwoSided
from marline.samplers.uniform import Uniform
from marline.samplers.with_returns import WithReturns

SAMPLERS: dict[str, Sampler[Any]] = {
    "uniform": Uniform("merged"),
    "offline-only": Uniform("offline"),
    "online-only": Uniform("online"),
    "frozen": Frozen(),
    "otc-value": OTC("value"),
    "otc-value-literal": OTC("value-literal"),
    "otc-embedding": OTC("embedding"),
    "otc-two-stage": OTC("two-stage"),
    "otc-value-paper": OTC("value-paper", alpha_bounds=None, relative_to="previous"),
    "otc-embedding-paper": OTC("embedding", alpha_bounds=None, relative_to="previous"),
    "otc-value-refresh": OTC("value", match="refresh", num_estimate=2000),
    "otc-embedding-refresh": OTC("embedding", match="refresh", num_estimate=2000),
    "otc-two-stage-refresh": OTC("two-stage", match="refresh", num_estimate=2000),
    "online-matched": OnlineMatched(),
    "balanced": BalancedReplay(),
    "classifier-ratio": ClassifierRatio(),
    "dynamics-ratio": DynamicsRatio(),
    "ratio-and-return": Gated(ReturnTimesRatio()),
    "residual": Gated(Residual()),
    "contrastive": Gated(Contrastive()),
    "two-sided": TwoSided(),
    "kernel-ratio": TwoSided(pooled=True, powers=POWERS),
    "best-ratio": BestRatio(),
    "kernel-ratio-and-return": WithReturns(),
    "retarget": Retarget(),
    "retarget-logs": Retarget("logs"),
    "return-weighted": ReturnWeighted(),
    "oracle": Oracle(),
    "fresh-share": FreshShare(0.25),
    "half-and-half": FreshShare(0.5),
    "adaptive-share": AdaptiveShare(),
}

__all__ = [
    "OTC",
    "SAMPLERS",
    "AdaptiveShare",
    "BalancedReplay",
    "BestRatio",
    "ClassifierRatio",
    "Contrastive",
    "DrawPlan",
    "DynamicsRatio",
    "EmbeddingDistance",
    "FreshShare",
    "Frozen",
    "Gated",
    "OnlineMatched",
    "Oracle",
    "Planned",
    "Residual",
    "Retarget",
    "ReturnTimesRatio",
    "ReturnWeighted",
    "Rewriting",
    "Sampler",
    "Shuffled",
    "TwoSided",
    "TwoStageDistance",
    "Uniform",
    "ValueDistance",
    "WithReturns",
    "batch_of",
    "draws_by_plan",
    "prefers_rows",
    "rewrites",
    "trains",
]
