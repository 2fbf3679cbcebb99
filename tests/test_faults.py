"""The fault planter finds the faults it should, and tells a caught one from a survivor."""

import shutil
import subprocess
import sys

import pytest

from tools import faults

TOY = '''"""A toy."""


def area(a, b):
    return 0.5 * a * b


def mirrored(x):
    return -x
'''
TOY_TEST = """from toy.core import area


def test_area():
    assert area(3.0, 5.0) == 7.5
"""
EXPLAINED = """[[equivalent]]
file = "toy/core.py"
before = "return -x"
after = "return x"
reason = "nothing calls it"

[[equivalent]]
file = "toy/core.py"
before = "return a + a"
after = "return a - a"
reason = "this line is gone"
"""
# The toy's folder is the first argument; an explanation of its survivor is the second, or empty.
COMMAND = """
import sys
from pathlib import Path
from tools import faults
root, explained, *options = sys.argv[1:]
equivalent = Path(explained) if explained else None
sys.exit(faults.main(options, Path(root), {"toy/core.py": ["tests/test_core.py"]}, equivalent))
"""


def edits(source):
    return {(fault.before, fault.after) for fault in faults.plantable("toy.py", source)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a + b", "a - b"),
        ("a - b", "b - a"),
        ("x - y - z", "z - (x - y)"),
        ("(x - y) - z", "z - (x - y)"),
        ("a * b", "a / b"),
        ("(a + 1) * b", "(a + 1)"),
        ("0.5 * a", "a"),
        ("0.5 * a", "1.0 * a"),
        ("2 * a", "3 * a"),
        ("-(a + b)", "(a + b)"),
        ("a @ b", "b @ a"),
        ("(a + b) @ c", "c @ (a + b)"),
        ("(a @ b).T", "(a @ b)"),
        ("h.T @ u", "h @ u"),
        ("x ** 2", "x"),
        ("x.sum(axis=0)", "x.sum(axis=1)"),
        ("x.sum(axis=-1)", "x.sum(axis=0)"),
        ("x.sum(axis=0)", "x.mean(axis=0)"),
        ("x[i, 1]", "x[i, 0]"),
        ("J.rop(v)", "J.lop(v)"),
        ("transpose(x)", "(x)"),
        ("a < b", "a >= b"),
        ("a and b", "a or b"),
        ("x += y", "x -= y"),
        ("σ * (1 - σ)", "σ * (1 + σ)"),  # positions count bytes, not letters
    ],
)
def test_kinds(before, after):
    assert (before, after) in edits(before + "\n")


@pytest.mark.parametrize(
    "source",
    [
        '"""1 + 1"""',
        "raise ValueError(a - b)",
        "assert a - b == 1",
        "from x import y",
        "x: Vector[2]",
        "@rule(2)\ndef f(): pass",
        "def __repr__(self): return 1 + 2",
        "s = 'a' + b",
        "s = f'{a - b}'",
        "tolerance = 1e-8",
    ],
)
def test_what_is_no_derivation_is_left_alone(source):
    assert edits(source) == set()


def test_edits_span_lines():
    source = "y = (\n    a  # first, not last\n    - b\n)\n"
    assert ("a  # first, not last - b", "a  # first, not last + b") in edits(source)


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "toy/core.py").write_text(TOY)
    (tmp_path / "tests/test_core.py").write_text(TOY_TEST)
    shutil.copy(faults.ROOT / "pyproject.toml", tmp_path)  # warnings are errors there, too
    (tmp_path / "explained.toml").write_text(EXPLAINED)
    return tmp_path


def run(toy, *options, explained=""):
    """The command, on the toy, in a process of its own: it forks, and this process has minigrad loaded."""
    command = [sys.executable, "-c", COMMAND, toy, explained, *options]
    return subprocess.run(command, cwd=faults.ROOT, capture_output=True, text=True, timeout=120)


def test_a_survivor_is_reported(toy):
    done = run(toy, "--all")
    assert "return -x\n    + return x" in done.stdout, done.stderr
    assert "0.5" not in done.stdout  # every fault in the area was caught
    assert done.returncode == 1
    assert (toy / "toy/core.py").read_text() == TOY


def test_an_explained_survivor_is_counted_apart(toy):
    done = run(toy, "--all", explained=toy / "explained.toml")
    assert "Every fault was caught or is known to change nothing." in done.stdout, done.stderr
    assert "no longer planted: toy/core.py: return a + a -> return a - a" in done.stdout
    assert done.returncode == 0


def test_a_failing_test_is_no_baseline(toy):
    (toy / "tests/test_core.py").write_text(TOY_TEST.replace("7.5", "7"))
    done = run(toy, "--all")
    assert "fail without any fault" in done.stderr
    assert done.returncode == 1


def test_a_sample_is_reproducible(toy):
    first, again, other = (run(toy, "--show", "--per-file=3", f"--seed={s}").stdout for s in (1, 1, 2))
    assert first == again != other
    assert "3 faults" in first
