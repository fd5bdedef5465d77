"""The tables of the reference: every group, option and key, from the configuration classes and the YAML files.

A page asks for one in a line of its own, such as `<!-- keys: method -->`; `inserted` puts the tables there.
"""

import itertools
import re
from functools import cache
from pathlib import Path
from typing import get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from alignsim.cli.hydra_compat import VERSION_BASE
from alignsim.cli.reference import rows, yaml_comments
from alignsim.config.checking import import_class
from alignsim.config.claims import Claim
from alignsim.config.settings import PlotSettings, RunSettings

CONF = Path(__file__).parent.parent / "conf"

#: Options that are chosen on top of another group's option: by default no file has them.
BELOW = {"method/rl": "method=rlhf"}

#: Folders whose files nobody chooses: files of another group include them.
INCLUDED = {"method/fit"}


def inserted(page):
    """Returns the text of a page with every `<!-- keys: NAME -->` replaced by the tables that it names."""
    return re.sub(r"^<!-- keys: (\S+) -->$", lambda asked: tables(asked[1]), page, flags=re.MULTILINE)


def tables(name):
    """Returns Markdown: of `train`, `plot` and `claim` one table; of a group of `conf/` a section for each option."""
    if name in ("train", "plot"):
        schema = {"train": RunSettings, "plot": PlotSettings}[name]
        return keys_table(rows(schema, yaml=(CONF / f"{name}.yaml").read_text(encoding="utf-8")))
    if name == "claim":
        return keys_table(rows(Claim))
    section = {"experiment": preset, "hydra/launcher": hydras_option, "hydra/sweeper": hydras_option}.get(name, option)
    return "\n\n".join(section(path) for path in options(name))


def options(group):
    """Returns the YAML files of a group, in the order of the alphabet."""
    return sorted((CONF / group).glob("*.yaml"))


def groups():
    """Returns every group of `conf/`: the folders that hold YAML files to choose from."""
    return sorted({str(path.parent.relative_to(CONF)) for path in CONF.rglob("*/*.yaml")} - INCLUDED)


def option(path):
    """Returns the section of an option: what the head of its file says, then a table of its keys."""
    group, text = str(path.parent.relative_to(CONF)), path.read_text(encoding="utf-8")
    values = composed(group, path.stem)
    for part in group.split("/"):
        values = values[part]
    # a group without `_target_`, such as seeds, is a field of the settings
    schema = import_class(values["_target_"]) if "_target_" in values else get_type_hints(RunSettings)[group]
    keys = rows(schema, values, text, f"{group.replace('/', '.')}.")
    made_by = f"\n\nClass: `{values['_target_']}`" if "_target_" in values else ""
    return f"## `{group}={path.stem}`\n\n{head(text)}{made_by}\n\n{keys_table(keys)}"


@cache
def composed(group, name):
    """Returns the plain values of a run that chooses this option."""
    above = [BELOW[group]] if group in BELOW else []
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose("train", overrides=[*above, f"{group}={name}"])
    return OmegaConf.to_container(config, resolve=True)


def hydras_option(path):
    """Returns the section of an option of Hydra's own: only its file says what its keys mean."""
    text = path.read_text(encoding="utf-8")
    comments = yaml_comments(text)
    group = str(path.parent.relative_to(CONF))
    lines = [
        f"| `{group.replace('/', '.')}.{key}` | {cell(sentence(comments.get(key, '')))} | `{yaml_value(value)}` |"
        for key, value in leaves(yaml.safe_load(text))
        if not key.startswith("defaults")
    ]
    return f"## `{group}={path.stem}`\n\n{head(text)}\n\n{table(['key', 'meaning', 'default'], lines)}"


def preset(path):
    """Returns the section of a preset: what it asks, what it sweeps and what it claims."""
    text = path.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    swept = "\n".join(f"- `{key}`: `{value}`" for key, value in values["hydra"]["sweeper"]["params"].items())
    parts = [f"## `experiment={path.stem}`", head(text), f"It sweeps\n\n{swept}"]
    if claims := values.get("claims"):
        lines = [
            f"| `{name}` | {cell(claim['says'])} *Source: {cell(claim['source'])}.* | {prediction(claim)} |"
            for name, claim in claims.items()
        ]
        parts.append(table(["claim", "what it says", "prediction"], lines))
    return "\n\n".join(parts)


def prediction(claim):
    """Returns what a claim predicts, with its margin, and of which measure where that is not the usual one."""
    parts = [claim["predicts"]]
    if claim.get("margin"):
        parts.append(f"margin {claim['margin']:g}")
    if "measure" in claim:
        parts.append(f"of `{claim['measure']}`")
    return ", ".join(parts)


def head(text):
    """Returns the comment at the top of a YAML file as Markdown: sentences, then its commands in one block."""
    lines = [line[1:] for line in re.match(r"((#.*\n)+)", text)[1].splitlines() if not line.startswith("# @package")]
    parts = []
    for is_command, group in itertools.groupby(lines, lambda line: line.startswith("   ")):
        if is_command:
            parts.append("\n".join(["```sh", *(line.strip() for line in group), "```"]))
        else:
            sentences = " ".join(line.strip() for line in group)
            parts.append(re.sub(r'pip install "\S+"', r"`\g<0>`.", sentences.removesuffix(":")))
    return "\n\n".join(parts)


def keys_table(keys):
    """Returns a table of `Row`s."""
    lines = [f"| `{row.key}` | {cell(sentence(row.meaning))} | {allowed(row)} | {default(row)} |" for row in keys]
    return table(["key", "meaning", "what it may be", "default"], lines)


def table(header, lines):
    """Returns a table that the style sheet knows by its class."""
    shown = [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *lines]
    return "\n".join(["```{table}", ":class: keys", "", *shown, "```"])


def allowed(row):
    """Returns the type of a key with its choices or its range."""
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices) + (" or null" if row.type.endswith("null") else "")
    return f"{row.type}{', ' * bool(row.range)}{row.range}"


def default(row):
    """Returns the default of a key; nothing for a block of keys."""
    if row.default:
        return f"`{row.default.rpartition('.')[2] if row.type.startswith('component') else row.default}`"
    return "" if row.type in ("keys", "component") else "required"


def sentence(text):
    """Returns a meaning as a sentence, with the words of YAML."""
    text = re.sub(r"\bNone\b", "`null`", text)
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}." if text else ""


def cell(text):
    """Returns a text that may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def leaves(values, prefix=""):
    """Yields the dotted keys and values of nested mappings."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def yaml_value(value):
    """Returns a value as YAML writes it."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
