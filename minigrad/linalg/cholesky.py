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


def inverse_root(A):
    """The lower triangle R = L^-1, with R' R = A^-1, or None where A is not positive definite to working precision.

    By halves, so that all but small blocks are products:

        A = [[ A1, B' ], [ B, A2 ]]     R = [[ R1, 0 ], [ -R2 C R1, R2 ]],  C = B R1',  R2 the root of A2 - C C'
    """
    n = len(A)
    if n <= _BLOCK:
        L = cholesky(A)
        return None if L is None else xp.tril(xp.linalg.inv(L))
    half = n // 2
    first = inverse_root(A[:half, :half])
    if first is None:
        return None
    C = A[half:, :half] @ first.T
    second = inverse_root(A[half:, half:] - C @ C.T)
    if second is None:
        return None
    root = xp.zeros_like(A)
    root[:half, :half], root[half:, half:] = first, second
    xp.negative(second @ (C @ first), out=root[half:, :half])
    return root
