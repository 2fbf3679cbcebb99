"""A few updates by each method, by one process or by ranks: imported by tests, and run as a program by mpiexec.

mpiexec -n 4 python -m mpi4py tests/spread_training.py FOLDER       writes FOLDER/RANK.npz on each rank
"""

import sys
from pathlib import Path

import numpy as np

from minigrad import Objective, fit
from minigrad.backend import asarray
from minigrad.losses import Categorical
from minigrad.nets import BatchNorm, mlp
from minigrad.optimizers import (
    ACP,
    EKFAC,
    HCGD,
    KFAC,
    PRONG,
    SGD,
    TONGA,
    Adam,
    CentredGD,
    DiagonalFisher,
    FixedDamping,
    HessianFree,
    MinresQLP,
    NaturalDescent,
    NaturalGradient,
    SampleSpace,
)
from minigrad.parallel import ALONE, Ranks

N, STEPS = 31, 3
LISTED = {
    "SGD": SGD(0.3, momentum=0.9),
    "Adam": Adam(0.01),
    "natural gradient, CG": NaturalGradient(metric_batch=13),
    "natural gradient, MINRES-QLP, mc": NaturalGradient(metric="mc", samples=2, solver=MinresQLP()),
    "natural gradient, fixed damping": NaturalGradient(lr=0.5, damping=FixedDamping(0.1)),
    "K-FAC": KFAC(interval=2),
    "K-FAC, exact": KFAC(kind="exact", factored=False),
    "K-FAC, empirical": KFAC(kind="empirical", lr=0.1, momentum=0.5, damping=FixedDamping(0.3)),
    "PRONG": PRONG(0.1, momentum=0.9, interval=2, samples=20),
    "PRONG, diagonal": PRONG(0.1, interval=2, samples=20, diagonal=True, signal=0.1),
    "SGD, normalized net": SGD(0.3, momentum=0.9),
    "PRONG+": PRONG(0.1, momentum=0.9, interval=2, samples=20),
}
OTHERS = {
    "EKFAC": EKFAC(interval=2),
    "diagonal Fisher": DiagonalFisher(),
    "ACP": ACP(0.1, samples=20),
    "ACP, printed": ACP(0.1, samples=None, form="printed"),
    "centred": CentredGD(0.1),
    "Hessian-free": HessianFree(),
    "sample space": NaturalGradient(metric="mc", solver=SampleSpace()),
    "TONGA": TONGA(),
    "HCGD": HCGD(),
    "natural descent": NaturalDescent(metric="mc"),
    "natural gradient, normalized net": NaturalGradient(metric_batch=13),
    "HCGD, normalized net": HCGD(),
}
METHODS = LISTED | OTHERS


def problem(dtype="float64", loss=None, ranks=ALONE, weight_decay=0.01, normalization=None):
    """(objective, theta, (x, t)) of a small net, the same on all ranks."""
    rng, loss = np.random.default_rng(0), loss or Categorical()
    net = mlp([6, 5, 4], normalization=normalization)
    x = rng.standard_normal((N, 6)).astype(dtype)
    t = rng.integers(0, 4, N) if isinstance(loss, Categorical) else rng.random((N, 4)).astype(dtype)
    return Objective(net, loss, weight_decay, ranks=ranks), net.init(rng, dtype), (asarray(x), asarray(t))


def trained(name, dtype="float64", ranks=ALONE, loss=None):
    """theta after a few updates."""
    normalization = BatchNorm() if name == "PRONG+" or "normalized" in name else None
    objective, theta, (x, t) = problem(dtype, loss, ranks, normalization=normalization)
    optimizer, rng = METHODS[name], np.random.default_rng(5)
    draw = lambda size: (x[-size:], t[-size:])
    state = optimizer.init(objective, theta)
    for _ in range(STEPS):
        theta, state, log = optimizer.step(theta, state, objective, (x, t), draw, rng)
    return optimizer.canonical(theta, state) if hasattr(optimizer, "canonical") else theta


def fitted(ranks=ALONE, updates=6, **options):
    """The History of a short run."""
    objective, theta, data = problem(ranks=ranks)
    options = {"batch_size": 11, "evaluate_every": 4, "train_samples": 20, "progress": False} | options
    return fit(objective, KFAC(interval=2), data, updates=updates, validation=data, **options)


def main(folder):
    """All that the tests look at, on each rank."""
    from mpi4py import MPI

    ranks = Ranks(MPI.COMM_WORLD)
    found = {f"{name}, {dtype}": trained(name, dtype, ranks) for name in LISTED for dtype in ("float64", "float32")}
    history = fitted(ranks, checkpoint=Path(folder) / "run.npz", checkpoint_every=2)
    longer = fitted(ranks, updates=9, checkpoint=Path(folder) / "run.npz", resume=True)
    found |= {"fit": history.theta, "resumed": longer.theta, "loss": np.array(longer.curves["loss"])}
    np.savez(Path(folder) / f"{ranks.rank}.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1])
