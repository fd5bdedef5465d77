import re
from collections import Counter

import pytest
import torch

#: The command that enables tests, by a pattern in the reason for which they are skipped.
ENABLED_BY = {
    r"\btrl\b": 'pip install -e ".[interop]"',
    r"\bray\b": 'pip install -e ".[ray]"',
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
    """Say why tests were skipped and how to run them, so that nobody takes a part of the suite for all of it."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section("tests that this machine cannot run")
    for reason, count in sorted(reasons.items()):
        command = next((command for pattern, command in ENABLED_BY.items() if re.search(pattern, reason, re.I)), "")
        terminalreporter.line(f"{count} skipped: {reason}" + f"\n    to run: {command}" * bool(command))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr  # a tuple of file, line and reason where a test was skipped
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return reason.removeprefix("Skipped: ").splitlines()[0]
