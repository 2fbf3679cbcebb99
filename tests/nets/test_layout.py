"""Layout: names and views of one flat vector, without copies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.autodiff import check, grad, jacobian, linearize, ops
from minigrad.nets import Layout
from tests.helpers import close, dev, host, host_only

SHAPES = {"enc": (3, 2), "bias": (4,), "filters": (2, 3, 2, 2)}
SPANS = {"enc": (0, 6), "bias": (6, 10), "filters": (10, 34)}
shapes = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=5)


@pytest.fixture
def layout():
    return Layout(SHAPES)


def test_order_slices_and_size(layout):
    assert layout.names == ("enc", "bias", "filters")
    assert layout.shapes == SHAPES
    assert layout.slices == {name: slice(*span) for name, span in SPANS.items()}
    assert layout.size == 34
    assert "Layout of 34 parameters" in repr(layout)
    assert "theta[6:10]" in repr(layout)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_views_show_theta_in_order(layout, dtype):
    views = layout.views(dev(np.arange(34), dtype))
    assert list(views) == list(SHAPES)
    for name, (start, stop) in SPANS.items():
        assert views[name].dtype == dtype
        np.testing.assert_array_equal(host(views[name]), np.arange(start, stop).reshape(SHAPES[name]))


@host_only
def test_views_are_no_copies(layout):
    theta = np.zeros(34)
    for name, view in layout.views(theta).items():
        assert np.shares_memory(view, theta)
        assert view.flags.c_contiguous
        view += SPANS[name][0] + 1.0
    np.testing.assert_array_equal(theta, np.repeat([1.0, 7.0, 11.0], [6, 4, 24]))


@given(shapes, st.randoms(use_true_random=False))
def test_pack_inverts_views(shapes, random):
    layout = Layout({f"p{i}": shape for i, shape in enumerate(shapes)})
    theta = dev(np.arange(layout.size) + 0.5)
    views = list(layout.views(theta).items())
    assert [tuple(view.shape) for _, view in views] == [tuple(shape) for shape in shapes]
    random.shuffle(views)  # the layout's order counts, not the dict's
    np.testing.assert_array_equal(host(layout.pack(dict(views))), host(theta))
    stops = [layout.slices[name].stop for name in layout.names]
    assert [layout.slices[name].start for name in layout.names] == [0, *stops[:-1]]
    assert stops[-1] == layout.size == sum(int(np.prod(shape)) for shape in shapes)


def test_pack_copies(layout):
    theta = dev(np.zeros(34))
    packed = layout.pack(layout.views(theta))
    packed += 1.0
    assert host(theta).max() == 0


@pytest.mark.parametrize("name", SPANS)
def test_owner(layout, name):
    start, stop = SPANS[name]
    assert layout.owner(start) == layout.owner(stop - 1) == name


@pytest.mark.parametrize("i", [-1, 34])
def test_owner_of_an_index_outside(layout, i):
    with pytest.raises(IndexError, match=rf"index {i} is outside of theta \(34,\)"):
        layout.owner(i)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (3, 1)])
def test_sizes_of_one_are_fine(shape):
    assert Layout({"a": shape}).size == np.prod(shape)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, -1)])
def test_sizes_must_be_positive(shape):
    with pytest.raises(ValueError, match="parameter 'w' needs positive sizes, got"):
        Layout({"fine": (2,), "w": shape})


PACK_ERRORS = {
    "missing": ({"bias": None}, r"missing parameters \['bias'\], unknown \[\]"),
    "unknown": ({"code": (2,)}, r"missing parameters \[\], unknown \['code'\]"),
    "misspelt": ({"bias": None, "bais": (4,)}, r"missing parameters \['bias'\], unknown \['bais'\]"),
    "wrong shape": ({"enc": (2, 3)}, r"'enc' must have shape \(3, 2\), got \(2, 3\)"),
    "wrong size": ({"bias": (5,)}, r"'bias' must have shape \(4,\), got \(5,\)"),
    "last one wrong": ({"filters": (24,)}, r"'filters' must have shape \(2, 3, 2, 2\), got \(24,\)"),
}


@pytest.mark.parametrize(("changes", "message"), PACK_ERRORS.values(), ids=PACK_ERRORS)
def test_pack_rejects(layout, changes, message):
    shapes = {name: shape for name, shape in (SHAPES | changes).items() if shape is not None}
    with pytest.raises(ValueError, match=message):
        layout.pack({name: dev(np.zeros(shape)) for name, shape in shapes.items()})


THETA_ERRORS = {
    "too short": (lambda: dev(np.zeros(33)), ValueError, r"theta must have shape \(34,\), got \(33,\)"),
    "too long": (lambda: dev(np.zeros(35)), ValueError, r"got \(35,\)"),
    "a column": (lambda: dev(np.zeros((34, 1))), ValueError, r"got \(34, 1\)"),
    "a list": (lambda: [0.0] * 34, ValueError, "got <class 'list'>"),
    "integers": (lambda: dev(np.zeros(34, int)), TypeError, "floating-point numbers, got int"),
    "booleans": (lambda: dev(np.zeros(34, bool)), TypeError, "floating-point numbers, got bool"),
}


@pytest.mark.parametrize(("theta", "error", "message"), THETA_ERRORS.values(), ids=THETA_ERRORS)
@pytest.mark.parametrize("method", ["check", "views"])
def test_theta_is_checked(layout, method, theta, error, message):
    with pytest.raises(error, match=message):
        getattr(layout, method)(theta())


@host_only
def test_objects_are_no_numbers(layout):
    with pytest.raises(TypeError, match="got object"):
        layout.check(np.zeros(34, object))


# --- traced -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_the_jacobian_of_a_view_is_rows_of_the_identity(layout, name):
    theta = dev(np.random.default_rng(0).standard_normal(34))
    found = host(jacobian(lambda theta: layout.views(theta)[name])(theta))
    np.testing.assert_array_equal(found.reshape(-1, 34), np.eye(34)[slice(*SPANS[name])])


def test_cotangents_land_in_their_slices(layout, rng):
    weights = {name: dev(rng.standard_normal(shape)) for name, shape in SHAPES.items()}

    def f(theta):
        p = layout.views(theta)
        return sum(ops.sum(weights[name] * p[name]) for name in reversed(layout.names))

    g = grad(f)(dev(rng.standard_normal(34)))
    close(g, np.concatenate([host(weights[name]).ravel() for name in SHAPES]), rtol=1e-15)


def test_an_unused_parameter_has_no_gradient(layout, rng):
    g = host(grad(lambda theta: ops.sum(layout.views(theta)["bias"] ** 2))(dev(np.arange(34.0))))
    np.testing.assert_array_equal(g, 2.0 * np.arange(34) * np.isin(np.arange(34), range(6, 10)))


def test_derivatives_through_views(layout, rng):
    def f(theta):
        p = layout.views(theta)
        return ops.tanh(p["enc"]) * p["bias"][:2] + ops.sum(p["filters"] ** 2, axis=(1, 2, 3))

    check.derivatives(f, dev(rng.standard_normal(34)))


def test_views_are_named_on_the_tape(layout):
    _, J = linearize(lambda theta: layout.views(theta)["bias"] * 2.0, dev(np.zeros(34)))
    assert "bias = x[6:10]  (4,)" in J.tape()


def test_traced_theta_is_checked(layout):
    with pytest.raises(ValueError, match=r"theta must have shape \(34,\), got \(33,\)"):
        linearize(layout.views, dev(np.zeros(33)))


def test_pack_of_traced_views_is_the_identity(layout, rng):
    theta = dev(rng.standard_normal(34))
    np.testing.assert_array_equal(host(jacobian(lambda z: layout.pack(layout.views(z)))(theta)), np.eye(34))
