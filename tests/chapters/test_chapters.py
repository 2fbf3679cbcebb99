"""Every chapter runs in quick mode, and its notebook is in step with its source.

A chapter's own asserts are its tests: each displayed equation is followed by one.
"""

import runpy

import matplotlib.pyplot as plt
import nbformat
import pytest

from minigrad import backend
from minigrad.autodiff import PRIMITIVES
from tests.fake_device import fake_device
from tools import notebooks

CHAPTERS = sorted(notebooks.CHAPTERS.glob("[0-9]*.py"))
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


@pytest.fixture
def quick(monkeypatch):
    """Quick mode, figures that nobody sees, and a process left as it was found."""
    monkeypatch.setenv("MINIGRAD_QUICK", "1")
    before, primitives, plots = backend.name(), dict(PRIMITIVES), plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(plots)
    backend.use(before)
    PRIMITIVES.clear()
    PRIMITIVES.update(primitives)


def test_there_are_chapters():
    assert CHAPTERS


@each_chapter
def test_chapter_runs(chapter, quick):
    runpy.run_path(str(chapter), run_name="__main__")  # a name that pools of processes know


def test_first_chapter_runs_on_a_device(quick):
    with fake_device():
        runpy.run_path(str(notebooks.CHAPTERS / "00_start_here.py"))


@each_chapter
def test_notebook_is_in_step(chapter):
    assert notebooks.check(chapter) == [], "run make notebooks"


@each_chapter
def test_no_backslash_was_taken_for_an_escape(chapter):
    """As of LaTeX's times, alpha, beta, frac, rho, vec: no tab, bell or other control character is in the text."""
    odd = {c for c in chapter.read_text(encoding="utf-8") if ord(c) < 32 and c != "\n"}
    assert not odd


@each_chapter
def test_notebook_is_for_readers(chapter):
    """It holds figures, no warnings, no paths and no addresses of the machine that ran it; it is small."""
    path = chapter.with_suffix(".ipynb")
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    places = (str(notebooks.CHAPTERS.parent), "/home/", "/Users/", "/tmp/", "C:\\", " at 0x")
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert not any(word in text for text in texts for word in places)
    assert path.stat().st_size < 1_500_000
