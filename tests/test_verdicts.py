"""Verdicts follow from numbers alone: from synthetic seeds whose truth is known."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alignsim import statistics
from alignsim.claims import Registered, Registry
from alignsim.config.claims import Claim
from alignsim.evaluation.measures import MEASURES
from alignsim.statistics import LEVEL
from alignsim.study import Study, name_settings_and_variants
from alignsim.verdicts import FEWEST_SEEDS, judge, verdicts_text

COMPARED = {"condition": {"method": "rlhf"}, "baseline": {"method": "dpo"}}
GAP, NO_GAP = {"env": "gap"}, {"env": "no_gap"}


def claim(predicts, **more):
    return Claim(says="It is so.", source="a test", predicts=predicts, **{**COMPARED, **more})


def registry(**claims):
    return Registry("Is it so?", "train", {name: Registered(made, "2026-01-01", True) for name, made in claims.items()})


def study(values, diverged=()):
    """A study of conditions (method, env, factor), each with a number for each seed."""
    tables = []
    for (method, env, factor), numbers in values.items():
        table = pd.DataFrame({"method": method, "env": env, "seed": range(len(numbers))})
        table = table.assign(**dict.fromkeys(MEASURES, numbers), code="2", condition=f"{method} {factor} {env}")
        tables.append(table.assign(**{"env.complexity_factor": factor}))
    rows = name_settings_and_variants(pd.concat(tables, ignore_index=True))
    bad = rows.seed.isin(diverged) & (rows.method == "rlhf")
    return Study("test", rows[~bad], [], rows[bad])


def outcome(found, **claims):
    return {verdict.name: verdict.outcome for verdict in judge(found, registry(**claims))}


def differing(difference, n=16, spread=0.05, seed=0, **more):
    """RLHF differs from DPO by this much with the gap and not at all without it."""
    rng = np.random.default_rng(seed)
    dpo = rng.normal(0.6, 0.1, n)
    return study(
        {
            ("rlhf", "gap", 2.0): dpo + difference + rng.normal(0, spread, n),
            ("dpo", "gap", 2.0): dpo,
            ("rlhf", "no_gap", 1.0): dpo + rng.normal(0, spread / 5, n),
            ("dpo", "no_gap", 1.0): dpo,
        },
        **more,
    )


def swapped(found):
    """The same results with the names of the methods exchanged."""
    rows = found.rows.assign(method=found.rows.method.map({"rlhf": "dpo", "dpo": "rlhf"}))
    rows["condition"] = rows.method + rows["env"]
    return Study("swapped", name_settings_and_variants(rows.drop(columns=["setting", "variant"])), [])


CLAIMS = {
    "wins": claim("greater", where=GAP, margin=0.1),
    "wins_at_all": claim("greater", where=GAP),
    "ties": claim("equal", where=NO_GAP, margin=0.05),
    "ties_with_the_gap": claim("equal", where=GAP, margin=0.05),
    "loses": claim("less", where=GAP, margin=0.1),
    "shrinks": claim("shrinks", where=GAP, elsewhere=NO_GAP),
    "is_small": claim("less", condition={"method": "dpo"}, baseline=None, where=GAP, margin=0.1),
}


def test_every_prediction_is_supported_or_refuted_by_the_numbers():
    assert outcome(differing(0.3), **CLAIMS) == {
        "wins": "supported",
        "wins_at_all": "supported",
        "ties": "supported",
        "ties_with_the_gap": "refuted",
        "loses": "refuted",
        "shrinks": "supported",
        "is_small": "refuted",
    }


def test_with_the_methods_swapped_every_directional_verdict_turns_over():
    before, after = outcome(differing(0.3), **CLAIMS), outcome(swapped(differing(0.3)), **CLAIMS)
    turned = {"supported": "refuted", "refuted": "supported"}
    for name in ("wins", "wins_at_all", "loses", "shrinks"):
        assert after[name] == turned[before[name]]
    for name in ("ties", "ties_with_the_gap"):  # a tie is a tie whoever is named first
        assert after[name] == before[name]


@pytest.mark.parametrize("predicts", ["increases", "decreases"])
def test_a_trend_along_a_swept_value(predicts):
    rng = np.random.default_rng(0)
    dpo = rng.normal(0.6, 0.1, 16)
    numbers = {}
    for factor in (1.0, 2.0, 3.0, 4.0):
        numbers["dpo", "gap", factor] = dpo
        numbers["rlhf", "gap", factor] = dpo + 0.1 * factor + rng.normal(0, 0.05, 16)
    along = "env.complexity_factor"
    verdict, of_some, of_two = judge(
        study(numbers),
        registry(
            all=claim(predicts, along=along),
            some=claim(predicts, along=along, where={along: [1.0, 2, 3.0]}),
            two=claim(predicts, along=along, where={along: [1.0, 2.0]}),
        ),
    )
    assert verdict.outcome == of_some.outcome == ("supported" if predicts == "increases" else "refuted")
    assert verdict.estimate.mean > 0.8, "the mean rank correlation"
    assert of_two.outcome == "inconclusive"
    assert "at least 3 values" in of_two.why


def test_too_few_seeds_are_inconclusive_however_large_the_difference():
    (verdict,) = judge(differing(3.0, n=FEWEST_SEEDS - 1), registry(it=claim("greater", where=GAP)))
    assert verdict.outcome == "inconclusive"
    assert verdict.needed == FEWEST_SEEDS
    assert "7 seeds are too few" in verdict.why
    assert outcome(differing(3.0, n=FEWEST_SEEDS), it=claim("greater", where=GAP)) == {"it": "supported"}


def test_an_inconclusive_verdict_says_about_how_many_seeds_it_takes():
    found = differing(0.02, spread=0.1)
    (verdict,) = judge(found, registry(it=claim("greater", where=GAP)))
    assert verdict.outcome == "inconclusive"
    n = verdict.needed
    spread = (verdict.estimate.high - verdict.estimate.low) / 3.92 * 4
    assert statistics.power(abs(verdict.estimate.mean), spread, n) == pytest.approx(0.8, abs=0.1)
    assert f"about {n:,} seeds" in verdict.why


def test_p_values_are_corrected_for_the_number_of_claims():
    found, one = differing(0.04, spread=0.06), claim("greater", where=GAP)
    (alone,) = judge(found, registry(it=one))
    first, *others = judge(found, registry(it=one, **{f"other_{i}": claim("less", where=GAP) for i in range(4)}))
    assert first.p == pytest.approx(5 * alone.p)
    assert all(verdict.p == 1 for verdict in others)


def test_a_claim_without_evidence_says_what_is_missing():
    made = {
        "condition": claim("greater", where={"env": "gapp"}),
        "key": claim("greater", where={"env.complexity": 2}),
        "measure": claim("greater", where=GAP, measure="valu"),
        "several": claim("greater"),
    }
    whys = {verdict.name: verdict.why for verdict in judge(differing(0.3), registry(**made))}
    assert "there are env: gap, no_gap" in whys["condition"]
    assert "did you mean env.complexity_factor?" in whys["key"]
    assert "must be one of normalized_value" in whys["measure"]
    assert "2 conditions could be its condition: say which env" in whys["several"]


def test_diverged_seeds_are_left_out_of_both_sides_and_counted():
    (verdict,) = judge(differing(0.3, diverged=[3, 4]), registry(it=claim("greater", where=GAP)))
    assert (verdict.seeds, verdict.diverged, verdict.outcome) == (14, 2, "supported")


def test_verdicts_json_is_strict_json_with_all_that_was_judged():
    found, made = differing(0.3), registry(**CLAIMS, missing=claim("greater", where={"env": "nowhere"}))
    content = json.loads(verdicts_text(found, made, judge(found, made)), parse_constant=pytest.fail)
    assert content["study"] == "test"
    assert content["versions"]["results"] == ["2"]
    wins = content["claims"][0]
    assert (wins["name"], wins["verdict"], wins["seeds"], wins["margin"]) == ("wins", "supported", 16, 0.1)
    assert wins["interval"][0] < wins["estimate"] < wins["interval"][1]
    assert wins["p_value"] < LEVEL <= wins["p_value_against"]
    assert wins["source"] == "a test"
    assert wins["made_before_the_data"] is True
    assert content["claims"][-1]["estimate"] is None


NOISE = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy-tailed": lambda rng, n: rng.standard_t(3, n) / np.sqrt(3),
    "skewed to the right": lambda rng, n: rng.exponential(size=n) - 1,
    "skewed to the left": lambda rng, n: 1 - rng.exponential(size=n),
}


def outcomes(noise, made, times, mean=0.0, n=16):
    """How often each verdict is given to a claim when the differences have this mean and standard deviation 0.1."""
    rng, counts = np.random.default_rng(0), {"supported": 0, "refuted": 0, "inconclusive": 0}
    for _ in range(times):
        dpo, pattern = rng.normal(0.6, 0.1, n), np.array([[0.0], [1.0]])
        noises = [0.1 * NOISE[noise](rng, n) for _ in pattern]
        found = study(
            {
                ("rlhf", "gap", 2.0): dpo + mean + noises[0],
                ("dpo", "gap", 2.0): dpo,
                ("rlhf", "no_gap", 1.0): dpo,
                ("dpo", "no_gap", 1.0): dpo,
            }
        )
        (verdict,) = judge(found, registry(it=made))
        counts[verdict.outcome] += 1
    return counts


def at_most(share, times):
    """The most that a binomial with this share gives in 199 of 200 cases."""
    return stats.binom.ppf(0.995, times, share)


KINDS = {
    "greater": (claim("greater", where=GAP), 0.0),
    "greater by a margin": (claim("greater", where=GAP, margin=0.1), 0.1),
    "less": (claim("less", where=GAP), 0.0),
    "equal": (claim("equal", where=GAP, margin=0.1), 0.1),
    "shrinks": (claim("shrinks", where=GAP, elsewhere=NO_GAP), 0.0),
}


def _is_calibrated(noise, kind, times):
    made, null = KINDS[kind]
    found = outcomes(noise, made, times, mean=null)
    assert found["supported"] <= at_most(0.05, times), "as often as the level allows, on the edge of what is predicted"
    assert found["refuted"] <= at_most(0.05, times), "nor is what is just true refuted more often"


@pytest.mark.parametrize("kind", KINDS)
def test_false_verdicts_are_as_rare_as_the_level_says(kind):
    _is_calibrated("normal", kind, 60)


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("kind", KINDS)
def test_false_verdicts_are_rare_for_any_seeds(noise, kind):
    _is_calibrated(noise, kind, 500)


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISE)
def test_a_difference_inside_the_margin_is_hardly_ever_called_one(noise):
    found = outcomes(noise, claim("equal", where=GAP, margin=0.1), 400, mean=0.05)
    assert found["refuted"] <= at_most(0.01, 400)


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.1, 0.15, 0.2])
def test_an_effect_is_found_with_the_power_of_students_test(effect):
    """The margin is 0.05, seeds have a standard deviation of 0.1: theory says 47, 96 and 99.99 %."""
    found = outcomes("normal", claim("greater", where=GAP, margin=0.05), 600, mean=effect)
    theory = statistics.power(effect - 0.05, 0.1, 16)
    error = 2.6 * np.sqrt(theory * (1 - theory) / 600)
    assert theory - error - 0.05 <= found["supported"] / 600 <= theory + error, (
        "the bootstrap is a little more cautious"
    )


@pytest.mark.slow
def test_of_many_claims_without_an_effect_hardly_a_study_supports_one():
    """Holm: any false support at all among six independent claims is as rare as one false claim."""
    rng, wrong = np.random.default_rng(0), 0
    factors = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0]
    made = {f"at_{i}": claim("greater", where={"env.complexity_factor": f}) for i, f in enumerate(factors)}
    for _ in range(200):
        dpo = rng.normal(0.6, 0.1, 16)
        numbers = {("dpo", "gap", f): dpo for f in factors}
        numbers |= {("rlhf", "gap", f): dpo + rng.normal(0, 0.1, 16) for f in factors}
        wrong += "supported" in outcome(study(numbers), **made).values()
    assert wrong <= at_most(0.05, 200)


@pytest.mark.slow
def test_a_trend_without_one_is_rarely_found():
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        dpo = rng.normal(0.6, 0.1, 16)
        numbers = {("dpo", "gap", f): dpo for f in (1.0, 2.0, 3.0, 4.0)}
        numbers |= {("rlhf", "gap", f): dpo + rng.exponential(0.1, 16) for f in (1.0, 2.0, 3.0, 4.0)}
        wrong += outcome(study(numbers), it=claim("increases", along="env.complexity_factor"))["it"] == "supported"
    assert wrong <= at_most(0.05, 400)
