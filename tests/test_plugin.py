"""A method of the user's own, in a package and a folder outside the project."""

import os

import pandas as pd
import pytest

from tests.commands import TINY, only_folder, run

METHOD = '''
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.methods.direct import DirectMethod


@dataclass(frozen=True, config=STRICT)
class Hinge(DirectMethod):
    """max(0, margin - beta [log pi/ref (chosen) - log pi/ref (rejected)])."""

    margin: Annotated[float, Field(gt=0)] = 1.0

    def loss(self, policy, pairs, beta):
        chosen, rejected = policy.log_ratio(pairs.prompts, pairs.responses).unbind(-1)
        return torch.relu(self.margin - beta * (chosen - rejected))
'''

MINE = ["--config-dir", "conf", "method=hinge", "env=gap", *TINY]


@pytest.fixture
def plugin(tmp_path):
    """The folder of a package with a method and its YAML, and the environment in which Python finds it."""
    (tmp_path / "my_methods").mkdir()
    (tmp_path / "my_methods" / "__init__.py").write_text("")
    (tmp_path / "my_methods" / "hinge.py").write_text(METHOD)
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "hinge.yaml").write_text("_target_: my_methods.hinge.Hinge\nmargin: 2.0\n")
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return tmp_path, {"PYTHONPATH": os.pathsep.join(path)}


def test_a_method_of_ones_own_is_trained_and_drawn(plugin):
    folder, env = plugin
    run("train", *MINE, cwd=folder, env=env)
    table = pd.read_csv(only_folder(folder) / "results.csv")
    assert table.method.tolist() == ["hinge", "hinge"]
    assert table["method.margin"].tolist() == [2.0, 2.0]
    assert table.normalized_value.notna().all()
    run("plot", cwd=folder, env=env)
    assert "hinge" in (folder / "outputs" / "default" / "report.html").read_text()


def test_a_bad_value_of_its_own_knob_is_refused(plugin):
    """Before anything runs."""
    folder, env = plugin
    told = run("train", *MINE, "method.margin=-1", cwd=folder, env=env, code=2)
    assert "method.margin=-1" in told
    assert "nothing was run" in told
    assert not (folder / "outputs").exists()
    assert "did you mean margin?" in run("train", *MINE, "method.margn=1", cwd=folder, env=env, code=2)
