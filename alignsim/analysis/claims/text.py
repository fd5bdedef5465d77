"""Claims, p-values and commands in words, as the screen, the page and the reasons of verdicts show them."""

from __future__ import annotations

from alignsim.config.claims import Claim, Selection


def quantity(claim: Claim) -> str:
    """Returns what a claim is about, such as `normalized value of rlhf - dpo, where env is gap`."""
    text = f"{claim.measure.replace('_', ' ')} of {_named(claim.condition)}"
    if claim.baseline is not None:
        text += f" - {_named(claim.baseline)}"
    if claim.where:
        text += f", where {_named(claim.where)}"
    if claim.elsewhere is not None:
        text += f", minus the same difference where {_named(claim.elsewhere)}"
    return f"rank correlation with {claim.along} of the {text}" if claim.along else text


def prediction(claim: Claim) -> str:
    """Returns what a claim predicts of its quantity, such as `above 0.1`."""
    return f"rank correlation {predicted_range(claim)}" if claim.along else predicted_range(claim)


def predicted_range(claim: Claim) -> str:
    """Returns where a claim says that the estimate lies, such as `within 0.05 of 0`."""
    return {
        "greater": f"above {claim.margin:g}",
        "shrinks": f"above {claim.margin:g}",
        "less": f"below {-claim.margin or 0:g}",
        "equal": f"within {claim.margin:g} of 0",
        "increases": "above 0",
        "decreases": "below 0",
    }[claim.predicts]


def threshold(claim: Claim) -> str:
    """Returns the estimate at which the verdict changes, such as `0.1` or `±0.05`."""
    signed = -claim.margin if claim.predicts == "less" and claim.margin else claim.margin
    return f"{'±' * (claim.predicts == 'equal')}{signed:g}"


def p_text(p: float) -> str:
    """Returns a p-value as it is shown: resampling cannot tell very small ones apart."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _named(selection: Selection) -> str:
    """Conditions in words: the method by its name, the rest by key and value."""
    parts = [str(selection["method"])] if "method" in selection else []
    parts += [f"{key} is {_listed(value)}" for key, value in selection.items() if key != "method"]
    return ", ".join(parts)


def _listed(value: object) -> str:
    if isinstance(value, list):
        return " or ".join(map(_listed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def typed_command(command: str) -> str:
    """Returns a command as a user types it, from the name of its script and its arguments, such as `train -m ...`."""
    name, _, rest = command.partition(" ")
    return f"python scripts/{name}.py {rest}".strip()
