"""The tensors of a run: the weights of its seeds, and the state of a training in progress.

Here they are saved, loaded and stacked by seed; what is in them is decided by the methods.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from alignsim.runs.storage.atomic import CorruptFileError, write_atomically

if TYPE_CHECKING:
    from alignsim.methods.base import State


def save_tensors(values: object, path: Path) -> None:
    """Save values by `torch.save`, but raise an OSError when the disk is full, which `torch.save` does not."""
    import torch

    buffer = io.BytesIO()
    torch.save(values, buffer)
    path.write_bytes(buffer.getbuffer())


def read_weights(path: Path) -> dict[str, Any]:
    """The weights of some seeds: `seeds` and, for each model, its parameters (S, ...).

    Raises:
        CorruptFileError: they are not what was saved.
    """
    import torch

    try:
        weights: dict[str, Any] = torch.load(path, weights_only=True)
        models = [model for name, model in weights.items() if name != "seeds"]
        if any(len(p) != len(weights["seeds"]) for model in models for p in model.values()):
            raise CorruptFileError("a parameter is not of all its seeds")
    except Exception as error:  # whatever torch raises at a damaged file
        raise CorruptFileError(f"{type(error).__name__}") from error
    return weights


def stacked(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of two sets of seeds in one stack, in the order of the seeds; where both have a seed, the newer.

    Args:
        older: `seeds` and, for each model, its parameters (S, ...); may be empty.
        newer: the same of other seeds.
    """
    import torch

    if not older:
        return dict(newer)
    place = {seed: i for i, seed in enumerate([*older["seeds"], *newer["seeds"]])}  # the newer one where both have it
    seeds = sorted(place)
    order = torch.tensor([place[seed] for seed in seeds])
    models = {
        model: {name: torch.cat([older[model][name], p])[order] for name, p in parameters.items()}
        for model, parameters in newer.items()
        if model != "seeds"
    }
    return {"seeds": seeds, **models}


class CheckpointFile:
    """The state of a training in progress, in one file.

    Args:
        path: the file.
        owner: whose state it is; a file of another owner is not loaded.

    Attributes:
        saved_at: in words, how far the training had come when it was saved last; None while it was not.
    """

    def __init__(self, path: Path, owner: Mapping[str, Any]) -> None:
        self._path, self._owner = path, dict(owner)
        self.saved_at: str | None = None

    def load(self) -> State | None:
        """The state that was saved last; None where there is none, or it is damaged, or another's."""
        import torch

        try:
            saved = torch.load(self._path, weights_only=True)
            if saved["owner"] != self._owner:
                return None
            self.saved_at = saved["state"]["at"]
            return cast("State", saved["state"])
        except Exception:  # whatever torch raises at a damaged file
            return None

    def save(self, state: State) -> None:
        """Replace what was saved, whole or not at all."""
        write_atomically({self._path: lambda path: save_tensors({"owner": self._owner, "state": state}, path)})
        self.saved_at = state["at"]
