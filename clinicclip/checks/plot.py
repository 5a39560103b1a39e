"""The picture of false negatives: how many negatives are alike, and who meets one in a batch."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from clinicclip.checks.in_batch import BATCHES, Likes

DPI = 130
COLOURS = ("#4c72b0", "#dd8452", "#55a868")


def false_negatives(likes: Likes) -> bytes:
    """A PNG. Left: share of a study's negatives that are alike; right: how many studies meet one in a batch."""
    figure = Figure(figsize=(11, 4.2), dpi=DPI, layout="constrained")
    shares, met = figure.subplots(1, 2)
    _shares(shares, likes)
    _met(met, likes)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _shares(axes: Axes, likes: Likes) -> None:
    normal = likes.normal
    groups = {"all studies": np.ones_like(normal), "normal": normal, "not normal": ~normal}
    groups = {name: group for name, group in groups.items() if group.any()}
    width = 0.8 / len(likes.by)
    for number, (kind, colour) in enumerate(zip(likes.by, COLOURS, strict=True)):
        values = [likes.share(kind, group) for group in groups.values()]
        places = np.arange(len(groups)) + (number - (len(likes.by) - 1) / 2) * width
        bars = axes.bar(places, values, width, color=colour, label=kind)
        axes.bar_label(bars, [f"{value:.1%}" for value in values], fontsize=8)
    axes.set_xticks(range(len(groups)), [f"{name}\n(n = {group.sum():,})" for name, group in groups.items()])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.margins(y=0.12)
    axes.set(title="Negatives that are alike", ylabel="share of a study's negatives")
    axes.legend(frameon=False, fontsize=9)


def _met(axes: Axes, likes: Likes) -> None:
    sizes = [2**power for power in range(1, 13) if 2**power <= len(likes.normal)]
    for size in BATCHES:
        axes.axvline(size, color="0.75", linewidth=0.8, linestyle=":")
    for number, (kind, colour) in enumerate(zip(likes.by, COLOURS, strict=True)):
        axes.plot(sizes, [likes.touched(kind, size) for size in sizes], color=colour, label=kind)
        for size in BATCHES:
            if size <= sizes[-1]:
                share, below = likes.touched(kind, size), 5 if number == len(likes.by) - 1 else -12
                axes.plot(size, share, "o", color=colour, markersize=4)
                axes.annotate(f"{share:.0%}", (size, share), (5, below), textcoords="offset points", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(title="Studies that meet an alike negative", xlabel="batch size", ylabel="share of studies")
    axes.set_ylim(0, 1.08)
    axes.grid(color="0.93")
