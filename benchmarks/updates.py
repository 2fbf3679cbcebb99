"""`python -m benchmarks.updates`: what an update of PRONG and of HCGD costs in updates of SGD."""

from minigrad.optimizers import HCGD, PRONG, SGD

from . import works
from .ratios import rounds, row, run, setup

INTERVAL, SAMPLES = 100, 1000  # PRONG's T and N_s
PASSES = 5 / 2  # of HCGD with one correction, in those of SGD (Benjamin et al. 2018, section 2)


def further(batch):
    """A `draw` that hands out the first samples of a batch, again and again."""
    x, t = batch
    return lambda size: (x[:size], t[:size])


def prong(n):
    """An update of PRONG, whitened anew every INTERVAL updates, in updates of SGD: the autoencoder with n samples."""
    objective, theta, pool, _ = setup(works.BY_NAME[f"gradient-autoencoder-{max(n, SAMPLES)}"])
    batch, draw = tuple(part[:n] for part in pool), further(pool)
    sgd, optimizer = SGD(1e-3), PRONG(1e-3, interval=INTERVAL, samples=SAMPLES)
    start = optimizer.init(objective, theta)
    point, whitened, _ = optimizer.step(theta, start, objective, batch, draw, None)
    t = rounds(
        {
            "sgd": lambda: sgd.step(theta, {"update": 0}, objective, batch),
            "plain": lambda: optimizer.step(point, whitened, objective, batch, draw, None),
            "anew": lambda: optimizer.step(point, whitened | {"update": INTERVAL}, objective, batch, draw, None),
        }
    )
    cost = ((INTERVAL - 1) * t["plain"] + t["anew"]) / INTERVAL
    title = f"PRONG / SGD, autoencoder, N = {n}, T = {INTERVAL}, N_s = {SAMPLES}"
    return row(title, cost / t["sgd"], "< 3.2")


def hcgd(name, title):
    """HCGD with one correction on a validation batch as large as the other, in updates of SGD; wanted: its passes."""
    objective, theta, batch, _ = setup(works.BY_NAME[name])
    n, sgd = len(batch[0]), SGD(1e-3)
    corrected = HCGD(sgd, eta=1e-3, validation=n)
    t = rounds(
        {
            "sgd": lambda: sgd.step(theta, {"update": 0}, objective, batch),
            "hcgd": lambda: corrected.step(theta, {"update": 0}, objective, batch, further(batch), None),
        }
    )
    return row(f"HCGD, n = 1 / SGD, {title}", t["hcgd"] / t["sgd"], f"{PASSES} ± 10 %")


def measure():
    """All rows."""
    return [
        prong(100),
        prong(1000),
        hcgd("gradient-small-128", "784-90-50-10, N = 128"),
        hcgd("gradient-autoencoder-1000", "autoencoder, N = 1000"),
    ]


if __name__ == "__main__":
    run("updates", __doc__.split(": ", 1)[1], measure)
