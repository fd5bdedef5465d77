"""Files and folders that appear whole or not at all, whenever the process is killed.

What is in them is not known here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


class CorruptFileError(Exception):
    """A file that is not what was written: cut short, overwritten or of another kind; the text says how."""


def write_atomically(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Fill every file beside its place, then put all in place: readers see each file whole or not at all.

    Args:
        files: for each path, all in one folder, the function that fills the file it is given. An error in any of them
            leaves all the files in place as they were. They are put in place in their order.
    """
    folder = next(iter(files)).parent
    with temp_dir(folder) as aside:
        _fill(aside, files)
        for path in files:
            if path.is_dir():
                raise IsADirectoryError(f"{path} is a folder")
        for path in files:
            (aside / path.name).replace(path)
    _flush(folder)


def write_folder_atomically(place: Path, files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Fill a folder beside its place, then put it there, in place of one that may be there already.

    Args:
        place: the folder.
        files: for each name of a file, which an error names, the function that fills it.
    """
    with temp_dir(place.parent) as aside:
        _fill(aside, files)
        shutil.rmtree(place, ignore_errors=True)
        aside.replace(place)
    _flush(place.parent)


def leftovers(folder: Path) -> list[Path]:
    """What writers had not put in place: of some that were killed, or are writing there now."""
    return list(folder.glob(".aside-*"))


def clear_leftovers(folder: Path) -> None:
    """Remove what writers that were killed had not put in place; nobody else may be writing there."""
    for left in leftovers(folder):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def temp_dir(folder: Path) -> Iterator[Path]:
    """A new folder inside a folder, gone again afterwards unless it was moved."""
    aside = folder / f".aside-{uuid.uuid4().hex}"
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill(folder: Path, files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write files into a folder; an error of the file system names the file as it is asked for, not the one here."""
    for path, fill in files.items():
        try:
            fill(folder / path.name)
            _flush(folder / path.name)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
