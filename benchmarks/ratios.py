"""Tables of ratios: of times from interleaved rounds of one process, so a slow minute slows both sides."""

import argparse
import datetime
import time

import numpy as np

from minigrad.training import machine

from . import harness, table, works
from .peers.minigrad_ import Minigrad

ROUNDS = 15


def setup(work):
    """(objective, theta, (x, t), gradient) of a work."""
    objective, theta, x, t, _ = Minigrad("numpy").setup(work, works.problem(work))
    return objective, theta, (x, t), objective.value_and_grad(theta, (x, t))[1]


def rounds(functions):
    """{name: seconds in each round} of functions without arguments, taken in turns after one turn to warm up.

    In between the BLAS threads that the last one has left spinning go to sleep.
    """
    seconds = {name: [] for name in functions}
    for _ in range(ROUNDS + 1):
        for name, function in functions.items():
            time.sleep(harness.SETTLE)
            begin = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begin)
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def row(title, ratio, target=""):
    """A row of the table; ratio: one number a round."""
    return {"title": title, "target": target, **harness.quantiles(ratio.tolist())}


def shown(rows, facts):
    """The table in markdown, with where it was measured."""
    lines = ["| ratio of times | median | quartiles | wanted |", "|---|--:|--:|--:|"]
    lines += [f"| {r['title']} | {r['median']:.2f} | {r['q1']:.2f} - {r['q3']:.2f} | {r['target']} |" for r in rows]
    where = "{cpu}, {cores} cores; {blas}, {kernel} kernels, {threads} threads".format(**facts)
    return "\n".join([*lines, "", f"Medians of {ROUNDS} interleaved rounds, {facts['date']}; {where}; float32.", ""])


def run(name, what, measure):
    """The program `python -m benchmarks.NAME`; measure() gives its rows. what: a sentence for --help."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=what)
    parser.add_argument("--write", action="store_true", help="keep a record, and put the table into README.md")
    write = parser.parse_args().write
    if write:
        table.check_readme(name)
    for line in machine.advice():
        print(f"note: {line}")
    rows = measure()
    facts = machine.machine() | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    print(shown(rows, facts), end="")
    if write:
        table.write(name, name, {"rounds": ROUNDS, "rows": rows}, shown(rows, facts), facts)
