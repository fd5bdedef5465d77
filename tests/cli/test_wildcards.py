"""Keys that are patterns, options that are globs, draws that every method gets alike."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from alignsim.cli.arguments import checked_command_line
from alignsim.config.defaults import conf_dir
from alignsim.config.dotted import flatten
from alignsim.config.problems import ConfigurationError
from alignsim.runs.train_config import load

METHODS = {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
RATES = "method.*.learning_rate=tag(log,interval(1e-4,1e-1))"


def line(*arguments):
    return checked_command_line(list(arguments), "train", load)


def load_method(method):
    return line(f"method={method}").jobs[0].config.to_plain()["method"]


def refused(*arguments):
    with pytest.raises(ConfigurationError) as caught:
        line(*arguments)
    return [str(problem) for problem in caught.value.problems]


def jobs(*arguments):
    """What each job sets, by its method."""
    found = defaultdict(list)
    for job in line(*arguments).jobs:
        plain = (override.lstrip("+").split("=", 1) for override in job.overrides)
        found[job.choices["method"]].append({key: value for key, value in plain if key.startswith("method.")})
    return dict(found)


def test_a_star_stands_for_every_stage_of_a_method():
    """A single job takes it too."""
    found = jobs("-m", "method=dpo,rlhf", "method.*.steps=70")
    assert found == {
        "dpo": [{"method.policy_fit.steps": "70"}],
        "rlhf": [{"method.reward_fit.steps": "70", "method.rl.steps": "70"}],
    }
    single = line("method=rlhf", "method.*.steps=70")
    assert single.arguments == ["method=rlhf", "++method.reward_fit.steps=70", "++method.rl.steps=70"]
    assert single.jobs[0].config.method.rl.steps == 70


def test_every_combination_of_values_is_a_job():
    """A key that is set by itself keeps its value."""
    found = jobs("-m", "method=rlhf", "method.*.steps=70,80")["rlhf"]
    assert len(found) == 4
    found = jobs("-m", "method=rlhf", "method.*.steps=70,80", "method.rl.steps=5")["rlhf"]
    assert [job["method.reward_fit.steps"] for job in found] == ["70", "80"]
    assert {job["method.rl.steps"] for job in found} == {"5"}


def test_every_method_gets_the_same_draws_of_a_key():
    found = jobs("-m", "method=dpo,ipo", RATES, "search.num_trials=6")
    rates = {method: [job["method.policy_fit.learning_rate"] for job in members] for method, members in found.items()}
    assert rates["dpo"] == rates["ipo"]
    assert len(set(rates["dpo"])) == 6
    reward, rl = (
        [
            job[f"method.{stage}.learning_rate"]
            for job in jobs("-m", "method=rlhf", RATES, "search.num_trials=6")["rlhf"]
        ]
        for stage in ("reward_fit", "rl")
    )
    assert reward != rl, "each stage has its own draws"


def test_the_first_trial_may_be_the_defaults():
    found = jobs("-m", "method=dpo", RATES, "search.num_trials=3", "search.include_defaults=true")["dpo"]
    assert [len(job) for job in found] == [0, 1, 1]
    assert found[1:] == jobs("-m", "method=dpo", RATES, "search.num_trials=3")["dpo"][1:]


def test_a_question_mark_is_for_methods_that_have_the_key():
    found = jobs("-m", "method=dpo,rlhf", "method.beta?=0.1,0.2")
    assert found == {"dpo": [{"method.beta": "0.1"}, {"method.beta": "0.2"}], "rlhf": [{}]}


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["-m", "method=dpo,rlhf", "method.rl.*rate=1"], "method.rl.*rate=1"),
        (["method=rlhf", "method.*.stepz=1"], "method.*.stepz=1"),
        (["-m", "method=dpo,rlhf", "method.bta?=1"], "method.bta?=1"),
        (["method=dpo", "method.*.steps=-1"], "method.policy_fit.steps=-1"),
        (["-m", "method=dpo", RATES], RATES),
        (["method=dpo", RATES], RATES),
        (["+method.*.steps=1"], "method.*.steps=1"),
        (["seeds.*=3"], "seeds.*=3"),
        (["env.?=3"], "env.?=3"),
        (["-m", "method=glob(no_*)"], "method=glob(no_*)"),
        (["-m", "beta=glob(*)"], "beta=glob(*)"),
    ],
)  # fmt: skip
def test_what_stands_for_nothing_is_refused_as_typed(arguments, key):
    (problem,) = refused(*arguments)
    assert problem.startswith(f"{key}: ")


def test_a_glob_means_every_file_of_a_group(tmp_path):
    """Those of a user's folder too."""
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "my_dpo.yaml").write_text("_target_: alignsim.methods.dpo.DPO\n")
    own = ["--config-dir", str(tmp_path)]
    found = line("-m", *own, "method=glob(*)")
    assert {job.choices["method"] for job in found.jobs} == METHODS | {"my_dpo"}
    assert not any(argument.startswith("method=glob") for argument in found.arguments)
    some = jobs("-m", *own, "method=glob(*dpo,exclude=robust*)", "method.*.steps=7")
    assert "my_dpo" in some
    assert "robust_dpo" not in some
    assert some["my_dpo"] == [{"method.policy_fit.steps": "7"}], "what its file leaves out counts too"


def test_other_sweepers_get_keys_instead_of_patterns():
    search = ["-m", "experiment=tune", "hydra/sweeper=optuna_search", "env=gap"]
    try:
        found = line(*search, "method=rlhf")
    except ConfigurationError as refusal:
        pytest.skip(str(refusal))
    assert "hydra.sweeper.params=null" in found.arguments
    rates = "learning_rate=tag(log, interval(3e-4, 1e-2))"
    assert {f"method.reward_fit.{rates}", f"method.rl.{rates}"} <= set(found.arguments)
    assert not any("__" in argument or "*" in argument for argument in found.arguments)
    assert found.arguments == line(*search, "method=rlhf").arguments
    assert any(problem.startswith("method.*.steps=") for problem in refused(*search, "method=dpo,rlhf"))


def test_draws_can_be_written_down():
    def value(interval):
        (override,) = line("-m", f"beta={interval}", "search.num_trials=1").jobs[0].overrides[:1]
        return override.partition("=")[2]

    assert len(value("tag(log,interval(0.01,1))").lstrip("0.")) <= 3
    assert 1000.1 <= float(value("interval(1000.1,1000.2)")) <= 1000.2


def test_tuning_gives_every_method_the_same_number_of_trials():
    draws = 2
    found = line("-m", "experiment=tune", f"search.num_trials={draws}").jobs
    trials = Counter(job.choices["method"] for job in found)
    assert set(trials) == METHODS
    assert set(trials.values()) == {2 * draws}, "in two environments"
    assert all(job.config.run.seeds == found[0].config.run.seeds for job in found)


def test_tuning_draws_the_trials_that_were_chosen():
    """The settings in conf/method are one of the trials of experiment=tune, whatever the keys were called then."""
    trials = jobs("-m", "experiment=tune", "method=dpo,distilled_dpo", "env=gap")
    for method, found in trials.items():
        settings = flatten({"method": load_method(method)})
        assert any(all(settings[key] == float(value) for key, value in job.items()) for job in found if job), method


@pytest.mark.parametrize("preset", sorted({p.stem for p in (conf_dir() / "experiment").glob("*.yaml")} - {"tune"}))
def test_no_result_is_on_seeds_of_the_tuning(preset):
    tuned = set(line("-m", "experiment=tune", "method=dpo").jobs[0].config.run.seeds.all)
    for seeds in sorted(path.stem for path in Path(conf_dir() / "seeds").glob("*.yaml")):
        for job in line("-m", f"experiment={preset}", f"seeds={seeds}", "method=rlhf").jobs:
            assert not tuned & set(job.config.run.seeds.all)
