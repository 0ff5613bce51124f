"""The catalogue for people: every algorithm and sampler in a line with its source, and which go together."""

from __future__ import annotations

from marline.algorithms import ALGORITHMS, BREMEN
from marline.samplers import OTC, SAMPLERS


def works_with(algorithm: str) -> list[str]:
    """The samplers that an algorithm can be used with: all, unless they compare values and it learns none."""
    valueless = ALGORITHMS[algorithm] is BREMEN
    return [
        name
        for name, sampler in SAMPLERS.items()
        if not (valueless and isinstance(sampler, OTC) and sampler.distance in ("value", "value-literal"))
    ]


ALGORITHM_LINES = {
    "td3-bc": "continuous: TD3 that also imitates the data (Fujimoto & Gu 2021; OTC paper, Figs. 7 and 8)",
    "bcq": "continuous: Q-learning over actions that the data make likely (Fujimoto et al. 2019; OTC paper, Figs. 3-6)",
    "awac": "continuous: imitation weighted by advantage (Nair et al. 2020; OTC paper, Table 1)",
    "cql": "discrete, masked: keeps unseen actions low (Kumar et al. 2020; OTC paper, Fig. 6d)",
    "cql-continuous": "continuous: the same on a soft actor-critic (Kumar et al. 2020)",
    "iql": "continuous: values from logged actions alone (Kostrikov et al. 2021)",
    "bremen": "continuous, no otc-value: small steps in learned models (Matsushima et al. 2021; OTC paper, Fig. 6a, b)",
    "mabcq": "continuous: BCQ with weighted transitions, our reading (Jiang & Lu 2021)",
}
assert ALGORITHM_LINES.keys() == ALGORITHMS.keys()
SAMPLER_LINES = {
    "uniform": "uniform over offline and online rows together (the paper's baseline)",
    "offline-only": "uniform over the offline rows: continued offline training, a reference",
    "online-only": "uniform over the rows of the last deployment (OTC paper, Fig. 5)",
    "otc-value": "OTC with d_q, deviations from one common mean (OTC paper, 3.3; our default)",
    "otc-value-literal": "OTC with d_q, a mean for each side: the paper's formula read literally (3.3)",
    "otc-embedding": "OTC with d_e, one conditional VAE embedding, frozen (OTC paper, 3.5)",
    "otc-two-stage": "OTC matching on (s, a) and comparing s' - s, as defined in 3.2 (ours)",
    "balanced": "Balanced Replay: rows near the current policy's first (Lee et al. 2021; OTC paper, Figs. 5 and 8)",
    "classifier-ratio": "in proportion to estimated P_online(s'|s,a) / P_offline (DARC's ratio as a sampler; ours)",
    "online-matched": "control of an OTC sampler: as many fresh rows, distances ignored (ours)",
}
assert SAMPLER_LINES.keys() == SAMPLERS.keys()
