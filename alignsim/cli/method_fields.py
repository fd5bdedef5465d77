"""Which methods a user's YAML file is about, and which fields their classes have: an old key may depend on them.

Files are read as they are, without Hydra, which would refuse what has to be migrated first.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from yaml import MappingNode, Node, ScalarNode

from alignsim.cli.yaml_edits import entries_of, items_of, scalars_of
from alignsim.config.checking import import_class, knobs
from alignsim.config.defaults import conf_dir
from alignsim.config.moved import new_path

#: The key of what a preset sweeps.
SWEEP = "hydra.sweeper.params"

#: The names of the fields of a class; None for a class that is not known.
Fields = frozenset[str] | None


def methods_of(path: Path, root: MappingNode, prefix: str) -> dict[str, Fields]:
    """The methods that a file is about, by name, each with the fields of its class.

    Args:
        path: the file.
        root: its mapping.
        prefix: the key below which its keys stand: `method`, or `""` for a preset, which names methods.
    """
    if prefix == "method":
        return {path.stem: _fields_of(path, root)}
    if "method" in (entries := entries_of(root)) and (target := entries_of(entries["method"][1]).get("_target_")):
        return {"method": fields_of_class(str(target[1].value))}
    options = [option for name in _chosen_methods(root) for option in _options(path, name)]
    return {option: fields_of_option(path, option) for option in options}


def _chosen_methods(root: MappingNode) -> list[str]:
    """What a preset says of the group `method`: in what it sweeps, or else in its list of defaults."""
    node: Node | None = root
    for part in (*SWEEP.split("."), "method"):
        node = entries_of(node)[part][1] if node is not None and part in entries_of(node) else None
    if node is not None:
        return [name.strip() for name in str(node.value).split(",")]
    entries = [entry for item in items_of(root, "defaults") for entry in entries_of(item).values()]
    return [name for key, value in entries if str(key.value).endswith("/method") for name in scalars_of(value)]


def _method_folders(path: Path) -> list[Path]:
    """Where the YAML files of methods are: beside the folder of a preset, or in alignsim's own configuration."""
    return [path.resolve().parent.parent / "method", conf_dir() / "method"]


def _options(path: Path, name: str) -> list[str]:
    """The methods that a name or `glob(*)` means in a preset at a path."""
    pattern = re.fullmatch(r"glob\((.*)\)", name)
    if pattern is None:
        return [name]
    names = {file.stem for folder in _method_folders(path) for file in folder.glob("*.yaml")}
    return sorted(name for name in names if fnmatchcase(name, pattern[1].strip("'\"")))


def fields_of_option(path: Path, option: str) -> Fields:
    """The fields of the class of a method that a preset at a path chooses by name; None if unknown."""
    files = [folder / f"{option}.yaml" for folder in _method_folders(path)]
    file = next((file for file in files if file.is_file()), None)
    return None if file is None else _fields_of_file(file)


def _fields_of_file(file: Path) -> Fields:
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    return _fields_of(file, root) if isinstance(root, MappingNode) else None


def _fields_of(file: Path, root: MappingNode) -> Fields:
    """The fields of the class that a file of a method names, or the files that it begins with; None if unknown."""
    if "_target_" in entries_of(root):
        return fields_of_class(str(entries_of(root)["_target_"][1].value))
    for item in items_of(root, "defaults"):
        if not isinstance(item, ScalarNode) or item.value in ("_self_", file.stem):
            continue
        for folder in (file.parent, conf_dir() / "method"):
            if (base := folder / f"{item.value}.yaml").is_file():
                return _fields_of_file(base)
    return None


def fields_of_class(path: str) -> Fields:
    """The fields of the class at an import path, which may be an old one; None where it cannot be imported."""
    try:
        return frozenset(knobs(import_class(new_path(path) or path)))
    except Exception:  # whatever a module of the user's raises while it is imported
        return None
