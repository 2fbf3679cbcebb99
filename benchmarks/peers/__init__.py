"""One short file a peer: the same works, written as each library's users would write them for speed."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from ..works import CG_ITERATIONS, DAMPING

# name -> (module and class, what must be importable, backends); the order of the table's columns
PEERS = {
    "bare": ("benchmarks.bare:Bare", "numpy", ("numpy", "cupy")),
    "minigrad": ("benchmarks.peers.minigrad_:Minigrad", "minigrad", ("numpy", "cupy")),
    "jax": ("benchmarks.peers.jax_:Jax", "jax", ("numpy", "cupy")),
    "torch": ("benchmarks.peers.torch_:Torch", "torch", ("numpy", "cupy")),
    "torch*": ("benchmarks.peers.torch_:TorchStar", "torch", ("numpy",)),
    "autograd": ("benchmarks.peers.autograd_:Autograd", "autograd", ("numpy",)),
    "kfac-jax": ("benchmarks.peers.kfac_jax_:KfacJax", "kfac_jax", ("numpy",)),
    "curvlinops": ("benchmarks.peers.curvlinops_:Curvlinops", "curvlinops", ("numpy", "cupy")),
}


def load(name):
    module, cls = PEERS[name][0].split(":")
    return getattr(importlib.import_module(module), cls)


def installed(name):
    return importlib.util.find_spec(PEERS[name][1]) is not None


@dataclass(frozen=True)
class Amortized:
    """A run whose every `interval`-th repetition is another: its time is the mean of both, weighed so.

    Called, it gives the answer by which peers are compared.
    """

    usual: Callable
    rare: Callable
    interval: int
    answer: object

    def __call__(self):
        return self.answer

    def mean(self, seconds):
        """Of seconds(function)."""
        return ((self.interval - 1) * seconds(self.usual) + seconds(self.rare)) / self.interval


class Peer:
    """What a worker asks of a peer. A kind of work, or of net, that it lacks is left out of its column."""

    title = ""
    distributions = ()
    nets = ("mlp",)

    def __init__(self, backend):
        self.backend = backend

    def does(self, work):
        return work.net in self.nets and getattr(self, work.kind, None) is not None

    def prepare(self, work, problem):
        """A function that does the work once; what need not be timed is done before."""
        return getattr(self, work.kind)(work, problem)

    def sync(self):
        """Wait for the device."""

    def answer(self, result):
        """(loss or None, flat NumPy vector) of what the work returned."""
        raise NotImplementedError

    def device_peak(self, run):
        """Bytes of device memory that run() needs at its highest, above those in use before; on a GPU only."""
        raise NotImplementedError(f"no measure of device memory for {self.title}")

    def versions(self):
        return {name: metadata.version(name) for name in self.distributions}


def conjugate_gradients(product, b, axpy, dot):
    """A fixed number of CG iterations on (G + DAMPING I) x = b, for lists of arrays, in place."""
    x, r, p = ([c * bi for bi in b] for c in (0, 1, 1))
    rr = dot(r, r)
    for _ in range(CG_ITERATIONS):
        q = product(p)
        for qi, pi in zip(q, p):
            axpy(DAMPING, pi, qi)
        step = rr / dot(p, q)
        for xi, ri, pi, qi in zip(x, r, p, q):
            axpy(step, pi, xi)
            axpy(-step, qi, ri)
        rr, old = dot(r, r), rr
        for pi, ri in zip(p, r):
            pi *= rr / old
            pi += ri
    return x
