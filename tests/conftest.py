import re
from collections import Counter

import pytest
import torch

#: The command that enables tests, by a pattern in the reason for which they are skipped.
ENABLED_BY = {
    r"\btrl\b": 'pip install -e ".[interop]"',
    r"\bray\b|ray_launcher": 'pip install -e ".[ray]"',
    r"playwright|joblib|submitit|optuna": 'pip install -e ".[test]"',
    r"Chromium": "playwright install --with-deps chromium, or apt-get install chromium",
    r"\brights\b": "run pytest as root",
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests run side by side, one to a core."""
    torch.set_num_threads(1)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the usual resamples in every bootstrap, for facts that do not depend on their number."""
    monkeypatch.setattr("alignsim.analysis.statistics.RESAMPLES", 999)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests were skipped, why, and how to run them, so that a part is not taken for the whole."""
    skipped = Counter(map(_file_and_reason, terminalreporter.stats.get("skipped", [])))
    if skipped:
        terminalreporter.section("tests that this machine cannot run")
    for (file, reason), count in sorted(skipped.items()):
        terminalreporter.line(f"{file}: {count} skipped: {reason}")
        for pattern, command in ENABLED_BY.items():
            if re.search(pattern, reason, re.IGNORECASE) and command not in reason:
                terminalreporter.line(f"    to run them: {command}")


def _file_and_reason(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str]:
    """Pytest keeps the file, the line and the reason of a skip in a tuple."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return report.nodeid.partition("::")[0], reason.removeprefix("Skipped: ").splitlines()[0]
