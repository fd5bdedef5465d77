"""alignsim: when does two-stage RLHF beat direct preference optimization, and why?

The public names below are imported on first use, so that `import alignsim` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from alignsim.config.moved import refuse_old_imports
from alignsim.config.version import VERSION

if TYPE_CHECKING:
    from alignsim.envs.simplified import SimplifiedEnvironment
    from alignsim.methods.dpo import train_policy_with_dpo
    from alignsim.methods.rlhf import train_policy_with_rlhf
    from alignsim.methods.two_stage import train_reward_model
    from alignsim.models.policy import PolicyModel
    from alignsim.models.reward import RewardModel
    from alignsim.runs.condition import run_experiment

__version__ = VERSION

_HOME_OF = {
    "SimplifiedEnvironment": "alignsim.envs.simplified",
    "PolicyModel": "alignsim.models.policy",
    "RewardModel": "alignsim.models.reward",
    "train_reward_model": "alignsim.methods.two_stage",
    "train_policy_with_rlhf": "alignsim.methods.rlhf",
    "train_policy_with_dpo": "alignsim.methods.dpo",
    "run_experiment": "alignsim.runs.condition",
}

__all__ = [  # noqa: RUF022 (in the order of the story, not of the alphabet)
    "SimplifiedEnvironment",
    "PolicyModel",
    "RewardModel",
    "train_reward_model",
    "train_policy_with_rlhf",
    "train_policy_with_dpo",
    "run_experiment",
]

refuse_old_imports()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'alignsim' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
