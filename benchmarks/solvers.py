"""`python -m benchmarks.solvers`: what the solvers cost beside each other, and beside what they cannot do without."""

import numpy as np

from minigrad.curvature import SampleGradients, SampleMetric, fisher, sample_space_solve
from minigrad.linalg import Diagonal, cg, identity, minres, minres_qlp

from . import works
from .ratios import rounds, row, run, setup

ITERATIONS = works.CG_ITERATIONS
SAMPLES, SAMPLE_DAMPING = 1000, 1e-2
KRYLOV_DAMPING, KRYLOV_ITERATIONS = 1e-2, 12  # not many more, and MINRES has reached float32's rounding and stops


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


if __name__ == "__main__":
    run("solvers", __doc__.split(": ", 1)[1], lambda: [*krylov(100), *krylov(1000), *sample_space()])
