"""True reward against KL where beta varies: how far each method gets, and where more KL costs reward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from alignsim.analysis.load import load_histories
from alignsim.analysis.statistics import Interval, mean_interval
from alignsim.analysis.study import BETA, Study, name_settings_and_variants
from alignsim.report.figures.layout import columns_of, finish, new_figure, place_labels
from alignsim.report.figures.means import error_bars, means
from alignsim.report.figures.style import (
    Drawing,
    SeriesStyle,
    broken,
    evenly_spaced,
    interval_notes,
    more_of,
    name_of,
    seed_counts,
    series_styles,
    signed,
)

_MOST_CONTEXTS, _MOST_VARIANTS, _MOST_PATHS = 4, 4, 8

_READING = (
    "A policy that moves farther from the reference (to the right, larger KL) can earn more true reward (up), but "
    "never more than the gray line; beta decides how far it moves. "
    "Where true reward falls while KL still grows, either the policy exploits errors of what was learned "
    "(over-optimization), or RL failed; then the learned reward falls too, and the computational part of the regret "
    "grows."
)


def draw(study: Study) -> list[Drawing]:
    """Draws a column for each setting without its beta; nothing where beta does not vary within a setting."""
    if BETA not in study.varied or study.rows.empty:
        return []
    rows = study.rows.sort_values([key for key in study.shared if key != BETA] or ["env"])
    rows = rows.assign(context=name_settings_and_variants(rows.drop(columns=BETA)).setting)
    styles = dict(list(series_styles(rows).items())[:_MOST_VARIANTS])
    rows = rows[rows.variant.isin(styles) & np.isfinite(rows.reward) & np.isfinite(rows.kl)]
    counts = rows.groupby("context", sort=False)[BETA].nunique()
    contexts = list(counts.index[counts > 1])
    if not contexts:
        return []
    shown = evenly_spaced(contexts, _MOST_CONTEXTS)
    width = max(7.2, 2.0 + 2.1 * len(shown))
    names = [broken(context, int(10.5 * (width - 1.0) / len(shown)) - 1) for context in shown]
    lines = max(name.count("\n") + 1 for name in names) if len(shown) > 1 else 0
    figure = new_figure(width, 4.4 + 0.15 * lines)
    grid = columns_of(figure, 1, len(shown))[0]
    labels: list[Annotation] = []
    for context, name, axes in zip(shown, names, grid, strict=True):
        labels += _draw_panel(axes, study, rows[rows.context == context], styles)
        axes.set_title(name if lines else "", fontsize=9)
        axes.set_xlabel("KL(policy || reference), nats")
    grid[0].set_ylabel("True reward E[r*]")
    titles = _titles(rows[rows.context.isin(contexts)], list(styles))
    bound = Line2D([], [], color="0.5", lw=1.6, label="no policy is above")
    handles: list[Artist] = [*(style.handle(v) for v, style in styles.items() if (rows.variant == v).any()), bound]
    notes = _notes(study, rows, len(contexts) - len(shown))
    drawn = finish("reward_by_kl", "Reward against KL", titles, _READING, figure, handles, notes)
    place_labels(figure, labels)
    return [drawn]


def _draw_panel(axes: Axes, study: Study, rows: pd.DataFrame, styles: dict[str, SeriesStyle]) -> list[Annotation]:
    """Draws the bound, the paths of training and the final policies with intervals; returns the labels of these."""
    labels, nearest = [], np.inf
    farthest = _draw_paths(axes, study, rows, styles)
    for variant, style in styles.items():
        members = rows[rows.variant == variant]
        if members.empty:
            continue
        kl, reward = (means(members, [BETA], name).sort_values(BETA, ascending=False) for name in ("kl", "reward"))
        axes.errorbar(
            kl["mean"],
            reward["mean"],
            yerr=error_bars(reward),
            xerr=error_bars(kl),
            color=style.color,
            marker=style.marker,
            ms=6,
            lw=1.6,
            elinewidth=1.2,
            capsize=2,
        )
        farthest, nearest = max(farthest, float(kl["mean"].max())), min(nearest, float(kl["mean"].min()))
        for x, y, beta in zip(kl["mean"], reward["mean"], kl[BETA], strict=True):
            labels.append(
                axes.annotate(f"{beta:g}", (x, y), (5, 5), textcoords="offset points", fontsize=8, color=style.color)
            )
    bound = rows.drop_duplicates([BETA, "seed"]).groupby(BETA).optimal_value.mean().dropna()
    if len(bound) and farthest > 0:  # nearer to the reference it would need larger betas than these
        grid = np.linspace(max(nearest, 0), 1.05 * farthest, 200)
        most = (bound.to_numpy()[:, None] + bound.index.to_numpy()[:, None] * grid).min(0)
        axes.plot(grid, most, color="0.5", lw=1.6, zorder=1)
    return labels


def _draw_paths(axes: Axes, study: Study, rows: pd.DataFrame, styles: dict[str, SeriesStyle]) -> float:
    """Draws thin lines from the reference to each final policy, means over seeds; returns the largest KL in nats."""
    if "run" not in rows:
        return 0.0
    betas = evenly_spaced(sorted(rows[BETA].unique()), _MOST_PATHS)
    drawn = rows[rows[BETA].isin(betas)]
    curves = load_histories(study, drawn.run.unique())
    if not {"true_kl", "true_reward"} <= set(curves.columns):
        return 0.0
    curves = curves.dropna(subset=["true_kl", "true_reward"]).merge(drawn[["run", "seed", "variant"]])
    counts = curves.groupby(["run", "step"]).seed.transform("size")
    curves = curves[counts == counts.groupby(curves.run).transform("max")]
    paths = curves.groupby(["variant", "run", "step"], as_index=False)[["true_kl", "true_reward"]].mean()
    for (variant, _), path in paths.groupby(["variant", "run"]):
        axes.plot(path.true_kl, path.true_reward, color=styles[str(variant)].color, lw=0.8, alpha=0.5, zorder=1)
    return float(paths.true_kl.max()) if len(paths) else 0.0


@dataclass(frozen=True)
class _Turn:
    """Where the true reward is highest as beta falls, and how it changes from there to the smallest beta."""

    best: float
    best_kl: float
    least: float
    least_kl: float
    change: Interval

    @property
    def falls(self) -> bool:
        """Whether the true reward falls although KL rises, with its whole 95 % interval."""
        return self.least < self.best and self.change.lead == -1 and self.least_kl > self.best_kl


def _turn(rows: pd.DataFrame) -> _Turn:
    by_seed = rows.drop_duplicates([BETA, "seed"]).set_index(["seed", BETA]).sort_index()
    mean = by_seed[["reward", "kl"]].groupby(BETA).mean()
    best, least = float(mean.index[int(mean.reward.argmax())]), float(mean.index.min())
    table = by_seed.reward.unstack()
    change = mean_interval((table[least] - table[best]).dropna())
    return _Turn(best, float(mean.kl[best]), least, float(mean.kl[least]), change)


def _titles(rows: pd.DataFrame, variants: list[str]) -> list[str]:
    titles = []
    for variant in variants:
        members = rows[rows.variant == variant]
        turns = [_turn(group) for _, group in members.groupby("context") if group[BETA].nunique() > 1]
        name = name_of(variant)
        if len(turns) > 1 and all(turn.change.lead is None for turn in turns):
            titles.append(f"{name}: too few seeds to say where true reward falls at small beta")
        elif len(turns) > 1:
            count = f"{sum(turn.falls for turn in turns)} of {len(turns)} settings"
            titles.append(f"{name}: in {count}, true reward falls significantly at small beta although KL rises")
        elif turns:
            titles.append(f"{name}: {_turn_in_words(turns[0])}")
    return titles


def _turn_in_words(turn: _Turn) -> str:
    where = f"true reward is highest at beta {turn.best:g} (KL {turn.best_kl:.1f})"
    if turn.best == turn.least:
        return f"{where}, the smallest beta"
    if turn.change.lead is None:
        return f"{where}; too few seeds to say whether it falls from there on"
    text = f"{where} and changes by {signed(turn.change)} down to beta {turn.least:g} (KL {turn.least_kl:.1f})"
    return text + (": more KL for less reward" if turn.falls else ": no loss detected")


def _notes(study: Study, rows: pd.DataFrame, hidden: int) -> list[str]:
    betas = ", ".join(f"{beta:g}" for beta in evenly_spaced(sorted(rows[BETA].unique(), reverse=True), 12))
    notes = [
        f"Marks: final policies, mean over {seed_counts(rows)} with its interval in both directions, labeled with beta "
        f"where there is room ({betas}). Thin lines: policies during training, mean over seeds, on fewer prompts; a "
        "line goes beyond its mark where training kept earlier weights. Gray: the smallest over these betas of optimal "
        "value + beta KL, an upper bound for every policy."
    ]
    notes[0] += more_of(hidden, "setting")
    return [*notes, *interval_notes(study, rows)]
