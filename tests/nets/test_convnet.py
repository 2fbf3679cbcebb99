"""Convolutional nets against loops over samples, places and pixels; names, derivatives, curvature and messages."""

import re

import numpy as np
import pytest

from minigrad import Objective, backend, objective
from minigrad.autodiff import check, linearize
from minigrad.autodiff.conv import Window
from minigrad.curvature import affine_layers, gauss_newton, hessian, kronecker_factors, pixel_moments
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import (
    AveragePool,
    BatchNorm,
    Convolution,
    Dense,
    Dropout,
    Fire,
    GlobalAverage,
    Glorot,
    He,
    MaxPool,
    MeanOnly,
    WhitenedNet,
    convnet,
    from_whitened,
    mlp,
    to_whitened,
    whitening,
)
from tests.autodiff import plain_images
from tests.helpers import Recording, close, dev, host, host_only
from tests.nets.reference import ACTIVATIONS, complex_jacobian, softmax

UNEVEN = Window((3, 2), stride=(1, 2), padding=(1, 0))
DIGITS = (5, 6, 2), [Convolution(3, UNEVEN), MaxPool(2), Dense(4), Dense(3)]
SQUEEZED = (
    (4, 4, 1),
    [Convolution(3), MaxPool(Window(1)), Fire(2, 1, 2), MaxPool(2), Convolution(3, 1), GlobalAverage()],
)
AVERAGED = (5, 5, 1), [Convolution(2, 2), AveragePool(2), Convolution(2, 2), MaxPool(1), MaxPool(1), Dense(2)]
ROWS = (2, 3, 1), [Dense(4), Dense(3)]
STAGES = {"digits": DIGITS, "squeezed": SQUEEZED, "averaged": AVERAGED, "rows": ROWS}
PARTS = {"plain": None, "batch": BatchNorm(0.1), "mean only": MeanOnly()}
each_stages = pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
each_part = pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)


def made(stages, part=None, activation="tanh", seed=0, n=3, **options):
    """(net, theta, x) on the host; no entry of theta is at its start."""
    net, rng = convnet(*stages, activation, normalization=part, **options), np.random.default_rng(seed)
    return net, 0.6 * rng.standard_normal(net.layout.size) + 0.2, rng.standard_normal((n, *stages[0]))


class Forward:
    """r of a net by loops, stage after stage as they are listed, taking numbers from theta in order."""

    def __init__(self, net, theta, statistics=None):
        self.net, self.left, self.given, self.statistics = net, theta, statistics, []

    def __call__(self, x):
        h = x.astype(self.left.dtype)
        layered = [stage for stage in self.net.stages if not isinstance(stage, MaxPool | AveragePool | GlobalAverage)]
        for stage in self.net.stages:
            h = getattr(self, type(stage).__name__)(stage, h, stage is layered[-1])
        assert self.left.size == 0
        return h

    def take(self, *shape):
        taken, self.left = np.split(self.left, [np.prod(shape)])
        return taken.reshape(shape)

    def convolved(self, h, window, channels, is_output=False):
        W = self.take(np.prod(window.kernel) * h.shape[3] + 1, channels)
        return self.after(plain_images.convolution(h, W, window), is_output)

    def after(self, a, is_output):
        """Normalized and activated."""
        part, activation = self.net.normalization, self.net.output if is_output else self.net.activation
        if part is not None and not is_output:
            rows = a.reshape(-1, a.shape[-1])
            mean, variance = rows.mean(axis=0), ((rows - rows.mean(axis=0)) ** 2).mean(axis=0)
            if self.given is not None:
                mean, variance = self.given[len(self.statistics)]
            self.statistics.append((mean, variance))
            a = a - mean
            if isinstance(part, BatchNorm):
                a = a / np.sqrt(variance + part.epsilon) * self.take(a.shape[-1])
            a = a + self.take(a.shape[-1])
        return ACTIVATIONS[activation](a)

    def Convolution(self, stage, h, is_output):
        return self.convolved(h, stage.window, stage.channels, is_output)

    def Fire(self, stage, h, is_output):
        h = self.convolved(h, Window(1), stage.squeeze)
        one = self.convolved(h, Window(1), stage.expand1)
        return np.concatenate([one, self.convolved(h, Window(3, padding=1), stage.expand3)], axis=3)

    def Dense(self, stage, h, is_output):
        rows = h.reshape(len(h), -1)
        W = self.take(rows.shape[1], stage.units)
        return self.after(rows @ W + self.take(stage.units), is_output)

    def MaxPool(self, stage, h, is_output):
        return plain_images.max_pool(h, stage.window)

    def AveragePool(self, stage, h, is_output):
        return plain_images.average_pool(h, stage.window)

    def GlobalAverage(self, stage, h, is_output):
        return h.mean(axis=(1, 2))


# --- values and names -------------------------------------------------------------------------------------


@each_stages
@each_part
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_forward(stages, part, activation):
    """The loops pool after the activation: the net pools before it, which is the same."""
    net, theta, x = made(stages, part, activation, output="sigmoid")
    expected = Forward(net, theta)(x)
    close(net.apply(dev(theta), dev(x)), expected)
    close(net(net.layout.views(dev(theta)), dev(x)), expected)


def test_names_and_shapes_of_layers():
    net = convnet(*SQUEEZED, normalization=BatchNorm())
    assert list(net.layout.shapes.items()) == [
        ("conv0", (10, 3)), ("conv0.scale", (3,)), ("conv0.shift", (3,)),
        ("fire0.squeeze", (4, 2)), ("fire0.squeeze.scale", (2,)), ("fire0.squeeze.shift", (2,)),
        ("fire0.expand1", (3, 1)), ("fire0.expand1.scale", (1,)), ("fire0.expand1.shift", (1,)),
        ("fire0.expand3", (19, 2)), ("fire0.expand3.scale", (2,)), ("fire0.expand3.shift", (2,)),
        ("output", (4, 3)),
    ]  # fmt: skip
    shapes = convnet((8, 8, 3), [Convolution(4), Dense(6), Dense(5), Dense(2)], normalization=MeanOnly()).layout.shapes
    assert list(shapes.items()) == [
        ("conv0", (28, 4)), ("conv0.shift", (4,)), ("dense0", (145, 6)), ("dense0.shift", (6,)),
        ("dense1", (7, 5)), ("dense1.shift", (5,)), ("output", (6, 2)),
    ]  # fmt: skip
    net = convnet((9, 9, 1), [Convolution(4, 2), Convolution(5, 2), Fire(1, 2, 3), Fire(1, 2, 3), Dense(2)])
    fires = [f"fire{i}.{part}" for i in (0, 1) for part in ("squeeze", "expand1", "expand3")]
    assert net.names == ("conv0", "conv1", *fires, "output")


def test_sizes_that_are_meant_where_none_are_given():
    """Kernels of 3 x 3; pools of 2 x 2, side by side."""
    assert Convolution(4) == Convolution(4, 3) == Convolution(4, Window(3))
    for pool in (MaxPool, AveragePool):
        assert pool() == pool(2) == pool(Window(2, stride=2))
        assert pool(Window(2)).window.stride == (1, 1)


def test_the_layout_on_the_tape_has_these_names():
    net, theta, x = made(SQUEEZED)
    _, J = linearize(lambda theta: net.apply(theta, dev(x)), dev(theta))
    assert tuple(layer.name for layer in affine_layers(J, dev(np.ones((3, 3))))) == net.names


def test_one_channel_may_come_as_rows():
    net, theta, x = made(AVERAGED)
    close(net.apply(dev(theta), dev(x.reshape(3, 25))), net.apply(dev(theta), dev(x)), rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_start(dtype):
    net = convnet(*SQUEEZED, init=Glorot(3.0), normalization=BatchNorm())
    theta, again = (net.init(np.random.default_rng(5), dtype) for _ in range(2))
    close(theta, again, rtol=0)
    rng, views = np.random.default_rng(5), net.layout.views(theta)
    for name, (n_in, n_out) in net.matrices.items():
        close(views[name], Glorot(3.0)(rng, n_in - 1, n_out, np.dtype(dtype)), rtol=0)
    for name in set(net.layout.names) - set(net.matrices):
        close(views[name], np.full(views[name].shape, name.endswith(".scale"), dtype), rtol=0)
    assert convnet(*ROWS).initializer == He()


@each_part
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_follows_theta(part, dtype, device):
    net, theta, x = made(SQUEEZED, part, "relu")
    the, theta = Objective(net, Categorical()), dev(theta, dtype)
    value, g = the.value_and_grad(theta, (dev(x), dev(np.array([0, 2, 1]))))
    assert g.dtype == dtype and np.isfinite(value) and np.isfinite(host(g)).all()
    settled = the.settled(theta, dev(x, dtype))
    assert settled.predict(theta, dev(x)).dtype == dtype
    close(settled.net.apply(theta, dev(x, dtype)), Forward(net, host(theta).astype(float))(x), rtol=1e-5)


# --- derivatives ------------------------------------------------------------------------------------------


@each_stages
@each_part
def test_jacobian_gauss_newton_and_second_order(stages, part):
    """The loops' J by complex steps; J' M J of it, where M = (diag p - p p') / N of a softmax; second order."""
    net, theta, x = made(stages, part, n=2)
    f = lambda theta: net.apply(theta, dev(x))
    J = complex_jacobian(lambda z: Forward(net, z)(x), theta)
    close(linearize(f, dev(theta))[1].dense(), J.reshape(-1, theta.size), rtol=1e-11)
    p = softmax(Forward(net, theta)(x))
    M = (np.einsum("ni,ij->nij", p, np.eye(p.shape[1])) - np.einsum("ni,nj->nij", p, p)) / 2
    G = gauss_newton(Objective(net, Categorical()), dev(theta), (dev(x), dev(np.array([0, 1])))).dense()
    close(G, np.einsum("nia,nij,njb->ab", J, M, J), rtol=1e-11)
    check.derivatives(f, dev(theta), smooth=False)


@each_stages
@each_part
def test_jacobian_in_the_image(stages, part):
    net, theta, x = made(stages, part, n=2)
    f = lambda x: net.apply(dev(theta), x)
    check.rop(f, dev(x), smooth=False)
    check.adjoint(f, dev(x))


def test_hessian_is_symmetric_and_of_the_gradient():
    net, theta, x = made(SQUEEZED, BatchNorm(0.1))
    the, batch = Objective(net, Gaussian()), (dev(x), dev(np.ones((3, 3))))
    H, d, h = hessian(the, dev(theta), batch), np.linspace(-1, 1, theta.size), 1e-5
    check.symmetric(H)
    ahead, behind = (host(the.value_and_grad(dev(theta + s * h * d), batch)[1]) for s in (1, -1))
    close(H @ dev(d), (ahead - behind) / (2 * h), rtol=1e-6)


# --- normalization ----------------------------------------------------------------------------------------


@each_stages
@pytest.mark.parametrize("part", [BatchNorm(0.1), MeanOnly()], ids=["batch", "mean only"])
def test_settled_has_the_statistics_of_its_samples(stages, part):
    net, theta, x = made(stages, part, n=5)
    forward = Forward(net, theta)
    r, settled = forward(x), net.settled(dev(theta), dev(x))
    assert net.couples_samples and not settled.couples_samples
    assert list(settled.normalization.population) == list(net.names[:-1])
    for found, expected in zip(settled.normalization.population.values(), forward.statistics, strict=True):
        for mine, theirs in zip(found, expected):
            close(mine, theirs)
    close(settled.apply(dev(theta), dev(x)), r)
    one = np.random.default_rng(1).standard_normal((1, *stages[0]))
    close(settled.apply(dev(theta), dev(one)), Forward(net, theta, forward.statistics)(one))
    close(settled.settled(dev(theta), dev(x[:2])).apply(dev(theta), dev(x[:2])), Forward(net, theta)(x[:2]))
    f = lambda theta: settled.apply(theta, dev(one))
    expected = complex_jacobian(lambda z: Forward(net, z, forward.statistics)(one).reshape(-1), theta)
    close(linearize(f, dev(theta))[1].dense(), expected, rtol=1e-11)


@pytest.mark.parametrize("part", [BatchNorm(0.1), MeanOnly()], ids=["batch", "mean only"])
def test_one_sample_has_many_places_but_not_always(part):
    """A map's places are rows, so that one sample will do; not where a map is one pixel, or a layer dense."""
    net, theta, x = made(SQUEEZED, part, n=1)
    close(net.apply(dev(theta), dev(x)), Forward(net, theta)(x))
    for stages, name in ((DIGITS, "dense0"), (((2, 2, 1), [Convolution(3, 2), Dense(2)]), "conv0")):
        net, theta, x = made(stages, part, n=1)
        message = f"batch normalization of '{name}' needs at least two samples, got a batch of 1"
        with pytest.raises(ValueError, match=message):
            net.apply(dev(theta), dev(x))


# --- dropout ----------------------------------------------------------------------------------------------


def test_a_thinned_net_leaves_out_whole_maps_and_units(rng):
    net, theta, x = made(DIGITS, dropout=Dropout(0.4))
    thin = net.thinned(rng, "float64")
    m = {name: host(mask) for name, mask in thin.dropout.masks.items()}
    assert {name: mask.shape for name, mask in m.items()} == {"conv0": (3,), "dense0": (4,)}
    assert all(set(mask) <= {0.0, 1 / 0.6} for mask in m.values())
    assert any((mask == 0).any() for mask in m.values())
    p = {name: host(view) for name, view in net.layout.views(dev(theta)).items()}
    h = plain_images.max_pool(np.tanh(plain_images.convolution(x, p["conv0"], UNEVEN)), Window(2, stride=2))
    h = (h * m["conv0"]).reshape(3, -1)
    h = np.tanh(h @ p["dense0"][:-1] + p["dense0"][-1]) * m["dense0"]
    close(thin.apply(dev(theta), dev(x)), h @ p["output"][:-1] + p["output"][-1])
    close(net.apply(dev(theta), dev(x)), convnet(*DIGITS, "tanh").apply(dev(theta), dev(x)), rtol=0)
    assert convnet(*DIGITS).thinned(rng, "float64").dropout is None


# --- what is built on layers ------------------------------------------------------------------------------


@each_stages
def test_work_counts_each_number_once_for_each_row(stages):
    net, theta, x = made(stages)
    _, J = linearize(lambda theta: net.apply(theta, dev(x)), dev(theta))
    layers = affine_layers(J, dev(np.ones(J.y_shape)))
    assert net.work == sum(layer.rows * layer.shape[0] * layer.shape[1] for layer in layers)
    vectors = sum(layer.rows * layer.shape[1] for layer in layers[:-1])
    assert convnet(*stages, normalization=BatchNorm()).work == net.work + 2 * vectors
    assert WhitenedNet(net, ()).work == net.work


def test_work_of_an_mlp_is_its_parameters():
    for net in (mlp([4, 5, 3]), mlp([4, 5, 3], normalization=BatchNorm())):
        assert net.work == WhitenedNet(net, ()).work == net.layout.size


@host_only
def test_batches_are_sliced_where_the_work_is_worth_it(monkeypatch):
    monkeypatch.setattr(backend, "_cores", lambda: 3)
    net, theta, x = made(DIGITS, n=8)
    for worth, slices in ((net.work * 8 + 1, 1), (net.work * 4 + 1, 1), (net.work * 4, 2), (net.work * 2, 3)):
        monkeypatch.setattr(objective, "WORTH_A_SLICE", worth)
        assert len(Objective(net, Gaussian()).slices(theta, 8)) == slices
    monkeypatch.setattr(objective, "WORTH_A_SLICE", theta.size * 4)
    assert len(Objective(Recording(net), Gaussian()).slices(theta, 8)) == 2  # which does not say what its work is


def test_kronecker_factors_of_every_layer():
    net, theta, x = made(SQUEEZED)
    factors = kronecker_factors(Objective(net, Categorical()), dev(theta), dev(x))
    assert [f.name for f in factors] == list(net.names)
    assert [(f.A.shape[0], f.S.shape[0]) for f in factors] == list(net.matrices.values())


@each_stages
def test_whitened_coordinates_leave_the_function_unchanged(stages):
    net, theta, x = made(stages, n=6)
    _, J = Objective(net, Gaussian()).linearize(dev(theta), dev(x))
    layers = tuple(whitening(m.name, m.span, m.covariance, m.mean, 0.1, pixels=m.pixels) for m in pixel_moments(J))
    omega = to_whitened(layers, theta.size) @ dev(theta)
    close(WhitenedNet(net, layers).apply(omega, dev(x)), net.apply(dev(theta), dev(x)), rtol=1e-10)
    close(from_whitened(layers, theta.size) @ omega, theta, rtol=1e-10)


# --- bad input --------------------------------------------------------------------------------------------

TINY = (4, 4, 1)
BAD = {
    "kernel too large": (lambda: convnet(TINY, [Convolution(2, 5), Dense(2)]), "conv0: the kernel (5, 5) is larger"),
    "once pooled": (
        lambda: convnet(TINY, [Convolution(2, 2), MaxPool(2), Convolution(3, 2), Dense(2)]),
        "conv1: the kernel (2, 2) is larger than the image (1, 1) with its padding",
    ),
    "pool too large": (lambda: convnet(TINY, [Convolution(2, 2), MaxPool(4), Dense(2)]), "pool0: the kernel (4, 4)"),
    "the output's kernel": (lambda: convnet(TINY, [Convolution(2, 5), GlobalAverage()]), "output: the kernel (5, 5)"),
    "convolution of units": (lambda: convnet(TINY, [Dense(3), Convolution(2), Dense(2)]), "conv0: needs images (H, W"),
    "fire of units": (lambda: convnet(TINY, [Dense(3), Fire(1, 1, 1), Dense(2)]), "fire0: needs images (H, W, C)"),
    "pool of units": (lambda: convnet(TINY, [Dense(3), MaxPool(2), Dense(2)]), "units, (3,)"),
    "average of units": (lambda: convnet(TINY, [Dense(3), GlobalAverage(), Dense(2)]), "pool0: needs images (H, W, C)"),
    "maps come out": (
        lambda: convnet(TINY, [Convolution(2)]),
        "a vector must come out, of Dense or GlobalAverage, got",
    ),
    "fire last": (lambda: convnet(TINY, [Fire(1, 1, 1), GlobalAverage()]), "the last layer must be a Dense or a Conv"),
    "no layer": (lambda: convnet(TINY, [GlobalAverage()]), "the last layer must be a Dense or a Convolution, got"),
    "nothing": (lambda: convnet(TINY, []), "the last layer must be a Dense or a Convolution, got []"),
    "flat images": (lambda: convnet((16,), [Dense(2)]), "images must have a shape (H, W, C) of positive numbers, got"),
    "no pixels": (lambda: convnet((4, 0, 1), [Dense(2)]), "got (4, 0, 1)"),
    "half a pixel": (lambda: convnet((4, 2.5, 1), [Dense(2)]), "got (4, 2.5, 1)"),
    "no channels": (lambda: Convolution(0), "Convolution: channels must be a positive whole number, got 0"),
    "true channels": (lambda: Convolution(True), "must be a positive whole number, got True"),
    "no units": (lambda: Dense(-1), "Dense: units must be a positive whole number, got -1"),
    "no squeeze": (lambda: Fire(0, 1, 1), "Fire: squeeze must be a positive whole number, got 0"),
    "no expand1": (lambda: Fire(1, 1.5, 1), "Fire: expand1 must be a positive whole number, got 1.5"),
    "no expand3": (lambda: Fire(1, 1, "3"), "Fire: expand3 must be a positive whole number, got '3'"),
    "padded pool": (lambda: MaxPool(Window(2, padding=1)), "MaxPool: padding must be 0, got (1, 1)"),
    "padded average": (lambda: AveragePool(Window(2, padding=(0, 1))), "AveragePool: padding must be 0, got (0, 1)"),
    "activation": (lambda: convnet(TINY, [Dense(2)], "rleu"), "unknown activation 'rleu'; did you mean 'relu'?"),
    "output": (lambda: convnet(TINY, [Dense(2)], output="liner"), "did you mean 'linear'?"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_wrong_geometry_is_refused_at_once(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_stage_is_a_stage():
    with pytest.raises(TypeError, match=r"convnet: a stage is one of \['Convolution', .*, got 750"):
        convnet(TINY, [Convolution(2), 750, Dense(10)])


@pytest.mark.parametrize("shape", [(3, 5, 6), (3, 5, 6, 1), (3, 6, 5, 2), (3, 60), (3, 30), (3,)], ids=str)
def test_images_of_another_shape_are_refused(shape):
    net, theta, _ = made(DIGITS)
    message = f"x must be images (N, 5, 6, 2), got {shape}; minigrad.data.images makes them of rows"
    with pytest.raises(ValueError, match=re.escape(message)):
        net.apply(dev(theta), dev(np.zeros(shape)))


def test_rows_of_another_length_are_refused():
    net, theta, _ = made(AVERAGED)
    with pytest.raises(ValueError, match=re.escape("x must be images (N, 5, 5, 1), got (3, 24)")):
        net.apply(dev(theta), dev(np.zeros((3, 24))))


def test_a_net_prints_what_it_is_made_of():
    text = repr(convnet(*SQUEEZED, normalization=BatchNorm(0.1), dropout=Dropout(0.5)))
    for part in (
        "image=(4, 4, 1)",
        "Fire(squeeze=2, expand1=1, expand3=2)",
        "He(",
        "BatchNorm(epsilon=0.1)",
        "rate=0.5",
    ):
        assert part in text
    assert convnet(*SQUEEZED) == convnet(*SQUEEZED) != convnet(*SQUEEZED, output="relu")
