"""The catalogue for people: every algorithm and sampler in a line with its source, and which go together."""

from __future__ import annotations

from marline.algorithms import ALGORITHMS, BREMEN
from marline.configuration.selection import CONTROLS, GROUPS
from marline.display.words import plural
from marline.envs import Task
from marline.envs.facts import FACTS
from marline.samplers import OTC, SAMPLERS


def works_with(algorithm: str) -> list[str]:
    """The samplers that an algorithm can be used with: all, unless they compare values and it learns none."""
    valueless = ALGORITHMS[algorithm] is BREMEN
    unfit = [
        name
        for name, sampler in SAMPLERS.items()
        if valueless and isinstance(sampler, OTC) and sampler.distance in ("value", "value-literal", "value-paper")
    ]
    return [name for name in SAMPLER_LINES if name not in unfit]


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
    "frozen": "no update at all: a reference, by itself where the world drifts (ours)",
    "otc-value": "OTC with d_q, deviations from one common mean (OTC paper, 3.3)",
    "otc-value-literal": "OTC with d_q, a mean for each side, as the paper's formula has; the rest as otc-value (3.3)",
    "otc-embedding": "OTC with d_e, one conditional VAE embedding, frozen (OTC paper, 3.5)",
    "otc-two-stage": "OTC matching on (s, a) and comparing s' - s, as defined in 3.2 (ours)",
    "otc-value-paper": "OTC with d_q to the letter: V / E V of each side, no floor, Eq. 4 as written, no clip",
    "otc-embedding-paper": "OTC with d_e to the letter: Eq. 4 from one deployment to the next, no clip (OTC paper)",
    "otc-value-refresh": "otc-value, matched every 1000 updates instead of at each: much cheaper (ours)",
    "otc-embedding-refresh": "otc-embedding, matched every 1000 updates (ours)",
    "otc-two-stage-refresh": "otc-two-stage, matched every 1000 updates (ours)",
    "balanced": "Balanced Replay: rows near the current policy's first (Lee et al. 2021; OTC paper, Figs. 5 and 8)",
    "classifier-ratio": "in proportion to estimated P_online(s'|s,a) / P_offline (DARC's ratio as a sampler; ours)",
    "dynamics-ratio": "offline rows by learned P_today(s', r|s, a) / P_logs, where a test finds that it changed (ours)",
    "ratio-and-return": "product of the weights of dynamics-ratio and return-weighted, gated as the former (ours)",
    "residual": "offline rows by how well a model of today foretells them, under the gate of dynamics-ratio (ours)",
    "contrastive": "offline rows by IGDF's score (Wen et al. 2024), under the gate of dynamics-ratio",
    "two-sided": "offline rows by estimated P_today(s',r|s,a) / P_logs, by kernels: for few dimensions (ours)",
    "kernel-ratio": "two-sided, over all of today's rows too, as far as it helps: the default (ours)",
    "best-ratio": "dynamics-ratio or kernel-ratio: whichever foretells held-out episodes of today better (ours)",
    "kernel-ratio-and-return": "return-weighted, times kernel-ratio's weights where these say that they help (ours)",
    "retarget": "uniform, but s' and r of offline rows as today's law foretells them, gated as dynamics-ratio (ours)",
    "retarget-logs": "control of retarget, which shuffled is not: the same by the law of the logs (ours)",
    "return-weighted": "offline rows by the return of their episode (after Hong et al. 2023): the rival of correction",
    "oracle": "reference: offline rows by what partners truly did and would do today, which no agent can know (ours)",
    "fresh-share": "a quarter of each batch, or another share, of rows logged online (ours)",
    "half-and-half": "half of each batch of rows logged online (RLPD, Ball et al. 2023)",
    "five-shares": "fresh-share with 0.05, 0.1, 0.25, 0.5 and 0.75: what the best share in hindsight is among (ours)",
    "adaptive-share": "the smallest share of rows logged online that held-out TD errors ask for, per agent (ours)",
    "shuffled": "control of every sampler that prefers rows: draws as it does, but random rows of each source (ours)",
    "online-matched": "control for freshness alone: as many fresh rows, all of a source equally likely (ours)",
}
assert SAMPLER_LINES.keys() == {*SAMPLERS, *CONTROLS, *GROUPS}


def describe_task(task: Task) -> dict[str, str]:
    """A task of the catalogue for people: name of each fact, and the fact."""
    facts = FACTS[type(task)]
    sizes = {}
    for agent, spec in task.specs.items():
        acts = f"{spec.action_size} choices" if spec.discrete else f"{spec.action_size} in [-1, 1]"
        sizes.setdefault(f"sees {plural(spec.observation_size, 'number')}, acts by {acts}", []).append(agent)
    spaces = "; ".join(f"each {what}" if len(sizes) == 1 else f"{', '.join(who)} {what}" for what, who in sizes.items())
    return {
        "what": task.description,
        "agents": f"{len(task.agents)}: {spaces}",
        "horizon": plural(task.horizon, "step"),
        "reward": facts.reward,
        "source": facts.source,
        "our decisions": facts.ours,
        "needs": facts.needs,
    }
