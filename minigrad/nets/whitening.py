"""Whitened layers: the same net in coordinates in which each affine layer's input is white (Desjardins et al. 2015).

    a = (h - c) U' V + d        with samples as rows; their eq. 6: V U (h - c) + d                    (eq. 6)
    U = diag(lam + epsilon)^-1/2 Q',   Q diag(lam) Q' = C, the covariance of h; c = E[h]              (eq. 7)

(V; d), of the shape of the layer's (W; b), is what is trained: Omega. Phi = (U, c) is measured. Both name one function:

    theta = B Omega,    B = [[ U', 0 ],         B^-1 = [[ U'^-1, 0 ],         U'^-1 = diag(1 / ||u_k||^2) U
                             [ -c U', 1 ]]               [ c,     1 ]]

for U's rows are orthogonal, so nothing is solved. A step on Omega down its gradient B' g is a step -lr B B' g on theta,
and B B' is the inverse of E[(h 1)(h 1)'] with the covariance in it damped by epsilon (`tests/nets/test_whitening.py`).

The signal that comes back may be whitened too (their footnote 4, W = R' V U): a = ((h - c) U' V + d) R with R' R = S^-1
for S = E[delta delta'] plus damping. Then theta = (B kron R') Omega, and the step is K-FAC's, -lr A^-1 g S^-1.

In a convolution it is the pixels that are whitened, all alike, by a 1 x 1 convolution in front of the layer's (section
4.3): U' stands in B once for each of the pixels of a patch. Around the image is what zero becomes, (0 - c) U': the
image is padded first, then whitened. With m = (c ... c), B B' is the inverse of

    [[ I kron (C + epsilon I) + m'm, m' ],
     [ m,                            1  ]]

which is E[(h 1)'(h 1)] damped, for patches h whose pixels have one mean and covariance and no correlation with each
other.
"""

from dataclasses import dataclass, replace

from ..autodiff import ops
from ..autodiff.conv import convolution
from ..backend import item, xp
from ..linalg import BlockDiagonal, LinearOperator, identity


@dataclass(frozen=True, eq=False)
class Whitening:
    """Phi of one layer: U (in, in) and R (out, out) with orthogonal rows, c (in,); R None is the identity.

    name: the layer's; span (start, stop): of its matrix in theta. pixels: in a convolution, of how many pixels, each
    with `in` channels, a patch is made.
    """

    name: str
    span: tuple
    U: object
    c: object
    R: object = None
    pixels: int = 1

    @property
    def forth(self):
        """B kron R': from the layer's Omega to its theta, an operator on vectors."""
        UT = self.U.T
        return self._operator(UT, -self.c @ UT, None if self.R is None else self.R.T)

    @property
    def back(self):
        """(B kron R')^-1: from its theta to its Omega."""
        return self._operator(_row_inverse(self.U), self.c, None if self.R is None else _row_inverse(self.R))

    def _operator(self, corner, row, S):
        return _Coordinates(self.span[1] - self.span[0], self.pixels, corner, row, S)


class _Coordinates(LinearOperator):
    """[[I kron corner, 0], [row ... row, 1]] kron S, with the corner once for each of a patch's pixels; S None is I."""

    def __init__(self, size, pixels, corner, row, S):
        super().__init__((size, size), corner.dtype, name="B")
        self.patch = pixels, len(row), size // (pixels * len(row) + 1)  # shape of what comes before the bias
        self.corner, self.row, self.S = corner, row, S

    def _matvec(self, v):
        V = v.reshape(-1, self.patch[2])
        V = V if self.S is None else V @ self.S.T
        W = V[:-1].reshape(self.patch)
        return xp.concatenate([(self.corner @ W).reshape(-1), self.row @ W.sum(axis=0) + V[-1]])

    def _rmatvec(self, u):
        U = u.reshape(-1, self.patch[2])
        U = U if self.S is None else U @ self.S
        W = self.corner.T @ U[:-1].reshape(self.patch) + xp.outer(self.row, U[-1])
        return xp.concatenate([W.reshape(-1), U[-1]])


def whitening(name, span, covariance, mean, epsilon, S=None, S_epsilon=None, pixels=1):
    """The Whitening of a layer, from its input's covariance C and mean, and its deltas' S if they are whitened too.

    epsilon, S_epsilon: what is added to the eigenvalues of C and of S. pixels: in a convolution C is that of pixels.

    Raises FloatingPointError where C or S is not finite, ArithmeticError where it is singular and nothing is added.
    """
    U = principal(covariance, epsilon, f"the covariance of the input of {name!r}")
    R = None if S is None else principal(S, S_epsilon, f"the second moment of the deltas of {name!r}")
    return Whitening(name, span, U, mean, R, pixels)


def principal(C, epsilon, what):
    """U = diag(lam + epsilon)^-1/2 Q', with U C U' = diag(lam / (lam + epsilon)), for a psd C = Q diag(lam) Q' (eq. 7).

    Eigenvalues below the rounding of the largest are counted as zero. Raises as `whitening` does, saying `what` C is.
    """
    if not item(xp.isfinite(C).all()):
        raise FloatingPointError(f"{what} is not finite")
    lam, Q = xp.linalg.eigh(C)
    rounding = len(C) * float(xp.finfo(C.dtype).eps) * lam[-1]
    lam = xp.where(lam > rounding, lam, 0) + epsilon
    if not item(lam[0] > 0):
        raise ArithmeticError(f"{what} is singular (a dead unit, or fewer samples than units): give an epsilon > 0")
    return Q.T / xp.sqrt(lam)[:, None]


def from_whitened(layers, size):
    """B of the whole net, (size, size): Omega -> theta. Numbers that belong to none of the layers stay."""
    return _blocks([(layer.span, layer.forth) for layer in layers], size)


def to_whitened(layers, size):
    """B^-1 of the whole net, (size, size): theta -> Omega."""
    return _blocks([(layer.span, layer.back) for layer in layers], size)


@dataclass(frozen=True, eq=False)
class WhitenedNet:
    """`net` with `layers` (Whitenings) in whitened coordinates: apply(Omega, x) = net.apply(B Omega, x)."""

    net: object
    layers: tuple

    @property
    def layout(self):
        """The net's own: (V; d) lies where (W; b) does."""
        return self.net.layout

    @property
    def couples_samples(self):
        """Does the net?"""
        return getattr(self.net, "couples_samples", False)

    @property
    def work(self):
        """The net's own; whitening adds less."""
        return getattr(self.net, "work", self.layout.size)

    @property
    def among(self):
        """slices -> the net for one of several slices of a batch; there, where the net has it."""
        inside = self.net.among
        return lambda slices: replace(self, net=inside(slices))

    def apply(self, omega, x):
        """r (N, out), by eq. 6 in each whitened layer."""
        p = self.layout.views(omega)
        return self.net(p | {layer.name: _Whitened(p[layer.name], layer) for layer in self.layers}, x)


@dataclass(frozen=True, eq=False)
class _Whitened:
    """A layer's matrix (V; d), which `ops.affine` and `convolution` ask for the pre-activations."""

    matrix: object
    layer: Whitening

    def affine(self, h, name):
        """((h - c) U' V + d) R."""
        return self._out(ops.affine(self._white(h), self.matrix, name=name))

    def convolution(self, x, window, name):
        """The same of the patches of x, made of its pixels once they are white."""
        inside = replace(window, padding=0)
        return self._out(convolution(self._white(window.padded(x)), self.matrix, inside, name))

    def _white(self, h):
        return (h - self.layer.c) @ self.layer.U.T

    def _out(self, a):
        return a if self.layer.R is None else a @ self.layer.R


def _row_inverse(U):
    """U'^-1 = diag(1 / ||u_k||^2) U, for orthogonal rows u_k."""
    return U / (U * U).sum(axis=1, keepdims=True)


def _blocks(pairs, size):
    """A block diagonal operator with these (span, block), in theta's order, and the identity in between."""
    blocks, at, dtype = [], 0, None
    for (start, stop), block in pairs:
        at, dtype, between = stop, block.dtype, start - at
        blocks += [identity(between, dtype), block]
    return BlockDiagonal([*blocks, identity(size - at, dtype)])
