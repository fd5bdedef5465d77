"""What alignsim needs of Hydra beyond its public interface, and what differs between Hydra 1.3 and 1.4.

Everything of that kind stands in this file, each with its reason. How sweeps run is in `alignsim.cli.hydra_plugins`.
"""

from __future__ import annotations

import argparse
import copyreg
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin
from omegaconf import DictConfig

from alignsim.config.defaults import conf_dir

#: Hydra 1.3 builds only sweepers and launchers whose module is below `hydra_plugins`, and imports them by that name,
#: also where they are registered. `register_plugins` makes this module; there is no file, which every other Hydra
#: application of the same Python would import.
PLUGIN_MODULE = "hydra_plugins._alignsim"

_VERSION = tuple(int(part) for part in hydra.__version__.split(".")[:2])

#: For `initialize_config_dir`: Hydra 1.3 warns where no `version_base` is given, Hydra 1.4 where one is.
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if _VERSION < (1, 4) else {}

#: For `hydra.main`: Hydra 1.4 wants a list of the classes that configuration may name. `SweepCallback` is the only one
#: that Hydra builds; those of methods and environments are built by `alignsim.config.checking`.
MAIN_SETTINGS: dict[str, Any] = VERSION_BASE or {"execution_whitelist": ["alignsim.*"]}


def hydra_main(name: str, arguments: list[str], task: Callable[[DictConfig], object]) -> Callable[[], None]:
    """Returns what lets Hydra run a task for each job of a command, or show what it was asked for.

    Args:
        name: the primary configuration.
        arguments: in place of those that the user typed.
        task: is called with the configuration of each job.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, and `alignsim.cli.main` prints them
    sys.argv[1:] = arguments
    run: Callable[[], None] = hydra.main(config_path=str(conf_dir()), config_name=name, **MAIN_SETTINGS)(task)
    return run


def option_parser(error: Callable[[str], None]) -> argparse.ArgumentParser:
    """Returns the parser of Hydra's own options, such as `--cfg`; Hydra has no public way to ask which there are.

    Args:
        error: is called with the message when the options cannot be parsed.
    """
    parser = get_args_parser()
    setattr(parser, "error", error)  # noqa: B010 (for mypy)
    return parser


def register_plugins(*plugins: type[Plugin]) -> None:
    """Make Hydra know plug-ins of ours, whose `__module__` must be `PLUGIN_MODULE`."""
    parent = PLUGIN_MODULE.partition(".")[0]
    for name in (parent, PLUGIN_MODULE):
        if name not in sys.modules and (name == PLUGIN_MODULE or find_spec(name) is None):
            sys.modules[name] = module_from_spec(ModuleSpec(name, None, is_package=name == parent))
    for plugin in plugins:
        setattr(sys.modules[PLUGIN_MODULE], plugin.__name__, plugin)
        Plugins.instance().register(plugin)


class _Shared:
    """The content of an object, which `copy.deepcopy` leaves as it is."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def _restored_store(shared: _Shared) -> ConfigStore:
    """Returns a store of configurations with this content."""
    store = object.__new__(ConfigStore)
    vars(store).update(shared.content)
    return store


def share_config_store() -> None:
    """Let copies of Hydra's store of configurations share its content, which only grows while plug-ins are found.

    Hydra 1.3 copies all that it reads from whenever it lists a group: for `--help` that is the store eighty times,
    half a second. Python's registry of reductions says how to copy it, and pickling still carries all of it.
    """
    copyreg.pickle(ConfigStore, lambda store: (_restored_store, (_Shared(vars(store)),)))
