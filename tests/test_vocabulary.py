"""The field's words: names that were private to this project, and what replaced them, name nothing any more."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "alignsim"

#: Names of anything: functions, classes, arguments, variables, attributes.
WORDS = """
    told tell hear look found there seen taken kept before_data carry_out taking_part stranger span prospect sides
    Teller Task Trained Fit Best _Stack _Result Supervised Optimisation Optimiser PolicyFit OwnPairs Imitation
    looks_in_vain places writer written draws by_response by_feature bounded affine write_whole _aside DamagedError
    complaints Look Lane draw_long spread KNOB
""".split()  # noqa: SIM905

#: Names of methods that have others now: an environment's `read`, a monitor's `keep`.
METHODS = ["read", "write", "keep", "resume", "of"]

MODULES = ["registry", "evidence", "reading", "wording", "ledger", "processes", "machine", "streams", "value_model"]

#: British spellings, by their stems.
SPELLINGS = r"(?i)(optimis|normalis|penalis|regularis|centred|labelled|labelling|colour|favour|behaviour|neighbour)"

FILES = sorted(PACKAGE.rglob("*.py"))


def names(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_private_word_names_anything(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    private = {*WORDS, *(f"_{word}" for word in WORDS)}
    assert not private & set(names(tree))
    methods = [n.name for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for n in c.body if hasattr(n, "name")]
    assert not set(METHODS) & set(methods)
    assert path.stem not in MODULES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_spelling_is_american(path):
    if path == PACKAGE / "config" / "moved.py":
        return  # the table of old names
    assert not re.findall(SPELLINGS, path.read_text(encoding="utf-8"))
