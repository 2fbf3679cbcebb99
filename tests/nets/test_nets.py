"""mlp and autoencoder against a forward pass in plain NumPy; their names, sizes and messages."""

import numpy as np
import pytest

from minigrad.autodiff import check, linearize
from minigrad.nets import ACTIVATIONS, Glorot, He, autoencoder, mlp
from tests.helpers import close, dev, host
from tests.nets.reference import forward

NETS = {
    **{f"hidden {name}": mlp([4, 5, 3], activation=name) for name in ACTIVATIONS},
    **{f"output {name}": mlp([4, 5, 3], output=name) for name in ACTIVATIONS},
    "one layer": mlp([4, 3], activation="relu"),
    "four layers": mlp([4, 6, 5, 2, 3], activation="sigmoid"),
    "width one": mlp([1, 1, 1]),
    "autoencoder": autoencoder([4, 3, 2]),
    "linear code": autoencoder([4, 3, 2], activation="tanh", code="linear", output="sigmoid"),
    "shallow": autoencoder([4, 2], activation="relu", code="tanh"),
}


def point(net, rng, n=7):
    return dev(0.6 * rng.standard_normal(net.layout.size)), dev(rng.standard_normal((n, net.sizes[0])))


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_forward(net, rng):
    theta, x = point(net, rng)
    expected = forward(net, host(theta), host(x))
    assert expected.shape == (7, net.sizes[-1])
    close(net.apply(theta, x), expected, rtol=1e-14)
    close(net(net.layout.views(theta), x), expected, rtol=1e-14)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_jacobian_in_theta(net, rng):
    theta, x = point(net, rng, n=2)
    smooth = "relu" not in net.activations
    check.rop(lambda theta: net.apply(theta, x), theta, smooth=smooth)
    check.adjoint(lambda theta: net.apply(theta, x), theta)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_follows_theta(dtype):
    net = mlp([4, 5, 3])
    assert net.apply(net.init(np.random.default_rng(0), dtype), dev(np.ones((2, 4)), dtype)).dtype == dtype


def test_activations_and_names():
    net = mlp([4, 6, 5, 3], activation="relu", output="tanh")
    assert net.activations == ("relu", "relu", "tanh")
    assert net.layout.shapes == {"layer0": (5, 6), "layer1": (7, 5), "layer2": (6, 3)}
    assert mlp([4, 6, 3]).activations == ("tanh", "linear")


def test_the_deep_autoencoder():
    net = autoencoder()
    assert net.sizes == (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
    assert net.activations == ("sigmoid",) * 7 + ("linear",)
    assert net.layout.names == ("enc0", "enc1", "enc2", "enc3", "dec0", "dec1", "dec2", "dec3")
    encoder = 785 * 1000 + 1001 * 500 + 501 * 250 + 251 * 30
    decoder = 31 * 250 + 251 * 500 + 501 * 1000 + 1001 * 784
    assert net.layout.size == encoder + decoder == 2_837_314


def test_the_code_has_its_own_activation():
    net = autoencoder([9, 7, 5, 2], "tanh", code="linear")
    assert net.activations == ("tanh", "tanh", "linear", "tanh", "tanh", "linear")
    assert autoencoder([9, 2], code="relu", output="sigmoid").activations == ("relu", "sigmoid")
    assert autoencoder([9, 2], activation="tanh").activations == ("tanh", "linear")


def test_the_initializer_is_the_one_given():
    assert autoencoder([4, 2]).initializer == mlp([4, 2]).initializer == Glorot()
    assert autoencoder([4, 2], init=He()).initializer == mlp([4, 2], init=He()).initializer == He()


def test_numpy_integers_are_whole_numbers():
    assert mlp(np.array([4, 5, 3])).layout.size == 25 + 18


SIZE_ERRORS = {
    "none": lambda: mlp([]),
    "one": lambda: mlp([4]),
    "zero": lambda: mlp([4, 0, 3]),
    "negative": lambda: mlp([4, -1, 3]),
    "fraction": lambda: mlp([4, 2.5, 3]),
    "text": lambda: mlp([4, "5", 3]),
    "code alone": lambda: autoencoder([4]),
    "nothing at all": lambda: autoencoder([]),
}


@pytest.mark.parametrize("make", SIZE_ERRORS.values(), ids=SIZE_ERRORS)
def test_sizes_are_checked(make):
    with pytest.raises(ValueError, match="sizes must be at least two positive whole numbers, got"):
        make()


NAME_ERRORS = {
    "hidden": (lambda: mlp([4, 5, 3], activation="sigmoidd"), "unknown activation 'sigmoidd'; did you mean 'sigmoid'?"),
    "output": (lambda: mlp([4, 3], output="liner"), "did you mean 'linear'?"),
    "code": (lambda: autoencoder([4, 2], code="tahn"), "did you mean 'tanh'?"),
    "far off": (lambda: mlp([4, 5, 3], activation="xyz"), "Known: sigmoid, tanh, relu, linear"),
}


@pytest.mark.parametrize(("make", "message"), NAME_ERRORS.values(), ids=NAME_ERRORS)
def test_unknown_activations(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(("net", "layer"), [(mlp([4, 5, 3]), "layer0"), (autoencoder([4, 2]), "enc0")], ids=str)
@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_wrong_width_names_the_layer_and_both_shapes(net, layer, traced):
    theta, x = net.init(np.random.default_rng(0)), dev(np.ones((7, 3)), "float32")
    with pytest.raises(ValueError) as caught:
        if traced:
            linearize(lambda theta: net.apply(theta, x), theta)
        else:
            net.apply(theta, x)
    for part in (repr(layer), "(7, 3)", str(net.layout.shapes[layer]), "(7, 4)"):
        assert part in str(caught.value)
