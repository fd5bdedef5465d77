"""How a study was made, for its page: commands, dates, versions, devices, configuration."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pandas as pd

from alignsim.analysis.claims.preregistration import Registry
from alignsim.analysis.claims.text import as_typed, counted
from alignsim.analysis.study import NAMES, Study, condition_keys
from alignsim.config.version import package_versions
from alignsim.runs.storage.folder import RunFolder
from alignsim.runs.storage.state import Status
from alignsim.runs.text import format_seed_ranges

#: How many values of a key, and how many commands, are told.
MOST_VALUES, MOST_COMMANDS = 20, 20


def _statuses(study: Study) -> list[Status]:
    """Of every condition that is shown."""
    if study.folder is None or "run" not in study.rows:
        return []
    found = (RunFolder(study.folder / run).status() for run in sorted(study.all_rows.run.unique()))
    return [status for status in found if status is not None]


def provenance(study: Study, registry: Registry, command: str) -> dict[str, Any]:
    """How the study was made: commands, dates, versions, devices, configuration."""
    rows, statuses = study.all_rows, _statuses(study)
    moments = sorted(moment for status in statuses for moment in (status.started, status.ended or "") if moment)
    typed = list(dict.fromkeys([*([registry.command] if registry.command else []), *(s.command for s in statuses)]))
    commands = [as_typed(text) for text in typed if text]
    left = len(commands) - MOST_COMMANDS
    commands = commands[:MOST_COMMANDS] + [f"... and {left} more, in the status.json of each condition"] * (left > 0)
    versions: dict[str, set[str]] = {}
    for status in statuses:
        for package, number in status.versions.items():
            versions.setdefault(package, set()).add(number)
        versions.setdefault("device", set()).add(status.device)
    versions["seeds"] = {format_seed_ranges(sorted(map(int, rows.seed.unique())))}
    analyzed = ", ".join(map(" ".join, package_versions("alignsim", "numpy", "scipy", "pandas").items()))
    versions["summarized with"] = {analyzed}
    shared = [key for key in condition_keys(rows) if key not in study.varied and rows[key].notna().any()]
    conditions = rows.drop_duplicates(list(NAMES))
    return {
        "count": f"{counted(len(conditions), 'condition')}, {counted(len(rows), 'run')} (of a condition with a seed).",
        "trained": f"{moment(moments[0])} to {moment(moments[-1])}" if moments else "at an unknown time",
        "date": moment(datetime.now(timezone.utc).isoformat()),
        "commands": [*commands, as_typed(command)],
        "versions": [(key, ", ".join(sorted(values))) for key, values in versions.items()],
        "varied": [(key, _values(rows[key])) for key in ("method", "env", *study.varied)],
        "shared": [(key, _values(rows[key])) for key in shared],
    }


def moment(text: str) -> str:
    """Such as `2026-11-23 03:45 UTC`."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    except ValueError:  # edited by hand
        return text


def _values(column: pd.Series) -> str:
    found = column.dropna().drop_duplicates()
    if pd.api.types.is_numeric_dtype(found):
        found = found.sort_values()
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in found]
    more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return ", ".join(values[:MOST_VALUES]) + more
