"""minigrad."""

import numpy as np

import minigrad
from minigrad.curvature import factors_of, fisher, scores
from minigrad.linalg import cg, identity
from minigrad.losses import Bernoulli, Categorical
from minigrad.nets import lstm, mlp, mnist_convnet, squeezenet
from minigrad.optimizers import KFAC, FixedDamping

from ..works import CG_ITERATIONS, DAMPING, KFAC_DAMPING, KFAC_INTERVAL, KFAC_MOMENTUM, KFAC_RATE
from . import Amortized, Peer


class Minigrad(Peer):
    title = "minigrad"
    distributions = ("numpy",)
    nets = ("mlp", "lstm", "convolutional")

    def __init__(self, backend):
        super().__init__(backend)
        minigrad.use(backend)

    def setup(self, work, problem):
        """The Gauss-Newton matrix of these losses is their exact Fisher information."""
        if work.net == "convolutional":
            net = squeezenet() if work.normalized else mnist_convnet()
        else:
            net = lstm(*work.sizes) if work.net == "lstm" else mlp(list(work.sizes), activation=work.activation)
        objective = minigrad.Objective(net, Bernoulli() if work.loss == "bernoulli" else Categorical())
        xp = minigrad.backend.xp
        theta, x, t, v = (xp.asarray(a) for a in (problem.theta, problem.x, problem.t, problem.v))
        return objective, theta, x, t, v

    def gradient(self, work, problem):
        objective, theta, x, t, _ = self.setup(work, problem)
        return lambda: objective.value_and_grad(theta, (x, t))

    def product(self, work, problem):
        objective, theta, x, _, v = self.setup(work, problem)
        return lambda: (None, fisher(objective, theta, x, kind="exact") @ v)

    def products(self, work, problem):
        objective, theta, x, _, v = self.setup(work, problem)
        G = fisher(objective, theta, x, kind="exact")
        return lambda: (None, G @ v)

    def step(self, work, problem):
        objective, theta, x, t, _ = self.setup(work, problem)

        def run():
            loss, g = objective.value_and_grad(theta, (x, t))
            G = fisher(objective, theta, x, kind="exact") + DAMPING * identity(theta.size)
            d, _ = cg(G, -g, rtol=0.0, atol=0.0, maxiter=CG_ITERATIONS)
            return loss, d

        return run

    def statistics(self, work, problem):
        objective, theta, x, t, _ = self.setup(work, problem)
        r, J = objective.linearize(theta, x)
        u = scores(objective.loss, r, t, "empirical")
        return lambda: (None, factors_of(J, u))

    def kfac(self, work, problem):
        objective, theta, x, t, _ = self.setup(work, problem)
        rng = np.random.default_rng(0)

        def stepper(kind):
            damping = FixedDamping(KFAC_DAMPING)
            optimizer = KFAC(KFAC_RATE, momentum=KFAC_MOMENTUM, kind=kind, damping=damping, interval=KFAC_INTERVAL)
            init = optimizer.init(objective, theta)
            return lambda state, update: optimizer.step(
                theta, init | state | {"update": update - 1}, objective, (x, t), None, rng
            )

        first = stepper("empirical")({}, 1)
        answer = first[2]["loss"], first[1]["d"]
        step = stepper("mc")
        _, state, _ = step({}, 1)
        return Amortized(lambda: step(state, 2), lambda: step(state, 1 + KFAC_INTERVAL), KFAC_INTERVAL, answer)

    def sync(self):
        minigrad.backend.sync()

    def answer(self, result):
        loss, vector = result
        if isinstance(vector, list):  # factors of the layers
            vector = np.concatenate([part.reshape(-1) for layer in vector for part in (layer.A, layer.S)])
        return None if loss is None else float(loss), minigrad.backend.to_host(vector)

    def device_peak(self, run):
        import cupy

        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.used_bytes()
        run()
        return pool.total_bytes() - before
