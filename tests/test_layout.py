"""The house: nine rooms, imports only leftwards and no circles, also between the files of a room."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "alignsim"
ROOMS = ["config", "envs", "models", "methods", "evaluation", "runs", "analysis", "report", "cli"]
LOOSE = {"__init__.py", "__main__.py", "_lazy.py", "py.typed"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    """The modules of alignsim that a file imports anywhere in it, for type checking too."""
    known = {module_name(other) for other in MODULES}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in known else node.module for name in names if name.startswith("alignsim"))
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("alignsim"))


def room(module):
    return module.split(".")[1] if "." in module else ""


def test_the_package_has_nine_rooms_and_no_loose_files():
    inside = [path for path in PACKAGE.iterdir() if path.is_file() or any(path.rglob("*.py"))]
    assert sorted(path.name for path in inside if path.is_dir()) == sorted(ROOMS)
    assert {path.name for path in inside if path.is_file()} <= LOOSE


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_left(path):
    here = room(module_name(path))
    for module in imported(path):
        if path.name in LOOSE and path.parent == PACKAGE:
            continue  # the public face shows every room
        assert module != "alignsim", "inside the package, the public face is not imported"
        there = room(module)
        assert there == "_lazy" or ROOMS.index(there) <= ROOMS.index(here), f"{module} is to the right"


def test_there_are_no_circles():
    inside = [path for path in MODULES if path.parent != PACKAGE]
    graph = {module_name(path): {m for m in imported(path) if m != module_name(path)} for path in inside}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_heads_are_pure():
    assert not list(imported(PACKAGE / "models" / "heads.py"))
