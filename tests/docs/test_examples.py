"""The examples of the texts do what the texts say: a user's own condition, claim, method and environment."""

import math
import sys

import pandas as pd
import pytest
import torch

from tests.commands import TINY, only_folder, run
from tests.docs.texts import PAGES, blocks, example_files


def saved(page, folder):
    """Save the example files of a page; the options and the environment of a command that uses them."""
    for name, text in example_files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return ["--config-dir", "my_conf", *TINY], {"PYTHONPATH": str(folder)}


def trained(page, folder, *arguments):
    """The results of a tiny run with the example files of a page."""
    options, env = saved(page, folder)
    run("train", *arguments, *options, cwd=folder, env=env)
    return pd.read_csv(only_folder(folder) / "results.csv")


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/method.md"])
def test_the_method_of_the_texts_can_be_trained(page, tmp_path):
    table = trained(page, tmp_path, "method=hinge", "env=gap")
    assert table["method.margin"].tolist() == [2.0, 2.0]
    assert table.normalized_value.notna().all()


def test_the_environment_of_the_readme_has_values_and_no_optimum(tmp_path):
    table = trained("README.md", tmp_path, "method=dpo", "env=agreement")
    assert table.value.notna().all()
    assert table.optimal_value.isna().all()


def test_the_environment_of_the_docs_has_an_optimum(tmp_path):
    table = trained("docs/how-to/environment.md", tmp_path, "method=dpo", "env=agreement")
    assert (table.optimal_value > table.reference_value).all()
    assert (table.normalized_value < 1).all()


def test_the_optimum_of_the_docs_is_right(monkeypatch, tmp_path):
    saved("docs/how-to/environment.md", tmp_path)
    for module in ("my_envs", "my_envs.agreement", "my_methods", "my_methods.hinge"):  # of another test's folder
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    from my_envs.agreement import Agreement

    env, beta = Agreement(output_dim=4, seeds=range(2)), 0.5
    prompts = env.prompts("test", 5)
    rewards = env.reward(prompts, env.all_responses())
    policy = torch.softmax(rewards / beta, -1)  # proportional to ref exp(r / beta), ref uniform
    kl = (policy * (policy.log() + 4 * math.log(2))).sum(-1)
    value = ((policy * rewards).sum(-1) - beta * kl).mean(1)
    torch.testing.assert_close(env.optimal_value(beta, prompts), value)


def test_the_claim_of_the_readme_is_registered_and_judged(tmp_path):
    options, env = saved("README.md", tmp_path)
    run("train", "-m", "experiment=my_question", *options, "method.rl.steps?=50", cwd=tmp_path, env=env)
    run("plot", "study=my_question", cwd=tmp_path, env=env)
    study = tmp_path / "outputs" / "my_question"
    assert "width_helps_dpo" in (study / "claims.yaml").read_text()
    assert "width_helps_dpo" in (study / "verdicts.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("example", blocks(PAGES["docs/get-started.md"], "python"))
def test_the_python_of_the_first_steps_runs(example, capsys):
    exec(compile(example, "get-started.md", "exec"), {})
    assert capsys.readouterr().out
