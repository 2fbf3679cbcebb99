"""G without what couples the layers: its diagonal blocks, one a parameter."""

from ..backend import xp
from ..linalg import BlockDiagonal, LinearOperator


class Restricted(LinearOperator):
    """The diagonal block of a square operator that belongs to one slice of theta. One product costs one of G."""

    def __init__(self, G, where, name=None):
        size = where.stop - where.start
        super().__init__((size, size), G.dtype, symmetric=G.symmetric, psd=G.psd, name=name)
        self.G, self.where = G, where

    def _embedded(self, v):
        whole = xp.zeros(self.G.shape[1], v.dtype)
        whole[self.where] = v
        return whole

    def _matvec(self, v):
        return self.G.matvec(self._embedded(v))[self.where]

    def _rmatvec(self, u):
        return self.G.rmatvec(self._embedded(u))[self.where]


def block_diagonal(G, layout):
    """The diagonal blocks of G (n, n), one a parameter of `layout`, as a BlockDiagonal; exact, and psd if G is.

    One product costs a product of G a block. `.blocks[i].dense()` forms a block, for small nets.
    Raises ValueError unless G is square, of the layout's size.
    """
    if G.shape != (layout.size, layout.size):
        raise ValueError(f"block_diagonal: expected an operator {(layout.size, layout.size)}, got {G!r}")
    return BlockDiagonal([Restricted(G, where, name) for name, where in layout.slices.items()])
