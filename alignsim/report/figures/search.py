"""A search over methods' settings: all trials of each method, and the best of them."""

from __future__ import annotations

from alignsim.analysis.search import best, interval_of, trials
from alignsim.analysis.study import Study
from alignsim.analysis.summary import PRIMARY
from alignsim.report.figures.layout import finish
from alignsim.report.figures.long import ForestRow, forest_plot
from alignsim.report.figures.ranking import FLOOR
from alignsim.report.figures.style import Drawing, interval_notes, known_look, name_of, with_value

_READING = (
    "Each pale dot is one trial of a method, one combination of its settings, averaged over seeds and environments. "
    "The full mark is its best trial with its 95 % interval; being the best of several it is a little too high, so "
    "results come from other seeds. A method whose dots lie far apart needs its settings more."
)


def draw(study: Study) -> list[Drawing]:
    """A row for each method, the best on top; nothing where the study is no search."""
    study = with_value(study)
    table = trials(study) if study.searched else None
    if table is None or (chosen := best(table)).empty:
        return []
    names, lanes, written = [], [], []
    for row in chosen.to_dict("records"):
        values = table.loc[table.method == row["method"], PRIMARY].dropna().to_numpy()
        interval = interval_of({str(key): value for key, value in row.items()})
        names.append(name_of(row["method"]))
        lanes.append([ForestRow(known_look(row["method"]), interval, values[values >= FLOOR])])
        written.append(f"{interval}, best of {row['trials']}")
    label = "Normalized value, mean over environments\n(0 = reference policy, 1 = optimum)"
    figure = forest_plot(names, lanes, written, label)
    counts = table.trials.unique()
    each = f"{counts[0]} trials of each method" if len(counts) == 1 else f"{min(counts)} to {max(counts)} trials"
    searched = ", ".join(dict.fromkeys(key.rpartition(".")[2].replace("_", " ") for key in study.searched))
    titles = [f"Highest after {each}: {names[0]} with {lanes[0][0].interval}"]
    notes = [f"Pale dots: trials, over {searched}. Full marks: the best of them and its interval over seeds."]
    below = int((table[PRIMARY] < FLOOR).sum())
    notes += [f"{below} trials below {FLOOR:g} are not drawn."] * bool(below)
    notes += interval_notes(study, study.rows)
    return [finish("tuning", "Trials of each method", titles, _READING, figure, [], notes)]
