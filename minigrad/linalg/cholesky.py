"""Small dense systems A x = b, A symmetric positive definite: A = L L', then L y = b and L' x = y.

The array libraries have the factorization, but no solve with a triangle; substitution by blocks needs only products.
"""

from ..backend import item, one_blas_thread, xp

_BLOCK = 64  # rows solved at once; the products with all others are where the arithmetic is


def cholesky(A):
    """The lower triangle L with L L' = A, or None where A (n, n) is not positive definite to working precision."""
    try:
        with one_blas_thread():
            L = xp.linalg.cholesky(A)
    except xp.linalg.LinAlgError:
        return None
    return L if item((xp.diagonal(L) > 0).all()) else None  # a GPU does not raise


def cholesky_solve(L, b):
    """x of shape (n,) with L L' x = b."""
    x, n = b.copy(), b.shape[0]
    blocks = [slice(i, min(i + _BLOCK, n)) for i in range(0, n, _BLOCK)]
    with one_blas_thread():
        for k in blocks:
            x[k] = xp.linalg.solve(L[k, k], x[k] - L[k, : k.start] @ x[: k.start])
        for k in reversed(blocks):
            x[k] = xp.linalg.solve(L[k, k].T, x[k] - L[k.stop :, k].T @ x[k.stop :])
    return x


def triangular_inverse(L):
    """L^-1 of a lower triangle with no zero on its diagonal, by halves: all but small blocks are products.

    [[ L1, 0 ], [ B, L2 ]]^-1 = [[ L1^-1, 0 ], [ -L2^-1 B L1^-1, L2^-1 ]]
    """
    n = len(L)
    if n <= _BLOCK:
        return xp.tril(xp.linalg.inv(L))
    half, inverse = n // 2, xp.zeros_like(L)
    first, second = triangular_inverse(L[:half, :half]), triangular_inverse(L[half:, half:])
    inverse[:half, :half], inverse[half:, half:] = first, second
    xp.negative(second @ (L[half:, :half] @ first), out=inverse[half:, :half])
    return inverse
