"""The rows of the reference: what they say of a class, and that no key of any class is missing from the pages."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

import alignsim
from alignsim.cli.reference import attribute_docs, rows, yaml_comments
from alignsim.config.checking import knobs
from alignsim.config.schema import STRICT, Component
from tests.docs.texts import PAGES, ROOT

sys.path.append(str(ROOT / "docs"))
import reference_tables


@dataclass(frozen=True, config=STRICT)
class Inner:
    """A block.

    Attributes:
        steps: how many steps, which
            takes two lines.
    """

    steps: PositiveInt = 3


@dataclass(frozen=True, config=STRICT)
class Parent(Component):
    """A parent.

    Attributes:
        share: of the whole.
        kind: which kind.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    kind: Literal["one", "two"] | None = None


@dataclass(frozen=True, config=STRICT)
class Child(Parent):
    """A child.

    Attributes:
        share: of what the child has.
    """

    inner: Inner = dataclasses.field(default_factory=lambda: Inner(steps=5))
    flag: bool = False


def test_a_row_has_meaning_type_range_choices_and_default():
    share, kind, inner, steps, flag = rows(Child, prefix="method.")
    assert share == ("method.share", "of what the child has.", "number", "above 0, at most 1", (), "0.25")
    assert kind == ("method.kind", "which kind.", "choice or null", "", ("one", "two"), "null")
    assert inner == ("method.inner", "A block.", "keys", "", (), "")
    assert steps == ("method.inner.steps", "how many steps, which takes two lines.", "whole number", "above 0", (), "5")
    assert flag == ("method.flag", "", "true or false", "", (), "false")


def test_values_replace_defaults_and_comments_fill_gaps():
    text = "share: 0.5\ninner:  # a block of steps\n  steps: 7  # not needed\nflag: true  # a flag\n"
    found = {row.key: row for row in rows(Child, {"share": 0.5, "inner": {"steps": 7}, "flag": True}, text)}
    assert [found[key].default for key in ("share", "inner.steps", "flag")] == ["0.5", "7", "true"]
    assert found["flag"].meaning == "a flag"
    assert found["inner"].meaning == "a block of steps"
    assert found["inner.steps"].meaning == attribute_docs(Inner)["steps"]


def test_a_component_is_the_class_that_its_target_names():
    found = rows(Parent, {"_target_": "unused", "kind": "one"})
    assert [row.key for row in found] == ["share", "kind"]
    policy = "alignsim.models.linear.Linear"
    first = rows(importlib.import_module("alignsim.models.config").ModelConfig, {"policy": {"_target_": policy}})[0]
    assert (first.key, first.type, first.default) == ("policy", "component", policy)


def test_comments_belong_to_dotted_keys():
    text = '# head\na:\n  b: 1  # one\n  c: "x # y"  # two\nd: {}\ne.f: 2 # three\n'
    assert yaml_comments(text) == {"a.b": "one", "a.c": "two", "e.f": "three"}


def configuration_classes():
    """Every class of the package that configuration makes objects of."""
    for info in pkgutil.walk_packages(alignsim.__path__, "alignsim."):
        module = importlib.import_module(info.name)
        for found in vars(module).values():
            if inspect.isclass(found) and found.__module__ == info.name and is_pydantic_dataclass(found):
                strict = found.__pydantic_config__ == STRICT
                if strict and not inspect.isabstract(found) and not found.__name__.startswith("_"):
                    yield found


@pytest.fixture(scope="module")
def reference():
    """The pages as the site has them."""
    return "\n".join(reference_tables.inserted(text) for text in PAGES.values())


def test_the_reference_asks_for_every_group(reference):
    for group in reference_tables.groups():
        for path in reference_tables.options(group):
            assert f"`{group}={path.stem}`" in reference


def test_the_reference_names_every_field_of_every_class(reference):
    keys = {key.rpartition(".")[2] for key in re.findall(r"^\| `([\w./]+)` \|", reference, re.MULTILINE)}
    classes = list(configuration_classes())
    assert len(classes) > 30
    for schema in classes:
        assert set(knobs(schema)) <= keys, schema


def test_every_key_has_a_meaning(reference):
    assert not re.findall(r"^\| `((?:env|method|model|seeds)\.[\w.]+)` \|  \|", reference, re.MULTILINE)
