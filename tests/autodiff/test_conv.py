"""Convolution and pooling beyond the op table: slices of the samples, ties, large windows, and bad input."""

import tracemalloc

import numpy as np
import pytest

from minigrad.autodiff import check, conv, grad, linearize, ops
from minigrad.autodiff.conv import Window
from minigrad.nets import Layout
from tests.autodiff import plain_images
from tests.helpers import close, dev, host, host_only

WINDOW = Window(3, stride=2, padding=1)
X, W_SHAPE = (5, 4, 4, 2), (19, 3)


def draw(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [dev(rng.standard_normal(shape)) for shape in shapes]


def together(x, W):
    """All that a convolution's sweeps compute: value, both directions in x and W, the gradient's gradient."""
    u = draw(conv.convolution(x, W, WINDOW).shape, seed=1)[0]
    v, V = draw(x.shape, W.shape, seed=2)
    _, J_x = linearize(lambda x: conv.convolution(x, W, WINDOW), x)
    y, J_W = linearize(lambda W: conv.convolution(x, W.reshape(19, 3), WINDOW), W.reshape(-1))
    loss = lambda W: ops.sum(ops.tanh(conv.convolution(x, W.reshape(19, 3), WINDOW)))
    _, H = linearize(grad(loss), W.reshape(-1))
    return [y, J_x.rop(v), J_x.lop(u), J_W.rop(V.reshape(-1)), J_W.lop(u), H.rop(V.reshape(-1))]


def test_derivatives_in_images_and_matrix(monkeypatch):
    """The form is linear in each of x, W and u: what it means for one is read off from values."""
    monkeypatch.setattr(conv, "_AT_ONCE", 2 * 4 * 19)
    x, W, v, V, u = draw(X, W_SHAPE, X, W_SHAPE, (5, 2, 2, 3))
    a = lambda x, W: plain_images.convolution(host(x), host(W), WINDOW)
    without = lambda W: np.vstack([host(W)[:-1], np.zeros((1, 3))])
    h = plain_images.patches(host(x), WINDOW)
    weights = np.vstack([np.einsum("nijp,nijo->po", h, host(u)), host(u).sum(axis=(0, 1, 2))])
    _, J_x = linearize(lambda x: conv.convolution(x, W, WINDOW), x)
    _, J_W = linearize(lambda W: conv.convolution(x, W.reshape(W_SHAPE), WINDOW), W.reshape(-1))
    _, J = linearize(lambda z: conv.convolution(z[57:].reshape(X), z[:57].reshape(W_SHAPE), WINDOW), both(W, x))
    inputs = plain_images.fold(host(u) @ host(W)[:-1].T, WINDOW, X)
    close(J_x.rop(v), a(v, without(W)))
    close(J_x.lop(u), inputs)
    close(J_W.rop(V.reshape(-1)), a(x, V))
    close(J_W.lop(u), weights.ravel())
    close(J.rop(both(V, v)), a(v, without(W)) + a(x, V))
    close(J.lop(u), np.concatenate([weights.ravel(), inputs.ravel()]))
    loss = lambda z: ops.sum(ops.tanh(conv.convolution(z[57:].reshape(X), z[:57].reshape(W_SHAPE), WINDOW)))
    for f in (lambda z: J_at(z).lop(u), lambda z: J_at(z).rop(both(V, v)), grad(loss)):
        check.derivatives(f, both(W, x))


def test_a_named_parameter_gets_its_gradient_in_place():
    """Where W is a view of theta its cotangent is written where it belongs, whatever was there."""
    x, u, theta = draw(X, (5, 2, 2, 3), (60,))
    layout = Layout({"first": (3,), "w": W_SHAPE})
    _, J = linearize(lambda theta: conv.convolution(x, layout.views(theta)["w"], WINDOW), theta)
    h = plain_images.patches(host(x), WINDOW)
    expected = np.vstack([np.einsum("nijp,nijo->po", h, host(u)), host(u).sum(axis=(0, 1, 2))])
    for _ in range(2):
        close(J.lop(u), np.concatenate([np.zeros(3), expected.ravel()]))


WIDE = [  # a patch's row shorter and longer than half a row of places; windows that overlap, touch and leave gaps
    ((2, 4, 7, 1), Window((2, 3))),
    ((2, 4, 9, 1), Window((3, 2), stride=(1, 2), padding=(0, 1))),
    ((3, 3, 10, 2), Window(2, stride=1, padding=1)),
    ((2, 5, 9, 1), Window((3, 2), stride=(2, 3))),
    ((1, 3, 6, 3), Window((2, 5), stride=(1, 2), padding=(0, 2))),
    ((1, 5, 6, 1), Window((2, 3), stride=(2, 1))),
]


@pytest.mark.parametrize(("shape", "window"), WIDE)
def test_patches_of_wide_images(shape, window):
    x = draw(shape)[0]
    h = plain_images.patches(host(x), window)
    u, W = draw(h.shape, (h.shape[-1] + 1, 2), seed=1)
    v = draw((*h.shape[:3], 2), seed=2)[0]
    y, J = linearize(lambda x: conv.patches(x, window), x)
    close(y, h)
    close(J.lop(u), plain_images.fold(host(u), window, shape))
    a, J = linearize(lambda W: conv.convolution(x, W.reshape(-1, 2), window), W.reshape(-1))
    close(a, plain_images.convolution(host(x), host(W), window))
    weights = np.vstack([np.einsum("nijp,nijo->po", h, host(v)), host(v).sum(axis=(0, 1, 2))])
    close(J.lop(v), weights.ravel())


@host_only
@pytest.mark.parametrize(
    ("shape", "kernel", "along_places"),
    [
        ((2, 3, 9, 1), (2, 3), True),  # 7 places in a row, patches with rows of 3 numbers
        ((2, 3, 8, 1), (2, 3), False),
        ((2, 3, 8, 1), (1, 3), False),
        ((2, 3, 8, 2), (2, 2), False),
    ],
)
def test_patches_are_copied_in_the_longer_runs(shape, kernel, along_places):
    *_, place, number = conv.patches(draw(shape)[0], Window(kernel)).strides
    assert (place < number) == along_places


def test_max_pooling_of_many_places():
    x = draw((2, 7, 9, 3))[0]
    y, J = linearize(lambda x: conv.max_pool(x, 2), x)
    windows = host(x)[:, :6, :8].reshape(2, 3, 2, 4, 2, 3)
    close(y, windows.max(axis=(2, 4)))
    u = draw(y.shape, seed=1)[0]
    expected = np.zeros(x.shape)
    largest = windows == windows.max(axis=(2, 4), keepdims=True)
    expected[:, :6, :8] = (largest * host(u)[:, :, None, :, None]).reshape(2, 6, 8, 3)
    close(J.lop(u), expected)


def both(W, x):
    return dev(np.concatenate([host(W).ravel(), host(x).ravel()]))


def J_at(z):
    return linearize(lambda z: conv.convolution(z[57:].reshape(X), z[:57].reshape(W_SHAPE), WINDOW), z)[1]


@pytest.mark.parametrize("at_once", [1, 4 * 19, 2 * 4 * 19 + 1, 1 << 20])
def test_how_many_samples_go_at_once_changes_nothing(at_once, monkeypatch):
    expected = together(*draw(X, W_SHAPE))
    monkeypatch.setattr(conv, "_AT_ONCE", at_once)
    for one, other in zip(together(*draw(X, W_SHAPE)), expected, strict=True):
        close(one, other)


@pytest.mark.parametrize(
    ("at_once", "parts"), [(1, 5), (6 * 19, 5), (2 * 6 * 19, 3), (2 * 6 * 19 - 1, 5), (1 << 20, 1)]
)
def test_parts_hold_as_many_samples_as_they_may(at_once, parts, monkeypatch):
    monkeypatch.setattr(conv, "_AT_ONCE", at_once)
    slices = conv._parts(*draw(X, W_SHAPE), (2, 3))
    assert len(slices) == len(conv._parts(*draw(X, W_SHAPE), (3, 2))) == parts
    assert np.array_equal(np.concatenate([np.arange(5)[part] for part in slices]), np.arange(5))


def test_a_gpu_is_given_more_at_once(monkeypatch):
    monkeypatch.setattr(conv, "_AT_ONCE", 1)
    monkeypatch.setattr(conv, "backend_name", lambda: "cupy")
    assert len(conv._parts(*draw(X, W_SHAPE), (2, 2))) == 2  # 256 numbers: three samples of 4 x 19


@host_only
def test_memory_is_that_of_some_samples_patches(monkeypatch):
    """The patches of all samples would be nine times the images; a sample's are 9/32 of them."""
    monkeypatch.setattr(conv, "_AT_ONCE", 1)
    x, W, window = *draw((32, 12, 12, 8), (73, 1)), Window(3, padding=1)
    u = draw((32, 12, 12, 1))[0]
    for work in (
        lambda: conv.convolution(x, W, window),
        lambda: conv._convolve_weights(x, u, window=window, one=1, name=None),
        lambda: conv._convolve_inputs(u, W, window=window, shape=x.shape, name=None),
    ):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * x.nbytes


def test_patches_of_images_that_are_views():
    x = draw((3, 9, 8, 5))[0]
    seen = x[:, 1::2, ::-1, 1:3]
    close(conv.patches(seen, WINDOW), plain_images.patches(host(x)[:, 1::2, ::-1, 1:3], WINDOW))


def test_one_number_is_for_rows_and_columns():
    assert Window(3, 2, 1) == Window((3, 3), (2, 2), (1, 1)) != Window((3, 2), 2, 1)
    x, W = draw((1, 3, 3, 2), (9, 1))
    close(conv.convolution(x, W, 2), conv.convolution(x, W, Window(2)))
    close(conv.convolution(x, W, (2, 2)), conv.convolution(x, W, Window(2)))


@pytest.mark.parametrize("padding", [(0, 2), (2, 0), (1, 2)])
def test_padding_of_rows_and_columns(padding):
    x, W = draw((2, 3, 4, 2), (19, 3))
    window = Window(3, (1, 2), padding)
    wide = window.padded(x)
    close(wide, np.pad(host(x), [(0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)]), rtol=0)
    close(window.cropped(wide), x, rtol=0)
    y, J = linearize(lambda x: conv.convolution(x, W, window), x)
    u = draw(y.shape)[0]
    close(y, plain_images.convolution(host(x), host(W), window))
    close(J.lop(u), plain_images.fold(host(u) @ host(W)[:-1].T, window, x.shape))


def test_a_window_of_one_pixel_is_an_affine_layer():
    x, W = draw((2, 3, 4, 2), (3, 5))
    y, J = linearize(lambda W: conv.convolution(x, W.reshape(3, 5), 1, name="w"), W.reshape(-1))
    close(y, host(x) @ host(W)[:-1] + host(W)[-1])
    assert [node.op.name for node in J.nodes if node.name == "w"] == ["affine"]
    assert conv.patches(x, Window(1)) is x
    for window in (Window(1, 2), Window(1, 1, 1)):
        close(conv.convolution(x, W, window), plain_images.convolution(host(x), host(W), window))


# --- pooling -------------------------------------------------------------------------------------------


def test_means():
    (x,) = draw((2, 5, 6, 3))
    close(conv.average_pool(x, (2, 3)), host(x)[:, :4].reshape(2, 2, 2, 2, 3, 3).mean(axis=(2, 4)))
    close(conv.average_pool(x, Window(3, 2)), plain_images.average_pool(host(x), Window(3, 2)))
    close(conv.global_average(x), host(x).mean(axis=(1, 2)))


@pytest.mark.parametrize("window", [Window(2, 2), Window(2), Window((1, 3), (1, 2)), Window((3, 2), 1)])
def test_ties_go_to_the_first(window):
    """By rows; in every window, though they overlap."""
    x = np.random.default_rng(0).integers(0, 2, (2, 4, 5, 2)).astype(float)
    y, J = linearize(lambda x: conv.max_pool(x, window), dev(x))
    u = draw(y.shape)[0]
    expected, found = np.zeros_like(x), host(u)
    (kh, kw), (down, right) = window.kernel, window.stride
    for n, i, j, c in np.ndindex(*y.shape):
        seen = x[n, i * down : i * down + kh, j * right : j * right + kw, c]
        row, column = np.unravel_index(seen.argmax(), seen.shape)
        expected[n, i * down + row, j * right + column, c] += found[n, i, j, c]
    close(J.lop(u), expected)


@pytest.mark.parametrize("size", [15, 16, 17, 20])
def test_a_window_of_many_pixels_names_its_winner(size):
    """256 of them and more: their number is no byte."""
    x = np.zeros((1, size, size, 3))
    places = [(size - 1, size - 1), (size - 1, 0), (1, 2)]
    for c, (row, column) in enumerate(places):
        x[0, row, column, c] = 1.0
    y, J = linearize(lambda x: conv.max_pool(x, size), dev(x))
    close(y, np.ones((1, 1, 1, 3)))
    close(J.lop(dev(np.ones((1, 1, 1, 3)))), x)
    close(J.rop(dev(2 * x)), np.full((1, 1, 1, 3), 2.0))


@pytest.mark.parametrize("count", [255, 256, 257])
def test_the_last_of_many_pixels(count):
    x = dev(np.arange(count, dtype=float).reshape(1, 1, count, 1))
    y, J = linearize(lambda x: conv.max_pool(x, (1, count)), x)
    close(J.lop(y), (count - 1.0) * (host(x) == count - 1))


@pytest.mark.parametrize("at", [(0, 0), (0, 1), (1, 1)])
def test_nan_is_the_largest(at):
    x = np.arange(8.0).reshape(1, 2, 4, 1)
    x[0, at[0], at[1], 0] = np.nan
    y = host(conv.max_pool(dev(x), 2))
    assert np.isnan(y[0, 0, 0, 0]) and y[0, 0, 1, 0] == 7


def test_pooling_hessians_of_what_is_smooth_between_ties():
    (x,) = draw((2, 5, 5, 2))
    for pool in (conv.max_pool, conv.average_pool):
        check.derivatives(lambda x, pool=pool: ops.tanh(pool(x, Window(3, 2))), x, smooth=False)


# --- no images, bad images ---------------------------------------------------------------------------------


def test_empty_batches():
    x, W = draw((0, 4, 4, 2), (19, 3))
    y, J = linearize(lambda W: conv.convolution(x, W.reshape(19, 3), WINDOW), W.reshape(-1))
    assert y.shape == (0, 2, 2, 3)
    close(J.lop(y), np.zeros(57))
    close(J.rop(W.reshape(-1)), np.zeros((0, 2, 2, 3)))
    assert conv.patches(x, WINDOW).shape == (0, 2, 2, 18)
    assert conv.max_pool(x, 2).shape == conv.average_pool(x, 2).shape == (0, 2, 2, 2)
    assert conv.global_average(x).shape == (0, 2)
    for f in (conv.max_pool, conv.average_pool):
        y, J = linearize(lambda x, f=f: f(x, 2), x)
        assert J.lop(y).shape == x.shape and J.rop(x).shape == y.shape


@pytest.mark.parametrize("field", ["kernel", "stride", "padding"])
@pytest.mark.parametrize("value", [-1, 0, 1.5, "3", None, (1, 2, 3), (2,), (2, 0.5), [3, 3], (1, -1)])
def test_windows_of_rubbish_are_refused(field, value):
    if field == "padding" and value == 0:
        return
    least = 0 if field == "padding" else 1
    with pytest.raises(ValueError) as error:
        Window(**{"kernel": 3, field: value})
    assert str(error.value) == f"{field} must be a whole number of at least {least}, or two, got {value!r}"


NO_IMAGES = r"images must be \(N, H, W, C\), got shape \(2, 4, 4\)"
LARGER = r"the kernel \(5, 2\) is larger than the image \(4, 4\) with its padding"


@pytest.mark.parametrize(
    ("what", "f"),
    [
        ("convolution", lambda x, w: conv.convolution(x, draw((5 * 2 * 2 + 1, 3))[0], w)),
        ("patches", conv.patches),
        ("max_pool", conv.max_pool),
        ("patches", conv.average_pool),
    ],
)
def test_images_that_a_window_cannot_see_are_refused(what, f):
    with pytest.raises(ValueError, match=f"{what}: {NO_IMAGES}"):
        f(dev(np.zeros((2, 4, 4))), Window((5, 2)))
    with pytest.raises(ValueError, match=f"{what}: {LARGER}"):
        f(dev(np.zeros((2, 4, 4, 2))), Window((5, 2)))
    with pytest.raises(ValueError, match=f"{what}: {NO_IMAGES}"):
        f(dev(np.zeros((2, 4, 4))), Window(1))


def test_padding_makes_room_for_a_kernel():
    x, W = draw((1, 2, 3, 1), (4 * 3 + 1, 2))
    window = Window((4, 3), 1, (1, 0))
    close(conv.convolution(x, W, window), plain_images.convolution(host(x), host(W), window))
    with pytest.raises(ValueError, match=r"the kernel \(4, 3\) is larger than the image \(3, 3\)"):
        conv.convolution(x[:, :1], W, window)
    with pytest.raises(ValueError, match=r"the kernel \(4, 3\) is larger than the image \(4, 2\)"):
        conv.convolution(x[:, :, :2], W, window)


@pytest.mark.parametrize("shape", [(18, 3), (20, 3), (19,), (19, 3, 1), (9, 3)])
def test_matrices_of_other_channels_are_refused(shape):
    expected = r"does not match x \(5, 4, 4, 2\): 9 pixels of 2 channels need W \(19, out\)"
    with pytest.raises(ValueError, match=rf"W \({shape[0]}, .*{expected}|W \(19,\) {expected}"):
        conv.convolution(*draw(X, shape), WINDOW)


def test_a_pixel_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"h \(2, 3, 3, 2\) does not match W \(4, 5\)"):
        conv.convolution(*draw((2, 3, 3, 2), (4, 5)), 1)


@pytest.mark.parametrize("pool", [conv.max_pool, conv.average_pool])
def test_pools_with_padding_are_refused(pool):
    (x,) = draw(X)
    with pytest.raises(ValueError, match=rf"{pool.__name__}: zeros .* padding must be 0, got \(0, 1\)"):
        pool(x, Window(2, 2, (0, 1)))
    with pytest.raises(ValueError, match="kernel must be a whole number"):
        pool(x, 0)


def test_a_name_is_said_where_a_layer_fails():
    x, W = draw(X, (18, 3))
    with pytest.raises(ValueError, match="9 pixels") as error:
        linearize(lambda W: conv.convolution(x, W.reshape(18, 3), WINDOW, name="first"), W.reshape(-1))
    assert "'first'" in str(error.value) + " ".join(getattr(error.value, "__notes__", []))
