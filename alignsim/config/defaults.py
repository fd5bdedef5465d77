"""Where the YAML files are, and defaults of Python classes that are read from them.

A tuned number stands once, in `conf/method/`; the class that it configures reads it from there when it is first needed.
"""

from __future__ import annotations

from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any


def conf_dir() -> Path:
    """The folder of YAML files: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parent.parent  # alignsim/
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@cache
def yaml_values(option: str) -> dict[str, Any]:
    """The values of one YAML file as they stand there, without those of the files in its defaults list.

    Args:
        option: the path of the file below `conf/`, without its ending, such as `method/dpo`.

    Raises:
        FileNotFoundError: there is no such file.
    """
    from omegaconf import OmegaConf  # a tenth of a second

    values = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{option}.yaml"))
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def yaml_default(option: str, key: str, part: type | None = None) -> Any:
    """A dataclass field whose default is the value of a key in a YAML file.

    Args:
        option: the path of the file below `conf/`, without its ending, such as `method/dpo`.
        key: dotted, such as `policy_fit` or `imitation.steps`.
        part: for a key that holds several values, the class that is made of them; what the file does not say is left
            to the defaults of that class.
    """

    def default() -> Any:
        value: Any = yaml_values(option)
        for name in key.split("."):
            value = value[name]
        return part(**value) if part else value

    return field(default_factory=default)
