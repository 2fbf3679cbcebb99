"""The book's look: what may not change from figure to figure."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad import plot

ROOT = Path(__file__).parents[1]


@pytest.fixture
def close():
    """pyplot with a backend that needs no screen; figures closed afterwards."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_looks_differ():
    looks = list(plot.METHODS.values())
    assert len(set(looks)) == len(looks)
    assert len({(look.colour, look.marker) for look in looks}) == len(looks)


def test_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match="unknown method 'Adamm'; did you mean 'Adam'"):
        plot.look("Adamm")


def test_labels_do_not_overlap(close):
    fig, ax = plot.figure()
    x = np.arange(10)
    plot.curves(ax, {name: (x, 1 + 1e-3 * i * x) for i, name in enumerate(("SGD", "Adam", "K-FAC", "ACP"))})
    plot.label_ends(ax)
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))
    assert [text.get_text() for text in ax.texts] == ["SGD", "Adam", "K-FAC", "ACP"]


def test_labels_do_not_overlap_when_those_of_other_axes_take_their_room(close):
    fig, axes = plot.figure(1, 3, width=9.0)
    for ax in axes:
        plot.curves(ax, {"EKFAC": ([0, 5], [0, 1]), "ACP, alpha from g": ([0, 6.25], [0, 1.01])})
    for ax in axes:
        plot.label_ends(ax)
    fig.canvas.draw()
    for ax in axes:
        left, right = (text.get_window_extent() for text in ax.texts)
        assert left.x1 < right.x0 or left.y1 <= right.y0 + 1


def test_labels_far_beside_each_other_keep_their_heights(close):
    fig, ax = plot.figure()
    plot.curves(ax, {"SGD": ([0, 1], [0, 1]), "Adam": ([0, 5], [0, 1])})
    plot.label_ends(ax)
    assert [text.get_position() for text in ax.texts] == [(5, 0), (5, 0)]


def test_labels_stand_where_curves_end(close):
    fig, ax = plot.figure()
    plot.curves(ax, {"SGD": ([0, 1, 2], [3, 2, np.nan]), "Adam": ([0, 5], [1, 1.5])})
    plot.label_ends(ax)
    assert [tuple(text.xy) for text in ax.texts] == [(1, 2), (5, 1.5)]


def test_labels_of_curves_that_fall_to_zero_on_a_logarithmic_axis(close):
    """A label at zero would be far below the figure, and leave the axes no room."""
    fig, ax = plot.figure()
    ax.set_yscale("log")
    plot.curves(ax, {"SGD": ([0, 1, 2], [3, 2, 0]), "Adam": ([0, 5], [1, 1.5]), "K-FAC": ([0, 1], [0, 0])})
    plot.label_ends(ax)
    assert [tuple(text.xy) for text in ax.texts] == [(1, 2), (5, 1.5)]
    fig.canvas.draw()
    assert ax.get_position().height > 0.7


def test_seeds_give_median_and_band(close):
    fig, ax = plot.figure()
    y = np.array([[1.0, 2.0], [3.0, 4.0], [8.0, 9.0]])
    plot.curves(ax, {"Adam": ([0, 1], y)})
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3.0, 4.0])
    points = ax.collections[0].get_paths()[0].vertices
    assert points[:, 1].min() == 1 and points[:, 1].max() == 9


def test_tried_points_are_coloured_by_loss(close):
    fig, ax = plot.figure()
    losses = [3.0, np.inf, 1.0, 2.0, np.nan, 1e9]
    points = plot.tried(ax, range(6), range(10, 16), losses)
    np.testing.assert_array_equal(points.get_offsets(), [[5, 15], [0, 10], [3, 13], [2, 12]])  # the best on top
    np.testing.assert_array_equal(points.get_array(), [1e9, 3, 2, 1])
    failed, best = ax.lines
    np.testing.assert_array_equal(failed.get_xydata(), [[1, 11], [4, 14]])
    np.testing.assert_array_equal(best.get_xydata(), [[2, 12]])


def test_tried_where_all_failed(close):
    fig, ax = plot.figure()
    plot.tried(ax, [1, 2], [1, 2], [np.inf, np.nan])
    assert len(ax.lines) == 1 and len(ax.lines[0].get_xdata()) == 2


def test_colours_of_losses_are_not_the_diverged_ones():
    norm = plot.loss_colours([*range(9), 1e9, np.inf, np.nan])
    assert (norm.vmin, norm.vmax) == (0, pytest.approx(7.2))
    assert (plot.loss_colours([np.inf]).vmin, plot.loss_colours([np.inf]).vmax) == (0, 1)


def test_the_landscape_is_where_its_values_are(close):
    fig, ax = plot.figure()
    values = np.arange(6.0).reshape(2, 3)
    ax.set(xscale="log")
    mesh = plot.landscape(ax, [0.1, 1, 10], [5, 6], values, plot.loss_colours(values))
    np.testing.assert_array_equal(mesh.get_array(), values)
    assert mesh.get_coordinates().shape == (3, 4, 2)


def test_best_so_far_only_falls(close):
    fig, ax = plot.figure()
    losses = np.array([[3.0, 5.0, 1.0, 2.0], [4.0, np.nan, 3.0, 0.0], [np.inf, 6.0, 7.0, 1.0]])
    plot.best_so_far(ax, {"random search": losses})
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [4, 4, 3, 1])


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_same_figure_same_bytes(close, tmp_path, suffix):
    for name in ("a", "b"):
        fig, ax = plot.figure()
        plot.strip(ax, {"digits": np.eye(4).reshape(1, 16), "copies": np.zeros((1, 16))}, shape=(4, 4))
        plot.save(fig, tmp_path / f"{name}.{suffix}", caption="What it shows, " * 20)
    first, second = (tmp_path / f"{name}.{suffix}" for name in ("a", "b"))
    assert len(first.read_bytes()) > 1000
    if suffix != "svg":  # names of clips in SVG are random without a salt
        assert first.read_bytes() == second.read_bytes()


def test_figures_show_in_a_notebook_without_being_asked_to():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = ["from minigrad.plot import figure", "fig, ax = figure()", "fig, ax = figure()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert [len(cell.outputs) for cell in notebook.cells] == [0, 1, 1]


def test_caption_lies_below_the_axes(close, tmp_path):
    fig, ax = plot.figure(height=2.0)
    plot.save(fig, tmp_path / "a.png", caption="A sentence that needs two lines, " * 6)
    fig.canvas.draw()
    assert fig.texts[0].get_window_extent().y1 <= ax.get_tightbbox().y0
    assert fig.texts[0].get_window_extent().x1 <= fig.bbox.x1


def test_import_loads_no_matplotlib():
    code = "import sys, minigrad, minigrad.plot, minigrad.training; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("limits", "between"),
    [((0.27, 0.43), {"0.3", "0.4"}), ((1, 40), {"2", "5", "20"}), ((1, 4), {"2", "3", "4"}), ((1, 300), set())],
)
def test_plain_numbers_on_a_logarithmic_axis(limits, between, close):
    _, ax = plot.figure()
    ax.set(yscale="log", ylim=limits)
    plot.plain_numbers(ax.yaxis)
    low, high = limits
    ticks = [tick for tick in ax.yaxis.get_minorticklocs() if low <= tick <= high]
    assert {ax.yaxis.get_minor_formatter()(tick, None) for tick in ticks} - {""} == between


@pytest.mark.parametrize("limits", [(0.27, 0.43), (0.001, 0.04), (0.00013, 0.012), (1, 4), (0.2, 5), (1, 300)])
@pytest.mark.parametrize("columns", [1, 3, 5])
@pytest.mark.parametrize("side", ["x", "y"])
def test_plain_numbers_do_not_overlap(limits, columns, side, close):
    fig, axes = plot.figure(columns, columns, height=5.0, squeeze=False)
    axis = getattr(axes[0, 0], f"{side}axis")
    for ax in axes.flat:
        ax.set(**{f"{side}scale": "log", f"{side}lim": limits})
        plot.plain_numbers(getattr(ax, f"{side}axis"))
    fig.canvas.draw()
    place = 0 if side == "x" else 1
    labels = [*axis.get_ticklabels(), *axis.get_ticklabels(minor=True)]
    inside = [label for label in labels if label.get_text() and limits[0] <= label.get_position()[place] <= limits[1]]
    spans = np.array(sorted(tuple(getattr(label.get_window_extent(), f"interval{side}")) for label in inside))
    assert len(spans) and np.all(spans[:-1, 1] < spans[1:, 0])
