"""The map of chapter 00 is true and complete: what it names exists, and what exists it names."""

import re

import pytest

from minigrad import experiments, losses, nets, optimizers, search
from tools.notebooks import CHAPTERS

COLUMNS = ["method", "paper", "equation", "module", "chapter", "experiment"]
PACKAGE = CHAPTERS.parent / "minigrad"


def table(text, first):
    """The rows of the markdown table (in comments) whose header is `first`, as dicts."""
    lines = [line.removeprefix("# ").strip() for line in text.splitlines()]
    start = lines.index(first)
    cells = lambda line: [cell.strip() for cell in line.strip("|").split("|")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        assert len(cells(line)) == len(COLUMNS), line
        rows.append(dict(zip(COLUMNS, cells(line), strict=True)))
    return rows


def names(rows, column):
    """What stands between backticks in a column."""
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row[column])}


@pytest.fixture(scope="module")
def rows():
    return table((CHAPTERS / "00_start_here.py").read_text(encoding="utf-8"), f"| {' | '.join(COLUMNS)} |")


def classes(package):
    return {name for name in package.__all__ if isinstance(getattr(package, name), type)}


def test_modules_exist(rows):
    for module in names(rows, "module"):
        assert (PACKAGE / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_chapters_are_those_that_exist(rows):
    named = {row["chapter"] for row in rows} - {""}
    assert named == {path.name[:2] for path in CHAPTERS.glob("[0-9]*.py")}


def test_experiments_are_those_that_exist(rows):
    assert names(rows, "experiment") == set(experiments.EXPERIMENTS)


def test_every_search_is_named(rows):
    made_of = {"Space", "Uniform", "LogUniform", "Integer", "Choice", "Trial", "Outcome", "History"}
    assert classes(search) - made_of <= names(rows, "method"), "give each a row in the map of chapter 00"


def test_every_optimizer_and_policy_is_named(rows):
    missing = classes(optimizers) - names(rows, "method")
    assert not missing, "give each a row in the map of chapter 00"


def test_every_loss_and_initializer_is_named(rows):
    initializers = {"Glorot", "He", "FanIn", "Sparse"}
    assert initializers <= classes(nets)
    distributions = {name for name in ("Gaussian", "Bernoulli", "Categorical") if hasattr(losses, name)}
    assert initializers | distributions <= names(rows, "method")


def test_names_in_the_map_are_names_in_the_code(rows):
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for name in names(rows, "method"):
        assert re.search(rf"(class|def) {name}\b", code), name


def test_table_refuses_a_row_that_does_not_fit():
    header = f"# | {' | '.join(COLUMNS)} |\n# |---|\n"
    assert table(header + "# | a | b | c | `d` | 00 | |\n", header.splitlines()[0][2:])[0]["module"] == "`d`"
    with pytest.raises(AssertionError):
        table(header + "# | a | b | c |\n", header.splitlines()[0][2:])
