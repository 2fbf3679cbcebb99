"""Do the tests notice? Plant one fault at a time in the derivation code, and see.

A fault is a small edit of the kind that a slip of the pen makes: a sign, a factor, a transpose, an index,
the order of a product. Each goes into a temporary copy of the package (the working tree is never touched),
and the tests that should notice run on that copy. A fault that no test notices has survived: either a test is
missing, or the edit changes nothing and belongs in `faults_equivalent.toml`, with the reason.

    python tools/faults.py                                   a sample from each file
    python tools/faults.py --all --files minigrad/losses.py  everything in one file
    python tools/faults.py --show                            list the faults, run nothing

A fresh interpreter per fault would spend most of its time importing NumPy, SciPy and pytest. So they are
imported once, here, and each fault gets a fork of this process. Hence: Linux or macOS.
"""

import argparse
import ast
import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = Path(__file__).with_name("faults_equivalent.toml")

# Which tests should notice a fault in which file; the quickest to notice come first.
TESTS = {
    "minigrad/autodiff/ops.py": ["tests/autodiff"],
    "minigrad/autodiff/tape.py": ["tests/autodiff"],
    "minigrad/autodiff/recurrent.py": ["tests/nets/test_lstm.py", "tests/autodiff/test_ops.py"],
    "minigrad/autodiff/conv.py": ["tests/autodiff/test_conv.py", "tests/autodiff/test_ops.py"],
    "minigrad/autodiff/normalization.py": ["tests/nets/test_normalization.py", "tests/autodiff/test_ops.py"],
    "minigrad/losses.py": ["tests/test_losses.py", "tests/test_objective.py"],
    "minigrad/function_space/distance.py": ["tests/function_space/test_distance.py"],
    "minigrad/function_space/embedding.py": ["tests/function_space/test_embedding.py"],
    "minigrad/function_space/estimate.py": ["tests/function_space/test_estimate.py"],
    "minigrad/function_space/trajectory.py": ["tests/function_space/test_trajectory.py"],
    "minigrad/linalg/operator.py": ["tests/linalg"],
    "minigrad/linalg/cg.py": ["tests/linalg"],
    "minigrad/linalg/cholesky.py": ["tests/linalg/test_cholesky.py"],
    "minigrad/linalg/kronecker.py": ["tests/linalg/test_kronecker.py"],
    "minigrad/curvature/fisher.py": ["tests/curvature/test_fisher.py", "tests/curvature/test_factors.py"],
    "minigrad/curvature/gauss_newton.py": ["tests/curvature/test_second_order.py"],
    "minigrad/curvature/hessian.py": ["tests/curvature/test_second_order.py"],
    "minigrad/curvature/factors.py": [
        "tests/curvature/test_shared_weights.py",
        "tests/curvature/test_factors.py",
        "tests/optimizers/test_kfac.py",
    ],
    "minigrad/curvature/layers.py": [
        "tests/curvature/test_shared_weights.py",
        "tests/curvature/test_samples.py",
        "tests/curvature/test_factors.py",
    ],
    "minigrad/curvature/samples.py": ["tests/curvature/test_shared_weights.py", "tests/curvature/test_samples.py"],
    "minigrad/curvature/sample_space.py": ["tests/curvature/test_sample_space.py"],
    "minigrad/curvature/blocks.py": ["tests/curvature/test_blocks.py"],
    "minigrad/curvature/preconditioner.py": ["tests/curvature/test_preconditioner.py"],
    "minigrad/linalg/vectors.py": [
        "tests/linalg/test_operator.py",
        "tests/linalg/test_cg.py",
        "tests/linalg/test_minres.py",
    ],
    "minigrad/linalg/info.py": ["tests/linalg/test_cg.py", "tests/linalg/test_minres.py"],
    "minigrad/linalg/lanczos.py": ["tests/linalg/test_lanczos.py", "tests/linalg/test_minres.py"],
    "minigrad/linalg/qlp.py": ["tests/linalg/test_minres.py", "tests/linalg/test_minres_qlp.py"],
    "minigrad/linalg/minres.py": ["tests/linalg/test_minres.py", "tests/linalg/test_minres_qlp.py"],
    "minigrad/linalg/minres_qlp.py": ["tests/linalg/test_minres_qlp.py", "tests/linalg/test_minres.py"],
    "minigrad/nets/layout.py": ["tests/nets", "tests/test_objective.py"],
    "minigrad/objective.py": ["tests/test_objective.py", "tests/test_parallel.py"],
    "minigrad/parallel.py": ["tests/test_parallel.py"],
    "minigrad/nets/lstm.py": ["tests/nets/test_lstm.py"],
    "minigrad/nets/mlp.py": ["tests/nets/test_nets.py", "tests/nets/test_normalization.py"],
    "minigrad/nets/net.py": [
        "tests/nets/test_normalization.py",
        "tests/nets/test_dropout.py",
        "tests/nets/test_convnet.py",
    ],
    "minigrad/nets/convnet.py": ["tests/nets/test_convnet.py"],
    "minigrad/nets/zoo.py": ["tests/nets/test_zoo.py"],
    "minigrad/nets/squeezenet.py": ["tests/nets/test_zoo.py"],
    "minigrad/nets/dropout.py": ["tests/nets/test_dropout.py"],
    "minigrad/nets/normalization.py": ["tests/nets/test_normalization.py", "tests/nets/test_convnet.py"],
    "minigrad/optimizers/acp.py": ["tests/optimizers/test_acp.py", "tests/optimizers/test_shared_weights.py"],
    "minigrad/optimizers/centred.py": ["tests/optimizers/test_centred.py", "tests/optimizers/test_shared_weights.py"],
    "minigrad/nets/whitening.py": ["tests/nets/test_whitening.py", "tests/optimizers/test_shared_weights.py"],
    "minigrad/optimizers/damping.py": ["tests/optimizers/test_damping.py"],
    "minigrad/optimizers/corrected.py": ["tests/optimizers/test_corrected.py"],
    "minigrad/optimizers/hcgd.py": ["tests/optimizers/test_corrected.py"],
    "minigrad/optimizers/natural_descent.py": ["tests/optimizers/test_corrected.py"],
    "minigrad/optimizers/hessian_free.py": ["tests/optimizers/test_hessian_free.py"],
    "minigrad/optimizers/kfac.py": ["tests/optimizers/test_kfac.py", "tests/optimizers/test_shared_weights.py"],
    "minigrad/optimizers/layerwise.py": ["tests/optimizers/test_kfac.py"],
    "minigrad/optimizers/krylov_subspace_descent.py": ["tests/optimizers/test_krylov_subspace_descent.py"],
    "minigrad/optimizers/metric_batch.py": [
        "tests/optimizers/test_metric_batch.py",
        "tests/optimizers/test_natural_gradient.py",
    ],
    "minigrad/optimizers/natural_gradient.py": ["tests/optimizers/test_natural_gradient.py"],
    "minigrad/optimizers/newton.py": ["tests/optimizers/test_newton.py"],
    "minigrad/optimizers/prong.py": ["tests/optimizers/test_prong.py", "tests/optimizers/test_shared_weights.py"],
    "minigrad/optimizers/quadratic_model.py": ["tests/optimizers/test_kfac.py"],
    "minigrad/optimizers/solvers.py": ["tests/optimizers/test_natural_gradient.py"],
    "minigrad/optimizers/phases.py": ["tests/optimizers/test_phases.py"],
    "minigrad/search/acceptance.py": ["tests/search/test_landscape.py"],
    "minigrad/search/core.py": ["tests/search/test_methods.py"],
    "minigrad/search/engine.py": ["tests/search/test_engine.py"],
    "minigrad/search/history.py": ["tests/search/test_history.py"],
    "minigrad/search/landscape.py": ["tests/search/test_landscape.py"],
    "minigrad/search/methods.py": ["tests/search/test_methods.py"],
    "minigrad/search/space.py": ["tests/search/test_space.py"],
    "minigrad/search/trial.py": ["tests/search/test_history.py", "tests/search/test_methods.py"],
    "minigrad/data/augment.py": ["tests/data/test_augment.py"],
    "minigrad/data/deformed.py": ["tests/data/test_deformed.py"],
    "minigrad/data/permuted.py": ["tests/data/test_permuted.py"],
    "minigrad/continual/learn.py": ["tests/continual/test_learn.py"],
    "minigrad/continual/methods.py": ["tests/continual/test_quadratic.py", "tests/continual/test_working_memory.py"],
    "minigrad/continual/quadratic.py": ["tests/continual/test_quadratic.py"],
    "minigrad/continual/working_memory.py": ["tests/continual/test_working_memory.py"],
}

PYTEST = ["-x", "-p", "no:cacheprovider", "-m", "not slow", "--rootdir", "."]
PYTEST += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are imported before pytest starts
MEMORY = 16 << 30  # bytes of address space that a run may have
WRONG_COPY = 99  # a child's exit code: the tests imported some other minigrad


# --- The faults -------------------------------------------------------------------------------------------

OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.Lt: ("<", ">="),
    ast.GtE: (">=", "<"),
    ast.Gt: (">", "<="),
    ast.LtE: ("<=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
    ast.MatMult: ("@", None),
    ast.Pow: ("**", None),
}
NAMES = {"rop": "lop", "lop": "rop", "sum": "mean", "mean": "sum", "maximum": "minimum", "minimum": "maximum"}
NOT_DERIVATION = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr)
FOR_READERS = {"__repr__", "__str__", "__format__"}
TOLERANCE = 1e-3  # a smaller constant is a tolerance, not a factor


@dataclass(frozen=True)
class Fault:
    file: str
    line: int
    kind: str
    before: str  # the source line, or lines, without indentation
    after: str
    source: str  # the whole file with the fault in it

    def __str__(self):
        return f"{self.file}:{self.line}  ({self.kind})\n    - {self.before}\n    + {self.after}"


class Planter:
    """Walks a module's syntax tree and collects every fault as an edit of the text."""

    def __init__(self, file, source):
        self.file, self.source, self.faults = file, source, []
        self.meaning = ast.dump(ast.parse(source))
        self.bytes = source.encode()  # the positions in a syntax tree count bytes
        self.starts = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node):
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, start, end):
        return self.bytes[start:end].decode()

    def plant(self, kind, node, new, start=None, end=None):
        """Replace the node, or the bytes from start to end inside it, by the text `new`."""
        first, last = self.span(node)
        start, end = first if start is None else start, last if end is None else end
        mutated = (self.bytes[:start] + new.encode() + self.bytes[end:]).decode()
        with contextlib.suppress(SyntaxError):
            if ast.dump(ast.parse(mutated)) == self.meaning:
                return
            first, last = node.lineno - 1, node.end_lineno
            tail = len(self.source.splitlines()) - last
            lines = mutated.splitlines()
            before = " ".join(s.strip() for s in self.source.splitlines()[first:last])
            after = " ".join(s.strip() for s in lines[first : len(lines) - tail])
            self.faults.append(Fault(self.file, node.lineno, kind, before, after, mutated))

    def walk(self, node, index=False):
        """Plant in this node, then below it. `index`: a constant here is an axis or a subscript."""
        if isinstance(node, NOT_DERIVATION) or getattr(node, "name", None) in FOR_READERS:
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        plant = getattr(self, "plant_" + type(node).__name__, None)
        if plant is not None and plant(node, index) == "stop":
            return
        for field, child in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            below = index and isinstance(node, ast.Tuple | ast.List)
            below = below or (isinstance(node, ast.keyword) and str(node.arg).startswith("ax"))
            below = below or (isinstance(node, ast.Subscript) and field == "slice")
            for item in child if isinstance(child, list) else [child]:
                if isinstance(item, ast.AST):
                    self.walk(item, below)

    def operands(self, node, left, right, op):
        """Both operands with their parentheses, and where the operator stands between them."""
        start, end = self.span(node)
        at = self.bytes.index(op.encode(), self.span(left)[1], self.span(right)[0])
        return self.text(start, at).rstrip(), self.text(at + len(op), end).lstrip(), at

    def plant_BinOp(self, node, index):
        if type(node.op) not in OPERATORS or any(is_text(x) for x in (node.left, node.right)):
            return
        op, swapped = OPERATORS[type(node.op)]
        left, right, at = self.operands(node, node.left, node.right, op)
        if swapped:
            self.plant(f"{op} to {swapped}", node, swapped, at, at + len(op))
        bare = isinstance(node.left, ast.BinOp) and left == self.text(*self.span(node.left))
        turned = f"{right} {op} ({left})" if bare else f"{right} {op} {left}"
        if op == "-":
            self.plant("difference turned round", node, turned)
        elif op == "@":
            self.plant("product turned round", node, turned)
        elif op == "*":
            self.plant("factor dropped", node, right if isinstance(node.left, ast.Constant) else left)
        elif op == "/":
            self.plant("divisor dropped", node, left)
        elif op == "**":
            self.plant("exponent dropped", node, left)

    def plant_AugAssign(self, node, index):
        if type(node.op) in OPERATORS and not is_text(node.value):
            op, swapped = OPERATORS[type(node.op)]
            if swapped:
                _, _, at = self.operands(node, node.target, node.value, op + "=")
                self.plant(f"{op}= to {swapped}=", node, swapped, at, at + len(op))

    def plant_UnaryOp(self, node, index):
        start, end = self.span(node)
        if isinstance(node.op, ast.USub):
            whole = isinstance(node.operand, ast.Constant) and type(node.operand.value) is int
            if whole and index:
                self.plant("index", node, "0")
            else:
                self.plant("minus dropped", node, self.text(start + 1, end).lstrip())
            return "stop" if whole else None  # NumPy takes a length of -2 for -1
        if isinstance(node.op, ast.Not):
            self.plant("not dropped", node, self.text(start + 3, end).lstrip())

    def plant_Constant(self, node, index):
        value = node.value
        if type(value) is int:
            new = 1 - value if index and value in (0, 1) else value + 1
            self.plant("index" if index else "constant", node, str(new))
        elif type(value) is float and (value == 0 or abs(value) >= TOLERANCE):
            self.plant("constant", node, str(2 * value or 1.0))

    def plant_Attribute(self, node, index):
        start, end = self.span(node)
        dot = start + self.text(start, end).encode().rindex(b".")
        if node.attr == "T":
            self.plant("transpose dropped", node, self.text(start, dot).rstrip())
        elif node.attr in NAMES:
            self.plant(f"{node.attr} to {NAMES[node.attr]}", node, NAMES[node.attr], dot + 1, end)

    def plant_Call(self, node, index):
        function = ast.unparse(node.func)
        if function.split(".")[-1] in ("transpose", "swapaxes") and node.args:
            self.plant("transpose dropped", node, f"({ast.unparse(node.args[0])})")
        elif function in NAMES and f"def {NAMES[function]}(" in self.source:
            self.plant(f"{function} to {NAMES[function]}", node, NAMES[function], end=self.span(node.func)[1])
        if function.endswith("warn"):
            return "stop"

    def plant_Compare(self, node, index):
        if len(node.ops) == 1 and type(node.ops[0]) in OPERATORS:
            op, swapped = OPERATORS[type(node.ops[0])]
            _, _, at = self.operands(node, node.left, node.comparators[0], op)
            self.plant(f"{op} to {swapped}", node, swapped, at, at + len(op))

    def plant_BoolOp(self, node, index):
        op, swapped = OPERATORS[type(node.op)]
        _, _, at = self.operands(node, node.values[0], node.values[1], op)
        self.plant(f"{op} to {swapped}", node, swapped, at, at + len(op))

    def plant_Subscript(self, node, index):
        return "stop" if is_text(node.value) else None


def is_text(node):
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def plantable(file, source):
    """Every fault that can be planted in this source, in the order of its lines, each once."""
    planter = Planter(file, source)
    planter.walk(ast.parse(source))
    unique = {fault.source: fault for fault in reversed(planter.faults)}
    return sorted(unique.values(), key=lambda fault: (fault.line, fault.kind, fault.after))


# --- Running the tests on a copy --------------------------------------------------------------------------


def warm_up():
    """Import, once, what every run needs; every fork inherits it. Never the package under test."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the forks are the parallelism
    os.environ.pop("MINIGRAD_BACKEND", None)  # the formulas are the same on a GPU, and a GPU does not fork
    os.environ.setdefault("CI", "true")  # Hypothesis: same examples every time, no deadline
    for name in ("numpy", "scipy.sparse.linalg", "hypothesis.extra.numpy", "threadpoolctl", "pytest"):
        with contextlib.suppress(ImportError):
            __import__(name)


def start(tree, tests, package):
    """Fork; the child runs the tests on the copy in `tree` and exits with pytest's code."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()  # so that a hang can be ended with all that it started
        with contextlib.suppress(ValueError, OSError):  # a fault may ask for all memory there is
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        log = os.open(tree / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path.insert(0, str(tree))
        import pytest

        code = int(pytest.main([*PYTEST, *tests]))
        module = sys.modules.get(package)
        origins = list(getattr(module, "__path__", [])) + [getattr(module, "__file__", None) or ""]
        if module and not any(str(tree) in origin for origin in origins):
            code = WRONG_COPY
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(running):
    """Collect the children that have ended or hang: {pid: exit code, or None for a hang}."""
    ended = {}
    while not ended:
        for pid, deadline in running.items():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                ended[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                ended[pid] = None
        time.sleep(0.01)
    return ended


def copy_project(root, tree, files):
    skip = shutil.ignore_patterns("__pycache__", ".*")
    for name in sorted({Path(file).parts[0] for file in files} | {"tests"}):
        shutil.copytree(root / name, tree / name, ignore=skip)
    if (root / "pyproject.toml").exists():
        shutil.copy2(root / "pyproject.toml", tree)


def baseline(tree, tests, package):
    """Seconds that the tests take without a fault. They must pass, or nothing below means anything."""
    begin = time.monotonic()
    pid = start(tree, tests, package)
    try:
        (code,) = wait({pid: begin + 900}).values()
    except KeyboardInterrupt:
        os.killpg(pid, signal.SIGKILL)
        raise
    if code == WRONG_COPY:
        sys.exit(f"The tests import {package} from elsewhere, not from the copy with the fault in it.")
    if code != 0:
        log = (tree / "log").read_text(errors="replace")
        sys.exit(f"{log[-4000:]}\nThese tests fail without any fault: {' '.join(tests)}. Mend them first.")
    return time.monotonic() - begin


def survivors(tree, faults, tests, seconds, jobs, progress):
    """The faults that their tests did not notice. `tree` is the copy that passed, with its bytecode."""
    todo, alive, running = list(reversed(faults)), [], {}
    try:
        while todo or running:
            while todo and len(running) < jobs:
                fault = todo.pop()
                copy = Path(tempfile.mkdtemp(dir=tree.parent))
                shutil.copytree(tree, copy, dirs_exist_ok=True)
                plant(copy / fault.file, fault.source)
                pid = start(copy, tests[fault.file], Path(fault.file).parts[0])
                running[pid] = fault, copy, time.monotonic() + 20 + 5 * seconds[fault.file]
            for pid, code in wait({pid: job[2] for pid, job in running.items()}).items():
                fault, copy, _ = running.pop(pid)
                shutil.rmtree(copy)
                if code == 0:
                    alive.append(fault)
                    progress.set_postfix(survived=len(alive))
                progress.update()
    finally:
        for pid in running:
            os.killpg(pid, signal.SIGKILL)
    return sorted(alive, key=faults.index)


def plant(path, source):
    path.write_text(source)
    for stale in (path.parent / "__pycache__").glob(path.stem + ".*"):
        stale.unlink()  # bytecode of the same second and size would hide the fault


# --- The command ------------------------------------------------------------------------------------------


def main(argv=None, root=ROOT, tests=TESTS, equivalent=EQUIVALENT):
    """Returns the number of faults that survived without an explanation."""
    options = arguments(argv, tests)
    faults, explained, stale = choose(options, root, equivalent)
    if options.show:
        print(*faults, sep="\n")
        print(f"{len(faults)} faults, and {len(explained)} known to change nothing")
        return 0

    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread beside the forks
    warm_up()
    missing = sorted(name for file in options.files for name in tests[file] if not (root / name).exists())
    if missing:
        sys.exit(f"No such tests: {', '.join(missing)}. Mend the table TESTS in {Path(__file__).name}.")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        tree = Path(folder).resolve() / "sound"
        copy_project(root, tree, options.files)
        print("Without a fault, the tests must pass ...", flush=True)
        timed = {}
        for file in options.files:
            key = tuple(tests[file])
            if key not in timed:
                timed[key] = baseline(tree, tests[file], Path(file).parts[0])
        seconds = {file: timed[tuple(tests[file])] for file in options.files}
        with tqdm(total=len(faults), unit="fault", mininterval=1) as progress:
            alive = survivors(tree, faults, tests, seconds, options.jobs, progress)
    report(options.files, faults, explained, alive)
    for entry in stale:
        print(f"\nExplained, but no longer planted: {entry['file']}: {entry['before']} -> {entry['after']}")
    return len(alive)


def arguments(argv, tests):
    parser = argparse.ArgumentParser(description="Plant faults in the derivation code; report the survivors.")
    parser.add_argument("--files", nargs="+", default=list(tests), choices=list(tests), metavar="FILE")
    parser.add_argument("--per-file", type=int, default=30, metavar="N", help="sample size (30)")
    parser.add_argument("--all", action="store_true", help="every fault, not a sample")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--show", action="store_true", help="list the faults and run nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="how many at a time (all cores)")
    return parser.parse_args(argv)


def choose(options, root, equivalent):
    """The faults to run, those explained as changing nothing, and explanations without a fault."""
    entries = tomllib.loads(equivalent.read_text()).get("equivalent", []) if equivalent else []
    known = {(e["file"], e["before"], e["after"]): e for e in entries if e["file"] in options.files}
    faults, explained, stale = [], [], dict(known)
    for file in options.files:
        everything = plantable(file, (root / file).read_text())
        size = len(everything) if options.all else min(options.per_file, len(everything))
        sample = set(random.Random(f"{options.seed} {file}").sample(range(len(everything)), size))
        for i, fault in enumerate(everything):
            key = file, fault.before, fault.after
            stale.pop(key, None)
            if i in sample:
                (explained if key in known else faults).append(fault)
    return faults, explained, stale.values()


def report(files, faults, explained, alive):
    planted, equivalent, survived = (Counter(f.file for f in group) for group in (faults, explained, alive))
    width = max(map(len, files))
    print(f"\n{'file':{width}}  planted  caught  equivalent  survived")
    rows = [(f, planted[f] + equivalent[f], planted[f] - survived[f], equivalent[f], survived[f]) for f in files]
    for name, *counts in [*rows, ("all", *map(sum, list(zip(*rows, strict=True))[1:]))]:
        print("{:{}}  {:7}  {:6}  {:10}  {:8}".format(name, width, *counts))
    if alive:
        print("\nNo test noticed:", *alive, sep="\n")
    else:
        print("\nEvery fault was caught or is known to change nothing.")


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
