"""Linear operators: things that can be multiplied with a vector, and their algebra.

    G = J.T @ M @ J + lam * identity(n)        # nothing is multiplied yet
    G @ v                                       # now it is: R-op, metric, L-op, damping

Operators follow SciPy's protocol (shape, dtype, matvec, rmatvec, matmat, rmatmat), so SciPy's solvers take ours and
our solvers take SciPy's. They act on flat vectors (n,) and on blocks of columns (n, k).

Two tags are declared where an operator is made and carried through the algebra, never guessed from numbers:
`symmetric`, and `psd` (symmetric positive semi-definite). A palindrome such as J.T @ M @ J is psd if its centre is.
Every operator counts its products with vectors (`products`) and prints its formula.
"""

import itertools
from functools import reduce
from numbers import Real

from ..backend import is_array, parallel, stack, xp
from ..parallel import ALONE
from .vectors import add_up


class LinearOperator:
    """A linear map R^n -> R^m; subclasses give `_matvec` (and `_rmatvec` unless symmetric).

    shape (m, n); dtype of its products; `symmetric` and `psd` are promises of whoever constructs it.
    Raises ValueError for an operand whose length does not fit.
    """

    def __init__(self, shape, dtype, *, symmetric=False, psd=False, name=None):
        if len(shape) != 2 or min(shape) < 0:
            raise ValueError(f"operator: shape must be two sizes, got {shape}")
        self.shape, self.dtype = tuple(int(size) for size in shape), dtype
        self.symmetric, self.psd = symmetric or psd, psd
        if self.symmetric and self.shape[0] != self.shape[1]:
            raise ValueError(f"operator: a symmetric one must be square, got {self.shape}")
        self.name = name or type(self).__name__
        self.products = 0  # vectors multiplied so far, by the operator or its transpose

    # -- what a subclass provides ------------------------------------------------------------------------

    def _matvec(self, v):
        raise NotImplementedError(f"{type(self).__name__} must define _matvec")

    def _rmatvec(self, u):
        if self.symmetric:
            return self._matvec(u)
        raise NotImplementedError(f"{self.name}: the product with the transpose is not defined")

    # -- products ----------------------------------------------------------------------------------------

    def matvec(self, v):
        """A v for v of shape (n,)."""
        return self._apply(self._matvec, v, self.shape[1], "A @ v")

    def rmatvec(self, u):
        """A' u for u of shape (m,)."""
        return self._apply(self._rmatvec, u, self.shape[0], "A.T @ u")

    def matmat(self, V):
        """A V for a block of columns V (n, k)."""
        return self._columns(self._matvec, V, self.shape, "A @ V")

    def rmatmat(self, U):
        """A' U for a block of columns U (m, k)."""
        return self._columns(self._rmatvec, U, self.shape[::-1], "A.T @ U")

    def _apply(self, product, v, size, what):
        if v.ndim == 2 and v.shape[1] == 1:  # SciPy's convention: a column in, a column out
            return self._apply(product, v.reshape(-1), size, what).reshape(-1, 1)
        if v.shape != (size,):
            raise ValueError(f"{self.name}: {what} expects a vector of shape ({size},), got {v.shape}")
        self.products += 1
        return product(v)

    def _columns(self, product, V, shape, what):
        if V.ndim != 2 or V.shape[0] != shape[1]:
            raise ValueError(f"{self.name}: {what} expects a block of shape ({shape[1]}, k), got {V.shape}")
        self.products += V.shape[1]
        if V.shape[1] == 0:
            return xp.zeros((shape[0], 0), self.dtype)
        rows = xp.ascontiguousarray(V.T) if is_array(V) else V.T
        return stack([product(v) for v in rows], axis=1)

    def dense(self):
        """The matrix (m, n) itself, for small operators and tests."""
        return self.matmat(xp.eye(self.shape[1], dtype=self.dtype))

    def diagonal(self):
        """The diagonal, by n products unless a subclass knows better; for small operators and tests."""
        return xp.diagonal(self.dense())

    # -- algebra -----------------------------------------------------------------------------------------

    @property
    def T(self):
        """The transpose; A.T.T is A, and a symmetric operator is its own."""
        if self.symmetric:
            return self
        if not hasattr(self, "_transpose"):
            self._transpose = Transpose(self)
        return self._transpose

    def adjoint(self):
        """The transpose, under SciPy's name: our operators are real."""
        return self.T

    H = property(adjoint)

    def __matmul__(self, other):
        if isinstance(other, LinearOperator):
            return Product(self, other)
        if not hasattr(other, "ndim"):
            return NotImplemented
        return self.matvec(other) if other.ndim == 1 else self.matmat(other)

    def __rmatmul__(self, other):
        if not hasattr(other, "ndim"):
            return NotImplemented
        return self.rmatvec(other) if other.ndim == 1 else self.rmatmat(other.T).T

    __array_ufunc__ = None  # NumPy and CuPy leave `array @ operator` to the operator

    def __add__(self, other):
        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other):
        return Sum(self, Scaled(-1.0, other)) if isinstance(other, LinearOperator) else NotImplemented

    def __neg__(self):
        return Scaled(-1.0, self)

    def __mul__(self, c):
        return NotImplemented if isinstance(c, LinearOperator) else Scaled(c, self)

    __rmul__ = __mul__

    def __truediv__(self, c):
        return NotImplemented if isinstance(c, LinearOperator) else Scaled(1.0 / c, self)

    def __str__(self):
        return self.name

    def __repr__(self):
        tag = ", psd" if self.psd else ", symmetric" if self.symmetric else ""
        return f"{self.name}  ({self.shape[0]} x {self.shape[1]}{tag})"


# --- leaves ---------------------------------------------------------------------------------------------


class Identity(LinearOperator):
    """I of size n."""

    def __init__(self, n, dtype=None):
        super().__init__((n, n), dtype or xp.float64, psd=True, name="I")

    def _matvec(self, v):
        return v

    def diagonal(self):
        """n ones."""
        return xp.ones(self.shape[0], self.dtype)


def identity(n, dtype=None):
    """The identity operator of size n; its products keep the operand's dtype."""
    return Identity(n, dtype)


class Matrix(LinearOperator):
    """A dense matrix (m, n) as an operator."""

    def __init__(self, matrix, *, symmetric=False, psd=False, name="A"):
        if matrix.ndim != 2:
            raise ValueError(f"Matrix: expected two dimensions, got shape {matrix.shape}")
        super().__init__(matrix.shape, matrix.dtype, symmetric=symmetric, psd=psd, name=name)
        self.matrix = matrix

    def _matvec(self, v):
        return self.matrix @ v

    def _rmatvec(self, u):
        return self.matrix.T @ u

    def dense(self):
        """The matrix itself."""
        return self.matrix


class Diagonal(LinearOperator):
    """diag(d) for d of shape (n,); psd only if the caller says so, for that would read the device."""

    def __init__(self, d, *, psd=False, name="D"):
        if d.ndim != 1:
            raise ValueError(f"Diagonal: expected a vector, got shape {d.shape}")
        super().__init__((d.size, d.size), d.dtype, symmetric=True, psd=psd, name=name)
        self.d = d

    def _matvec(self, v):
        return self.d * v

    def diagonal(self):
        """d."""
        return self.d


class LowRank(LinearOperator):
    """U U' for U of shape (n, k): psd, never formed."""

    def __init__(self, U, *, name="U U'"):
        if U.ndim != 2:
            raise ValueError(f"LowRank: expected a matrix (n, k), got shape {U.shape}")
        super().__init__((U.shape[0], U.shape[0]), U.dtype, psd=True, name=name)
        self.U = U

    def _matvec(self, v):
        return self.U @ (self.U.T @ v)


class Wrapped(LinearOperator):
    """A foreign operator with SciPy's protocol (matvec, and rmatvec unless `symmetric`)."""

    def __init__(self, other, *, symmetric=False, psd=False):
        dtype = getattr(other, "dtype", None) or xp.float64
        super().__init__(other.shape, dtype, symmetric=symmetric, psd=psd, name=type(other).__name__)
        self._matvec, self._foreign = other.matvec, other

    def _rmatvec(self, u):
        return self._matvec(u) if self.symmetric else self._foreign.rmatvec(u)


def as_operator(A):
    """`A` as a LinearOperator: itself, a dense array, or a foreign operator with shape and matvec.

    Raises TypeError for anything else.
    """
    if isinstance(A, LinearOperator):
        return A
    if isinstance(A, xp.ndarray):
        return Matrix(A)
    if hasattr(A, "matvec") and hasattr(A, "shape"):
        return Wrapped(A)
    if hasattr(A, "shape") and hasattr(A, "dot"):  # a sparse matrix
        return _Dotted(A)
    raise TypeError(f"expected an operator (shape, matvec) or a 2-D array, got {type(A).__name__}")


class _Dotted(LinearOperator):
    def __init__(self, matrix):
        super().__init__(matrix.shape, matrix.dtype, name=type(matrix).__name__)
        self.matrix = matrix

    def _matvec(self, v):
        return self.matrix.dot(v)

    def _rmatvec(self, u):
        return self.matrix.T.dot(u)


# --- combinations ---------------------------------------------------------------------------------------


class Transpose(LinearOperator):
    """A.T"""

    def __init__(self, A):
        super().__init__(A.shape[::-1], A.dtype, name=f"{_bracketed(A)}.T")
        self.A, self._transpose = A, A

    def _matvec(self, u):
        return self.A.rmatvec(u)

    def _rmatvec(self, v):
        return self.A.matvec(v)


class Scaled(LinearOperator):
    """c A for a number c, which may live on the device (then psd is not inferred: that would read it)."""

    def __init__(self, c, A):
        known = isinstance(c, Real)
        if not known and getattr(c, "shape", None) != ():
            raise TypeError(f"{A.name}: expected a number to scale by, got {type(c).__name__}; products are A @ v")
        c = float(c) if known else c  # a Python number, so that float32 vectors stay float32
        super().__init__(A.shape, A.dtype, symmetric=A.symmetric, psd=A.psd and known and c >= 0)
        self.c, self.A = c, A
        number = f"{c:g}" if known else "c"
        self.name = f"-{_bracketed(A)}" if known and c == -1 else f"{number}*{_bracketed(A)}"

    def _matvec(self, v):
        return self.c * self.A.matvec(v)

    def _rmatvec(self, u):
        return self.c * self.A.rmatvec(u)

    def diagonal(self):
        """c times A's."""
        return self.c * self.A.diagonal()


class Sum(LinearOperator):
    """A + B + ..., added in that order."""

    def __init__(self, *terms):
        terms = _flattened(Sum, "terms", terms)
        for term in terms[1:]:
            if term.shape != terms[0].shape:
                raise ValueError(f"cannot add {terms[0]!r} and {term!r}: the shapes differ")
        super().__init__(
            terms[0].shape,
            _promoted([term for term in terms if not _is_shift(term)] or terms),
            symmetric=all(term.symmetric for term in terms),
            psd=all(term.psd for term in terms),
            name=" + ".join(term.name for term in terms).replace("+ -", "- "),
        )
        self.terms = terms

    def _matvec(self, v):
        return reduce(lambda total, term: total + term.matvec(v), self.terms[1:], self.terms[0].matvec(v))

    def _rmatvec(self, u):
        return reduce(lambda total, term: total + term.rmatvec(u), self.terms[1:], self.terms[0].rmatvec(u))

    def diagonal(self):
        """The sum of the diagonals."""
        return reduce(lambda total, term: total + term.diagonal(), self.terms[1:], self.terms[0].diagonal())


class Product(LinearOperator):
    """A @ B @ ...; a palindrome (each factor its mirror image's transpose) is symmetric, and psd if its centre is."""

    def __init__(self, *factors):
        factors = _flattened(Product, "factors", factors)
        for left, right in itertools.pairwise(factors):
            if left.shape[1] != right.shape[0]:
                raise ValueError(f"cannot multiply {left!r} with {right!r}: {left.shape[1]} != {right.shape[0]}")
        half = len(factors) // 2
        mirrored = all(factors[i] is factors[-1 - i].T for i in range(half))
        centre = factors[half] if len(factors) % 2 else None
        super().__init__(
            (factors[0].shape[0], factors[-1].shape[1]),
            _promoted(factors),
            symmetric=mirrored and (centre is None or centre.symmetric),
            psd=mirrored and (centre is None or centre.psd),
            name=" @ ".join(_bracketed(factor) for factor in factors),
        )
        self.factors = factors

    @property
    def T(self):
        """The factors' transposes in reverse order, so that (J @ K).T @ M @ (J @ K) is seen as a palindrome."""
        if not self.symmetric and not hasattr(self, "_transpose"):
            self._transpose = Product(*(factor.T for factor in reversed(self.factors)))
            self._transpose._transpose = self
        return super().T

    def _matvec(self, v):
        return reduce(lambda x, factor: factor.matvec(x), reversed(self.factors), v)

    def _rmatvec(self, u):
        return reduce(lambda x, factor: factor.rmatvec(x), self.factors, u)


class BlockDiagonal(LinearOperator):
    """Operators along the diagonal: each acts on its own piece of the vector."""

    def __init__(self, blocks):
        self.blocks = tuple(blocks)
        if not self.blocks:
            raise ValueError("BlockDiagonal: needs at least one block")
        rows, columns = (sum(block.shape[axis] for block in self.blocks) for axis in (0, 1))
        super().__init__(
            (rows, columns),
            _promoted(self.blocks),
            symmetric=all(block.symmetric for block in self.blocks),
            psd=all(block.psd for block in self.blocks),
            name=f"BlockDiagonal({', '.join(block.name for block in self.blocks)})",
        )

    def _pieces(self, v, axis):
        stops = itertools.accumulate(block.shape[axis] for block in self.blocks)
        return [v[stop - block.shape[axis] : stop] for stop, block in zip(stops, self.blocks, strict=True)]

    def _matvec(self, v):
        pieces = zip(self.blocks, self._pieces(v, 1), strict=True)
        return xp.concatenate([block.matvec(piece) for block, piece in pieces])

    def _rmatvec(self, u):
        pieces = zip(self.blocks, self._pieces(u, 0), strict=True)
        return xp.concatenate([block.rmatvec(piece) for block, piece in pieces])

    def diagonal(self):
        """The blocks' diagonals, one after the other."""
        return xp.concatenate([block.diagonal() for block in self.blocks])


# --- a batch is a sum -----------------------------------------------------------------------------------


class SliceSum(LinearOperator):
    """A_1 + A_2 + ... over slices of a batch: each term runs on its own thread, then they are added in order.

    This is how J' M J of a large batch is multiplied: one sweep forwards and one backwards a slice, without
    waiting for the other slices in between. ranks: whose slices these are; each gives the terms of its own. run: what
    runs the slices, `parallel`, or a Meeting's `run` where they wait for each other.
    """

    def __init__(self, terms, name=None, ranks=ALONE, run=parallel):
        self.terms, self.ranks, self.run = tuple(terms), ranks, run
        first = self.terms[0]
        super().__init__(
            first.shape,
            first.dtype,
            symmetric=all(term.symmetric for term in self.terms),
            psd=all(term.psd for term in self.terms),
            name=name or first.name,
        )

    def _matvec(self, v):
        return self._total(lambda term: _fresh(term.matvec, v))

    def _rmatvec(self, u):
        return self._total(lambda term: _fresh(term.rmatvec, u))

    def _total(self, product):
        return self.ranks.total([add_up(self.run(product, self.terms))])[0]


class SliceRows(LinearOperator):
    """The operators of a batch's slices, one above the other: the Jacobian of a sliced batch. run: as SliceSum's."""

    def __init__(self, parts, name="J", run=parallel):
        self.parts, self.run = tuple(parts), run
        rows = sum(part.shape[0] for part in self.parts)
        super().__init__((rows, self.parts[0].shape[1]), self.parts[0].dtype, name=name)

    def _matvec(self, v):
        return xp.concatenate(self.run(lambda part: part.matvec(v), self.parts))

    def _rmatvec(self, u):
        stops = list(itertools.accumulate(part.shape[0] for part in self.parts))
        pieces = [(part, u[stop - part.shape[0] : stop]) for part, stop in zip(self.parts, stops, strict=True)]
        return add_up(self.run(lambda piece: _fresh(piece[0].rmatvec, piece[1]), pieces))


def _fresh(product, v):
    """product(v), which may be added to in place; the identity's is v itself."""
    y = product(v)
    return y + 0 if y is v else y


def _flattened(kind, field, operators):
    """A + (B + C) as A + B + C, so that formulas print flat and palindromes are seen."""
    return tuple(itertools.chain.from_iterable(getattr(A, field) if type(A) is kind else (A,) for A in operators))


def _promoted(operators):
    return reduce(xp.promote_types, (A.dtype for A in operators))


def _is_shift(A):
    """Is A a multiple of I? Its products keep the operand's dtype, so it has no say in a sum's."""
    return isinstance(A, Identity) or (isinstance(A, Scaled) and _is_shift(A.A))


def _bracketed(A):
    return f"({A.name})" if isinstance(A, (Sum, Product, Scaled)) else A.name
