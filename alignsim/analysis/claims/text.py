"""Claims, numbers and commands in words, as the screen, the page and the reasons of verdicts have them."""

from __future__ import annotations

from alignsim.config.claims import Claim, Selection


def quantity(claim: Claim) -> str:
    """What a claim is about, such as `normalized value of rlhf - dpo, where env is gap`."""
    text = f"{claim.measure.replace('_', ' ')} of {_named(claim.condition)}"
    if claim.baseline is not None:
        text += f" - {_named(claim.baseline)}"
    if claim.where:
        text += f", where {_named(claim.where)}"
    if claim.elsewhere is not None:
        text += f", minus the same where {_named(claim.elsewhere)}"
    return f"rank correlation with {claim.along} of the {text}" if claim.along else text


def prediction(claim: Claim) -> str:
    """What a claim predicts of it, such as `above 0.1`."""
    return f"rank correlation {where_predicted(claim)}" if claim.along else where_predicted(claim)


def p_text(p: float) -> str:
    """A p-value as it is shown: resampling cannot tell very small ones apart."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _named(selection: Selection) -> str:
    """Conditions in words: the method by its name, the rest by key and value."""
    told = [str(selection["method"])] if "method" in selection else []
    told += [f"{key} is {_listed(value)}" for key, value in selection.items() if key != "method"]
    return ", ".join(told)


def _listed(value: object) -> str:
    if isinstance(value, list):
        return " or ".join(map(_listed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def where_predicted(claim: Claim) -> str:
    """Where a claim says that the estimate lies."""
    return {
        "greater": f"above {claim.margin:g}",
        "shrinks": f"above {claim.margin:g}",
        "less": f"below {-claim.margin or 0:g}",
        "equal": f"within {claim.margin:g} of 0",
        "increases": "above 0",
        "decreases": "below 0",
    }[claim.predicts]


def limit(claim: Claim) -> str:
    """Where the verdict changes."""
    signed = -claim.margin if claim.predicts == "less" and claim.margin else claim.margin
    return f"{'±' * (claim.predicts == 'equal')}{signed:g}"


def counted(n: int, thing: str) -> str:
    """Such as `1 seed` or `4 seeds`."""
    return f"{n} {thing}{'s' * (n != 1)}"


def as_typed(command: str) -> str:
    """A command as a user types it, from its name and arguments, such as `train -m ...`."""
    name, _, rest = command.partition(" ")
    return f"python scripts/{name}.py {rest}".strip()
