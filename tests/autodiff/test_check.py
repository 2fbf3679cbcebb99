"""Rung 0: the checkers can fail. Each catches a rule that is off by a thousandth, and lets the right one pass."""

import numpy as np
import pytest

from minigrad.autodiff import PRIMITIVES, Linear, check, ops, primitive
from minigrad.linalg import Matrix
from tests.helpers import dev, host, spd

OFF = 1.001


@pytest.fixture
def cube(monkeypatch):
    """Makes x**3, its rules multiplied by the given factors; forgotten after the test."""

    def make(r=1.0, l=1.0, coefficient=1.0, second=1.0):
        def cubed(x):
            return x**3

        op = primitive(cubed)
        monkeypatch.delitem(PRIMITIVES, "cubed")

        @op.linear(0)
        def _(y, x):
            wrong = coefficient * 3.0 * x * x if second == 1.0 else 3.0 * x * _detour(x, second)
            return Linear(lambda v: r * (v * wrong), lambda u: l * (u * wrong))

        return op

    def _detour(x, factor):
        """x, with a derivative that is off."""
        op = primitive(lambda x: 1.0 * x)
        monkeypatch.delitem(PRIMITIVES, op.name)
        op.linear(0)(lambda y, x: Linear(lambda v: factor * v, lambda u: factor * u))
        return op(x)

    return make


X = [0.5, -1.2, 2.0]


def passes(checker, *args, **options):
    try:
        assert checker(*args, **options) is None
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        ({}, ""),
        ({"r": OFF}, "rop adjoint taylor derivatives"),
        ({"l": OFF}, "adjoint derivatives"),
        ({"coefficient": OFF}, "rop taylor derivatives"),
        ({"r": -1.0, "l": -1.0}, "rop taylor derivatives"),
        ({"second": OFF}, "derivatives"),
        ({"r": float("nan")}, "rop adjoint taylor linear derivatives"),
    ],
    ids=str,
)
@pytest.mark.parametrize("smooth", [True, False])
def test_a_wrong_rule_is_caught(cube, fault, caught, smooth):
    f, x = cube(**fault), dev(X)
    results = {
        "rop": passes(check.rop, f, x, smooth=smooth),
        "adjoint": passes(check.adjoint, f, x),
        "taylor": passes(check.taylor, f, x),
        "linear": passes(check.linear, f, x),
        "derivatives": passes(check.derivatives, f, x, smooth=smooth),
    }
    assert {name for name, passed in results.items() if not passed} == set(caught.split())


def test_messages_carry_the_numbers(cube):
    with pytest.raises(AssertionError, match=r"R-op against complex step: largest difference .* allowed 1e-12"):
        check.rop(cube(r=OFF), dev(X))
    with pytest.raises(AssertionError, match=r"R-op against central difference: .* allowed 1e-06"):
        check.rop(cube(r=OFF), dev(X), smooth=False)
    with pytest.raises(AssertionError, match=r"adjoint: <u, A v> = .* but <A' u, v> = "):
        check.adjoint(cube(l=OFF), dev(X))
    with pytest.raises(AssertionError, match=r"Taylor remainder fell by \d+\.\d, order 2 needs 79\.4"):
        check.taylor(cube(r=OFF), dev([1.0]))
    with pytest.raises(AssertionError, match=r"second derivative: largest difference .* allowed 1e-05"):
        check.derivatives(cube(second=OFF), dev(X))


def test_tolerances_are_the_callers(cube):
    check.rop(cube(r=OFF), dev(X), rtol=1e-2)
    check.rop(cube(r=OFF), dev(X), smooth=False, rtol=1e-2)
    check.adjoint(cube(l=OFF), dev(X), rtol=1e-2)
    assert not passes(check.rop, cube(r=OFF), dev(X), rtol=1e-4)
    assert not passes(check.adjoint, cube(l=OFF), dev(X), rtol=1e-4)
    assert not passes(check.derivatives, cube(r=OFF, l=OFF), dev(X), rtol=1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_a_map_that_is_not_linear_is_caught(monkeypatch, which):
    op = primitive(lambda x: 2.0 * x)
    monkeypatch.delitem(PRIMITIVES, op.name)
    linear, affine = lambda v: 2.0 * v, lambda v: 2.0 * v + 1e-3
    op.linear(0)(lambda y, x: Linear(*((affine, linear) if which == 0 else (linear, affine))))
    with pytest.raises(AssertionError, match=f"linearity of the {'RL'[which]}-op"):
        check.linear(op, dev(X))


def test_a_value_that_changes_under_tracing_is_caught():
    with pytest.raises(AssertionError, match="value under tracing: largest difference"):
        check.rop(lambda x: x * 2.0 if backend_array(x) else x * 2.001, dev(X))
    with pytest.raises(AssertionError, match=r"value under tracing: shape \(1, 3\), expected \(3,\)"):
        check.rop(lambda x: x * 2.0 if backend_array(x) else ops.reshape(x * 2.0, (1, 3)), dev(X))


def backend_array(x):
    return not hasattr(x, "tape")


def test_taylor_orders_and_remainders():
    x = dev(X)
    v = check.direction(x.shape)
    linear, square = lambda x: 1e6 * x, lambda x: x * x
    check.taylor(linear, x)  # nothing but rounding remains, of whatever size the values are
    check.taylor(square, x)
    with pytest.raises(AssertionError, match="order 3 needs"):
        check.taylor(square, x, order=3)
    found = check.remainders(square, x, (0.1, 0.01))
    length = np.sqrt((host(v) ** 4).sum())
    np.testing.assert_allclose(found, [0.01 * length, 0.0001 * length], rtol=1e-9)
    check.taylor(square, dev(X, np.float32), steps=(1e-1, 1e-2))
    # halving the step divides a kink's remainder by two only, wherever the steps are
    assert not passes(check.taylor, ops.abs, dev([0.0, 0.0]), steps=(1e-2, 5e-3))


def test_symmetric(rng):
    A = spd(rng, 5)
    check.symmetric(Matrix(A))
    A[0, 1] *= OFF
    with pytest.raises(AssertionError, match="symmetry"):
        check.symmetric(Matrix(A))
    check.symmetric(Matrix(A), rtol=1e-1)


def test_direction_is_seeded_unit_and_away_from_zero():
    v = host(check.direction((50, 4)))
    assert v.shape == (50, 4) and v.dtype == np.float64
    assert np.isclose((v**2).sum(), 1)
    size = np.abs(v)
    assert 2.5 < size.max() / size.min() <= 3
    assert 60 < (v > 0).sum() < 140
    np.testing.assert_array_equal(v, host(check.direction((50, 4))))
    assert (v != host(check.direction((50, 4), seed=1))).all()
    assert check.direction((3,), np.float32).dtype == np.float32
    assert check.direction(()).shape == () and check.direction((0, 2)).shape == (0, 2)


def test_another_seed_is_another_direction():
    square, x = lambda z: z * z, dev([1.0, 2.0])
    assert check.remainders(square, x, (1e-2,), seed=0) != check.remainders(square, x, (1e-2,), seed=1)


def test_difference_quotients():
    x, v = dev(X), dev([1.0, 2.0, -0.5])
    exact = 3 * np.array(X) ** 2 * host(v)
    f = lambda x: x**3
    np.testing.assert_allclose(host(check.complex_step(f, x, v)), exact, rtol=1e-15)
    np.testing.assert_allclose(host(check.complex_step(f, x, v, h=1e-100)), exact, rtol=1e-15)
    np.testing.assert_allclose(host(check.central_difference(f, x, v)), exact, rtol=1e-9)
    wide = host(check.central_difference(f, x, v, h=0.1))
    np.testing.assert_allclose(wide, exact + 0.01 * host(v) ** 3, rtol=1e-12)  # its own remainder, h^2 f'''/6
    single = check.central_difference(f, dev(X, np.float32), dev([1.0, 2.0, -0.5], np.float32))
    np.testing.assert_allclose(host(single), exact, rtol=1e-3)
    assert single.dtype == np.float32
