"""Points in the plane whose distances are nearly given ones: multidimensional scaling by majorization (SMACOF).

For distances delta_ij of T points, and points X (T, d) with distances d_ij(X), minimize the stress

    sigma(X) = sum_{i<j} (d_ij(X) - delta_ij)^2 = sum delta_ij^2 - 2 sum delta_ij d_ij(X) + sum d_ij(X)^2

The last sum is T |X|^2 for centred X. The middle one is convex; by Cauchy-Schwarz, d_ij(X) d_ij(Z) >=
<x_i - x_j, z_i - z_j>, so putting its tangent at Z in its place gives an upper bound that touches at X = Z. The bound's
minimum is the Guttman transform of Z,

    X = B(Z) Z / T,     B_ij = -delta_ij / d_ij(Z),     B_ii = -sum_{j != i} B_ij

so stress never rises (de Leeuw 1977). The gradient of sigma at X is 2 T (X - transform of X). Minima are local: the
best of several starts is taken, among them classical scaling, which is exact for points of a plane (Torgerson 1952).
"""

from dataclasses import dataclass, field

from ..backend import asarray, item, normal, xp

ROUNDING = 1e-6  # of the largest distance: how far from symmetric, or from a diagonal of zeros, float32 may leave D


@dataclass(frozen=True)
class Embedding:
    """points (T, d), centred, along their principal axes; stress: theirs (see `stress`); converged: is it a minimum?

    stresses: what each start came to, classical scaling first.
    """

    points: object = field(repr=False)
    stress: float
    converged: bool
    stresses: tuple


def embed(D, dimensions=2, *, rng, starts=4, rtol=1e-5, maxiter=10_000):
    """The Embedding of distances D (T, T) in so many dimensions that has the least stress of 1 + `starts` trials.

    rng: draws the random starts. A trial ends when an iteration moves the points by at most rtol of their size, which
    bounds the gradient of the stress, or after maxiter iterations.
    Raises ValueError for D that is not square, symmetric, finite, at least 0, and 0 on the diagonal, or 0 everywhere.
    """
    D = check_distances(D)
    if not 1 <= dimensions < len(D):
        raise ValueError(f"embedding: {len(D)} points have 1..{len(D) - 1} dimensions, got {dimensions}")
    first = classical_scaling(D, dimensions)
    random = [normal(rng, first.shape, "float64") for _ in range(starts)]
    trials = [smacof(D, X, rtol, maxiter) for X in (first, *random)]
    stresses = tuple(stress(D, X) for X, _ in trials)
    X, converged = trials[stresses.index(min(stresses))]
    return Embedding(principal_axes(X), min(stresses), converged, stresses)


def smacof(D, X, rtol, maxiter):
    """(X, converged): Guttman transforms from X (T, d) on, until one moves X by at most rtol |X|."""
    for _ in range(maxiter):
        before, X = X, guttman(D, X)
        if item(xp.linalg.norm(X - before) <= rtol * xp.linalg.norm(X)):
            return X, True
    return X, False


def guttman(D, Z):
    """B(Z) Z / T; points of Z that coincide pull on each other in no direction."""
    d = pairwise(Z)
    B = -D / xp.where(d > 0, d, xp.inf)
    B = B - xp.diag(B.sum(axis=1))
    return B @ Z / len(D)


def stress(D, X):
    """sqrt(sum (d_ij(X) - delta_ij)^2 / sum delta_ij^2): the share of the distances that X does not show."""
    return item(xp.linalg.norm(pairwise(X) - D) / xp.linalg.norm(D))


def classical_scaling(D, dimensions=2):
    """X (T, d) from the top eigenpairs of -1/2 C D^2 C (D^2 elementwise, C = I - 11'/T), the Gram matrix of centred X.

    Equal to the points, up to a rigid motion, where D comes from points of so many dimensions.
    """
    squares = D * D
    rows = squares.mean(axis=0)
    lam, V = xp.linalg.eigh(-0.5 * (squares - rows - rows[:, None] + rows.mean()))
    top = slice(-1, -dimensions - 1, -1)
    return V[:, top] * xp.sqrt(xp.maximum(lam[top], 0.0))


def principal_axes(X):
    """X centred and turned: most of its spread along the first axis; the largest coordinate of each axis positive."""
    X = X - X.mean(axis=0)
    _, _, axes = xp.linalg.svd(X, full_matrices=False)
    X = X @ axes.T
    return xp.where(X.max(axis=0) >= -X.min(axis=0), X, -X)


def pairwise(X):
    """|x_i - x_j|, (T, T)."""
    e = X[:, None] - X[None]
    return xp.sqrt((e * e).sum(axis=2))


def check_distances(D):
    """D in float64. Raises ValueError where it is no matrix of distances, naming what is wrong."""
    D = asarray(D, "float64")
    if D.ndim != 2 or D.shape[0] != D.shape[1] or D.shape[0] < 2:
        raise ValueError(f"embedding: distances must be a square matrix of at least two points, got shape {D.shape}")
    if not item(xp.isfinite(D).all()):
        raise ValueError("embedding: distances must be finite")
    least, most = item(D.min()), item(D.max())
    if least < 0:
        raise ValueError(f"embedding: distances must not be negative, got {least:g}")
    if most == 0:
        raise ValueError("embedding: all distances are 0, the points are one")
    for what, off in (("symmetric", D - D.T), ("0 on the diagonal", xp.diag(D))):
        if (error := item(xp.abs(off).max())) > ROUNDING * most:
            raise ValueError(f"embedding: distances must be {what}, got {error:g} off, the largest being {most:g}")
    return D
