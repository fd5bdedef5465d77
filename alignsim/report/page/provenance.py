"""How a study was made, for its page: commands, dates, versions, devices, configuration."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import pandas as pd

from alignsim.analysis.claims.preregistration import Preregistration
from alignsim.analysis.claims.text import typed_command
from alignsim.analysis.study import NAMES, Study, condition_keys
from alignsim.config.version import package_versions
from alignsim.runs.storage.folder import RunFolder
from alignsim.runs.storage.state import Status
from alignsim.runs.text import counted, format_seed_ranges

#: How many values of a key, and how many commands, are listed.
MOST_VALUES, MOST_COMMANDS = 20, 20


def _statuses(study: Study) -> list[Status]:
    """The status of every condition that is shown."""
    if study.folder is None or "run" not in study.rows:
        return []
    statuses = (RunFolder(study.folder / run).status() for run in sorted(study.all_rows.run.unique()))
    return [status for status in statuses if status is not None]


def provenance(study: Study, preregistration: Preregistration, command: str) -> dict[str, Any]:
    """Returns how the study was made, for the template of the page: commands, dates, versions, configuration."""
    rows, statuses = study.all_rows, _statuses(study)
    moments = sorted(moment for status in statuses for moment in (status.started, status.ended or "") if moment)
    shared = [key for key in condition_keys(rows) if key not in study.varied and rows[key].notna().any()]
    conditions = rows.drop_duplicates(list(NAMES))
    return {
        "count": f"{counted(len(conditions), 'condition')}, {counted(len(rows), 'run')} (one for each seed).",
        "trained": f"{moment(moments[0])} to {moment(moments[-1])}" if moments else "at an unknown time",
        "date": moment(datetime.now(timezone.utc).isoformat()),
        "commands": [*_commands(statuses, preregistration.command), typed_command(command)],
        "versions": [(key, ", ".join(sorted(values))) for key, values in _versions(statuses, rows).items()],
        "varied": [(key, _values(rows[key])) for key in ("method", "env", *study.varied)],
        "shared": [(key, _values(rows[key])) for key in shared],
    }


def _commands(statuses: Sequence[Status], registered: str) -> list[str]:
    """The commands that registered claims and trained conditions, as typed."""
    typed = list(dict.fromkeys([registered, *(status.command for status in statuses)]))
    commands = [typed_command(text) for text in typed if text]
    more = len(commands) - MOST_COMMANDS
    return commands[:MOST_COMMANDS] + [f"... and {more} more, in the status.json of each condition"] * (more > 0)


def _versions(statuses: Sequence[Status], rows: pd.DataFrame) -> dict[str, set[str]]:
    """Which versions of which packages, devices and seeds the study was made with."""
    versions: dict[str, set[str]] = {}
    for status in statuses:
        for package, number in status.versions.items():
            versions.setdefault(package, set()).add(number)
        versions.setdefault("device", set()).add(status.device)
    versions["seeds"] = {format_seed_ranges(sorted(map(int, rows.seed.unique())))}
    analyzed = ", ".join(map(" ".join, package_versions("alignsim", "numpy", "scipy", "pandas").items()))
    return versions | {"summarized with": {analyzed}}


def moment(text: str) -> str:
    """Returns a time in ISO format as people read it, such as `2026-11-23 03:45 UTC`."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    except ValueError:  # edited by hand
        return text


def _values(column: pd.Series) -> str:
    """The different values of a key, the first of them where there are many."""
    different = column.dropna().drop_duplicates()
    if pd.api.types.is_numeric_dtype(different):
        different = different.sort_values()
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in different]
    more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return ", ".join(values[:MOST_VALUES]) + more
