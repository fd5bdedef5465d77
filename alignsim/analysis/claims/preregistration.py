"""The record that claims were made: `claims.yaml` of a study says when, and whether before it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timezone
from pathlib import Path

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from alignsim.config.claims import Claim
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem
from alignsim.runs.storage.atomic import clear_leftovers, write_atomically
from alignsim.runs.storage.folder import RESULTS, STATUS
from alignsim.runs.storage.lock import study_lock
from alignsim.runs.train_config import to_plain

CLAIMS = "claims.yaml"

_HEADER = """\
# What was predicted of this study, written by scripts/train.py. A claim that was made or changed when its training had
# begun says so (registered_before_training: false) and keeps what it said earlier. Claims are judged by scripts/plot.py.
"""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Registered:
    """A claim and when it was made.

    Attributes:
        claim: the claim.
        registered: when, UTC.
        registered_before_training: whether nothing of the study had been trained by then, in this folder.
        seeds: how many were to be trained; verdicts keep their error rates for a number that was chosen beforehand.
        earlier: what it said before it was changed, oldest first.
    """

    claim: Claim
    registered: str
    registered_before_training: bool
    seeds: int
    earlier: list[Claim] = field(default_factory=list)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Registry:
    """What was predicted of a study.

    Attributes:
        question: what it asks, in one sentence.
        command: the last one that registered claims.
        claims: by name.
    """

    question: str = ""
    command: str = ""
    claims: dict[str, Registered] = field(default_factory=dict)


def registry_of(study: Path) -> Registry:
    """The claims of the study in a folder; none where none were registered.

    Raises:
        ConfigurationError: the file is not what was written.
    """
    path = study / CLAIMS
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(Registry).validate_json(json.dumps(values))  # strict about types, but not about mappings
    except FileNotFoundError:
        return Registry()
    except (ValueError, TypeError, yaml.YAMLError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else type(error).__name__
        message = f"is damaged ({told}): mend or remove it, and give the command that trained the study again"
        raise ConfigurationError([Problem(str(path), NO_VALUE, message)]) from error


def register(study: Path, question: str, claims: Mapping[str, Claim], seeds: int, command: str) -> list[str]:
    """Write down what is predicted of a study, now.

    A claim that is there unchanged keeps its date. Once training has begun no claim is dropped, and one that is new or
    changed is marked and keeps what it said before, and the question stays; until then all may change freely.

    Args:
        study: its folder.
        question: what it asks.
        claims: by name.
        seeds: how many are to be trained.
        command: what the user typed.

    Returns:
        What happened, in words, a line for each thing that was not known before.
    """
    study.mkdir(parents=True, exist_ok=True)
    with study_lock(study):
        clear_leftovers(study)
        before = registry_of(study)
        has_data = any(study.glob(f"*/{STATUS}")) or any(study.glob(f"*/{RESULTS}"))
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        made, told, fresh = dict(before.claims) if has_data else {}, [], 0
        for name, claim in claims.items():
            known = before.claims.get(name)
            if known is not None and known.claim == claim and (has_data or known.seeds == seeds):
                made[name] = known
                continue
            earlier = [*known.earlier, known.claim] if known is not None and has_data else []
            made[name] = Registered(claim, now, not has_data, seeds, earlier)
            fresh += not has_data
            if has_data:
                what = "changed" if earlier else "made"
                told.append(f"claim {name} is {what} after the study's training has begun: it is marked so")
        told += [f"claim {name} stays, although it is not predicted any more" for name in made if name not in claims]
        if fresh:
            told.append(f"{fresh} claim{'s' * (fresh > 1)} registered before the study is trained: {study / CLAIMS}")
        if has_data and before.question and question not in ("", before.question):
            told.append(f"the question stays as it was registered: {before.question}")
            question = before.question
        registry = Registry(question or before.question, command, made)
        if (registry.question, registry.claims) != (before.question, before.claims):
            text = yaml.safe_dump(to_plain(registry), sort_keys=False, allow_unicode=True, width=100)
            write_atomically({study / CLAIMS: lambda path: path.write_text(_HEADER + text, encoding="utf-8")})
    return told
