"""`python scripts/train.py migrate=FILE`: gives the keys and import paths of a user's YAML files their new names.

Which names are new is in `alignsim.config.renames` and `alignsim.config.moved`. The text of a file is edited where
PyYAML saw a key, so that comments and formatting stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from alignsim.cli.method_fields import SWEEP, Fields, fields_of_class, fields_of_option, methods_of
from alignsim.cli.yaml_edits import Migration, entries_of, scalars_of
from alignsim.config.moved import new_path
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem
from alignsim.config.renames import new_keys, row_of
from alignsim.runs.storage.atomic import write_atomically

#: Folders of YAML files whose keys stand below the group of that name.
_GROUPS = ("env", "model", "method", "seeds")

#: The group, or the part of one, that classes of our modules configure; the first that fits counts.
_GROUP_OF = {
    "alignsim.envs.simplified": "env",
    "alignsim.methods.rl": "method.rl",
    "alignsim.methods": "method",
    "alignsim.models.config": "model",
}

#: Keys at the top of a preset or of a whole configuration.
_TOP = {*_GROUPS, "hydra", "random", "claims", "evaluation"}

#: The mappings of a preset, beside what it sweeps, whose keys are dotted.
_SELECTION = re.compile(r"claims\.\w+\.(condition|baseline|where|elsewhere)")

#: The class that replaces each value of `env.preferences`.
_LABELS = {
    "bradley_terry": "alignsim.envs.labels.BradleyTerry",
    "deterministic": "alignsim.envs.labels.Deterministic",
}

#: For each component of an environment, the keys that it replaces.
_COMPONENTS = {"labels": ("preferences", "label_noise"), "reference": ("reference_tilt",)}


def migrate(arguments: Iterable[str]) -> bool:
    """Rewrite the YAML files that `migrate=FILE` and `migrate=FOLDER` name; a copy of each stays beside it.

    Returns:
        Whether nothing is left to the user.

    Raises:
        ConfigurationError: an argument is of another form or names no file; nothing is written then.
        OSError: a file cannot be read or written.
    """
    problems, files = [], []
    for key, equals, value in (argument.partition("=") for argument in arguments):
        if key != "migrate":
            problems.append(
                Problem(f"{key}{equals}{value}", NO_VALUE, "stands beside migrate=FILE, which runs nothing")
            )
        elif not (path := Path(value)).exists():
            problems.append(Problem(key, value, "must be an existing YAML file, or a folder of such files"))
        else:
            files += _yaml_files(path) if path.is_dir() else [path]
    if problems:
        raise ConfigurationError(problems)
    done = [_migrate_file(path) for path in files]
    return all(done)


def _yaml_files(folder: Path) -> list[Path]:
    """The YAML files in a folder and below it, without what runs have written."""
    paths = sorted(path for pattern in ("*.yaml", "*.yml") for path in folder.rglob(pattern) if path.is_file())
    return [path for path in paths if not (path.parent / "status.json").exists()]


def _migrate_file(path: Path) -> bool:
    """Rewrite one file and say what changed; whether nothing in it is left to the user."""
    content = path.read_bytes()
    try:
        migration = planned_migration(path, content.decode())  # line ends stay as they are
    except UnicodeDecodeError as error:
        migration = Migration(path, "", left=[f"is not UTF-8: {error}"])
    changes = [edit for edit in sorted(migration.edits) if edit.says]
    if changes:
        backup, new = next(name for name in _backups(path) if not name.exists()), migration.new_text.encode()
        write_atomically({backup: lambda aside: aside.write_bytes(content)})
        write_atomically({path.resolve(): lambda aside: aside.write_bytes(new)})
        print(f"{path}: {len(changes)} changes; as it was: {backup}")
    else:
        print(f"{path}: {'not changed' if migration.left else 'up to date'}")
    print("".join(f"  line {edit.line}: {edit.says}\n" for edit in changes), end="")
    print("".join(f"  left to you: {line}\n" for line in migration.left), end="")
    return not migration.left


def _backups(path: Path) -> Iterator[Path]:
    """Names for a copy of a file, of which the first that is free is meant."""
    yield path.with_name(f"{path.name}.bak")
    yield from (path.with_name(f"{path.name}.bak{number}") for number in range(2, 10_000))


def planned_migration(path: Path, text: str) -> Migration:
    """What is to change in a YAML file.

    Args:
        path: where it is; the name of its folder tells its group.
        text: what is in it.
    """
    migration = Migration(path, text)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        migration.left.append(" ".join(str(error).split()))
        return migration
    if not isinstance(root, MappingNode):
        return migration
    prefix = _package(path, text, root)
    if prefix is None:
        migration.left += _old_looking(root)
        return migration
    migration.methods = methods_of(path, root, prefix)
    _migrate_mapping(migration, root, prefix)
    return migration


def _package(path: Path, text: str, root: MappingNode) -> str | None:
    """The key below which the keys of a file stand, `""` for a preset or a whole configuration; None if unknown."""
    header = re.match(r"(?:#.*\n)*?#\s*@package\s+(\S+)", text.lstrip("\ufeff\r\n "))
    if header is not None and header[1] != "_group_":
        return "" if header[1] == "_global_" else header[1]
    keys, folders = entries_of(root), path.resolve().parent.parts
    target = keys["_target_"][1].value if "_target_" in keys else ""
    if (
        group := next((g for module, g in _GROUP_OF.items() if str(target).startswith(f"{module}.")), None)
    ) is not None:
        return group
    if folders[-1] in _GROUPS:
        return folders[-1]
    if len(folders) > 1 and folders[-2] in _GROUPS:
        return f"{folders[-2]}.{folders[-1]}"
    return "" if folders[-1] == "experiment" or _TOP & set(keys) else None


def _old_looking(root: MappingNode) -> list[str]:
    """What is left to the user in a file of which nothing says where its keys stand."""
    names = sorted({name for name in _keys_below(root) if any(new_keys(f"{group}.{name}") for group in _GROUPS)})
    return [f"{', '.join(names)}: neither `_target_` nor the folder tells what the file configures"] if names else []


def _keys_below(node: Node) -> Iterator[str]:
    for name, (_, value) in entries_of(node).items():
        yield name
        yield from _keys_below(value)


def _migrate_mapping(migration: Migration, mapping: MappingNode, prefix: str) -> None:
    """Note what is to change in a mapping and below it.

    Args:
        migration: extended in place.
        mapping: the node.
        prefix: the dotted key of the mapping, `""` at the top.
    """
    entries = entries_of(mapping)
    if prefix == SWEEP:
        _migrate_sweep(migration, mapping)
    elif _SELECTION.fullmatch(prefix):
        _migrate_selection(migration, mapping)
    elif prefix == "env":
        _migrate_environment(migration, mapping)
    for name, (key, value) in entries.items():
        dotted = f"{prefix}.{name}" if prefix else name
        if name == "_target_" and (new := new_path(str(value.value))) is not None:
            migration.replace(value, new)
        elif prefix != "env" and (row := row_of(dotted)) and row.old.count(".") == dotted.count("."):
            _rename(migration, key, dotted, set(entries))
        elif re.fullmatch(r"claims\.\w+\.along", dotted) and (news := new_keys(str(value.value))):
            _replace_key(migration, value, news, migration.methods)
        _migrate_node(migration, value, dotted)


def _migrate_node(migration: Migration, node: Node, dotted: str) -> None:
    """Note what is to change below a key."""
    if isinstance(node, MappingNode):
        _migrate_mapping(migration, node, dotted)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            _migrate_node(migration, item, dotted)
    elif isinstance(node, ScalarNode):
        _migrate_interpolations(migration, node)


def _migrate_interpolations(migration: Migration, node: ScalarNode) -> None:
    """Note the keys in `${...}` of a value."""
    for match in re.finditer(r"\$\{([\w.]+)\}", migration.source(node)):
        if news := new_keys(match[1]):
            if (new := _chosen(news, migration.methods)) is None:
                migration.leave(node, _undecided(news, migration.methods))
            else:
                migration.replace_within(node, match.span(1), new)


def _rename(migration: Migration, key: ScalarNode, dotted: str, siblings: set[str]) -> None:
    """Note the new name of a key of a nested mapping."""
    depth, news = dotted.count("."), new_keys(dotted)
    if dotted.startswith("method.") and depth == 1 and any(key.value in (f or ()) for f in migration.methods.values()):
        return  # a class of the user's has a field of that name
    if (new := _chosen(news, migration.methods)) is None:
        migration.leave(key, _undecided(news, migration.methods))
    elif (name := new.split(".")[depth]) in siblings:
        migration.leave(key, f"is now {name}, which is set beside it")
    else:
        migration.replace(key, name)


def _replace_key(migration: Migration, node: Node, news: Sequence[str], methods: Mapping[str, Fields]) -> None:
    """Note the new form of a dotted key, which keeps the `?` of an optional one."""
    if (new := _chosen(news, methods)) is None:
        migration.leave(node, _undecided(news, methods))
    else:
        migration.replace(node, new + "?" * str(node.value).endswith("?"))


def _chosen(news: Sequence[str], methods: Mapping[str, Fields]) -> str | None:
    """Which of the keys that may replace an old one is meant; None where the methods differ or are not known."""
    if len(news) == 1:
        return news[0]
    meant = {_for_method(news, fields) for fields in methods.values()}
    return meant.pop() if len(meant) == 1 else None


def _for_method(news: Sequence[str], fields: Fields) -> str | None:
    """The first of some keys that a method with these fields has."""
    return next((new for new in news if new.split(".")[1] in (fields or ())), None)


def _undecided(news: Sequence[str], methods: Mapping[str, Fields]) -> str:
    """Why none of the keys that may replace an old one was chosen."""
    meant = [f"{new} for {name}" for name, fields in methods.items() if (new := _for_method(news, fields)) is not None]
    optional = f"; below {SWEEP}, a key such as {news[0]}.steps? is for the methods that have it" if meant else ""
    return f"is now {', '.join(meant) or ' or '.join(news)}{optional}"


def _migrate_sweep(migration: Migration, mapping: MappingNode) -> None:
    """Note the new keys of what a preset sweeps."""
    for name, (key, _) in entries_of(mapping).items():
        if name == "env.preferences":
            migration.replace(key, "env/labels")
        elif name == "env.reference_tilt":
            migration.replace(key, "env.reference.tilt")
            migration.insert_before(key, "env/reference: tilted", in_flow=bool(mapping.flow_style))
        elif news := new_keys(name.removesuffix("?")):
            _replace_key(migration, key, news, migration.methods)


def _migrate_selection(migration: Migration, mapping: MappingNode) -> None:
    """Note the new keys of the conditions that a claim is about."""
    entries = entries_of(mapping)
    named = scalars_of(entries["method"][1]) if "method" in entries else []
    methods = {name: migration.methods.get(name, fields_of_option(migration.path, name)) for name in named}
    for name, (key, value) in entries.items():
        if name == "env.preferences":
            migration.replace(key, "env.labels._target_")
            for item in value.value if isinstance(value, SequenceNode) else [value]:
                migration.replace(item, _LABELS.get(str(item.value), str(item.value)))
        elif news := new_keys(name):
            _replace_key(migration, key, news, methods or migration.methods)


def _migrate_environment(migration: Migration, mapping: MappingNode) -> None:
    """Note the components that replace keys of an environment: its labels and its reference policy."""
    entries = entries_of(mapping)
    own = fields_of_class(str(entries["_target_"][1].value)) if "_target_" in entries else None
    for component, names in _COMPONENTS.items():
        old = {name: entries[name] for name in names if name in entries and name not in (own or ())}
        if not old:
            continue
        first, *others = sorted(old.values(), key=lambda entry: entry[0].start_mark.index)
        if component in entries:
            migration.leave(first[0], f"is now a part of {component}, which is set beside it")
        elif unknown := [key for name, (key, value) in old.items() if not _can_be_rewritten(name, value)]:
            migration.leave(unknown[0], f"is now a part of {component}; its value cannot be rewritten")
        else:
            values = ", ".join(_values_of_component(migration, {name: value for name, (_, value) in old.items()}))
            migration.replace_entry(*first, f"{component}: {{{values}}}")
            for entry in others:
                migration.remove_entry(*entry, why=f"is in {component}", in_flow=bool(mapping.flow_style))


def _can_be_rewritten(name: str, value: Node) -> bool:
    if name == "preferences":
        return value.value in _LABELS
    try:
        float(value.value)
    except (TypeError, ValueError):
        return False
    return True


def _values_of_component(migration: Migration, old: Mapping[str, Node]) -> Iterator[str]:
    """The values of the component that replaces old keys of an environment."""
    if "preferences" in old:
        yield f"_target_: {_LABELS[old['preferences'].value]}"
    if "label_noise" in old:
        yield f"flip_probability: {migration.source(old['label_noise'])}"
    if "reference_tilt" in old:
        tilt = old["reference_tilt"]
        yield f"_target_: alignsim.envs.references.{'Tilted' if float(tilt.value) else 'Uniform'}"
        yield from [f"tilt: {migration.source(tilt)}"] * bool(float(tilt.value))
