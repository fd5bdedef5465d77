"""Data flows one way: no module imports one to its right."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "alignsim"
ORDER = """
    lazy machine streams config envs models methods evaluation results experiment progress processes claims registry
    jobs ledger sweep launch training statistics study reading evidence wording verdicts summary tuning plots page
    report cli benchmark
"""
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path):
    """The parts of alignsim that a module imports, but for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in guarded:
            continue
        modules = [name.name for name in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{name}" for name in modules]
        yield from (module.split(".")[1] for module in modules if module.startswith("alignsim."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_one_to_its_right(path):
    order = ORDER.split()
    here = order.index(path.relative_to(PACKAGE).with_suffix("").parts[0])
    assert all(order.index(part) <= here for part in imported(path))
