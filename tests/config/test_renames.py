"""Old names: every configuration key, field and import path that was renamed is refused with its new one."""

import copy
import pickle
import subprocess
import sys
from importlib import import_module

import pytest

from alignsim.analysis.claims.conditions import problems_of
from alignsim.config.claims import Claim
from alignsim.config.moved import MODULES, NAMES, new_path, refuse_old_imports
from alignsim.config.problems import ConfigurationError
from alignsim.config.renames import RENAMED_KEYS, new_key, new_keys
from alignsim.config.schema import SearchConfig, Seeds
from alignsim.config.settings import RunSettings
from alignsim.envs.simplified import SimplifiedEnvironment
from alignsim.methods.cdpo import CDPO
from alignsim.methods.distilled_dpo import DistilledDPO
from alignsim.methods.dpo import DPO
from alignsim.methods.online_dpo import OnlinePairsConfig
from alignsim.methods.raft import ImitationConfig
from alignsim.methods.rl.grpo import GRPO
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.methods.simpo import SimPO
from alignsim.models.made import MADE
from alignsim.runs.train_config import load
from tests.commands import run

DISTILLED = {"_target_": "alignsim.methods.distilled_dpo.DistilledDPO"}
RAFT = {"_target_": "alignsim.methods.raft.RAFT"}


def method(name, values):
    return {"method": {"_target_": f"alignsim.methods.{name}", **values}}


#: What a user may still have, the old key, and the new one.
IN_YAML = [
    (method("dpo.DPO", {"supervised": {"steps": 40}}), "method.supervised.steps", "method.policy_fit.steps"),
    (method("rlhf.RLHF", {"supervised": {"steps": 40}}), "method.supervised.steps", "method.reward_fit.steps"),
    ({"method": DISTILLED | {"supervised": {}}}, "method.supervised", "method.reward_fit"),
    ({"method": DISTILLED | {"distillation": {}}}, "method.distillation", "method.policy_fit"),
    (
        {"method": RAFT | {"imitation": {"samples": 8}}},
        "method.imitation.samples",
        "method.imitation.samples_per_prompt",
    ),
    ({"method": RAFT | {"imitation": {"prompts": 8}}}, "method.imitation.prompts", "method.imitation.prompts_per_step"),
    (
        {"method": RAFT | {"imitation": {"iteration": 8}}},
        "method.imitation.iteration",
        "method.imitation.steps_per_iteration",
    ),
    (method("rlhf.RLHF", {"rl": {"prompts": 8}}), "method.rl.prompts", "method.rl.prompts_per_step"),
    (
        method("rlhf.RLHF", {"rl": {"_target_": "alignsim.methods.rl.grpo.GRPO", "inner_steps": 3}}),
        "method.rl.inner_steps",
        "method.rl.epochs",
    ),
    (
        method("rlhf.RLHF", {"rl": {"_target_": "alignsim.methods.rl.grpo.GRPO", "scale": True}}),
        "method.rl.scale",
        "method.rl.normalize_std",
    ),
    (method("simpo.SimPO", {"scale": 2.0}), "method.scale", "method.logit_scale"),
    ({"model": {"policy": {"prefix": False}}}, "model.policy.prefix", "model.policy.autoregressive"),
    (
        {"model": {"reward": {"network": {"_target_": "alignsim.models.made.MADE", "prefix": False}}}},
        "model.reward.network.prefix",
        "model.reward.network.autoregressive",
    ),
    ({"seeds": {"chunk": 2}}, "seeds.chunk", "seeds.per_stack"),
    ({"random": {"draws": 2}}, "random.draws", "search.num_trials"),
    ({"random": {"seed": 2, "defaults": True}}, "random", "search"),
    ({"env": {"preferences": "deterministic"}}, "env.preferences", "env/labels=deterministic"),
    ({"env": {"label_noise": 0.1}}, "env.label_noise", "env.labels.flip_probability"),
    ({"env": {"reference_tilt": 0.5}}, "env.reference_tilt", "env.reference.tilt=0.5"),
]


@pytest.mark.parametrize(("values", "old", "new"), IN_YAML, ids=[old for _, old, _ in IN_YAML])
def test_an_old_key_is_refused_with_the_new_one(values, old, new):
    with pytest.raises(ConfigurationError) as caught:
        load({"method": {"_target_": "alignsim.methods.dpo.DPO"}} | values)
    (problem,) = caught.value.problems
    assert problem.key == old
    assert new in problem.message


def test_a_key_of_that_name_elsewhere_is_no_old_key():
    """`prompts` and `samples` of the evaluation and cDPO's `label_noise` are what they were."""
    load(method("cdpo.CDPO", {"label_noise": 0.1}) | {"evaluation": {"prompts": 8, "samples": 4}})
    assert not new_keys("evaluation.prompts")
    assert not new_keys("method.label_noise")
    assert CDPO(label_noise=0.1).label_noise == 0.1


def test_patterns_are_renamed_as_the_keys_are():
    assert new_keys("method.*.iteration") == ["method.*.steps_per_iteration"]
    assert new_keys("method.*.inner_steps") == ["method.*.epochs"]
    assert new_keys("method.supervised.*") == ["method.reward_fit.*", "method.policy_fit.*"]
    assert not new_keys("method.*")
    assert not new_keys("method.*.steps")


def test_which_new_key_is_meant_depends_on_the_class():
    assert new_key("method.supervised.steps", 1, ["policy_fit"]) == "method.policy_fit.steps"
    assert new_key("method.supervised.steps", 1, ["policy_fit", "reward_fit"]) == "method.reward_fit.steps"
    assert new_key("method.supervised.steps", 1, ["beta"]) is None


def test_no_new_key_is_an_old_one():
    assert not [new for row in RENAMED_KEYS for new in row.new if new_keys(new)]


LINES = [
    (["method=dpo", "method.supervised.steps=40"], ["method.policy_fit.steps"]),
    (["method=rlhf", "++method.supervised.steps=40", "seeds.chunk=2"], ["method.reward_fit.steps", "seeds.per_stack"]),
    (["-m", "method=raft", "method.*.iteration=9,10"], ["method.*.steps_per_iteration"]),
    (["method=dpo", "~method.supervised"], ["~method.reward_fit or ~method.policy_fit"]),
    (["-m", "method=dpo", "method.*.learning_rate=interval(1e-4,1e-3)", "random.draws=3"], ["search.num_trials"]),
]


@pytest.mark.parametrize(("arguments", "new"), LINES, ids=[" ".join(arguments) for arguments, _ in LINES])
def test_an_old_key_on_the_command_line_stops_it(arguments, new, tmp_path):
    """One message for each old key, exit code 2, nothing run."""
    output = run("train", *arguments, cwd=tmp_path, code=2)
    assert output.startswith(f"{len(new)} problem")
    for key in new:
        assert f": is now {key}\n" in output
    assert "migrate=FILE" in output
    assert not list(tmp_path.iterdir())


def test_old_keys_of_a_preset_stop_it(tmp_path):
    (tmp_path / "here" / "experiment").mkdir(parents=True)
    sweep = "hydra: {sweeper: {params: {method: 'raft,simpo', 'method.scale?': '1,2', 'method.*.iteration?': '9,10'}}}"
    (tmp_path / "here" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{sweep}\n")
    output = run("train", "-m", "--config-dir", "here", "experiment=mine", "dry_run=true", cwd=tmp_path, code=2)
    assert "method.scale?=1,2: is now method.logit_scale?\n" in output
    assert "method.*.iteration?=9,10: is now method.*.steps_per_iteration?\n" in output


def test_old_keys_of_a_claim_are_refused():
    claim = Claim(
        says="x",
        source="x",
        predicts="greater",
        condition={"method.supervised.steps": 40},
        where={"env.preferences": "deterministic", "env.reference_tilt": 0.5},
    )
    condition = {"method.policy_fit.steps": 40, "env.labels._target_": "x", "env.reference.tilt": 0.5, "condition": "x"}
    messages = {problem.key: problem.message for problem in problems_of({"mine": claim}, [condition])}
    assert "method.policy_fit.steps" in messages["claims.mine.condition.method.supervised.steps"]
    assert "env.labels._target_" in messages["claims.mine.where.env.preferences"]
    assert "env.reference.tilt" in messages["claims.mine.where.env.reference_tilt"]


IN_PYTHON = [
    (SimplifiedEnvironment, "reference_tilt", "Tilted(tilt="),
    (SimplifiedEnvironment, "preferences", "Deterministic()"),
    (SimplifiedEnvironment, "label_noise", "flip_probability="),
    (DPO, "supervised", "policy_fit"),
    (RLHF, "supervised", "reward_fit"),
    (DistilledDPO, "supervised", "reward_fit"),
    (DistilledDPO, "distillation", "policy_fit"),
    (RLOO, "prompts", "prompts_per_step"),
    (RLOO, "samples", "samples_per_prompt"),
    (GRPO, "inner_steps", "epochs"),
    (GRPO, "scale", "normalize_std"),
    (SimPO, "scale", "logit_scale"),
    (ImitationConfig, "iteration", "steps_per_iteration"),
    (OnlinePairsConfig, "prompts", "prompts_per_step"),
    (Seeds, "chunk", "per_stack"),
    (SearchConfig, "draws", "num_trials"),
    (SearchConfig, "defaults", "include_defaults"),
    (RunSettings, "random", "search"),
    (MADE, "prefix", "autoregressive"),
]


@pytest.mark.parametrize(("schema", "old", "new"), IN_PYTHON, ids=[f"{c.__name__}.{old}" for c, old, _ in IN_PYTHON])
def test_an_old_argument_is_refused_with_the_new_one(schema, old, new):
    with pytest.raises(TypeError) as caught:
        schema(**{old: 1})
    assert f"{schema.__name__}({old}=...)" in str(caught.value)
    assert new in str(caught.value)


OWN_CLASSES = [
    (SimplifiedEnvironment, {"read": lambda self, tokens: tokens}, "tokens_to_content"),
    (SimplifiedEnvironment, {"write": lambda self, content: content}, "content_to_tokens"),
    (SimplifiedEnvironment, {"label_noise": 0.1}, "labels"),
    (DPO, {"phase": "mine"}, "stage"),
    (DPO, {"__annotations__": {"supervised": "int"}}, "policy_fit"),
    (RLHF, {"__annotations__": {"supervised": "int"}}, "reward_fit"),
    (RLOO, {"losses": lambda self, batch: batch}, "loss"),
]


@pytest.mark.parametrize(("base", "members", "new"), OWN_CLASSES, ids=[f"{b.__name__}.{n}" for b, _, n in OWN_CLASSES])
def test_an_own_class_with_an_old_name_is_refused(base, members, new):
    """Nothing would ask for it: the class would silently be another one."""
    with pytest.raises(TypeError) as caught:
        type("Own", (base,), members)
    assert str(caught.value).endswith(f": is now {new}")


def test_an_own_class_may_use_names_that_its_base_never_had():
    own = type("Own", (DPO,), {"__annotations__": {"prompts": "int", "losses": "int"}, "read": None, "prefix": 1})
    assert issubclass(own, DPO)


def test_configurations_are_still_copied_and_pickled():
    config = DPO(beta=0.3)
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config


def resolved(path):
    """The module, class, function or constant of an import path."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)


@pytest.mark.parametrize("old", sorted({**MODULES, **NAMES}))
def test_an_old_import_path_is_refused_with_the_new_one(old):
    """What an old path is now exists; importing the old one names it."""
    parent, _, name = old.rpartition(".")
    assert resolved(new_path(old)) is not None
    with pytest.raises(ImportError, match=" is now "):
        exec(f"from {parent} import {name}", {})
    refused = load_problem({"_target_": old})
    assert refused.key == "method._target_"
    assert f"{old} is now {new_path(old)}" in refused.message


def load_problem(group):
    with pytest.raises(ConfigurationError) as caught:
        load({"method": group})
    return caught.value.problems[0]


def test_a_whole_old_module_says_where_its_parts_are():
    with pytest.raises(ImportError) as caught:
        import_module("alignsim.experiment")
    moved = "(Checkpoint: alignsim.runs.recorder.Checkpoint, Recorder: alignsim.runs.recorder.Recorder)"
    assert str(caught.value) == f"alignsim.experiment is now alignsim.runs.condition {moved}"


def test_paths_that_own_classes_need_keep_working():
    from alignsim.config.schema import STRICT
    from alignsim.envs.base import Environment

    assert STRICT["extra"] == "forbid"
    assert issubclass(SimplifiedEnvironment, Environment)
    assert DPO.__module__ == "alignsim.methods.dpo"


def test_a_name_that_never_existed_is_missing_as_anywhere():
    base = import_module("alignsim.methods.base")
    with pytest.raises(AttributeError):
        _ = base.NeverExisted
    with pytest.raises(ModuleNotFoundError):
        import_module("alignsim.never_existed")


def test_old_imports_are_refused_once():
    before = list(sys.meta_path)
    refuse_old_imports()
    assert sys.meta_path == before


def test_importing_alignsim_imports_no_library():
    code = "import sys, alignsim; print(sorted({'numpy', 'torch', 'pydantic', 'hydra', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
