"""Verdicts follow from numbers alone: from synthetic seeds whose truth is known."""

import json

import numpy as np
import pandas as pd
import pytest

from alignsim.analysis import statistics
from alignsim.analysis.claims.preregistration import Preregistration, RegisteredClaim
from alignsim.analysis.claims.verdicts import judge, verdicts_json
from alignsim.analysis.statistics import FEWEST_SEEDS, LEVEL
from alignsim.analysis.study import Study, name_settings_and_variants
from alignsim.config.claims import Claim
from alignsim.evaluation.measures import MEASURES

COMPARED = {"condition": {"method": "rlhf"}, "baseline": {"method": "dpo"}}
GAP, NO_GAP = {"env": "gap"}, {"env": "no_gap"}


def claim(predicts, **more):
    return Claim(says="It is so.", source="a test", predicts=predicts, **{**COMPARED, **more})


def preregistration(**claims):
    return Preregistration(
        "Is it so?", "train", {name: RegisteredClaim(made, "2026-01-01", True, 16) for name, made in claims.items()}
    )


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
    return {verdict.name: verdict.outcome for verdict in judge(found, preregistration(**claims))}


def differing(difference, n=16, deviation=0.05, seed=0, **more):
    """RLHF differs from DPO by this much with the gap and not at all without it."""
    rng = np.random.default_rng(seed)
    dpo = rng.normal(0.6, 0.1, n)
    return study(
        {
            ("rlhf", "gap", 2.0): dpo + difference + rng.normal(0, deviation, n),
            ("dpo", "gap", 2.0): dpo,
            ("rlhf", "no_gap", 1.0): dpo + rng.normal(0, deviation / 5, n),
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


def test_numbers_support_or_refute_every_kind_of_prediction():
    assert outcome(differing(0.3), **CLAIMS) == {
        "wins": "supported",
        "wins_at_all": "supported",
        "ties": "supported",
        "ties_with_the_gap": "refuted",
        "loses": "refuted",
        "shrinks": "supported",
        "is_small": "refuted",
    }


def test_swapping_the_methods_reverses_directional_verdicts():
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
        preregistration(
            all=claim(predicts, along=along),
            some=claim(predicts, along=along, where={along: [1.0, 2, 3.0]}),
            two=claim(predicts, along=along, where={along: [1.0, 2.0]}),
        ),
    )
    assert verdict.outcome == of_some.outcome == ("supported" if predicts == "increases" else "refuted")
    assert verdict.estimate.mean > 0.8, "the mean rank correlation"
    assert of_two.outcome == "inconclusive"
    assert of_two.seeds == 0, "a trend takes at least 3 numbers"
    assert verdict.notes == ()


def test_a_trend_says_which_of_its_steps_go_the_other_way():
    rng = np.random.default_rng(0)
    dpo = rng.normal(0.6, 0.1, 16)
    numbers = {("dpo", "gap", factor): dpo for factor in (1.0, 2.0, 3.0, 4.0, 5.0)}
    for factor, advantage in ((1.0, 0.0), (2.0, 0.1), (3.0, 0.2), (4.0, 0.4), (5.0, 0.3)):
        numbers["rlhf", "gap", factor] = dpo + advantage + rng.normal(0, 0.01, 16)
    (verdict,) = judge(study(numbers), preregistration(it=claim("increases", along="env.complexity_factor")))
    assert verdict.outcome == "supported", "on the whole"
    (note,) = verdict.notes
    assert "from 4 to 5" in note
    assert "-0.1" in note


def test_few_seeds_are_inconclusive_whatever_the_difference():
    (verdict,) = judge(differing(3.0, n=FEWEST_SEEDS - 1), preregistration(it=claim("greater", where=GAP)))
    assert verdict.outcome == "inconclusive"
    assert verdict.needed == FEWEST_SEEDS
    assert verdict.seeds == FEWEST_SEEDS - 1
    assert outcome(differing(3.0, n=FEWEST_SEEDS), it=claim("greater", where=GAP)) == {"it": "supported"}


def test_an_inconclusive_verdict_says_how_many_seeds_decide():
    found = differing(0.02, deviation=0.1)
    (verdict,) = judge(found, preregistration(it=claim("greater", where=GAP)))
    assert verdict.outcome == "inconclusive"
    n = verdict.needed
    deviation = (verdict.estimate.high - verdict.estimate.low) / 3.92 * 4
    assert statistics.power(abs(verdict.estimate.mean), deviation, n) == pytest.approx(0.8, abs=0.1)
    assert f"{n:,}" in verdict.why


def test_p_values_are_corrected_for_the_number_of_claims():
    found, one = differing(0.04, deviation=0.06), claim("greater", where=GAP)
    (alone,) = judge(found, preregistration(it=one))
    first, *others = judge(found, preregistration(it=one, **{f"other_{i}": claim("less", where=GAP) for i in range(4)}))
    assert first.p == pytest.approx(5 * alone.p)
    assert all(verdict.p == 1 for verdict in others)


def test_a_decisive_p_value_is_named():
    """It may be the p-value of the claim or of its contrary."""
    found = differing(0.03, deviation=0.05)
    made = {name: claim(name, where=GAP) for name in ("greater", "less")}
    greater, less = judge(found, preregistration(**made, **{f"other_{i}": made["greater"] for i in range(9)}))[:2]
    assert (greater.outcome, less.outcome) == ("inconclusive", "inconclusive")
    assert f"p is {greater.p:.2g}" in greater.why
    assert f"p of the contrary is {less.p_against:.2g}" in less.why


def test_a_claim_without_evidence_says_what_is_missing():
    made = {
        "condition": claim("greater", where={"env": "gapp"}),
        "key": claim("greater", where={"env.complexity": 2}),
        "measure": claim("greater", where=GAP, measure="valu"),
        "several": claim("greater"),
    }
    whys = {verdict.name: verdict.why for verdict in judge(differing(0.3), preregistration(**made))}
    assert "env: gap, no_gap" in whys["condition"]
    assert "env.complexity_factor" in whys["key"]
    assert "normalized_value" in whys["measure"]
    assert "env, env.complexity_factor" in whys["several"]


def test_diverged_seeds_are_left_out_of_both_sides_and_counted():
    (verdict,) = judge(differing(0.3, diverged=[3]), preregistration(it=claim("greater", where=GAP)))
    assert (verdict.seeds, verdict.diverged, verdict.outcome) == (15, 1, "supported")
    (verdict,) = judge(differing(0.3, diverged=[3, 4]), preregistration(it=claim("greater", where=GAP)))
    assert (verdict.seeds, verdict.diverged, verdict.outcome) == (14, 2, "inconclusive")
    assert verdict.estimate.low > 0.2, "not for the lack of an effect"


def test_seeds_without_a_partner_are_counted():
    found = differing(0.3)
    lacking = Study("test", found.rows[(found.rows.method == "rlhf") | (found.rows.seed < 12)], [])
    (verdict,) = judge(lacking, preregistration(it=claim("greater", where=GAP)))
    assert (verdict.seeds, verdict.missing) == (12, 4)


def test_an_unfinished_sweep_is_judged_by_what_all_have():
    """Seeds and swept values that some conditions lack are left out, counted and named."""
    rng = np.random.default_rng(0)
    dpo = rng.normal(0.6, 0.1, 16)
    numbers = {("dpo", "gap", factor): dpo for factor in (1.0, 2.0, 3.0)}
    for factor in (1.0, 2.0, 3.0, 4.0):
        numbers["rlhf", "gap", factor] = dpo + 0.1 * factor + rng.normal(0, 0.02, 16)
    numbers["rlhf", "gap", 3.0] = numbers["rlhf", "gap", 3.0][:12]
    (verdict,) = judge(study(numbers), preregistration(it=claim("increases", along="env.complexity_factor")))
    assert (verdict.outcome, verdict.seeds, verdict.diverged, verdict.missing) == ("supported", 12, 0, 4)
    (note,) = verdict.notes
    assert "env.complexity_factor 4" in note


def test_where_every_seed_diverged_it_is_said():
    (verdict,) = judge(differing(0.3, diverged=range(16)), preregistration(it=claim("greater", where=GAP)))
    assert (verdict.outcome, verdict.seeds, verdict.diverged) == ("inconclusive", 0, 16)


def test_more_seeds_than_were_registered_are_said():
    (verdict,) = judge(differing(0.3, n=20), preregistration(it=claim("greater", where=GAP)))
    (note,) = verdict.notes
    assert {"20", "16"} <= set(note.replace(":", "").split())
    assert "optional stopping" in note


def test_one_odd_seed_does_not_undo_a_clear_effect():
    difference = np.array([0.3] * 15 + [0.26]) + np.random.default_rng(0).normal(0, 1e-4, 16)
    dpo = np.full(16, 0.6)
    found = study({("rlhf", "gap", 2.0): dpo + difference, ("dpo", "gap", 2.0): dpo})
    assert outcome(found, it=claim("greater", margin=0.1)) == {"it": "supported"}


def test_float_noise_is_no_trend():
    rng = np.random.default_rng(0)
    numbers = {}
    for factor in (1.0, 2.0, 3.0, 4.0):
        dpo = rng.normal(0.6 - factor / 10, 0.1, 16)
        numbers["dpo", "gap", factor], numbers["rlhf", "gap", factor] = dpo, dpo + 0.1
    (verdict,) = judge(study(numbers), preregistration(it=claim("increases", along="env.complexity_factor")))
    assert (verdict.outcome, verdict.estimate.mean) == ("inconclusive", 0)


def test_verdicts_json_is_strict_json_with_all_that_was_judged():
    found, made = differing(0.3), preregistration(**CLAIMS, missing=claim("greater", where={"env": "nowhere"}))
    content = json.loads(verdicts_json(found, made, judge(found, made)), parse_constant=pytest.fail)
    assert content["study"] == "test"
    assert content["versions"]["results"] == ["2"]
    wins = content["claims"][0]
    assert (wins["name"], wins["verdict"], wins["seeds"], wins["margin"]) == ("wins", "supported", 16, 0.1)
    assert wins["interval"][0] < wins["estimate"] < wins["interval"][1]
    assert wins["p_value"] < LEVEL <= wins["p_value_against"]
    assert wins["source"] == "a test"
    assert wins["registered_before_training"] is True
    assert content["claims"][-1]["estimate"] is None
