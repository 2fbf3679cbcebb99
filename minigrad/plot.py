"""One look for every figure: a method has one colour and one marker in the whole book.

    fig, axes = figure(1, 2)
    curves(axes[0], {"Adam": (x, y), "natural gradient": (x, ys)})    # ys (seeds, points): median and range
    label_ends(axes[0])                                              # names where curves end, instead of a legend
    save(fig, "runs/name/figure.png", caption="What the figure shows, in one sentence.")

Colours are Okabe & Ito's, told apart by colour-blind eyes too; where two methods share one, marker and line differ.
"""

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .backend import check_name

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#777777"


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    colour: str
    marker: str
    line: str = "-"


METHODS = {
    "SGD": Look(BLACK, "o"),
    "SGD, lr + 9 eta": Look(GREY, "o", "--"),
    "momentum": Look(ORANGE, "s"),
    "Nesterov": Look(ORANGE, "D", "--"),
    "Adagrad": Look(PURPLE, "v"),
    "RMSProp": Look(PURPLE, "^", "--"),
    "Adam": Look(SKY, "^"),
    "batch norm": Look(GREY, "P"),
    "mean-only BN": Look(GREY, "X", "--"),
    "Newton": Look(BLACK, "*", "--"),
    "Gauss-Newton": Look(BLACK, "X", ":"),
    "natural gradient": Look(VERMILLION, "o"),
    "KL, same batch": Look(VERMILLION, "D"),
    "KL, different batch": Look(GREEN, "^", "--"),
    "KL, unlabeled": Look(BLUE, "D"),
    "NG by MINRES-QLP": Look(ORANGE, "v", "--"),
    "Hessian-free": Look(BLUE, "s"),
    "KSD": Look(BLUE, "v", "--"),
    "TONGA": Look(PURPLE, "X", ":"),
    "K-FAC": Look(GREEN, "o"),
    "EKFAC": Look(GREEN, "D", "--"),
    "ACP": Look(BLUE, "o", ":"),
    "ACP, alpha from g": Look(SKY, "v", ":"),
    "PRONG": Look(YELLOW, "o"),
    "PRONG+": Look(YELLOW, "P", "--"),
    "centred GD": Look(SKY, "D", "--"),
    "HCGD, n = 1": Look(VERMILLION, "s", "--"),
    "HCGD, n = 10": Look(BLUE, "^", ":"),
    "HCGD, lr 0.1": Look(VERMILLION, "X", "--"),
    "HCGD, lr 0.3": Look(BLUE, "X", ":"),
    "SGD, lr + 4 eta": Look(GREY, "s", "--"),
    "SGD+HC, n = 1": Look(VERMILLION, "p", "--"),
    "SGD+HC, n = 2": Look(ORANGE, "^", "-."),
    "SGD+HC, n = 5": Look(BLUE, "P", ":"),
    "SGD+HC, n = 1, eta = 0.1 lr": Look(PURPLE, "s", ":"),
    "Adam+HC": Look(GREEN, "P", "--"),
    "Adam+HC, eta = 0.1 lr": Look(PURPLE, "D", ":"),
    "mirror descent": Look(VERMILLION, "v", ":"),
    "Adam+retrain": Look(ORANGE, "o", "--"),
    "L2 memory": Look(VERMILLION, "^"),
    "L2 memory, squared": Look(VERMILLION, "P", ":"),
    "EWC": Look(GREEN, "s"),
    "SI": Look(PURPLE, "o"),
    "grid search": Look(BLACK, "P", "--"),
    "random search": Look(GREY, "D", ":"),
    "biased random search": Look(VERMILLION, "*"),
}

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "figure.dpi": 110,
    "savefig.dpi": 140,
}


def look(method):
    """The method's Look. Raises ValueError for an unknown method, naming the nearest."""
    check_name("method", method, tuple(METHODS))
    return METHODS[method]


def figure(rows=1, columns=1, width=7.2, height=3.0, *, sharex=False, sharey=False, squeeze=True, width_ratios=None):
    """(fig, axes) in the book's style; width and height in inches, the rest as for matplotlib's subplots."""
    options = {"sharex": sharex, "sharey": sharey, "squeeze": squeeze, "width_ratios": width_ratios}
    return _styled(width, height, lambda fig: fig.subplots(rows, columns, **options))


def mosaic(layout, width=7.2, height=5.0, *, width_ratios=None, height_ratios=None):
    """(fig, {name: ax}) for a layout such as [["left", "right"], ["below", "below"]], in the book's style."""
    divided = lambda fig: fig.subplot_mosaic(layout, width_ratios=width_ratios, height_ratios=height_ratios)
    return _styled(width, height, divided)


def _styled(width, height, divided):
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        fig = plt.figure(figsize=(width, height), layout="constrained")
        axes = divided(fig)
        for ax in fig.axes:
            ax.tick_params(which="both", labelsize=8)  # else looked up while drawing, when the style no longer holds
        interactive = plt.isinteractive()  # a notebook's backend turns it on at its first figure, and needs it to stay
    (plt.ion if interactive else plt.ioff)()
    return fig, axes


def curves(ax, series):
    """Draw {method: (x, y)}; y (points,), or (seeds, points) for the median with a band over all seeds."""
    for method, (x, y) in series.items():
        style, y = look(method), np.asarray(y, float)
        if y.ndim == 2:
            band(ax, x, y.min(axis=0), y.max(axis=0), method)
            y = np.median(y, axis=0)
        ax.plot(
            x,
            y,
            style.line,
            color=style.colour,
            marker=style.marker,
            markevery=max(1, len(y) // 8),
            label=method,
            markeredgecolor="white",
            markeredgewidth=0.5,
        )


def band(ax, x, low, high, method):
    """A band between low and high in the method's colour; the caption must say what it is (interval, seeds)."""
    ax.fill_between(x, low, high, color=look(method).colour, alpha=0.18, linewidth=0)


def label_ends(ax, gap=1.25):
    """Write each curve's name where it ends, moved apart vertically until no two names overlap.

    The end is the last point that the axes can show: on a logarithmic one no zero.

    Set scales and limits before. gap: the least distance of two names in line heights.
    """
    from matplotlib import patheffects

    ax.figure.canvas.draw()  # fixes the layout, and with it where data lie in pixels
    texts, ends = [], []
    for line in ax.get_lines():
        x, y = (np.asarray(part, float) for part in line.get_data())
        shown = np.flatnonzero(_has_place(x, ax.get_xscale()) & _has_place(y, ax.get_yscale()))
        if line.get_label().startswith("_") or not shown.size:
            continue
        end = (x[shown[-1]], y[shown[-1]])
        text = ax.annotate(
            line.get_label(),
            end,
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_readable(line.get_color()),
            annotation_clip=False,
            path_effects=[patheffects.withStroke(linewidth=2.5, foreground="white")],
        )
        texts.append(text)
        ends.append(ax.transData.transform(end))
    if texts:
        _move_apart(texts, ends, gap)


def _has_place(values, scale):
    """Which of the values an axis of this scale can show."""
    return np.isfinite(values) & ((values > 0) | (scale != "log"))


def _move_apart(texts, ends, gap):
    """Shift texts of one column of names up or down; names beside each other may keep their heights.

    Beside: also when the names of other axes leave these half of their width.
    """
    boxes = [text.get_window_extent() for text in texts]
    height = gap * max(box.height for box in boxes)
    points = 72 / texts[0].figure.dpi
    starts, heights = np.array(ends, float).T.copy()
    for _ in range(100):
        moved = False
        order = np.argsort(heights, kind="stable")
        for i, low in enumerate(order):
            for high in order[i + 1 :]:
                left, right = sorted((low, high), key=lambda k: starts[k])
                beside = starts[right] - starts[left] > 2 * boxes[left].width
                lack = height - (heights[high] - heights[low])
                if not beside and lack > 1e-3:
                    heights[low] -= lack / 2
                    heights[high] += lack / 2
                    moved = True
        if not moved:
            break
    for text, (_, end), place in zip(texts, ends, heights):
        text.set_position((5, (place - end) * points))


def _readable(colour):
    """Yellow is lost as text on white; everything else is its own colour."""
    return "#8A8000" if colour == YELLOW else colour


def plain_numbers(axis):
    """Write 20, not 2 x 10^1, along an axis; on a short logarithmic one 2 and 5 between the tens too, on one shorter
    still all digits, where there is room for them."""
    axis.set_major_formatter("{x:g}")

    def between(x, position):
        low, high = axis.get_view_interval()
        for digits, widest in (("123456789", 4), ("125", 200)):
            shown = [tick for tick in _with_first_digit(digits, low, high) if low <= tick <= high]
            if high <= widest * low and _have_room(axis, shown):
                return f"{x:g}" if f"{x:e}"[0] in digits else ""
        return ""

    if axis.get_scale() == "log":
        axis.set_minor_formatter(between)


def _with_first_digit(digits, low, high):
    """The numbers d 10^k, with d of the digits, of the decades from low's to high's."""
    decades = range(int(np.floor(np.log10(low))), int(np.floor(np.log10(high))) + 1)
    return [float(f"{digit}e{k}") for k in decades for digit in digits]


def _have_room(axis, ticks):
    """Whether the labels of rising ticks have room beside each other along a logarithmic axis; a digit of eight points
    is about five wide."""
    if len(ticks) < 2:
        return True
    low, high = axis.get_view_interval()
    box, along_x = axis.axes.get_window_extent(), axis.axis_name == "x"
    length = (box.width if along_x else box.height) * 72 / axis.axes.figure.dpi
    gap = length * np.diff(np.log10(ticks)).min() / np.log10(high / low)
    return bool(gap >= (5 * max(len(f"{tick:g}") for tick in ticks) + 3 if along_x else 10))


def loss_colours(losses, share=0.8):
    """The colours of losses for `tried` and `landscape`, best dark, worst yellow: one norm for all panels of a figure.

    share: the worst colour is that of this quantile, so that a few diverged trials leave colours to the others; a
    colour bar says so by extend="max".
    """
    from matplotlib.colors import Normalize

    finite = np.asarray(losses, float)[np.isfinite(losses)]
    return Normalize(*(np.quantile(finite, [0, share]) if finite.size else (0, 1)))


def tried(ax, x, y, losses, norm=None):
    """Tried values of two hyper-parameters, coloured by loss; crosses: failed ones; a ring: the best.

    norm: of loss_colours; None: made of these losses. Returns what a colour bar is made from.
    """
    x, y, losses = (np.asarray(part, float) for part in (x, y, losses))
    there = np.isfinite(losses)
    ax.plot(x[~there], y[~there], "x", color=GREY, markersize=4, markeredgewidth=0.8)
    order = np.argsort(-losses[there], kind="stable")  # the best on top
    norm = norm or loss_colours(losses)
    x_there, y_there, shown = x[there][order], y[there][order], losses[there][order]
    points = ax.scatter(x_there, y_there, c=shown, norm=norm, s=22, edgecolors="white", linewidths=0.4)
    if there.any():
        best = np.argmin(np.where(there, losses, np.inf))
        ax.plot(x[best], y[best], "o", markersize=10, markerfacecolor="none", color=VERMILLION, markeredgewidth=1.4)
    return points


def landscape(ax, x, y, values, norm):
    """A model's estimate as an image: values (len(y), len(x)) where y and x meet; colours as `tried` has them."""
    ax.grid(False)
    return ax.pcolormesh(x, y, values, norm=norm, shading="nearest", rasterized=True, zorder=0)


def best_so_far(ax, searches):
    """The least loss after each trial, {method: losses (searches, trials)}: median, and the range over searches."""
    ax.set(xlabel="trials", ylabel="best loss so far")
    best = {name: np.fmin.accumulate(np.asarray(losses, float), axis=1) for name, losses in searches.items()}
    curves(ax, {name: (np.arange(1, each.shape[1] + 1), each) for name, each in best.items()})


def strip(ax, rows, shape=(28, 28), room=2.5):
    """Rows of small images: {label: (n, pixels) in [0, 1]}, each image of `shape`, the label left of its row.

    room: for the labels, in widths of an image.
    """
    height, width = shape
    for i, (label, images) in enumerate(rows.items()):
        ax.text(-5, (i + 0.5) * (height + 2) + 1, label, ha="right", va="center", fontsize=8)
        for j, image in enumerate(np.asarray(images)):
            where = (j * (width + 2), j * (width + 2) + width, (i + 1) * (height + 2), i * (height + 2) + 2)
            ax.imshow(np.asarray(image, float).reshape(shape), cmap="gray_r", vmin=0, vmax=1, extent=where)
    columns = max((len(images) for images in rows.values()), default=0)
    ax.set(xlim=(-room * width, columns * (width + 2)), ylim=(len(rows) * (height + 2) + 1, 0))
    ax.axis("off")


def save(fig, path, caption=None):
    """Write the figure atomically, in the format that the suffix names, with its caption of one sentence below.

    Returns the path. The same figure gives the same bytes: no date is written.
    """
    path = Path(path)
    if caption:
        _write_caption(fig, caption)
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    kind = path.suffix.removeprefix(".") or "png"
    part = path.with_name(f".{path.name}.part")
    fig.savefig(part, format=kind, dpi=STYLE["savefig.dpi"], metadata=metadata.get(kind))
    os.replace(part, path)
    return path


def _write_caption(fig, caption):
    """Put the caption below the axes, in room of its own."""
    width, height = fig.get_size_inches()
    lines = textwrap.fill(caption, int(width * 15.5))
    room = 0.16 * (lines.count("\n") + 1) + 0.12
    fig.set_size_inches(width, height + room)
    engine = fig.get_layout_engine()
    if engine is not None:
        share = room / (height + room)
        engine.set(rect=(0, share, 1, 1 - share))
    fig.text(0.012, 0.06 / (height + room), lines, fontsize=8, color="#333333", va="bottom", ha="left")
