"""Checks of derivatives, by arithmetic that shares nothing with the engine. Each raises AssertionError or is silent.

    check.rop(f, x)          # J v against a complex step (smooth f) or central differences
    check.adjoint(f, x)      # <u, J v> = <J' u, v>
    check.taylor(f, x)       # |f(x + e v) - f(x) - e J v| shrinks like e**2
    check.symmetric(A)       # <u, A v> = <A u, v>
    check.derivatives(f, x)  # rop and adjoint, of f and of its own R-op: second order

One random direction tests all partial derivatives at once; entries are kept away from zero so that none hides.
The public error measures (`complex_step`, `central_difference`) return numbers for plots and books.
"""

from ..backend import asarray, item, rng, to_host, xp
from .tape import linearize


def direction(shape, dtype=None, seed=0):
    """A seeded random direction of unit length, with no entry near zero: +-(0.5..1.5), normalized."""
    generator = rng(seed)
    v = (generator.random(shape) + 0.5) * xp.where(generator.random(shape) < 0.5, -1.0, 1.0)
    length = xp.sqrt((v * v).sum()) if v.size else 1.0
    return asarray(v / length, dtype=dtype or xp.float64)


def complex_step(f, x, v, h=1e-30):
    """Im f(x + i h v) / h: the directional derivative without cancellation; f must be analytic (no abs, no max).

    Squire & Trapp (1998). Exact to rounding, because h**2 vanishes beside 1.
    """
    return xp.imag(f(x + 1j * h * v)) / h


def central_difference(f, x, v, h=None):
    """(f(x + h v) - f(x - h v)) / 2h; the default step eps**(1/3) balances truncation and rounding."""
    if h is None:
        h = float(xp.finfo(x.dtype).eps) ** (1 / 3)
    return (f(x + h * v) - f(x - h * v)) / (2 * h)


def rop(f, x, *, smooth=True, rtol=None, seed=0):
    """Raise unless linearize(f, x) gives f's value and the directional derivative along a random v.

    smooth: compare with a complex step, to 1e-12; otherwise with central differences, to 1e-6 (x away from kinks).
    """
    y, J = linearize(f, x)
    v = direction(x.shape, x.dtype, seed)
    _close("value under tracing", y, f(x), 1e-14 if x.dtype == xp.float64 else 1e-6)
    if smooth:
        _close("R-op against complex step", J.rop(v), complex_step(f, x, v), rtol or 1e-12)
    else:
        _close("R-op against central difference", J.rop(v), central_difference(f, x, v), rtol or 1e-6)


def adjoint(f, x, *, rtol=1e-12, seed=0):
    """Raise unless <u, J v> = <J' u, v> for random u and v: the L-op is the transpose of the R-op."""
    y, J = linearize(f, x)
    v = direction(J.x_shape, x.dtype, seed)
    u = direction(J.y_shape, x.dtype, seed + 1)
    _close_products("adjoint", u, J.rop(v), J.lop(u), v, rtol)


def linear(f, x, *, rtol=1e-12, seed=0):
    """Raise unless R-op and L-op are linear: A(a + 2 b) = A a + 2 A b."""
    _, J = linearize(f, x)
    for what, A, shape in (("R-op", J.rop, J.x_shape), ("L-op", J.lop, J.y_shape)):
        a, b = direction(shape, x.dtype, seed), direction(shape, x.dtype, seed + 1)
        _close(f"linearity of the {what}", A(a + 2.0 * b), A(a) + 2.0 * A(b), rtol)


def derivatives(f, x, *, smooth=True, rtol=None, seed=0):
    """Raise unless f's R-op and L-op are right, and so are the derivatives of both with respect to x.

    This is second order: the R-op and the L-op of f are functions of x too, written with the engine's operations.
    """
    rop(f, x, smooth=smooth, rtol=rtol, seed=seed)
    adjoint(f, x, seed=seed)
    linear(f, x, seed=seed)
    y, J = linearize(f, x)
    v = direction(J.x_shape, x.dtype, seed + 2)
    u = direction(J.y_shape, x.dtype, seed + 3)
    for swept in (lambda z: linearize(f, z)[1].rop(v), lambda z: linearize(f, z)[1].lop(u)):
        adjoint(swept, x, seed=seed + 4)
        _, J2 = linearize(swept, x)
        w = direction(x.shape, x.dtype, seed + 5)
        _close("second derivative", J2.rop(w), central_difference(swept, x, w), 1e-5)


def taylor(f, x, *, steps=(1e-2, 1e-3), order=2, seed=0):
    """Raise unless the remainder |f(x + e v) - f(x) - e J v| falls at least like e**(order - 0.1) over the steps.

    Returns nothing; `remainders` gives the numbers for a plot.
    """
    big, small = remainders(f, x, steps, seed)
    gained, needed = big / (small + 1e-300), (steps[0] / steps[1]) ** (order - 0.1)
    rounding = 100 * float(xp.finfo(x.dtype).eps) * (1.0 + _length(f(x)))
    if not (gained >= needed or small <= rounding):
        raise AssertionError(f"Taylor remainder fell by {gained:.3g}, order {order} needs {needed:.3g}")


def remainders(f, x, steps, seed=0):
    """|f(x + e v) - f(x) - e J v| for each e in steps, along one random direction v."""
    y, J = linearize(f, x)
    v = direction(x.shape, x.dtype, seed)
    Jv = J.rop(v)
    return [_length(f(x + e * v) - y - e * Jv) for e in steps]


def symmetric(A, *, rtol=1e-10, seed=0):
    """Raise unless <u, A v> = <A u, v> for random u, v: the operator is symmetric."""
    u, v = (direction((A.shape[0],), A.dtype, seed + i) for i in (0, 1))
    _close_products("symmetry", u, A @ v, A @ u, v, rtol)


def _length(v):
    return item(xp.sqrt(xp.sum(v * v)))


def _close_products(what, u, Av, Atu, v, rtol):
    left, right = (float(item(xp.sum(a * b))) for a, b in ((u, Av), (Atu, v)))
    scale = float(item(xp.sqrt(xp.sum(u * u) * xp.sum(Av * Av)))) + 1e-300
    if not abs(left - right) <= rtol * scale:
        raise AssertionError(f"{what}: <u, A v> = {left:.17g} but <A' u, v> = {right:.17g} (scale {scale:.3g})")


def _close(what, found, expected, rtol):
    found, expected = to_host(found), to_host(expected)
    if found.shape != expected.shape:
        raise AssertionError(f"{what}: shape {found.shape}, expected {expected.shape}")
    scale = abs(expected).max(initial=0.0) + 1e-300
    error = abs(found - expected).max(initial=0.0)
    if not error <= rtol * scale:
        raise AssertionError(f"{what}: largest difference {error:.3g} of {scale:.3g}, allowed {rtol:.1g}")
