"""Vector algebra of the solvers: in place, in blocks that stay in the cache, on threads.

A vector of a few million parameters does not fit into the cache, so an iteration's time is the number of times it
streams through memory; fused passes over blocks halve it. On a GPU a block is the whole vector.
"""

import itertools
import operator
from functools import reduce

from ..backend import evenly, name, parallel, threads, xp

_BLOCK = 1 << 17  # elements; four float32 vectors of this length are 2 MiB, about a core's second-level cache
_WORTH_A_THREAD = 1 << 16


def dot(x, y):
    """x'y, on the device. In blocks, like the rest: the BLAS's own threads would go on spinning and slow the slices."""
    if not isinstance(x, xp.ndarray) or not isinstance(y, xp.ndarray):  # traced
        return x @ y
    return reduce(operator.add, over_blocks(x.shape[0], lambda block: xp.dot(x[block], y[block])))


def advance(x, r, p, Ap, alpha):
    """x += alpha p and r -= alpha A p, in place; returns the new r'r. One step of conjugate gradients."""

    def work(block):
        new, step = r[block], alpha * p[block]
        x[block] += step
        new -= xp.multiply(Ap[block], alpha, out=step)
        return xp.dot(new, new)

    return reduce(operator.add, over_blocks(x.shape[0], work))


def combine(p, z, beta):
    """p = z + beta p, in place."""

    def work(block):
        new = p[block]
        new *= beta
        new += z[block]

    over_blocks(p.shape[0], work)


def three_term(u, p, z, a, b, c):
    """u = a p + b z + c u, in place; returns the new u'u. One step of the Lanczos process."""

    def work(block):
        new = u[block]
        new *= c
        new += a * p[block]
        new += b * z[block]
        return xp.dot(new, new)

    return reduce(operator.add, over_blocks(u.shape[0], work))


def mix(C, rows, out):
    """out = C @ rows for a small matrix C; out may be some of the rows themselves."""

    def work(block):
        out[:, block] = C @ rows[:, block]

    over_blocks(rows.shape[1], work, _BLOCK // 4)  # of more vectors


def add_up(vectors):
    """The sum of equally long fresh vectors, in order, in place in the first."""
    total = vectors[0]
    if not isinstance(total, xp.ndarray):  # traced: values on a tape are never changed in place
        return reduce(operator.add, vectors)

    def work(block):
        for vector in vectors[1:]:
            total[block] += vector[block]

    if len(vectors) > 1:
        over_blocks(total.shape[0], work)
    return total


def over_blocks(size, work, block=None):
    """[work(block) for all blocks of `size` elements], in order of the blocks; `work` runs on threads if it pays."""
    if name() != "numpy":
        return [work(slice(0, size))]
    count = max(1, min(threads(), size // _WORTH_A_THREAD))
    runs = parallel(lambda run: [work(part) for part in _blocks(run, block or _BLOCK)], evenly(0, size, count))
    return list(itertools.chain.from_iterable(runs))


def _blocks(run, size):
    return [slice(i, min(i + size, run.stop)) for i in range(run.start, run.stop, size)] or [run]
