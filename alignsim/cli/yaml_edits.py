"""Edits of the text of a YAML file: scalars and entries are replaced where PyYAML saw them, all else stays."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from yaml import MappingNode, Node, ScalarNode, SequenceNode


class Edit(NamedTuple):
    """A replacement of the characters from `start` to before `end` of a text, and what to say of it."""

    start: int
    end: int
    text: str
    line: int
    says: str


@dataclass
class Migration:
    """What is to change in the text of one YAML file, and what is left to the user.

    Attributes:
        path: the file.
        text: its text.
        methods: the fields of each method that the file may be about, by the method's name; None for an unknown class.
        edits: what is to change.
        left: what could not be decided, one line each.
    """

    path: Path
    text: str
    methods: dict[str, frozenset[str] | None] = field(default_factory=dict)
    edits: set[Edit] = field(default_factory=set)
    left: list[str] = field(default_factory=list)

    @property
    def new_text(self) -> str:
        """The text with all edits made."""
        text = self.text
        for edit in sorted(self.edits, reverse=True):
            text = text[: edit.start] + edit.text + text[edit.end :]
        return text

    def source(self, node: Node) -> str:
        """The characters of a node."""
        return self.text[node.start_mark.index : node.end_mark.index]

    def replace(self, node: Node, new: str) -> None:
        """Note that a scalar becomes another one; quotes stay."""
        start, end, old = node.start_mark.index, node.end_mark.index, self.source(node)
        quote = old[:1] if old[:1] in ("'", '"') else ""
        new = f"{quote}{new}{quote}"
        self.edits.add(Edit(start, end, new, node.start_mark.line + 1, f"{old} -> {new}"))
        blank = re.match(r"[^#\n'\"]*?( {2,})#", self.text[end:])
        if (
            blank is not None and (growth := min(len(new) - len(old), len(blank[1]) - 1)) > 0
        ):  # the comment stays in place
            at = end + blank.start(1)
            self.edits.add(Edit(at, at + growth, "", node.start_mark.line + 1, ""))

    def replace_within(self, node: Node, part: tuple[int, int], new: str) -> None:
        """Note that some characters of a scalar become others.

        Args:
            node: the scalar.
            part: where they begin and end, counted from the beginning of the scalar.
            new: what replaces them.
        """
        start, end = (node.start_mark.index + index for index in part)
        self.edits.add(Edit(start, end, new, node.start_mark.line + 1, f"{self.text[start:end]} -> {new}"))

    def replace_entry(self, key: Node, value: Node, new: str) -> None:
        """Note that a key with its value becomes another one; a comment behind it stays."""
        start, end = key.start_mark.index, value.end_mark.index
        self.edits.add(Edit(start, end, new, key.start_mark.line + 1, f"{self.text[start:end]} -> {new}"))

    def insert_before(self, key: Node, entry: str, *, in_flow: bool) -> None:
        """Note a new entry before another one of a mapping, which is in flow style, `{a: 1, b: 2}`, or not."""
        start, newline = key.start_mark.index, "\r\n" if "\r\n" in self.text else "\n"
        separator = ", " if in_flow else newline + " " * key.start_mark.column
        self.edits.add(Edit(start, start, entry + separator, key.start_mark.line + 1, f"+ {entry}"))

    def remove_entry(self, key: Node, value: Node, *, why: str, in_flow: bool) -> None:
        """Note that an entry goes; a comment behind it stays on a line of its own."""
        text, start, end = self.text, key.start_mark.index, value.end_mark.index
        says = f"{text[start:end]} {why}"
        before, after = re.search(r",\s*$", text[:start]), re.match(r"\s*,\s*", text[end:])
        rest = re.match(r"[ \t]*(\r?\n|$)?", text[end:])
        assert rest is not None  # it may be empty
        if in_flow and after is not None:
            end += after.end()
        elif in_flow:
            start = start if before is None else before.start()
        else:
            start -= key.start_mark.column * (rest[1] is not None)
            end += rest.end()
        self.edits.add(Edit(start, end, "", key.start_mark.line + 1, says))

    def leave(self, node: Node, why: str) -> None:
        """Note something that is left to the user."""
        self.left.append(f"line {node.start_mark.line + 1}: {self.source(node).splitlines()[0]}: {why}")


def entries_of(mapping: Node) -> dict[str, tuple[ScalarNode, Node]]:
    """The entries of a mapping whose keys are scalars, by key; none for another node."""
    pairs = mapping.value if isinstance(mapping, MappingNode) else []
    return {str(key.value): (key, value) for key, value in pairs if isinstance(key, ScalarNode)}


def items_of(root: MappingNode, key: str) -> list[Node]:
    """The items of a list below a key."""
    value = entries_of(root)[key][1] if key in entries_of(root) else None
    return list(value.value) if isinstance(value, SequenceNode) else []


def scalars_of(node: Node) -> list[str]:
    """A scalar, or the scalars of a list."""
    items = node.value if isinstance(node, SequenceNode) else [node]
    return [str(item.value) for item in items if isinstance(item, ScalarNode)]
