"""The report's pictures: ROC curves and the retrieval gallery, drawn without any global plotting state."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from sklearn.metrics import roc_curve

from clinicclip.data.schema import display_name
from clinicclip.evals import stats
from clinicclip.evals.base import Curve, Gallery, Query
from clinicclip.evals.stats import few_outcomes

DPI = 130
MAX_LINES, LINE_WIDTH = 9, 56  # of a query's text
RULE_TITLES = {"pair": "pair rule (positive minus negative prompts)", "positive": "positive prompts alone"}
MARKS = {
    "own report": ("\N{CHECK MARK} own report", "#1a7f37"),
    "same labels": ("\N{ALMOST EQUAL TO} same labels", "#9a6700"),
    "other labels": ("\N{BALLOT X} other labels", "#b42318"),
}


def roc(curves: Sequence[Curve], path: Path, *, titles: dict[str, str]) -> None:
    """ROC curves, a row a data set and a panel a scoring rule; `titles` heads each set's row."""
    sets = list(dict.fromkeys(curve.data for curve in curves))
    figure = Figure(figsize=(15, 5.6 * len(sets)), dpi=DPI, layout="constrained")
    rows = figure.subfigures(len(sets), 1, squeeze=False)[:, 0]
    for part, data in zip(rows, sets, strict=True):
        part.suptitle(titles[data], fontsize=12, fontweight="bold")
        panels = part.subplots(1, 4, gridspec_kw={"width_ratios": (1, 0.44, 1, 0.44)})
        for axes, names, rule in zip(panels[::2], panels[1::2], RULE_TITLES, strict=True):
            _roc_panel(axes, [c for c in curves if c.data == data and c.rule == rule], RULE_TITLES[rule])
            names.set_axis_off()
            names.legend(
                *axes.get_legend_handles_labels(),
                title="AUROC (positives)",
                loc="center left",
                fontsize=8,
                title_fontsize=8,
                alignment="left",
                frameon=False,
                borderaxespad=0,
            )
    figure.savefig(path)


def _roc_panel(axes: Axes, curves: Sequence[Curve], title: str) -> None:
    palette = colormaps["tab20"](range(20))
    axes.plot((0, 1), (0, 1), color="0.6", linewidth=1, linestyle=":")
    for index, curve in enumerate(curves):
        normal = curve.finding == "normal"
        false_rate, true_rate, _ = roc_curve(curve.truth, curve.scores)
        area = stats.auroc(curve.truth, curve.scores)
        axes.plot(
            false_rate,
            true_rate,
            color="black" if normal else palette[(2 * index + index // 10) % 20],
            linestyle="--" if normal else ("-", "-.")[index // 20 % 2],
            linewidth=0.8 if few_outcomes(curve.truth) else 1.7,
            label=f"{display_name(curve.finding)}  {area:.2f}  ({int(curve.truth.sum())})",
        )
    axes.set(title=title, xlabel="false positive rate", ylabel="true positive rate")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(color="0.92")


def gallery(galleries: Sequence[Gallery], path: Path, *, titles: dict[str, str]) -> None:
    """Each query's text beside its nearest images, each image marked right or wrong by colour and word."""
    lengths = [len(g.queries) for g in galleries]
    figure = Figure(figsize=(14, 2.35 * sum(lengths) + 0.7 * len(lengths)), dpi=DPI, layout="constrained")
    parts = figure.subfigures(len(galleries), 1, squeeze=False, height_ratios=lengths)[:, 0]
    for part, found in zip(parts, galleries, strict=True):
        part.suptitle(titles[found.data], fontsize=12, fontweight="bold")
        _gallery_part(part, found)
    figure.savefig(path)


def _gallery_part(part: SubFigure, found: Gallery) -> None:
    width = max(len(query.images) for query in found.queries)
    grid = part.subplots(
        len(found.queries), width + 1, squeeze=False, gridspec_kw={"width_ratios": [2.3] + [1] * width}
    )
    for row, query in zip(grid, found.queries, strict=True):
        _query_text(row[0], query)
        for place, axes in enumerate(row[1:]):
            axes.set_axis_off()
            if place < len(query.images):
                _hit(axes, query.images[place], query.verdicts[place])


def _query_text(axes: Axes, query: Query) -> None:
    lines = textwrap.wrap(query.text, LINE_WIDTH, max_lines=MAX_LINES, placeholder=" \N{HORIZONTAL ELLIPSIS}")
    axes.set_axis_off()
    axes.text(0, 1, "\n".join(lines), va="top", fontsize=9, transform=axes.transAxes, parse_math=False)
    axes.text(
        0,
        0,
        f"own image at rank {query.rank:g}",
        va="bottom",
        fontsize=8.5,
        color="0.4",
        transform=axes.transAxes,
    )


def _hit(axes: Axes, image: np.ndarray, verdict: str) -> None:
    caption, colour = MARKS[verdict]
    axes.set_axis_on()
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=3)
    axes.set_xlabel(caption, color=colour, fontsize=9)
