"""Rung 2: an operator is its dense matrix, with transposes, sums and products; tags, shapes, counters, SciPy."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given
from hypothesis import strategies as st

from minigrad.autodiff import jacobian, linearize, ops
from minigrad.backend import xp
from minigrad.linalg import (
    BlockDiagonal,
    Diagonal,
    Identity,
    LinearOperator,
    LowRank,
    Matrix,
    SliceRows,
    SliceSum,
    as_operator,
    identity,
)
from minigrad.linalg.operator import Product, Sum, Wrapped
from tests.fake_device import fake_device
from tests.helpers import close, dev, host, host_only, spd


def matrix(m, n, seed=0, dtype=np.float64):
    return dev(np.random.default_rng(seed).standard_normal((m, n)), dtype)


def is_the_matrix(A, dense):
    """A acts as the dense matrix, in every product that operators have."""
    m, n = dense.shape
    v, u, V, U = (host(matrix(*shape, seed=9)) for shape in [(1, n), (1, m), (n, 3), (m, 3)])
    v, u = v[0], u[0]
    assert A.shape == (m, n) and A.T.shape == (n, m)
    for found, expected in [
        (A @ dev(v), dense @ v),
        (A.matvec(dev(v)), dense @ v),
        (A.matvec(dev(v[:, None])), (dense @ v)[:, None]),
        (A.T @ dev(u), u @ dense),
        (A.rmatvec(dev(u)), u @ dense),
        (A.rmatvec(dev(u[:, None])), (u @ dense)[:, None]),
        (dev(u) @ A, u @ dense),
        (A @ dev(V), dense @ V),
        (A.T @ dev(U), dense.T @ U),
        (A.rmatmat(dev(U)), dense.T @ U),
        (dev(U.T) @ A, U.T @ dense),
        (A.H @ dev(U), dense.T @ U),
        (A.adjoint() @ dev(u), dense.T @ u),
        (A.T.T @ dev(v), dense @ v),
        (A.dense(), dense),
        (A.T.dense(), dense.T),
        (A @ dev(V[:, :0]), np.zeros((m, 0))),
        (A.T @ dev(U[:, :0]), np.zeros((n, 0))),
    ]:
        close(found, expected, rtol=1e-12, atol=1e-12)
    if m == n:
        close(A.diagonal(), np.diag(dense), atol=1e-12)
        close(A.T.diagonal(), np.diag(dense), atol=1e-12)
    assert A.T.T is A
    for w, kept in ((v, v.copy()), (V, V.copy())):
        np.testing.assert_array_equal(w, kept)


def leaves():
    """(operator, dense) pairs of every kind."""
    D, R, U, S = (host(matrix(*s, seed=i)) for i, s in enumerate([(4, 1), (3, 4), (4, 2), (4, 4)]))
    J = linearize(lambda x: ops.tanh(dev(R) @ x), dev(D[:, 0]))[1]
    return {
        "matrix": (Matrix(dev(R)), R),
        "square": (Matrix(dev(S)), S),
        "symmetric": (Matrix(dev(S + S.T), symmetric=True), S + S.T),
        "psd": (Matrix(dev(S @ S.T), psd=True), S @ S.T),
        "diagonal": (Diagonal(dev(D[:, 0])), np.diag(D[:, 0])),
        "identity": (identity(4), np.eye(4)),
        "low rank": (LowRank(dev(U)), U @ U.T),
        "jacobian": (J, (1 - np.tanh(R @ D[:, 0]) ** 2)[:, None] * R),
    }


def combinations():
    """name -> (operator, dense), from the leaves."""
    leaf = leaves()
    (R, r), (S, s), (Y, y), (P, p) = (leaf[name] for name in ("matrix", "square", "symmetric", "psd"))
    (D, d), (I, i), (L, l), (J, j) = (leaf[name] for name in ("diagonal", "identity", "low rank", "jacobian"))
    blocks = np.zeros((7, 8))
    blocks[:3, :4], blocks[3:, 4:] = r, s
    return leaf | {
        "transpose": (R.T, r.T),
        "sum": (S + D, s + d),
        "long sum": (S + (P + D) + I, s + p + d + i),
        "difference": (S - D, s - d),
        "difference of sums": (S - (D + I), s - (d + i)),
        "negative": (-R, -r),
        "scaled": (2.5 * R, 2.5 * r),
        "scaled from the right": (R * 2.5, 2.5 * r),
        "divided": (S / 4, s / 4),
        "scaled on the device": (dev(2.5) * S, 2.5 * s),
        "product": (R @ S, r @ s),
        "long product": ((R @ S) @ (D @ R.T), r @ s @ d @ r.T),
        "transposed product": ((R @ S).T, (r @ s).T),
        "palindrome": (J.T @ J, j.T @ j),
        "damped": (J.T @ Matrix(dev(r @ r.T), psd=True) @ J + 0.1 * I, j.T @ r @ r.T @ j + 0.1 * i),
        "sum in a product": ((S + D) @ L, (s + d) @ l),
        "product in a sum": (S @ D - 2.0 * (L @ Y), s @ d - 2 * l @ y),
        "blocks": (BlockDiagonal([R, S]), blocks),
        "one block": (BlockDiagonal([R]), r),
        "slices summed": (SliceSum([S, P, Matrix(dev(y))]), s + p + y),
        "slices stacked": (SliceRows([R, S, Matrix(dev(r))]), np.vstack([r, s, r])),
    }


def test_traced_blocks_of_columns(device):
    R, V = matrix(3, 4), matrix(4, 2, 1)
    J = jacobian(lambda V: Matrix(R) @ V)(V)
    close(J, np.einsum("ij,kl->ikjl", host(R), np.eye(2)))


def test_combinations_of_a_single_operator():
    R = matrix(3, 4)
    for kind in (Sum, Product, lambda A: SliceSum([A]), lambda A: SliceRows([A]), lambda A: BlockDiagonal([A])):
        is_the_matrix(kind(Matrix(R)), host(R))
        assert kind(Matrix(R)).dtype == np.float64


@pytest.mark.parametrize("name", combinations())
def test_an_operator_is_its_dense_matrix(name, device):
    A, dense = combinations()[name]
    is_the_matrix(A, dense)
    is_the_matrix(A.T, dense.T)
    is_the_matrix(3.0 * A, 3 * dense)
    if A.symmetric:
        close(dense, dense.T)
    if A.psd:
        assert np.linalg.eigvalsh(dense).min() > -1e-12


# --- random expressions ---------------------------------------------------------------------------------

N = 3
LEAVES = st.sampled_from(["M", "K", "P", "D", "I"])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda deeper: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "@", "'@"]), deeper, deeper),
        st.tuples(st.sampled_from([".T", "-", "2*", "/4", "pal"]), deeper),
    ),
    max_leaves=8,
)


def evaluate(expression, leaf):
    """The expression on operators, or on matrices: the same code."""
    if isinstance(expression, str):
        return leaf[expression]
    operation, a, *rest = [expression[0], *(evaluate(part, leaf) for part in expression[1:])]
    if rest:
        b = rest[0]
        if operation == "'@":
            return a.T @ b
        return a + b if operation == "+" else a - b if operation == "-" else a @ b
    if operation == "pal":
        return a.T @ leaf["P"] @ a
    return {".T": lambda: a.T, "-": lambda: -a, "2*": lambda: 2.0 * a, "/4": lambda: a / 4}[operation]()


@given(EXPRESSIONS)
def test_any_expression_is_its_dense_matrix(expression):
    m, k, p = (host(matrix(N, N, seed)) for seed in range(3))
    d, p = np.array([1.0, -2.0, 0.5]), p @ p.T
    dense = {"M": m, "K": k, "P": p, "D": np.diag(d), "I": np.eye(N)}
    operators = {
        "M": Matrix(dev(m), name="M"),
        "K": Matrix(dev(k), name="K"),
        "P": Matrix(dev(p), psd=True, name="P"),
        "D": Diagonal(dev(d)),
        "I": identity(N),
    }
    A, expected = evaluate(expression, operators), evaluate(expression, dense)
    close(A.dense(), expected, rtol=1e-10, atol=1e-10)
    close(A.T.dense(), expected.T, rtol=1e-10, atol=1e-10)
    close(A.diagonal(), np.diag(expected), rtol=1e-10, atol=1e-10)
    if A.symmetric:  # a promise is kept; that of a sum of unlike terms need not be made
        close(expected, expected.T, rtol=1e-10, atol=1e-10)
    if A.psd:
        assert np.linalg.eigvalsh((expected + expected.T) / 2).min() >= -1e-9 * (1 + abs(expected).max())
    if not isinstance(expression, str) and expression[0] == "pal":
        assert A.psd


# --- tags -----------------------------------------------------------------------------------------------


def tags(A):
    return "psd" if A.psd else "symmetric" if A.symmetric else ""


def test_tags():
    J, K = Matrix(matrix(4, 3), name="J"), Matrix(matrix(4, 3, 1), name="K")
    M, S, N = Matrix(spd(np.random.default_rng(0), 4), psd=True), Diagonal(matrix(1, 4)[0]), Matrix(matrix(4, 4))
    G, I = J.T @ M @ J, identity(3)
    B, C = Matrix(matrix(3, 3, 2)), Matrix(matrix(3, 3, 3))
    symmetric3 = Diagonal(dev([1.0, 2.0, 3.0]))
    for A, expected in [
        (J, ""),
        (J.T, ""),
        (M, "psd"),
        (S, "symmetric"),
        (Diagonal(dev([1.0]), psd=True), "psd"),
        (Matrix(matrix(3, 3), symmetric=True), "symmetric"),
        (I, "psd"),
        (LowRank(matrix(4, 2)), "psd"),
        (G, "psd"),
        (J.T @ J, "psd"),
        (J @ J.T, "psd"),
        (J.T @ S @ J, "symmetric"),
        (J.T @ N @ J, ""),
        (J.T @ M @ K, ""),
        (J.T @ K, ""),
        (J.T @ N @ K, ""),
        (B @ B, ""),
        (symmetric3 @ symmetric3, "psd"),
        (symmetric3 @ I, ""),  # it is, but nobody looks at numbers
        (B.T @ J.T @ M @ J @ B, "psd"),
        (B.T @ (J.T @ S @ J) @ B, "symmetric"),
        ((J @ B).T @ M @ (J @ B), "psd"),
        ((J @ B).T @ (J @ B), "psd"),
        ((J @ B).T @ M @ (J @ C), ""),
        (B.T @ J.T @ M @ J @ C, ""),
        (C.T @ B.T @ B @ B @ C, ""),
        ((B + C).T @ I @ (B + C), ""),  # two sums, each its own operator
        ((lambda F: F.T @ I @ F)(B + C), "psd"),
        ((lambda F: F.T @ M @ F)(2.0 * J), "psd"),
        (G + I, "psd"),
        (G + 1e-3 * I, "psd"),
        (G - I, "symmetric"),
        (G + symmetric3, "symmetric"),
        (G + B, ""),
        (2 * G, "psd"),
        (0 * G, "psd"),
        (-1e-9 * G, "symmetric"),
        (-G, "symmetric"),
        (np.float32(2) * G, "psd"),
        (dev(2.0) * G, "symmetric"),  # a number on the device is not read
        (G / 2, "psd"),
        (G / -2, "symmetric"),
        (2 * J, ""),
        (2 * symmetric3, "symmetric"),
        (BlockDiagonal([G, I]), "psd"),
        (BlockDiagonal([G, symmetric3]), "symmetric"),
        (BlockDiagonal([G, B]), ""),
        (SliceSum([G, I]), "psd"),
        (SliceSum([G, symmetric3]), "symmetric"),
        (SliceSum([G, B]), ""),
        (SliceRows([J, K]), ""),
    ]:
        assert tags(A) == expected, A.name
        assert (A.T is A) == A.symmetric


def test_formulas():
    J, M, H = Matrix(matrix(4, 3), name="J"), Diagonal(matrix(1, 4)[0], name="M"), Matrix(matrix(3, 3), name="H")
    I = identity(3)
    for A, formula in [
        (J.T @ M @ J + 1e-3 * I, "J.T @ M @ J + 0.001*I"),
        (H - 2 * I, "H - (2*I)"),
        (H - (H + I), "H - (H + I)"),
        (-H, "-H"),
        (-(H + I), "-(H + I)"),
        (H + H + H, "H + H + H"),
        ((H + I).T, "(H + I).T"),
        ((2 * H).T, "(2*H).T"),
        ((J @ H).T, "H.T @ J.T"),
        (dev(0.5) * H, "c*H"),
        (H / 8, "0.125*H"),
        (BlockDiagonal([H, -I]), "BlockDiagonal(H, -I)"),
        (SliceSum([H, I]), "H"),
        (SliceSum([H, I], name="G"), "G"),
        (SliceRows([J, J]), "J"),
        (LowRank(matrix(3, 2)), "U U'"),
        (Matrix(matrix(3, 3)), "A"),
        (Diagonal(matrix(1, 3)[0]), "D"),
        (as_operator(scipy.sparse.linalg.aslinearoperator(np.eye(3))), "MatrixLinearOperator"),
    ]:
        assert str(A) == A.name == formula
    assert repr(J) == "J  (4 x 3)"
    assert repr(M) == "M  (4 x 4, symmetric)"
    assert repr(J.T @ J) == "J.T @ J  (3 x 3, psd)"
    assert LinearOperator((1, 2), np.float64).name == "LinearOperator"


# --- shapes and precision -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda A: A @ dev(np.ones(4)), ValueError, r"A: A @ v expects a vector of shape \(3,\), got \(4,\)"),
        (
            lambda A: A.matvec(dev(np.ones((3, 2)))),
            ValueError,
            r"A: A @ v expects a vector of shape \(3,\), got \(3, 2\)",
        ),
        (
            lambda A: A.matvec(dev(np.ones((4, 1)))),
            ValueError,
            r"A: A @ v expects a vector of shape \(3,\), got \(4,\)",
        ),
        (lambda A: A.rmatvec(dev(np.ones(3))), ValueError, r"A: A.T @ u expects a vector of shape \(2,\), got \(3,\)"),
        (lambda A: A.T @ dev(np.ones(3)), ValueError, r"A.T: A @ v expects a vector of shape \(2,\), got \(3,\)"),
        (lambda A: A @ dev(np.ones((2, 3))), ValueError, r"A: A @ V expects a block of shape \(3, k\), got \(2, 3\)"),
        (lambda A: A.matmat(dev(np.ones(3))), ValueError, r"A: A @ V expects a block of shape \(3, k\), got \(3,\)"),
        (lambda A: A.rmatmat(dev(np.ones((3, 2)))), ValueError, r"A.T @ U expects a block of shape \(2, k\)"),
        (lambda A: A @ dev(1.0), ValueError, r"expects a block of shape \(3, k\), got \(\)"),
        (lambda A: dev(np.ones(3)) @ A, ValueError, r"A.T @ u expects a vector of shape \(2,\), got \(3,\)"),
        (lambda A: A @ A, ValueError, r"cannot multiply A  \(2 x 3\) with A  \(2 x 3\): 3 != 2"),
        (lambda A: A + A.T, ValueError, r"cannot add A  \(2 x 3\) and A.T  \(3 x 2\): the shapes differ"),
        (lambda A: A - identity(3), ValueError, r"cannot add A .* and -I .*: the shapes differ"),
        (lambda A: A + 1.0, TypeError, "unsupported operand"),
        (lambda A: A - dev(np.ones((2, 3))), TypeError, "operand"),
        (lambda A: A @ [1.0, 2.0, 3.0], TypeError, "unsupported operand"),
        (lambda A: [1.0, 2.0] @ A, TypeError, "unsupported operand"),
        (lambda A: A * A, TypeError, "unsupported operand"),
        (lambda A: A / A, TypeError, "unsupported operand"),
        (lambda A: A * dev(np.ones(3)), TypeError, r"A: expected a number to scale by, got .*; products are A @ v"),
        (lambda A: A * "2", TypeError, "expected a number to scale by, got str"),
        (lambda A: A * 2j, TypeError, "expected a number to scale by, got complex"),
        (lambda A: Matrix(dev(np.ones(3))), ValueError, r"Matrix: expected two dimensions, got shape \(3,\)"),
        (lambda A: Matrix(dev(np.ones((2, 3))), symmetric=True), ValueError, r"must be square, got \(2, 3\)"),
        (lambda A: Matrix(dev(np.ones((2, 3))), psd=True), ValueError, r"must be square, got \(2, 3\)"),
        (lambda A: Diagonal(dev(np.eye(2))), ValueError, r"Diagonal: expected a vector, got shape \(2, 2\)"),
        (lambda A: LowRank(dev(np.ones(3))), ValueError, r"LowRank: expected a matrix \(n, k\), got shape \(3,\)"),
        (lambda A: BlockDiagonal([]), ValueError, "BlockDiagonal: needs at least one block"),
        (lambda A: LinearOperator((3,), float), ValueError, r"operator: shape must be two sizes, got \(3,\)"),
        (lambda A: LinearOperator((3, -1), float), ValueError, r"operator: shape must be two sizes, got \(3, -1\)"),
        (lambda A: LinearOperator((2, 2), float) @ dev([1.0, 1.0]), NotImplementedError, "must define _matvec"),
        (lambda A: as_operator([[1.0]]), TypeError, r"expected an operator \(shape, matvec\) or a 2-D array, got list"),
        (lambda A: as_operator(SimpleNamespace(shape=(2, 2))), TypeError, "got SimpleNamespace"),
        (lambda A: as_operator(SimpleNamespace(dot=len)), TypeError, "got SimpleNamespace"),
        (lambda A: as_operator(SimpleNamespace(matvec=len)), TypeError, "got SimpleNamespace"),
        (lambda A: as_operator(dev(np.ones(3))), ValueError, "Matrix: expected two dimensions"),
    ],
)
def test_wrong_shapes_and_kinds(act, error, message):
    with pytest.raises(error, match=message):
        act(Matrix(dev(np.ones((2, 3)))))


def test_an_operator_without_a_transpose_says_so():
    class Half(LinearOperator):
        def _matvec(self, v):
            return 0.5 * v

    v = dev([1.0, 2.0])
    close(Half((2, 2), np.float64) @ v, [0.5, 1.0])
    with pytest.raises(NotImplementedError, match="Half: the product with the transpose is not defined"):
        Half((2, 2), np.float64).rmatvec(v)
    close(Half((2, 2), np.float64, symmetric=True).rmatvec(v), [0.5, 1.0])
    assert Half((0, 2), np.float64).shape == (0, 2)  # an empty side is a side


@pytest.mark.parametrize("name", ["damped", "sum", "product in a sum", "blocks", "slices stacked", "low rank"])
def test_float32_stays_float32(name):
    single = np.float32
    J, S, U = matrix(3, 4, 0, single), matrix(4, 4, 1, single), matrix(4, 2, 2, single)
    I = identity(4)
    A = {
        "damped": Matrix(J).T @ Matrix(J) + 1e-3 * I,
        "sum": 0.5 * I + Matrix(S) - I / 3,
        "product in a sum": -(Matrix(S) @ Diagonal(S[0])) + np.float64(2.0) * I,
        "blocks": BlockDiagonal([Matrix(J), Matrix(S)]),
        "slices stacked": SliceRows([Matrix(J), Matrix(S)]),
        "low rank": LowRank(U) + I,
    }[name]
    v, u = (dev(np.ones(n), single) for n in A.shape[::-1])
    assert {x.dtype for x in (A @ v, A.T @ u, A.dense(), A)} == {np.dtype(single)}


@pytest.mark.parametrize("sum_of", [SliceSum, SliceRows])
def test_sums_of_slices_leave_their_operand_alone(sum_of):
    I = identity(3)
    A = sum_of([I, I])
    u = dev(np.arange(A.shape[0], dtype=float))
    before = host(u).copy()
    expected = 2 * before if sum_of is SliceSum else before[:3] + before[3:]
    close(A.rmatvec(u), expected)
    if sum_of is SliceSum:
        close(A @ u, expected)
    np.testing.assert_array_equal(host(u), before)


def test_dtypes_of_sums():
    single, double, I = Matrix(matrix(2, 2, 0, np.float32)), Matrix(matrix(2, 2)), identity(2)
    assert (single + double).dtype == (single @ double).dtype == BlockDiagonal([single, double]).dtype == np.float64
    assert (single + 2.0 * I).dtype == (I + single).dtype == np.float32
    assert (I + I).dtype == I.dtype == np.float64 and identity(2, np.float32).dtype == np.float32
    assert (2 * (I + I) + single).dtype == np.float64  # a sum is no shift
    close(identity(3, np.float32).diagonal(), np.ones(3))
    assert identity(3, np.float32).diagonal().dtype == np.float32


# --- slices of a batch ----------------------------------------------------------------------------------


def test_slices_equal_the_whole_batch(device):
    """The Jacobian and J' M J of a batch, from its slices."""
    x, theta = matrix(10, 3), matrix(1, 3, 1)[0]
    f = lambda x: lambda theta: ops.tanh(x @ theta)
    whole = linearize(f(x), theta)[1]
    parts = [linearize(f(x[a:b]), theta)[1] for a, b in ((0, 4), (4, 5), (5, 10))]
    is_the_matrix(SliceRows(parts), host(whole.dense()))
    G = SliceSum([J.T @ J for J in parts])
    is_the_matrix(G, host((whole.T @ whole).dense()))
    assert G.psd


def test_slices_do_not_touch_their_operands_or_each_other():
    A = [Matrix(matrix(3, 3, seed)) for seed in range(3)]
    v = dev([1.0, 2.0, 3.0])
    first = SliceSum(A) @ v
    kept = host(first).copy()
    SliceSum(A) @ v
    close(first, kept)
    close(v, [1.0, 2.0, 3.0])


# --- counters -------------------------------------------------------------------------------------------


def test_products_are_counted_a_vector_each():
    A, B = Matrix(matrix(3, 3)), Matrix(matrix(3, 3, 1))
    v, V = dev(np.ones(3)), dev(np.ones((3, 4)))
    assert A.products == 0
    A @ v
    assert A.products == 1
    A.T @ v
    assert (A.products, A.T.products) == (2, 1)
    A @ V
    assert A.products == 6
    A.rmatmat(V)
    assert A.products == 10
    A.matvec(V[:, :1])
    assert A.products == 11
    C = A @ B + 2.0 * A
    C @ v
    assert (A.products, B.products, C.products) == (13, 1, 1)
    with pytest.raises(ValueError):
        A @ dev(np.ones(2))
    assert A.products == 13


# --- SciPy ----------------------------------------------------------------------------------------------


@host_only
def test_ours_in_scipy(rng):
    A, b = spd(rng, 6), rng.standard_normal(6)
    G = Matrix(A, psd=True) + 0.1 * identity(6)
    x, code = scipy.sparse.linalg.cg(G, b, rtol=1e-12)
    assert code == 0
    close(x, np.linalg.solve(A + 0.1 * np.eye(6), b), rtol=1e-10)
    theirs = scipy.sparse.linalg.aslinearoperator(Matrix(matrix(3, 6)))
    close(theirs @ A, matrix(3, 6) @ A)
    close(theirs.T @ np.ones((3, 2)), matrix(3, 6).T @ np.ones((3, 2)))
    x = scipy.sparse.linalg.lsqr(Matrix(matrix(6, 3)), b, atol=1e-14, btol=1e-14)[0]
    close(x, np.linalg.lstsq(matrix(6, 3), b)[0], rtol=1e-8)


@host_only
def test_scipys_as_ours():
    R = matrix(3, 4)
    for theirs in (
        scipy.sparse.linalg.aslinearoperator(R),
        scipy.sparse.csr_matrix(R),
        scipy.sparse.csr_array(R),
        scipy.sparse.linalg.aslinearoperator(scipy.sparse.coo_array(R)),
        R,
    ):
        A = as_operator(theirs)
        is_the_matrix(A, R)
        is_the_matrix(A.T @ Diagonal(dev([1.0, 2.0, 3.0])) @ A, R.T @ np.diag([1.0, 2.0, 3.0]) @ R)
        assert A.dtype == np.float64 and not A.symmetric and as_operator(A) is A


@host_only
def test_foreign_operators_may_be_sparse_in_what_they_offer():
    class Shift:
        """No dtype, no rmatvec."""

        shape = (3, 3)

        def matvec(self, v):
            return 2.0 * v

    assert as_operator(Shift()).dtype == np.float64
    close(as_operator(Shift()) @ np.ones(3), 2 * np.ones(3))
    assert tags(Wrapped(Shift(), symmetric=True)) == "symmetric" and tags(Wrapped(Shift(), psd=True)) == "psd"
    close(Wrapped(Shift(), symmetric=True).T @ np.ones(3), 2 * np.ones(3))
    close(Wrapped(Shift(), symmetric=True).rmatvec(np.ones(3)), 2 * np.ones(3))


def test_operators_refuse_host_vectors_on_a_device():
    with fake_device(), pytest.raises(TypeError, match="unsupported type"):
        Matrix(dev(np.eye(2))) @ np.ones(2)


def test_dense_shortcuts_cost_no_products():
    A, I = Matrix(matrix(3, 3)), Identity(3)
    assert A.dense() is A.matrix
    d = Diagonal(dev([1.0, 2.0, 3.0]))
    for operator, diagonal in (
        (I, [1, 1, 1]),
        (d, [1, 2, 3]),
        (2 * d + I, [3, 5, 7]),
        (BlockDiagonal([d, I]), [1, 2, 3, 1, 1, 1]),
    ):
        close(operator.diagonal(), np.array(diagonal, float))
    assert d.products == I.products == 0
    assert xp.asarray(A.diagonal()).shape == (3,)
