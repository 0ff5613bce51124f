"""Samplers as people write them: variants, options, controls; and back to what they wrote."""

from __future__ import annotations

import pytest

from marline.algorithms import BCQ, IQL
from marline.configuration.selection import CONTROLS, select_algorithm, select_samplers, write_sampler
from marline.errors import ConfigError
from marline.samplers import (
    OTC,
    SAMPLERS,
    BalancedReplay,
    EmbeddingDistance,
    FreshShare,
    OnlineMatched,
    Sampler,
    Shuffled,
    TwoStageDistance,
    Uniform,
    prefers_rows,
)


def test_algorithms_by_name_for_all_or_for_each_agent() -> None:
    assert select_algorithm(("iql",), ("left", "right")) == IQL()
    assert select_algorithm(("right=bcq", "left=iql"), ("left", "right")) == {"left": IQL(), "right": BCQ()}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("bqc",), "did you mean 'bcq'"),
        (("left=bcq",), "no algorithm for right"),
        (("left=bcq", "left=iql"), "'left' twice"),
        (("left=bcq", "rihgt=iql"), "did you mean 'right'"),
        (("bcq", "iql"), "one algorithm for all agents, or AGENT=NAME for each"),
    ],
)
def test_algorithms_that_nobody_can_tell_apart_are_refused(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        select_algorithm(names, ("left", "right"))


def test_several_variants_of_one_sampler_stand_in_one_run() -> None:
    samplers, matches = select_samplers(("uniform", "fixed=otc-value(alpha=1, adaptive=false)", "otc-value"))
    assert samplers == {
        "uniform": Uniform(),
        "fixed": OTC("value", alpha=1.0, adaptive=False),
        "otc-value": OTC("value"),
    }
    assert matches == {}


def test_a_variant_without_a_name_is_called_after_its_options() -> None:
    samplers, _ = select_samplers(("otc-value(alpha=2)", "uniform(rows=offline)", "otc-embedding(hidden=(8, 4))"))
    assert samplers == {
        "otc-value-alpha-2": OTC("value", alpha=2.0),
        "uniform-rows-offline": Uniform("offline"),
        "otc-embedding-hidden-8-4": OTC(EmbeddingDistance(hidden=(8, 4))),
    }


def test_shared_options_reach_all_that_have_them_and_yield_to_its_own() -> None:
    samplers, _ = select_samplers(
        ("otc-value(alpha=3)", "two=otc-two-stage(compare=next)", "balanced", "uniform", "shuffled", "online-matched"),
        options={"alpha": 2, "batch_size": 32},
    )
    assert samplers["otc-value-alpha-3"] == OTC("value", alpha=3.0, batch_size=32)
    assert samplers["two"] == OTC(TwoStageDistance(compare="next"), alpha=2.0, batch_size=32)
    assert samplers["balanced"] == BalancedReplay(batch_size=32)
    assert samplers["uniform"] == Uniform(batch_size=32), "samplers are compared on batches of one size"
    assert samplers["online-matched-two"] == OnlineMatched(batch_size=32)
    assert samplers["shuffled-two"] == Shuffled(samplers["two"])


def test_controls_follow_what_they_are_the_controls_of() -> None:
    samplers, matches = select_samplers(
        ("online-matched", "otc-two-stage", "uniform", "shuffled", "balanced", "uniform")
    )
    assert list(samplers) == [
        "otc-two-stage",
        "shuffled-otc-two-stage",
        "online-matched-otc-two-stage",
        "uniform",
        "balanced",
        "shuffled-balanced",
        "online-matched-balanced",
    ]
    assert matches["online-matched-balanced"] == matches["shuffled-balanced"] == "balanced"


def test_a_control_of_one_sampler_alone_and_of_what_a_run_has_already() -> None:
    samplers, matches = select_samplers(("otc-value", "otc-two-stage", "shuffled(otc-value)"))
    assert matches == {"shuffled-otc-value": "otc-value"} and len(samplers) == 3
    samplers, matches = select_samplers(("shuffled",), present={"mine": OTC("value"), "uniform": Uniform()})
    assert samplers == {"shuffled-mine": Shuffled(OTC("value"))} and matches == {"shuffled-mine": "mine"}


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (("uniform", "online-matched"), "none is named; add one of otc-value"),
        (("uniform", "shuffled"), "none is named; add one of otc-value"),
        (("otc-value", "uniform", "shuffled(uniform)"), "uniform prefers no rows"),
        (("retarget", "uniform", "shuffled(retarget)"), "rewrites them; compare it with retarget-logs"),
        (("otc-value", "shuffled(otc-vlaue)"), "did you mean 'otc-value'"),
        (("otc-vlaue",), "did you mean 'otc-value'"),
        (("otc-value(alhpa=1)",), "did you mean 'alpha'"),
        (("otc-value(alpha)",), "give every option a value"),
        (("otc-value(alpha=1, alpha=2)",), "sets an option twice"),
        (("otc-value(alpha=much)",), "must be a finite number"),
        (("otc-value(alpha=1",), "is not NAME"),
        (("otc-value(alpha=1))",), "is not NAME"),
        (("otc-value(alpha=1](",), "is not NAME"),
        (("=otc-value",), "is not NAME"),
        (("shuffled(otc-value)",), "no sampler 'otc-value' to control for"),
        (("a=otc-value", "a=uniform"), "names 'a' twice"),
        (("mine=shuffled", "otc-value"), "a control is named after its sampler"),
        (("otc-value", "shuffled-otc-value=uniform", "shuffled"), "two samplers would be called 'shuffled-otc-value'"),
    ],
)
def test_what_cannot_be_meant_is_refused(texts: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        select_samplers(texts)


@pytest.mark.parametrize(
    ("named", "told"),
    [({"a": "b=uniform"}, "one name is enough"), ({"a": "shuffled", "b": "otc-value"}, "named after its sampler")],
)
def test_a_name_given_is_never_lost_to_another(named: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        select_samplers(named)


def test_shared_options_that_nobody_takes_are_refused() -> None:
    with pytest.raises(ConfigError, match="none is named"):
        select_samplers(("uniform",), options={"alpha": 2})
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        select_samplers(("otc-value",), options={"alhpa": 2})


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind not in CONTROLS])
def test_every_sampler_is_written_as_it_is_read(kind: str) -> None:
    (name, sampler), *_ = select_samplers((kind,), hidden=(64, 32)).samplers.items()
    assert write_sampler(name, sampler, (64, 32)) == kind


@pytest.mark.parametrize(
    "text",
    [
        "fixed=otc-value(alpha=2.0, adaptive=false)",
        "e=otc-embedding(kl_weight=0.25)",
        "wide=otc-embedding(hidden=(8, 8))",
        "t=otc-two-stage(compare=next)",
        "small=uniform(batch_size=7)",
    ],
)
def test_variants_are_written_as_they_are_read(text: str) -> None:
    ((name, sampler),) = select_samplers((text,), hidden=(64, 32)).samplers.items()
    assert write_sampler(name, sampler, (64, 32)) == text


def test_samplers_of_ones_own_cannot_be_written() -> None:
    class Mine(Uniform):
        pass

    with pytest.raises(ConfigError, match="no sampler that a command names"):
        write_sampler("mine", Mine(), (8,))


def test_what_prefers_rows_has_controls() -> None:
    samplers: dict[str, Sampler] = dict(SAMPLERS)
    assert [name for name, sampler in samplers.items() if not prefers_rows(sampler)] == [
        "uniform",
        "offline-only",
        "online-only",
        "frozen",
        "online-matched",
        "retarget",
        "retarget-logs",
        "fresh-share",
        "half-and-half",
        "adaptive-share",
    ]


def test_five_shares_are_five_samplers() -> None:
    chosen = select_samplers(("uniform", "five-shares"), options={"batch_size": 16}).samplers
    shares = [0.05, 0.1, 0.25, 0.5, 0.75]
    assert list(chosen) == ["uniform", *(f"fresh-share-{share}" for share in shares)]
    assert list(chosen.values())[1:] == [FreshShare(share, batch_size=16) for share in shares]
    for wrong in ("x=five-shares", "five-shares(share=1)"):
        with pytest.raises(ConfigError, match="stands for several samplers; write five-shares alone, or one of fresh"):
            select_samplers((wrong,))
