"""The house stands: imports run one way, NumPy stays where arrays are on the host, and importing is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minigrad"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {"backend"},
    {"parallel"},
    {"linalg"},
    {"autodiff"},
    {"nets", "losses"},
    {"objective"},
    {"curvature", "function_space"},
    {"optimizers"},
    {"training"},
    {"continual"},
    {"experiments"},
    {"cli"},
]
APART = {"data", "search", "plot"}  # stand on the backend alone, and serve the floors from training upwards
ENTRANCES = {"__init__", "__main__"}
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}

# Who may say `import numpy`, and why: everybody else writes xp.
ON_THE_HOST = {
    "backend": "the one place that knows where arrays live",
    "autodiff/ops": "permutations of axes, and the type of index numbers",
    "data": "files are read on the host",
    "training": "records and checkpoints are written on the host",
    "continual/learn": "seeds of tasks are host numbers",
    "search": "hyper-parameters are host numbers",
    "plot": "figures are drawn on the host",
    "parallel": "messages go through the host",
    "experiments": "tables and figures are made on the host",
    "cli": "prints what the host knows",
}
HEAVY = {
    "matplotlib",
    "scipy",
    "cupy",
    "tqdm",
    "typer",
    "rich",
    "pooch",
    "threadpoolctl",
    "mlxtend",
    "requests",
    "hypothesis",
    "dask",
    "distributed",
    "loky",
    "mpi4py",
}


def name_of(path):
    """autodiff/ops.py -> autodiff/ops"""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def house_of(path):
    """autodiff/ops.py -> autodiff"""
    return name_of(path).split("/")[0]


def imported(path):
    """The parts of each imported name, absolute: `from ..backend import xp` -> ["minigrad", "backend", "xp"]."""
    package = ["minigrad", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from ([*base, alias.name] for alias in node.names)


def may_import(house, other):
    if other == house:
        return True
    if house in APART:
        return other == "backend"
    if other in APART:
        return FLOOR[house] >= FLOOR["training"]
    return FLOOR[other] < FLOOR[house]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path):
    house = house_of(path)
    assert house in FLOOR or house in APART | ENTRANCES, f"say in FLOORS where {house} stands"
    for first, *rest in imported(path):
        if first != "minigrad" or house in ENTRANCES or rest == ["__version__"]:
            continue
        other = rest[0] if rest else "the whole of minigrad"
        assert other in FLOOR or other in APART, f"{house} imports {other}"
        assert may_import(house, other), f"{house} imports {other}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_numpy_is_imported_where_it_may_be(path):
    if any(first == "numpy" for first, *_ in imported(path)):
        assert name_of(path) in ON_THE_HOST or house_of(path) in ON_THE_HOST, (
            "write xp, or give a reason in ON_THE_HOST"
        )


def test_ops_take_from_numpy_only_what_is_on_the_host():
    tree = ast.parse((PACKAGE / "autodiff" / "ops.py").read_text())
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    taken = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "np"}
    assert taken <= {"argsort", "integer"}


def test_only_the_backend_asks_which_library_it_is():
    reports = {"training/machine"}  # states CuPy's version in a record
    askers = {name_of(path) for path in MODULES if "cupy" in {parts[0] for parts in imported(path)}}
    assert askers <= {"backend"} | reports


def test_importing_minigrad_is_light():
    script = f"import sys, minigrad; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_rules_can_fail(tmp_path, monkeypatch):
    """The floors, on imports that must be refused or allowed."""
    for house, other, allowed in [
        ("linalg", "backend", True),
        ("linalg", "autodiff", False),
        ("nets", "losses", False),
        ("losses", "autodiff", True),
        ("curvature", "objective", True),
        ("objective", "curvature", False),
        ("optimizers", "data", False),
        ("training", "data", True),
        ("data", "backend", True),
        ("data", "linalg", False),
        ("plot", "data", False),
    ]:
        assert may_import(house, other) == allowed
    file = PACKAGE / "autodiff" / "toy.py"
    source = "import numpy as np\nfrom ..backend import xp\nfrom . import ops\nfrom minigrad import linalg\n"
    monkeypatch.setattr(Path, "read_text", lambda path: source)
    assert list(imported(file)) == [
        ["numpy"],
        ["minigrad", "backend", "xp"],
        ["minigrad", "autodiff", "ops"],
        ["minigrad", "linalg"],
    ]
