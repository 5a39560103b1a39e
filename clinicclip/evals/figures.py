"""The report's figures as SVG: intervals by finding, ROC and PR curves, heat maps."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from clinicclip.data.schema import display_name
from clinicclip.evals import outcomes
from clinicclip.evals.results import Calibrated, Curve, Heat, Result

RULE_TITLES = {"pair": "pair rule", "positive": "positive prompts alone"}
RULE_COLOURS = {"pair": "#1f4e79", "positive": "#c8703a"}
POINTS = 250  # of a drawn curve, at most
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "svg.hashsalt": "clinicclip",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def svg(figure: Figure) -> str:
    """The figure as an ``svg`` element, equal for equal figures."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)


def intervals(rows: Sequence[tuple[str, dict[str, Result]]]) -> str:
    """A line a finding, a point and its 95 % interval a rule; 0.5 is a guess."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.9 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.5, color="0.55", linewidth=1, linestyle=":")
        for number, (rule, colour) in enumerate(RULE_COLOURS.items()):
            found = [(place, by_rule[rule]) for place, (_, by_rule) in enumerate(rows) if rule in by_rule]
            places = [place + (number - 0.5) * 0.3 for place, _ in found]
            axes.hlines(places, [r.ci_low for _, r in found], [r.ci_high for _, r in found], color=colour, alpha=0.6)
            axes.plot([r.value for _, r in found], places, "o", color=colour, markersize=4, label=RULE_TITLES[rule])
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set(xlabel="AUROC with 95 % interval (0.5 = guess)", ylim=(len(rows) - 0.4, -0.6))
        axes.grid(axis="x", color="0.93")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return svg(figure)


def curves(drawn: Sequence[Curve]) -> str:
    """ROC above, precision and recall below, a column a scoring rule, the findings' names beside them."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 7.6), layout="constrained")
        panels = figure.subplots(2, 2)
        for column, rule in enumerate(RULE_TITLES):
            for row, (panel, title) in enumerate(((_roc, "ROC"), (_precision_recall, "Precision and recall"))):
                axes = panels[row, column]
                _panel(axes, [c for c in drawn if c.rule == rule], panel)
                axes.set_title(f"{title}, {RULE_TITLES[rule]}", fontsize=9.5, loc="left")
        figure.legend(
            *panels[0, 0].get_legend_handles_labels(),
            title="finding (positives)",
            loc="outside right upper",
            frameon=False,
            alignment="left",
            fontsize=8,
        )
    return svg(figure)


def _panel(axes: Axes, drawn: Sequence[Curve], points: Callable[[Axes, Curve], tuple[np.ndarray, np.ndarray]]) -> None:
    palette = colormaps["tab20"](range(20))
    for index, curve in enumerate(drawn):
        x, y = points(axes, curve)
        kept = np.unique(np.linspace(0, len(x) - 1, POINTS).astype(int))
        normal = curve.finding == "normal"
        axes.plot(
            x[kept],
            y[kept],
            color="black" if normal else palette[(2 * index + index // 10) % 20],
            linestyle="--" if normal else ("-", "-.")[index // 20 % 2],
            linewidth=0.8 if min(curve.truth.sum(), (~curve.truth).sum()) < outcomes.FEW else 1.5,
            label=f"{display_name(curve.finding)} ({int(curve.truth.sum())})",
        )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(color="0.93")


def _roc(axes: Axes, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    axes.axline((0, 0), slope=1, color="0.6", linewidth=1, linestyle=":")
    axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
    return roc_curve(curve.truth, curve.scores)[:2]


def _precision_recall(axes: Axes, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    precision, recall, _ = precision_recall_curve(curve.truth, curve.scores)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)")
    return recall, precision


def reliability(drawn: Sequence[Calibrated]) -> str:
    """A panel a finding: share of positives against probability, the size of a point telling how many images."""
    across = min(5, len(drawn))
    down = -(-len(drawn) // across)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.1 * across, 2.15 * down + 0.3), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, found in zip(panels[: len(drawn)], drawn, strict=True):
            count, confidence, frequency = found.bins
            axes.axline((0, 0), slope=1, color="0.6", linewidth=1, linestyle=":")
            sizes = 6 + 90 * count / count.sum()
            axes.plot(confidence, frequency, color="#1f4e79", linewidth=0.9, alpha=0.6)
            axes.scatter(confidence, frequency, sizes, color="#1f4e79", clip_on=False)
            axes.set_title(display_name(found.finding), fontsize=8.5, loc="left")
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axes.grid(color="0.93")
        for axes in panels[len(drawn) :]:
            axes.set_axis_off()
        for axes in panels[max(0, len(drawn) - across) : len(drawn)]:  # the lowest that is drawn in its column
            axes.tick_params(labelbottom=True)
        figure.supxlabel("mean probability of a bin, whose size tells how many images it holds", fontsize=9)
        figure.supylabel("share of positives", fontsize=9)
    return svg(figure)


def heat(drawn: Heat) -> str:
    """The matrix in colours around zero, every cell with its number."""
    bound = max(float(np.abs(drawn.values).max()), 1e-6)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 + 0.52 * len(drawn.columns), 1.5 + 0.32 * len(drawn.rows)), layout="constrained")
        axes = figure.subplots()
        picture = axes.imshow(drawn.values, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
        axes.set_xticks(range(len(drawn.columns)), drawn.columns, rotation=40, ha="right", fontsize=8)
        axes.set_yticks(range(len(drawn.rows)), drawn.rows, fontsize=8)
        for (row, column), value in np.ndenumerate(drawn.values):
            dark = abs(value) > 0.6 * bound
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color="w" if dark else "0.2")
        figure.colorbar(picture, ax=axes, shrink=0.7, label="standard deviations")
    return svg(figure)
