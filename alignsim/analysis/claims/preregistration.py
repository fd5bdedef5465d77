"""The record of when claims were made: `claims.yaml` of a study says whether each was registered before training.

What a claim is stands in `alignsim.config.claims`; nothing is judged here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from alignsim.config.claims import Claim
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem
from alignsim.runs.storage.atomic import clear_leftovers, write_atomically
from alignsim.runs.storage.folder import RESULTS, STATUS
from alignsim.runs.storage.lock import study_lock
from alignsim.runs.text import counted
from alignsim.runs.train_config import to_plain

CLAIMS = "claims.yaml"

#: The keys of a claim in files of version 0.1 and what they are called now: no upgrade loses when a claim was made.
_RENAMED = {
    "registered": "registered_at",
    "before_data": "registered_before_training",
    "seeds": "planned_seeds",
    "earlier": "earlier_versions",
}

_HEADER = """\
# What was predicted of this study, written by scripts/train.py. A claim that was made or changed after training had
# begun says so (registered_before_training: false) and keeps its earlier versions. scripts/plot.py judges the claims.
"""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RegisteredClaim:
    """A claim and when it was made.

    Attributes:
        claim: the prediction.
        registered_at: when it was registered, UTC, in ISO format.
        registered_before_training: whether nothing of the study had been trained in this folder by then.
        planned_seeds: how many seeds were to be trained. Verdicts keep their error rates for a number of seeds that was
            chosen in advance.
        earlier_versions: what the claim was before it was changed, the oldest first.
    """

    claim: Claim
    registered_at: str
    registered_before_training: bool
    planned_seeds: int
    earlier_versions: list[Claim] = field(default_factory=list)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Preregistration:
    """What was predicted of a study.

    Attributes:
        question: what the study asks, in one sentence.
        command: the last command that registered claims.
        claims: by name.
    """

    question: str = ""
    command: str = ""
    claims: dict[str, RegisteredClaim] = field(default_factory=dict)


def load_preregistration(study: Path) -> Preregistration:
    """Returns the registered claims of the study in a folder; none where the folder has no `claims.yaml`.

    Raises:
        ConfigurationError: the file is not what `register` wrote.
    """
    path = study / CLAIMS
    try:
        values = _with_current_keys(yaml.safe_load(path.read_text(encoding="utf-8")))
        # strict about types, but not about mappings
        return TypeAdapter(Preregistration).validate_json(json.dumps(values))
    except FileNotFoundError:
        return Preregistration()
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else type(error).__name__
        message = f"is damaged ({reason}): repair or remove it, and run the command that trained the study again"
        raise ConfigurationError([Problem(str(path), NO_VALUE, message)]) from error


def _with_current_keys(values: Any) -> Any:
    """The content of a file in which keys may have old names, or anything else where it is damaged."""
    claims = values.get("claims") if isinstance(values, dict) else None
    if not isinstance(claims, dict) or not all(isinstance(record, dict) for record in claims.values()):
        return values
    renamed = {name: {_RENAMED.get(key, key): value for key, value in each.items()} for name, each in claims.items()}
    return {**values, "claims": renamed}


def register(study: Path, question: str, claims: Mapping[str, Claim], seeds: int, command: str) -> list[str]:
    """Records now what is predicted of a study.

    An unchanged claim keeps its date. Until training begins, claims and the question may change freely. Afterwards no
    claim is dropped, a new or changed one is marked and keeps its earlier versions, and the question stays.

    Args:
        study: the study's folder.
        question: what the study asks.
        claims: by name.
        seeds: how many seeds are to be trained.
        command: what the user typed.

    Returns:
        What changed in the record, one line for each change.
    """
    study.mkdir(parents=True, exist_ok=True)
    with study_lock(study):
        clear_leftovers(study)
        before = load_preregistration(study)
        training_began = any(study.glob(f"*/{STATUS}")) or any(study.glob(f"*/{RESULTS}"))
        merged = _merged(before, claims, seeds, training_began)
        messages = _changes(before, merged, set(claims), training_began)
        if n_new := 0 if training_began else sum(before.claims.get(name) is not merged[name] for name in merged):
            messages.append(f"{counted(n_new, 'claim')} registered before the study is trained: {study / CLAIMS}")
        if training_began and before.question and question not in ("", before.question):
            messages.append(f"the question stays as it was registered: {before.question}")
            question = before.question
        after = Preregistration(question or before.question, command, merged)
        if (after.question, after.claims) != (before.question, before.claims):
            text = yaml.safe_dump(to_plain(after), sort_keys=False, allow_unicode=True, width=100)
            write_atomically({study / CLAIMS: lambda path: path.write_text(_HEADER + text, encoding="utf-8")})
    return messages


def _merged(
    before: Preregistration, claims: Mapping[str, Claim], seeds: int, training_began: bool
) -> dict[str, RegisteredClaim]:
    """The claims to record; those that are unchanged are the objects that were recorded before."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    merged = dict(before.claims) if training_began else {}
    for name, claim in claims.items():
        known = before.claims.get(name)
        if known is not None and known.claim == claim and (training_began or known.planned_seeds == seeds):
            merged[name] = known
        else:
            earlier = [*known.earlier_versions, known.claim] if known is not None and training_began else []
            merged[name] = RegisteredClaim(claim, now, not training_began, seeds, earlier)
    return merged


def _changes(
    before: Preregistration, merged: Mapping[str, RegisteredClaim], predicted: set[str], training_began: bool
) -> list[str]:
    """What happened to claims once training had begun, one line for each."""
    if not training_began:
        return []
    changed = [name for name in merged if before.claims.get(name) is not merged[name]]
    messages = [
        f"claim {name} was {'changed' if name in before.claims else 'made'} after training had begun, and is marked so"
        for name in changed
    ]
    dropped = [name for name in merged if name not in predicted]
    return messages + [f"claim {name} stays, although it is no longer predicted" for name in dropped]
