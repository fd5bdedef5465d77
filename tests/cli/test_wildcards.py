"""Keys that are patterns, options that are globs, draws that every method gets alike."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from alignsim.cli.arguments import checked_command_line
from alignsim.config.defaults import conf_dir
from alignsim.config.problems import ConfigurationError
from alignsim.runs.train_config import load

METHODS = {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
RATES = "method.*.learning_rate=tag(log,interval(1e-4,1e-1))"


def line(*arguments):
    return checked_command_line(list(arguments), "train", load)


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


def test_a_star_stands_for_every_stage_that_a_method_has_and_a_single_job_takes_it_too():
    found = jobs("-m", "method=dpo,rlhf", "method.*.steps=70")
    assert found == {
        "dpo": [{"method.policy_fit.steps": "70"}],
        "rlhf": [{"method.policy_fit.steps": "70", "method.rl.steps": "70"}],
    }
    single = line("method=rlhf", "method.*.steps=70")
    assert single.arguments == ["method=rlhf", "++method.policy_fit.steps=70", "++method.rl.steps=70"]
    assert single.jobs[0].config.method.rl.steps == 70


def test_every_combination_of_several_values_is_a_job_and_a_key_that_is_set_by_itself_keeps_its_value():
    found = jobs("-m", "method=rlhf", "method.*.steps=70,80")["rlhf"]
    assert len(found) == 4
    found = jobs("-m", "method=rlhf", "method.*.steps=70,80", "method.rl.steps=5")["rlhf"]
    assert [job["method.policy_fit.steps"] for job in found] == ["70", "80"]
    assert {job["method.rl.steps"] for job in found} == {"5"}


def test_every_method_gets_as_many_draws_and_the_same_ones_of_the_same_key():
    found = jobs("-m", "method=dpo,rlhf", RATES, "search.num_trials=6")
    rates = {method: [job["method.policy_fit.learning_rate"] for job in members] for method, members in found.items()}
    assert rates["dpo"] == rates["rlhf"]
    assert len(set(rates["dpo"])) == 6
    assert rates["rlhf"] != [job["method.rl.learning_rate"] for job in found["rlhf"]], "each stage has its own draws"


def test_the_first_trial_may_be_the_defaults():
    found = jobs("-m", "method=dpo", RATES, "search.num_trials=3", "search.include_defaults=true")["dpo"]
    assert [len(job) for job in found] == [0, 1, 1]
    assert found[1:] == jobs("-m", "method=dpo", RATES, "search.num_trials=3")["dpo"][1:]


def test_a_key_with_a_question_mark_is_for_the_methods_that_have_it():
    found = jobs("-m", "method=dpo,rlhf", "method.beta?=0.1,0.2")
    assert found == {"dpo": [{"method.beta": "0.1"}, {"method.beta": "0.2"}], "rlhf": [{}]}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-m", "method=dpo,rlhf", "method.rl.*rate=1"], "method.rl.*rate=1: stands for no key of a job with"),
        (["method=rlhf", "method.*.stepz=1"], "method.*.stepz=1: stands for no key of a job with method=rlhf"),
        (["-m", "method=dpo,rlhf", "method.bta?=1"], "method.bta?=1: stands for no key; similar: method.beta"),
        (["method=dpo", "method.*.steps=-1"], "method.policy_fit.steps=-1: must be greater than 0"),
        (["-m", "method=dpo", RATES], "method.*.learning_rate=tag(log,interval(1e-4,1e-1)): an interval needs random"),
        (["method=dpo", RATES], "method.*.learning_rate=tag(log,interval(1e-4,1e-1)): several values need -m"),
        (["+method.*.steps=1"], "method.*.steps=1: a * or ? is for keys of the configuration"),
        (["-m", "method=glob(no_*)"], "method=glob(no_*): means none of the options of method: "),
        (["-m", "beta=glob(*)"], "beta=glob(*): means none here: it is for groups"),
    ],
)  # fmt: skip
def test_what_stands_for_nothing_is_told_as_it_was_typed(arguments, told):
    (problem,) = refused(*arguments)
    assert problem.startswith(told)


def test_a_glob_means_every_file_there_is_those_of_a_users_folder_too(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "my_dpo.yaml").write_text("_target_: alignsim.methods.dpo.DPO\n")
    own = ["--config-dir", str(tmp_path)]
    found = line("-m", *own, "method=glob(*)")
    assert {job.choices["method"] for job in found.jobs} == METHODS | {"my_dpo"}
    assert not any(argument.startswith("method=glob") for argument in found.arguments)
    some = jobs("-m", *own, "method=glob(*dpo,exclude=robust*)", "method.*.steps=7")
    assert "my_dpo" in some
    assert "robust_dpo" not in some
    assert some["my_dpo"] == [{"method.policy_fit.steps": "7"}], "what its file leaves out is there too"


def test_searches_by_other_packages_get_keys_instead_of_patterns():
    search = ["-m", "experiment=tune", "hydra/sweeper=optuna_search", "env=gap"]
    try:
        found = line(*search, "method=rlhf")
    except ConfigurationError as refusal:
        pytest.skip(str(refusal))
    assert "hydra.sweeper.params=null" in found.arguments
    rates = "learning_rate=tag(log, interval(3e-4, 1e-2))"
    assert {f"method.policy_fit.{rates}", f"method.rl.{rates}"} <= set(found.arguments)
    assert not any("__" in argument or "*" in argument for argument in found.arguments)
    assert found.arguments == line(*search, "method=rlhf").arguments
    told = refused(*search, "method=dpo,rlhf")
    assert any("method.*.steps" in problem and "search one method at a time" in problem for problem in told)


def test_draws_can_be_written_down():
    def value(interval):
        (override,) = line("-m", f"beta={interval}", "search.num_trials=1").jobs[0].overrides[:1]
        return override.partition("=")[2]

    assert len(value("tag(log,interval(0.01,1))").lstrip("0.")) <= 3
    assert 1000.1 <= float(value("interval(1000.1,1000.2)")) <= 1000.2


def test_tuning_gives_every_method_the_same_number_of_trials():
    draws = 3
    found = line("-m", "experiment=tune", f"search.num_trials={draws}").jobs
    trials = Counter(job.choices["method"] for job in found)
    assert set(trials) == METHODS
    assert set(trials.values()) == {2 * draws}, "in two environments"
    assert all(job.config.run.seeds == found[0].config.run.seeds for job in found)


@pytest.mark.parametrize("preset", sorted({p.stem for p in (conf_dir() / "experiment").glob("*.yaml")} - {"tune"}))
def test_seeds_that_settings_were_chosen_on_are_those_of_no_result(preset):
    tuned = set(line("-m", "experiment=tune", "method=dpo").jobs[0].config.run.seeds.all)
    for seeds in sorted(path.stem for path in Path(conf_dir() / "seeds").glob("*.yaml")):
        for job in line("-m", f"experiment={preset}", f"seeds={seeds}", "method=dpo").jobs:
            assert not tuned & set(job.config.run.seeds.all)
