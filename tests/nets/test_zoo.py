"""The papers' convolutional nets: their sizes, counted by hand or known, and that they learn."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.backend import item
from minigrad.losses import Categorical
from minigrad.nets import (
    BatchNorm,
    Dropout,
    Glorot,
    He,
    MeanOnly,
    large_filter_convnet,
    mnist_convnet,
    six_layer_convnet,
    squeezenet,
    three_layer_convnet,
    vgg,
)
from tests.helpers import dev

MAKERS = (mnist_convnet, large_filter_convnet, three_layer_convnet, six_layer_convnet, vgg, squeezenet)
FIRES = [(64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128)]
FIRES += [(256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)]


def affine(*sizes):
    """Numbers in affine layers (in, out), biases included."""
    return sum((n_in + 1) * n_out for n_in, n_out in sizes)


def of_fire(n_in, squeeze, expand):
    """Numbers in a Fire module, and its units."""
    return affine((n_in, squeeze), (squeeze, expand), (9 * squeeze, expand)), squeeze + 2 * expand


SQUEEZENET, SQUEEZENET_UNITS = (64 + sum(column) for column in zip(*(of_fire(*fire) for fire in FIRES), strict=True))
SQUEEZENET += affine((27, 64)) - 64
SIX = affine((27, 32), (9 * 32, 32), (9 * 32, 64), (9 * 64, 64), (8 * 8 * 64, 256), (256, 10))
VGG = affine((27, 64), (576, 64), (576, 128), (1152, 128), (1152, 256), (2304, 256), (3 * 3 * 256, 512), (512, 10))
THREE = affine((25, 16), (25 * 16, 32), (7 * 7 * 32, 10))
SIZES = {
    "mnist_convnet": (mnist_convnet(), affine((25, 32), (800, 64), (4 * 4 * 64, 750), (750, 10)), 828_356),
    "large filters": (
        large_filter_convnet(), affine((144, 300), (4 * 4 * 300, 2048), (2048, 1024), (1024, 10)), 11_984_374,
    ),
    "large filters, unpooled": (
        large_filter_convnet(pool=1), affine((144, 300), (17**2 * 300, 2048), (2048, 1024), (1024, 10)), 179_715_574,
    ),
    "three layers": (three_layer_convnet(), THREE + 2 * (16 + 32), 29_034),
    "three layers, plain": (three_layer_convnet(normalization=None), THREE, 28_938),
    "six layers": (six_layer_convnet(), SIX + 2 * (32 + 32 + 64 + 64 + 256), 1_117_866),
    "six layers, plain": (six_layer_convnet(normalization=None), SIX, 1_116_970),
    "six layers, digits": (
        six_layer_convnet(image=(28, 28, 1)), SIX + 896 - 18 * 32 - (64 - 49) * 64 * 256, 871_530,
    ),
    "vgg": (vgg(), VGG, 2_330_698),
    "vgg, batch norm": (vgg(normalization=BatchNorm()), VGG + 2 * (2 * 64 + 2 * 128 + 2 * 256 + 512), 2_333_514),
    "squeezenet": (squeezenet(), SQUEEZENET + 513 * 10 + 2 * SQUEEZENET_UNITS, 733_514),
    "squeezenet, plain": (squeezenet(normalization=None), SQUEEZENET + 513 * 10, 727_626),
    "squeezenet v1.1": (squeezenet(normalization=None, classes=1000), SQUEEZENET + 513 * 1000, 1_235_496),
}  # fmt: skip


@pytest.mark.parametrize(("net", "counted", "stated"), SIZES.values(), ids=SIZES)
def test_sizes(net, counted, stated):
    assert net.layout.size == counted == stated


WORK = {
    "mnist_convnet": (mnist_convnet(), 24**2 * 26 * 32 + 8**2 * 801 * 64 + 1025 * 750 + 751 * 10, 4.5),
    "large filters": (large_filter_convnet(), 17**2 * 145 * 300 + 4801 * 2048 + 2049 * 1024 + 10250, 25),
    "three layers": (three_layer_convnet(), 28**2 * 28 * 16 + 14**2 * 403 * 32 + 15690, 2.9),
    "six layers": (
        six_layer_convnet(),
        32**2 * (30 + 291) * 32 + 16**2 * (291 + 579) * 64 + 4099 * 256 + 2570,
        26,
    ),
    "vgg": (vgg(), 24**2 * (28 + 577) * 64 + 12**2 * (577 + 1153) * 128 + 36 * (1153 + 2305) * 256 + 1185290, 87),
}


@pytest.mark.parametrize(("net", "counted", "millions"), WORK.values(), ids=WORK)
def test_work(net, counted, millions):
    assert net.work == counted == pytest.approx(millions * 1e6, rel=0.025)


def test_work_of_squeezenet():
    squeezed = lambda pixels, *fires: pixels * sum(sum(of_fire(*fire)) + of_fire(*fire)[1] for fire in fires)
    work = 32**2 * 30 * 64 + squeezed(16**2, *FIRES[:2]) + squeezed(8**2, *FIRES[2:4]) + squeezed(4**2, *FIRES[4:])
    assert squeezenet().work == work + 16 * 513 * 10 == pytest.approx(24e6, rel=0.01)


def test_what_the_papers_state():
    shapes = lambda net: [shape for name, shape in net.layout.shapes.items() if len(shape) == 2]
    assert shapes(mnist_convnet())[:3] == [(5 * 5 + 1, 32), (5 * 5 * 32 + 1, 64), (4 * 4 * 64 + 1, 750)]
    assert [out for _, out in shapes(large_filter_convnet())] == [300, 2048, 1024, 10]
    assert shapes(large_filter_convnet())[0] == (12 * 12 + 1, 300)
    assert three_layer_convnet().names == ("conv0", "conv1", "output")
    assert six_layer_convnet().names == ("conv0", "conv1", "conv2", "conv3", "dense0", "output")
    assert vgg().image == (24, 24, 3)
    assert len(squeezenet().names) == 1 + 3 * 8 + 1
    pixels = [step.out[:2] for step in squeezenet()._steps]
    assert pixels == [(16, 16)] * 3 + [(8, 8)] * 3 + [(4, 4)] * 6 + [(10,)]


def test_normalization_is_the_papers():
    normalized = [maker().normalization for maker in MAKERS]
    assert normalized == [None, None, BatchNorm(), BatchNorm(), None, BatchNorm()]


@pytest.mark.parametrize("maker", MAKERS)
def test_options(maker):
    net = maker("tanh", Glorot(), MeanOnly(), Dropout(0.3), 7)
    assert (net.activation, net.output, net.initializer) == ("tanh", "linear", Glorot())
    assert (net.normalization, net.dropout) == (MeanOnly(), Dropout(0.3))
    assert net.layout.shapes["output"][1] == 7
    plain = maker()
    assert (plain.activation, plain.output, plain.initializer, plain.dropout) == ("relu", "linear", He(), None)
    assert plain.layout.shapes["output"][1] == 10


def test_further_options():
    assert squeezenet(output="relu").output == "relu"
    assert squeezenet(image=(16, 16, 1)).image == (16, 16, 1)
    outs = lambda net: [out for _, out in net.matrices.values()]
    assert outs(vgg(width=8)) == [8, 8, 16, 16, 32, 32, 64, 10]
    assert outs(mnist_convnet(widths=(2, 3, 4))) == outs(large_filter_convnet(widths=(2, 3, 4))) == [2, 3, 4, 10]
    assert outs(six_layer_convnet(widths=(2, 3, 4))) == [2, 2, 3, 3, 4, 10]
    wide, narrow = outs(squeezenet()), outs(squeezenet(width=8))
    assert [8 * n for n in narrow[:-1]] == wide[:-1] and narrow[-1] == 10


LEARN = {  # two of them on smaller images, one with smaller maps: seconds count here
    "mnist_convnet": mnist_convnet(),
    "large filters": large_filter_convnet(pool=8),
    "three layers": three_layer_convnet(),
    "six layers": six_layer_convnet(image=(16, 16, 3)),
    "six layers, plain": six_layer_convnet(normalization=None, image=(16, 16, 3)),
    "vgg": vgg(width=16),
    "squeezenet": squeezenet(image=(16, 16, 3)),
}


@pytest.mark.parametrize("net", LEARN.values(), ids=LEARN)
def test_they_learn(net):
    """Two steps of gradient descent on four images: the loss falls as the gradient says, to first order."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((4, *net.image)), np.arange(4)
    the, batch, theta = Objective(net, Categorical()), (dev(x, "float32"), dev(t)), net.init(rng)
    start, g = the.value_and_grad(theta, batch)
    lr = 0.05 * start / item(g @ g)  # a fall by 5 % on a straight line
    once, _ = the.value_and_grad(theta - lr * g, batch)
    assert 0.93 * start < once < 0.97 * start
