"""The summary of a study: every condition's means with intervals and every paired difference; and what is printed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from alignsim.analysis.claims.text import counted, p_text, prediction
from alignsim.analysis.claims.verdicts import Verdict
from alignsim.analysis.statistics import interquartile_mean, mean_intervals, three
from alignsim.analysis.study import Study, flat, paired
from alignsim.evaluation.measures import MEASURES

#: The measure that figures and tables show first.
PRIMARY = "normalized_value"


def summary(study: Study) -> pd.DataFrame:
    """One row for each condition, and one for each paired difference (method `rlhf - dpo`).

    `seeds` stand behind the means and `diverged` were left out. For every measure the mean over seeds and its 95 % BCa
    bootstrap interval, in the columns `m`, `m_low` and `m_high`; of the normalized value also the interquartile mean.
    """
    tables = [study.rows.assign(left_out=False), _emptied(study.diverged)]
    for variant, baseline in study.comparisons:
        name = f"{flat(variant)} - {flat(baseline)}"
        tables.append(paired(study, variant, baseline).assign(method=name, left_out=False))
        if len(study.diverged):
            lost = study.diverged.loc[study.diverged.variant.isin([variant, baseline]), ["setting", "seed"]]
            own = study.all_rows[study.all_rows.variant == variant].drop_duplicates("setting").drop(columns="seed")
            tables.append(_emptied(own.merge(lost.drop_duplicates(), on="setting")).assign(method=name))
    rows = pd.concat([table for table in tables if len(table)], ignore_index=True)
    groups = rows.groupby(["method", "env", *study.varied], dropna=False, sort=True)
    found = groups.left_out.agg(diverged="sum", seeds="size").reset_index()
    found["seeds"] -= found.diverged
    columns = {name: np.full((3, len(found)), np.nan) for name in MEASURES}
    middle = np.full(len(found), np.nan)
    kept = rows.assign(group=groups.ngroup())[~rows.left_out].sort_values("group", kind="stable")
    sizes = kept.groupby("group").size()
    for size in sizes.unique():
        chosen = sizes.index[sizes == size].to_numpy()
        members = kept[kept.group.isin(chosen)]
        for name in MEASURES:
            values = members[name].to_numpy().reshape(len(chosen), size)
            columns[name][:, chosen] = np.array([interval[:3] for interval in mean_intervals(values)]).T
        values = members[PRIMARY].to_numpy().reshape(len(chosen), size)
        middle[chosen] = [interquartile_mean(row) for row in values]
    keys = ["method", "env", *study.varied, "seeds", "diverged"]
    parts = {f"{name}{end}": ends[i] for name, ends in columns.items() for i, end in enumerate(("", "_low", "_high"))}
    table = found[keys].assign(**parts)
    table.insert(len(keys) + 3, f"{PRIMARY}_interquartile_mean", middle)
    return table


def _emptied(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of diverged seeds: they count, their numbers do not."""
    return rows.assign(**dict.fromkeys(MEASURES, np.nan), left_out=True)


def summary_text(table: pd.DataFrame) -> str:
    """The summary as a table for the screen: normalized value, mean and 95 % interval."""
    keys = list(table.columns[: list(table.columns).index("seeds") + 1])
    classes = {key: table[key].str.rpartition(".")[2] for key in keys if key.endswith("._target_")}
    shown = table[keys].assign(**classes)
    shown = shown.rename(columns=lambda key: key.removeprefix("env.").removesuffix("._target_"))
    for key in shown.select_dtypes("float"):
        shown[key] = shown[key].map("{:g}".format)
    if table.diverged.any():
        shown["diverged"] = table.diverged
    shown[PRIMARY] = table[PRIMARY].map(lambda value: three(value) if value == value else "-")
    ends = zip(table[f"{PRIMARY}_low"], table[f"{PRIMARY}_high"], strict=True)
    few = table.seeds.map({0: "no seed", 1: "one seed"})
    shown["95 % interval"] = few.where(table.seeds < 2, [f"[{three(low)}, {three(high)}]" for low, high in ends])
    return shown.to_string(index=False, na_rep="-")


def verdicts_shown(verdicts: Sequence[Verdict]) -> str:
    """The verdicts for the screen: each with its estimate, interval and, where there is more to say, the reason."""
    width = max(len(verdict.name) for verdict in verdicts)
    lines = []
    for verdict in verdicts:
        numbers = str(verdict.estimate) if verdict.estimate.n else "-"
        p = verdict.p_against if verdict.outcome == "refuted" else verdict.p
        late = "" if verdict.made.registered_before_training else "   (made when training had begun)"
        told = f"{numbers:<24} {prediction(verdict.claim):<24} p {p_text(p)}, {seeds_text(verdict)}{late}"
        lines.append(f"{verdict.outcome:<13} {verdict.name:<{width}}   {told}")
        lines += [f"{'':<13} {verdict.why}"] * (verdict.outcome == "inconclusive")
        lines += [f"{'':<13} {note}" for note in verdict.notes]
    return "\n".join(lines)


def seeds_text(verdict: Verdict) -> str:
    """How many seeds stand behind a verdict, and how many do not, such as `14 seeds, 2 diverged`."""
    parts = [counted(verdict.seeds, "seed")]
    parts += [f"{verdict.diverged} diverged"] * (verdict.diverged > 0)
    return ", ".join(parts + [f"{verdict.missing} not in all conditions"] * (verdict.missing > 0))
