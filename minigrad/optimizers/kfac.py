"""K-FAC and its sequel EKFAC: a layer's Fisher information as a Kronecker product, or diagonal in its basis.

    block     E[(h 1)'(h 1) kron delta' delta]              one row (h 1) and one delta a sample (George, eq. 3.3.2)
    K-FAC     A kron S,  A = E[(h 1)'(h 1)],  S = E[delta' delta]              (Martens & Grosse 2015; George, 3.5.1)
    EKFAC     (Q kron R) diag(d) (Q kron R)',  d = E[(Q' (h 1)' delta R)^2]                      (George et al. 2018)

In the eigenvectors of A = Q diag(a) Q' and S = R diag(s) R', K-FAC has d = a s'; EKFAC's d is of all the one nearest
to the block, in Frobenius norm. Without Q and R it is the diagonal of the Fisher information. The averages run over
samples, and over updates (`Layerwise`).

Where several rows of a sample share the matrix, places of a convolution or steps of a recurrence, its gradient is
sum_t (h_t 1)' delta_t. EKFAC's d and the diagonal are of that very gradient; A and S are those of `shared`, "expand" or
"reduce" (Eschenhagen et al. 2023, `curvature.factors`).
"""

import operator
from dataclasses import dataclass
from functools import reduce

from ..backend import check_name, item, parallel, xp
from ..curvature.factors import SHARED, factors_of, factors_of_sweeps, second_moments
from ..curvature.layers import layers_by_slice
from ..linalg import Eigenbasis, Kronecker, Matrix, factored_damping
from ..linalg.kronecker import eigh, shifted, spd_inverse
from .checks import check_counts
from .layerwise import Layerwise
from .phases import phase


@dataclass(frozen=True)
class KFAC(Layerwise):
    """Natural gradient with each layer's block as A kron S (Martens & Grosse 2015, block-diagonal).

    interval: updates from one inversion to the next; A and S are measured at every one. factored: damping as
    (A + pi sqrt(lam) I) kron (S + sqrt(lam) / pi I) (section 6.3), with the lam of the last inversion; or exactly, by
    eigenvectors, which cost more and serve any lam. shared: "expand" or "reduce", what is made of many rows a sample.
    Everything else is `Layerwise`'s. A dead unit, whose row of A or S is zero, needs damping.
    """

    factored: bool = True
    interval: int = 20
    shared: str = "expand"

    def __post_init__(self):
        super().__post_init__()
        check_counts("KFAC", interval=self.interval)
        check_name("way to share", self.shared, SHARED)
        if not isinstance(self.factored, bool):
            raise ValueError(f"KFAC: factored must be True or False, got {self.factored!r}")

    def measure(self, update, state, J, cotangents, lam):
        """A and S; with them, every `interval` updates, the damped inverses or the eigenvectors."""
        with phase("statistics"):
            layers, new = _factors(factors_of(J, cotangents, self.shared))
            measured = self.averaged(update, state, new)
        if state["update"] % self.interval == 0:
            with phase("inversion"):
                measured |= _of_each(measured, layers, lambda name, A, S: self._inverted(name, A, S, lam))
        return layers, measured

    def _inverted(self, name, A, S, lam):
        if not self.factored:
            a, Q, s, R = _eigenvectors(A, S)
            return {f"Q.{name}": Q, f"R.{name}": R, f"d.{name}": xp.outer(a, s)}
        lam_A, lam_S = factored_damping(A, S, lam)
        return {
            f"A_inverse.{name}": spd_inverse(shifted(A, lam_A), f"A of layer {name!r}").matrix,
            f"S_inverse.{name}": spd_inverse(shifted(S, lam_S), f"S of layer {name!r}").matrix,
        }

    def inverse(self, state, name, lam):
        """(A + pi sqrt(lam) I)^-1 kron (S + sqrt(lam) / pi I)^-1 as of the last inversion, or (A kron S + lam I)^-1."""
        if not self.factored:
            return _inverse(state, name, lam)
        return Kronecker(state[f"A_inverse.{name}"], state[f"S_inverse.{name}"])

    def work(self, sweeps):
        """A, and for each sweep S."""
        return (1 + 2 * sweeps) / 3


@dataclass(frozen=True)
class DiagonalFisher(Layerwise):
    """theta += lr d with d_i = -g_i / (E[g_i^2] + lam), E over samples and updates; g a sample's gradient of log p.

    The other diagonal method's cousin: RMSProp has the mean gradient's square under a root, and the labels' (kind
    "empirical"). With the exact Fisher information it is a diagonal Gauss-Newton method (George, section 3.6.1).
    """

    def measure(self, update, state, J, cotangents, lam):
        """d."""
        with phase("statistics"):
            return self._diagonal(update, state, J, [layers_by_slice(J, u) for u in cotangents])

    def _diagonal(self, update, state, J, sweeps):
        """The running average of d in each layer's basis."""
        layers = [(layer.name, layer.span) for layer in sweeps[0][0]]
        bases = [(state.get(f"Q.{name}"), state.get(f"R.{name}")) for name, _ in layers]
        keys = [f"d.{name}" for name, _ in layers]
        return layers, self.averaged(update, state, dict(zip(keys, second_moments(J, sweeps, bases), strict=True)))

    def inverse(self, state, name, lam):
        """((Q kron R) diag(d + lam) (Q kron R)')^-1, without Q and R diag(d + lam)^-1."""
        return _inverse(state, name, lam)

    def work(self, sweeps):
        """For each sweep the product of squares."""
        return 2 * sweeps / 3


@dataclass(frozen=True)
class EKFAC(DiagonalFisher):
    """DiagonalFisher in the eigenvectors of K-FAC's A and S (George et al. 2018, algorithm 1); damping is exact.

    interval: updates from one pair of eigenvectors to the next; A, S and d are measured at every one. When the basis
    turns from Q, R to Q1, R1, the average of d goes on as the diagonal, in the new basis, of what it says in the old:
    d <- (Q1'Q)^2 d (R'R1)^2, elementwise squares. All cotangents of a batch are kept at once, for kind "exact" as many
    as outputs. shared: "expand" or "reduce", of which A and S the eigenvectors are. Everything else is `Layerwise`'s.
    """

    interval: int = 20
    shared: str = "expand"

    def __post_init__(self):
        super().__post_init__()
        check_counts("EKFAC", interval=self.interval)
        check_name("way to share", self.shared, SHARED)

    def measure(self, update, state, J, cotangents, lam):
        """A, S; every `interval` updates Q and R of them; d."""
        with phase("statistics"):
            sweeps = [layers_by_slice(J, u) for u in cotangents]
            layers, new = _factors(factors_of_sweeps(J, sweeps, self.shared))
            measured = self.averaged(update, state, new)
        if state["update"] % self.interval == 0:
            with phase("inversion"):
                measured |= _of_each(measured, layers, lambda name, A, S: self._turned(state, name, A, S))
        with phase("statistics"):
            _, diagonals = self._diagonal(update, state | measured, J, sweeps)
        return layers, measured | diagonals

    def _turned(self, state, name, A, S):
        """The layer's new basis, and d in it."""
        _, Q, _, R = _eigenvectors(A, S)
        entries = {f"Q.{name}": Q, f"R.{name}": R}
        if f"d.{name}" in state:
            old = Eigenbasis(Q.T @ state[f"Q.{name}"], R.T @ state[f"R.{name}"], state[f"d.{name}"])
            entries[f"d.{name}"] = old.diagonal().reshape(old.d.shape)
        return entries

    def work(self, sweeps):
        """As K-FAC; and for each sweep (h 1) Q, delta R, and the product of squares."""
        return (1 + 5 * sweeps) / 3


def _factors(factors):
    """[(name, span)] and {key: A or S} of the layers' Factors."""
    arrays = {f"{letter}.{layer.name}": getattr(layer, letter) for layer in factors for letter in "AS"}
    return [(layer.name, layer.span) for layer in factors], arrays


def _of_each(measured, layers, entries):
    """All entries(name, A, S) of the layers, which are worked on by threads."""
    jobs = [(name, measured[f"A.{name}"], measured[f"S.{name}"]) for name, _ in layers]
    found = parallel(lambda job: entries(*job), jobs)
    return reduce(operator.or_, found)


def _eigenvectors(A, S):
    """a, Q, s, R."""
    return *eigh(Matrix(A, psd=True)), *eigh(Matrix(S, psd=True))


def _inverse(state, name, lam):
    """(Q kron R) diag(1 / (d + lam)) (Q kron R)' of a layer. Undamped, a singular one raises ArithmeticError."""
    P = Eigenbasis(state.get(f"Q.{name}"), state.get(f"R.{name}"), state[f"d.{name}"], psd=True)
    if lam == 0 and item(P.d.min() <= max(P.d.shape) * xp.finfo(P.d.dtype).eps * P.d.max()):
        raise ArithmeticError(f"the curvature of layer {name!r} is singular in {P.d.dtype}: add damping")
    return P.damped_inverse(lam)
