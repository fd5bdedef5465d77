"""A search over the settings of methods: all trials of each method, and the best of them."""

from __future__ import annotations

from alignsim.analysis.search import best_trials, records, trial_interval, trials
from alignsim.analysis.study import Study
from alignsim.analysis.summary import PRIMARY
from alignsim.report.figures.forest import ForestRow, forest_plot
from alignsim.report.figures.layout import finish
from alignsim.report.figures.ranking import FLOOR
from alignsim.report.figures.style import Drawing, interval_notes, known_style, name_of, with_value
from alignsim.runs.text import counted

_READING = (
    "Each pale dot is one trial of a method: one combination of its settings, averaged over seeds and environments. "
    "The full mark is the best trial with its 95 % interval. The best of several trials is biased upward, so results "
    "are reported on other seeds. A method whose dots lie far apart depends more on its settings."
)


def draw(study: Study) -> list[Drawing]:
    """Draws a row for each method, the best on top; nothing where the study is no search."""
    study = with_value(study)
    table = trials(study) if study.searched else None
    if table is None or (chosen := best_trials(table)).empty:
        return []
    names, rows, remarks = [], [], []
    for row in records(chosen):
        values = table.loc[table.method == row["method"], PRIMARY].dropna().to_numpy()
        interval = trial_interval(row)
        names.append(name_of(row["method"]))
        rows.append([ForestRow(known_style(row["method"]), interval, values[values >= FLOOR])])
        remarks.append(f"{interval}, best of {row['trials']}")
    label = "Normalized value, mean over environments\n(0 = reference policy, 1 = optimum)"
    figure = forest_plot(names, rows, remarks, label)
    counts = table.trials.unique()
    each = f"{counts[0]} trials of each method" if len(counts) == 1 else f"{min(counts)} to {max(counts)} trials"
    searched = ", ".join(dict.fromkeys(key.rpartition(".")[2].replace("_", " ") for key in study.searched))
    titles = [f"Highest after {each}: {names[0]} with {rows[0][0].interval}"]
    notes = [f"Pale dots: trials, over {searched}. Full marks: the best of them and its interval over seeds."]
    below = int((table[PRIMARY] < FLOOR).sum())
    notes += [f"Not drawn: {counted(below, 'trial')} below {FLOOR:g}."] * bool(below)
    notes += interval_notes(study, study.rows)
    return [finish("tuning", "Trials of each method", titles, _READING, figure, [], notes)]
