"""`python -m benchmarks.solvers`: what the solvers cost beside each other, and beside what they cannot do without.

Every row is a ratio of times from interleaved rounds of one process, so a slow minute of the machine slows both sides.
"""

import argparse
import datetime
import time

import numpy as np

from minigrad.curvature import SampleGradients, SampleMetric, fisher, sample_space_solve
from minigrad.linalg import Diagonal, cg, identity, minres, minres_qlp
from minigrad.training import machine

from . import harness, table, works
from .peers.minigrad_ import Minigrad

ROUNDS = 15
ITERATIONS = works.CG_ITERATIONS
SAMPLES, SAMPLE_DAMPING = 1000, 1e-2
KRYLOV_DAMPING, KRYLOV_ITERATIONS = 1e-2, 12  # not many more, and MINRES has reached float32's rounding and stops


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


def krylov(n):
    """MINRES and MINRES-QLP beside CG, and CG's vector algebra, on the autoencoder with n samples."""
    objective, theta, batch, g = setup(works.BY_NAME[f"step-autoencoder-{n}"])
    G = fisher(objective, theta, batch[0]) + KRYLOV_DAMPING * identity(theta.size)
    cheap = Diagonal(np.linspace(1, 2, theta.size, dtype=theta.dtype), psd=True)

    def iterate(solver, A):
        info = solver(A, -g, rtol=0.0, maxiter=KRYLOV_ITERATIONS)[1]
        assert info.iterations == KRYLOV_ITERATIONS, info.reason

    t = rounds(
        {
            "cg": lambda: iterate(cg, G),
            "minres": lambda: iterate(minres, G),
            "minres_qlp": lambda: iterate(minres_qlp, G),
            "cheap cg": lambda: iterate(cg, cheap),
            "cheap products": lambda: [cheap @ g for _ in range(KRYLOV_ITERATIONS)],
        }
    )
    net = f"autoencoder, N = {n}"
    return [
        row(f"{KRYLOV_ITERATIONS} iterations, MINRES / CG, {net}", t["minres"] / t["cg"]),
        row(f"{KRYLOV_ITERATIONS} iterations, MINRES-QLP / CG, {net}", t["minres_qlp"] / t["cg"], "< 1.3"),
        row(
            f"vector algebra / all of CG, {net}",
            (t["cheap cg"] - t["cheap products"]) / t["cg"],
            "< 0.05" if n == 1000 else "",
        ),
    ]


def sample_space():
    """The one-sample Fisher of 784-1500-10: its exact solve beside a product and a Cholesky factor, and beside CG.

    The solve draws its targets at a point linearized beforehand, as the product is; the steps do everything.
    """
    objective, theta, batch, g = setup(works.Work("step", works.WIDE, "tanh", "categorical", SAMPLES, "", 0))
    exact = fisher(objective, theta, batch[0])
    metric = lambda: fisher(objective, theta, batch[0], kind="mc", rng=np.random.default_rng(0))
    r, J = objective.linearize(theta, batch[0])
    drawn = lambda: objective.loss.gradient(r, objective.loss.sample(r, np.random.default_rng(0)), 1)
    K = metric().P.gram().astype(np.float64) / SAMPLES + SAMPLE_DAMPING * np.eye(SAMPLES)
    direct = lambda: sample_space_solve(metric(), -g, SAMPLE_DAMPING)[0]
    damped = lambda: metric() + SAMPLE_DAMPING * identity(theta.size)
    by_cg = lambda: cg(damped(), -g, rtol=0.0, maxiter=ITERATIONS)[0]

    def residual(d):
        return np.linalg.norm(damped() @ d + g) / np.linalg.norm(g)

    def step(solve):
        objective.value_and_grad(theta, batch)
        solve()

    t = rounds(
        {
            "product": lambda: exact @ g,
            "cholesky": lambda: np.linalg.cholesky(K),
            "solve": lambda: sample_space_solve(SampleMetric(SampleGradients(J, [drawn()])), -g, SAMPLE_DAMPING),
            "step": lambda: step(direct),
            "cg step": lambda: step(by_cg),
        }
    )
    net = f"784-1500-10, N = {SAMPLES}"
    residuals = f"residuals {residual(by_cg()):.1e} and {residual(direct()):.1e}"
    return [
        row(f"(sample-space solve - Cholesky) / product, {net}", (t["solve"] - t["cholesky"]) / t["product"], "< 2.5"),
        row(
            f"step of {ITERATIONS} CG iterations / sample-space step, {net}; {residuals}",
            t["cg step"] / t["step"],
            "> 5",
        ),
    ]


def shown(rows, facts):
    """The table in markdown, with where it was measured."""
    lines = ["| ratio of times | median | quartiles | wanted |", "|---|--:|--:|--:|"]
    lines += [f"| {r['title']} | {r['median']:.2f} | {r['q1']:.2f} - {r['q3']:.2f} | {r['target']} |" for r in rows]
    where = "{cpu}, {cores} cores; {blas}, {kernel} kernels, {threads} threads".format(**facts)
    return "\n".join([*lines, "", f"Medians of {ROUNDS} interleaved rounds, {facts['date']}; {where}; float32.", ""])


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solvers", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--write", action="store_true", help="keep a record, and put the table into README.md")
    write = parser.parse_args().write
    if write:
        table.check_readme("solvers")
    for line in machine.advice():
        print(f"note: {line}")
    rows = [*krylov(100), *krylov(1000), *sample_space()]
    facts = machine.machine() | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    print(shown(rows, facts), end="")
    if write:
        table.write("solvers", "solvers", {"rounds": ROUNDS, "rows": rows}, shown(rows, facts), facts)


if __name__ == "__main__":
    main()
