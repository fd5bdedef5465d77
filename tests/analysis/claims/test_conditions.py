"""Claims as a user writes them: which conditions they mean, what is refused, and the record that they were made."""

import json
from pathlib import Path

import pytest
import yaml

from alignsim.analysis.claims.conditions import claim_conditions, matches, problems_of
from alignsim.analysis.claims.preregistration import CLAIMS, load_preregistration, register
from alignsim.cli.arguments import checked_command_line
from alignsim.config.claims import Claim
from alignsim.config.problems import ConfigurationError
from alignsim.methods.dpo import DPO
from alignsim.runs.train_config import load
from tests.commands import ROOT, TINY, folders, run

CLAIM = {"says": "It is so.", "source": "a test", "predicts": "greater", "condition": {"method": "rlhf"}}
PRESETS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


def claim(**more):
    return Claim(**{**CLAIM, "baseline": {"method": "dpo"}, **more})


def condition(method="rlhf", env="gap", factor=2.0, **more):
    values = {
        "method": method,
        "env": env,
        "env.complexity_factor": factor,
        "model.policy.autoregressive": True,
        **more,
    }
    return {**values, "condition": str(values)}


def test_a_selection_means_conditions_by_their_values():
    assert matches({"method": "rlhf", "env.complexity_factor": 2}, condition())
    assert matches({"env.complexity_factor": [1.0, 2.0]}, condition())
    assert matches({"model.policy.autoregressive": True}, condition())
    assert matches({"model.policy.autoregressive": True}, condition(**{"model.policy.autoregressive": "True"})), (
        "as tables have it"
    )
    assert matches({"x": None}, condition(x=float("nan")))
    assert matches({}, condition())
    assert not matches({"method": "dpo"}, condition())
    assert not matches({"method.rl.steps": 2000}, condition()), "a key that it has not"
    assert not matches({"model.policy.autoregressive": 1}, condition())


def test_the_sides_of_a_claim():
    made = claim(predicts="shrinks", where={"env": "gap"}, elsewhere={"env": "no_gap"})
    assert claim_conditions(made) == {
        "condition": {"env": "gap", "method": "rlhf"},
        "baseline": {"env": "gap", "method": "dpo"},
        "condition elsewhere": {"env": "no_gap", "method": "rlhf"},
        "baseline elsewhere": {"env": "no_gap", "method": "dpo"},
    }
    assert claim_conditions(claim(baseline=None)) == {"condition": {"method": "rlhf"}}


def test_what_does_not_exist_is_named_with_what_does():
    conditions = [condition(), condition("dpo"), condition("dpo", "no_gap", 1.0)]
    problems = problems_of(
        {
            "a": claim(measure="valu"),
            "b": claim(where={"env": "gapp"}),
            "c": claim(where={"env.complexity_facto": 2}),
            "d": claim(predicts="increases", along="env.nothing"),
            "e": claim(where={"env": "no_gap"}),
            "fine": claim(where={"env": "gap"}),
        },
        conditions,
    )
    assert {problem.key for problem in problems} == {
        "claims.a",  # several conditions could be meant
        "claims.a.measure",
        "claims.b",
        "claims.c.where.env.complexity_facto",
        "claims.d.along",
        "claims.e",
    }
    messages = {problem.key: problem.message for problem in reversed(problems)}
    assert "normalized_value, value" in messages["claims.a.measure"]
    assert messages["claims.b"] == (
        "no condition is its condition env=gapp method=rlhf; there are env: gap, no_gap; method: dpo, rlhf"
    )
    assert "did you mean env.complexity_factor?" in messages["claims.c.where.env.complexity_facto"]


def test_what_could_not_be_judged_is_refused_before_training():
    sweep = [condition("dpo", factor=factor) for factor in (1.0, 2.0)]
    sweep += [condition("rlhf", factor=factor, **{"method.rl.steps": 100}) for factor in (1.0, 2.0)]
    messages = {
        name: "; ".join(problem.message for problem in problems_of({name: made}, sweep))
        for name, made in {
            "several": claim(),
            "same": claim(condition={"method": "dpo"}, where={"env.complexity_factor": 1}),
            "short": claim(predicts="increases", along="env.complexity_factor"),
            "text": claim(predicts="increases", along="env", where={"env.complexity_factor": 1}),
            "itself": claim(
                predicts="shrinks",
                where={"env": "gap", "env.complexity_factor": 1},
                elsewhere={"env.complexity_factor": 1},
            ),
            "lacking": claim(predicts="increases", along="method.rl.steps"),
            "fine": claim(where={"env.complexity_factor": 1}),
        }.items()
    }
    assert messages["several"].count("env.complexity_factor") == 2, "of its condition and of its baseline"
    assert "condition and its baseline" in messages["same"]
    assert messages["short"] == "a trend needs at least 3 numbers along env.complexity_factor, there are 1.0, 2.0"
    assert messages["text"].endswith("along env, there are gap")
    assert "condition and its condition elsewhere" in messages["itself"]
    assert "baseline has no method.rl.steps" in messages["lacking"]
    assert messages["fine"] == ""


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"predicts": "bigger"}, "claims.it.predicts=bigger: must be 'greater', 'less', 'equal'"),
        ({"predicts": "equal"}, "needs a `margin` above 0"),
        ({"predicts": "shrinks"}, "`elsewhere` and `predicts: shrinks` belong together"),
        ({"predicts": "shrinks", "elsewhere": {"env": "gap"}}, "it needs a `baseline`"),
        ({"where": {"method": "dpo"}}, "`condition` and `where` both say method"),
        (
            {"predicts": "shrinks", "elsewhere": {}, "baseline": {"method": "dpo"}},
            "`where` and `elsewhere` are the same",
        ),
        ({"predicts": "increases"}, "`along` belongs to"),
        ({"predicts": "increases", "along": "beta", "margin": 0.1}, "a trend has no `margin`"),
        ({"margin": -0.1}, "claims.it.margin=-0.1: must be greater than or equal to 0"),
        ({"marign": 0.1}, "claims.it.marign=0.1: unknown key; did you mean margin?"),
        ({"condition": "rlhf"}, "claims.it.condition=rlhf"),
    ],
)
def test_a_claim_that_is_not_one_is_refused_in_one_line(wrong, text):
    values = {"method": {"_target_": "alignsim.methods.dpo.DPO"}, "claims": {"it": CLAIM | wrong}}
    with pytest.raises(ConfigurationError) as refusal:
        load(values)
    assert text in str(refusal.value)


def test_claims_are_no_part_of_what_a_condition_is():
    values = {"method": {"_target_": "alignsim.methods.dpo.DPO"}}
    with_claims = load({**values, "question": "Is it so?", "claims": {"it": CLAIM}})
    assert with_claims.hash == load(values).hash
    assert load(with_claims.to_plain()) == with_claims


@pytest.mark.parametrize("preset", PRESETS)
def test_the_claims_of_every_preset_are_about_what_it_trains(preset):
    shorter = ["search.num_trials=1"] if preset == "tune" else []
    line = checked_command_line(["-m", f"experiment={preset}", *shorter], "train", load)
    assert {job.config.run.study for job in line.jobs} == {preset}
    claims = line.jobs[0].config.run.claims
    assert claims or preset == "tune", "a search for settings predicts nothing"
    assert line.jobs[0].config.run.question.endswith("?")
    text = (ROOT / "conf" / "experiment" / f"{preset}.yaml").read_text()
    assert f"python scripts/train.py -m experiment={preset}" in text
    assert "on two cores" in text, "how long it takes"


@pytest.mark.parametrize("preset", ["implicit_control", "verifier_control"])
def test_controls_fit_reward_models_as_dpo_fits_its_policy(preset):
    """Only the class of the reward model and what follows from it differ."""
    line = checked_command_line(["-m", f"experiment={preset}"], "train", load)
    methods = [job.config.to_plain()["method"] for job in line.jobs]
    assert {method["_target_"].rpartition(".")[2] for method in methods} >= {"DPO", "RLHF"}
    fits = [method.get("reward_fit") or method["policy_fit"] for method in methods]
    assert all(fit == vars(DPO().policy_fit) for fit in fits)


def test_a_claim_keeps_its_date_and_a_later_one_says_so(tmp_path):
    (message,) = register(tmp_path, "Is it so?", {"a": claim(), "typo": claim(margin=0.2)}, 8, "first")
    assert message.startswith("2 claims")
    assert message.endswith(str(tmp_path / CLAIMS))
    register(tmp_path, "", {"a": claim(), "b": claim(margin=0.2)}, 16, "second")
    early = load_preregistration(tmp_path)
    assert early.question == "Is it so?"
    assert list(early.claims) == ["a", "b"], "before training claims come and go"
    assert all(made.registered_before_training and made.planned_seeds == 16 for made in early.claims.values())
    (tmp_path / "dpo-gap-12345678").mkdir()
    (tmp_path / "dpo-gap-12345678" / "status.json").touch()
    assert register(tmp_path, "", {"a": claim(), "b": claim(margin=0.2)}, 32, "third") == []
    assert load_preregistration(tmp_path) == early, "with more seeds as well"
    messages = register(tmp_path, "Is it not?", {"a": claim(margin=0.1), "c": claim()}, 16, "fourth")
    assert [message.partition(" was ")[0] for message in messages[:2]] == ["claim a", "claim c"]
    assert messages[2].startswith("claim b")
    assert messages[3].endswith("Is it so?")
    late = load_preregistration(tmp_path).claims
    assert {name: made.registered_before_training for name, made in late.items()} == {"a": False, "b": True, "c": False}
    assert late["b"] == early.claims["b"], "none is dropped"
    assert late["a"].earlier_versions == [claim()], "nor what it said"


def test_a_record_with_keys_of_version_0_1_keeps_its_date(tmp_path):
    register(tmp_path, "", {"a": claim()}, 8, "first")
    before = load_preregistration(tmp_path)
    text = (tmp_path / CLAIMS).read_text()
    old = {"registered_at": "registered", "registered_before_training": "before_data", "planned_seeds": "seeds"}
    for new, key in (old | {"earlier_versions": "earlier"}).items():
        text = text.replace(f"    {new}:", f"    {key}:")
    (tmp_path / CLAIMS).write_text(text)
    assert load_preregistration(tmp_path) == before


@pytest.mark.parametrize("content", ["claims: [", "claims: {it: {}}", "- 1", "claims: {it: 3}", "\x00"])
def test_a_damaged_record_is_told_by_name(content, tmp_path):
    (tmp_path / CLAIMS).write_text(content)
    with pytest.raises(ConfigurationError) as refusal:
        load_preregistration(tmp_path)
    assert [problem.key for problem in refusal.value.problems] == [str(tmp_path / CLAIMS)]


def test_a_preset_from_the_command_line_to_verdicts(tmp_path):
    refused = run("train", "experiment=gap_vs_no_gap", cwd=tmp_path, code=2)
    assert "experiment=gap_vs_no_gap: sweeps method, env: it needs -m" in refused
    refused = run(
        "train", "-m", "experiment=gap_vs_no_gap", "claims.they_tie_without_it.where.env=x", cwd=tmp_path, code=2
    )
    assert "there are env: gap, no_gap" in refused
    assert not list(tmp_path.iterdir()), "nothing was run"

    tiny = [*TINY, "method.policy_fit.steps=5", "evaluation.prompts=5"]
    part = run("train", "-m", "experiment=gap_vs_no_gap", "method=dpo", *tiny, cwd=tmp_path)  # a part of it, here
    assert "2 conditions: 2 finished" in part
    assert "claims cannot all be judged from these conditions alone" in part
    assert "3 claims registered" in part
    study = tmp_path / "outputs" / "gap_vs_no_gap"
    assert all(made.registered_before_training for made in load_preregistration(study).claims.values())
    assert "claims" not in yaml.safe_load((folders(study)["dpo-gap"] / "config.yaml").read_text())

    shown = run("plot", "study=gap_vs_no_gap", cwd=tmp_path)
    assert "env=gap method=rlhf" in shown, "what is missing"
    verdicts = json.loads((study / "verdicts.json").read_text())
    assert [claim["verdict"] for claim in verdicts["claims"]] == ["inconclusive"] * 3
    assert verdicts["question"].startswith("Does two-stage RLHF beat DPO")


def test_a_preset_that_is_not_global_is_told_what_it_lacks(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("study: mine\n")
    with pytest.raises(ConfigurationError, match="the first line of a preset must be `# @package _global_`"):
        checked_command_line(["--config-dir", str(tmp_path), "-m", "experiment=mine", "beta=1,2"], "train", load)


def test_a_user_adds_a_claim_by_writing_yaml(tmp_path):
    own = tmp_path / "mine" / "experiment"
    own.mkdir(parents=True)
    (own / "my_question.yaml").write_text(
        """# @package _global_
study: my_question
hydra: {sweeper: {params: {method: dpo, env.n_pairs: "60,120"}}}
claims:
  more_is_better:
    says: More pairs help DPO.
    source: me
    predicts: greater
    condition: {env.n_pairs: 120}
    baseline: {env.n_pairs: 60}
"""
    )
    tiny = [value for value in TINY if not value.startswith("env.n_pairs")]
    many = ["seeds.count=8", "method.policy_fit.steps=2"]
    run("train", "--config-dir", "mine", "-m", "experiment=my_question", *tiny, *many, cwd=tmp_path)
    shown = run("plot", "study=my_question", cwd=tmp_path)
    assert "more_is_better" in shown
    (verdict,) = json.loads((Path(tmp_path) / "outputs" / "my_question" / "verdicts.json").read_text())["claims"]
    assert verdict["seeds"] == 8
    assert verdict["verdict"] in ("supported", "refuted", "inconclusive")
