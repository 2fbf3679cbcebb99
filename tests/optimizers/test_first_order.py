"""What all first-order methods promise: purity, dtype, log, clipping, errors, one step on the fake device."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

import minigrad
from minigrad import backend
from minigrad.losses import Gaussian
from minigrad.nets import mlp
from minigrad.optimizers import OPTIMIZERS, SGD, Adagrad, Adam, RMSProp, Waterfall, by_name
from minigrad.optimizers.first_order import clip_factor
from tests.helpers import close, dev, host
from tests.optimizers.problems import Slope, path, run

METHODS = [
    SGD(0.1),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, nesterov=True),
    Adagrad(),
    RMSProp(),
    Adam(Waterfall(0.1)),
]
each_method = pytest.mark.parametrize("optimizer", METHODS, ids=lambda o: type(o).__name__)


def arrays(state):
    return {name: value for name, value in state.items() if backend.is_array(value)}


# --- purity --------------------------------------------------------------------------------------------------


@each_method
def test_a_step_leaves_theta_state_and_gradient_as_they_were(optimizer, rng):
    theta, g = dev(rng.standard_normal(20)), dev(rng.standard_normal(20))
    state = optimizer.step(theta, optimizer.init(Slope(), theta), Slope(), g)[1]  # vectors that are not zero
    before = {name: host(vector).copy() for name, vector in arrays(state).items()}
    numbers = {name: value for name, value in state.items() if name not in before}
    theta_before, g_before = host(theta).copy(), host(g).copy()

    first = optimizer.step(theta, state, Slope(), g)
    after_first = host(first[0]).copy()
    second = optimizer.step(theta, state, Slope(), g)

    close(theta, theta_before, rtol=0)
    close(g, g_before, rtol=0)
    assert {name: value for name, value in state.items() if name not in before} == numbers
    for name in before:
        close(state[name], before[name], rtol=0)
        close(first[1][name], second[1][name], rtol=0)
    close(first[0], after_first, rtol=0)
    close(second[0], after_first, rtol=0)
    assert first[2] == second[2]


@each_method
def test_going_back_is_keeping_theta_and_state(optimizer, rng):
    """A step from new theta and state writes into neither them nor the ones before."""
    theta, g = dev(rng.standard_normal(20)), dev(rng.standard_normal(20))
    states, thetas = [optimizer.init(Slope(), theta)], [theta]
    for _ in range(3):
        theta, state, _ = optimizer.step(thetas[-1], states[-1], Slope(), g)
        thetas.append(theta)
        states.append(state)
    again, _, _ = optimizer.step(thetas[1], states[1], Slope(), g)
    close(again, thetas[2], rtol=0)


@each_method
def test_the_state_survives_a_round_trip_through_the_host(optimizer, rng):
    theta = dev(rng.standard_normal(20))
    batches = [dev(rng.standard_normal(20)) for _ in range(6)]
    unbroken, _, _ = run(optimizer, Slope(), theta, batches)

    theta, state, _ = run(optimizer, Slope(), theta, batches[:3])
    assert {type(value) for value in state.values()} <= {int, float, backend.xp.ndarray}
    state = {name: dev(host(value)) if backend.is_array(value) else value for name, value in state.items()}
    theta = dev(host(theta))
    for batch in batches[3:]:
        theta, state, _ = optimizer.step(theta, state, Slope(), batch)
    close(theta, unbroken, rtol=0)
    assert state["update"] == 6


# --- dtype and blocks ----------------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_follows_theta(optimizer, dtype):
    theta, state = path(optimizer, [[1.0, -2.0], [0.5, 0.5]], dtype)
    assert theta.dtype == dtype
    assert all(vector.dtype == dtype and vector.shape == (2,) for vector in arrays(state).values())


def test_numpy_scalars_as_hyper_parameters_do_not_widen_float32():
    one = np.float64(1.0)
    optimizer = Adam(0.1 * one, beta1=0.9 * one, beta2=0.999 * one, eps=1e-8 * one, clip=one)
    theta, state = path(optimizer, [[1.0, -2.0]] * 2, "float32")
    assert {theta.dtype, state["m"].dtype, state["v"].dtype} == {np.dtype("float32")}


@each_method
def test_long_vectors_go_through_in_blocks_on_threads_with_the_same_result(optimizer, rng):
    gradients = rng.standard_normal((3, 300_001))
    theta, state = path(optimizer, gradients)
    for part in (slice(0, 5), slice(16_380, 16_390), slice(149_990, 150_010), slice(299_990, 300_001)):
        short, short_state = path(optimizer, gradients[:, part])
        close(theta[part], short, rtol=1e-14)
        for name, vector in arrays(short_state).items():
            close(state[name][part], vector, rtol=1e-14)


# --- log -----------------------------------------------------------------------------------------------------


@each_method
def test_the_log_is_a_flat_dict_of_floats(optimizer):
    g = dev([3.0, -4.0, 0.0])
    _, _, (log,) = run(optimizer, Slope(), dev([1.5, -1.0, 7.0]), [g])
    assert log == {"loss": 0.5, "gradient_norm": 5.0, "lr": optimizer.lr.lr, "gradients": 1.0}
    assert {type(value) for value in log.values()} == {float}


@each_method
def test_a_step_reads_one_number_from_the_device(optimizer):
    class Free(Slope):
        value_and_grad = lambda self, theta, batch: (1.0, batch)

    theta = dev([1.0, 2.0])
    state, before = optimizer.init(Free(), theta), backend.host_reads.count
    optimizer.step(theta, state, Free(), theta)
    assert backend.host_reads.count - before == 1


@each_method
def test_first_order_methods_ignore_draw_and_rng(optimizer):
    theta, g = dev([1.0, 2.0]), dev([1.0, 1.0])
    state = optimizer.init(Slope(), theta)
    with_both, _, _ = optimizer.step(theta, state, Slope(), g, object(), object())
    close(with_both, optimizer.step(theta, state, Slope(), g)[0], rtol=0)


# --- preconditioned methods ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halved(SGD):
    """SGD on half the gradient of the batch that draw hands out; counts its steps in the state."""

    def gradient(self, theta, state, objective, batch, draw, rng):
        loss, g = objective.value_and_grad(theta, draw(rng))
        return loss, 0.5 * g, state | {"seen": state.get("seen", 0) + 1}


def test_a_method_may_replace_the_gradient_and_keep_statistics():
    """The rule, clipping and the log see what `gradient` gives; its state is kept beside the rule's own."""
    optimizer, theta = Halved(0.1, momentum=0.5, clip=4.0), dev([1.0, 2.0])
    batches = {"one": dev([6.0, 8.0]), "two": dev([1.0, 0.0])}
    state = optimizer.init(Slope(), theta)
    new, state, log = optimizer.step(theta, state, Slope(), None, batches.get, "one")
    assert (log["loss"], log["gradient_norm"], state["seen"], state["update"]) == (3.0, 5.0, 1, 1)
    close(new, host(theta) - 0.1 * 0.8 * np.array([3.0, 4.0]))
    newer, state, log = optimizer.step(new, state, Slope(), None, batches.get, "two")
    assert (log["gradient_norm"], state["seen"], state["update"]) == (0.5, 2, 2)
    plain = SGD(0.1, momentum=0.5)
    expected, expected_state, _ = run(plain, Slope(), theta, [dev([2.4, 3.2]), dev([0.5, 0.0])])
    close(newer, expected)
    assert set(state) == set(expected_state) | {"seen"}


# --- clipping ------------------------------------------------------------------------------------------------


def test_clip_factor_shortens_long_gradients_only():
    assert clip_factor(10.0, None) == 1.0
    assert clip_factor(10.0, 10.0) == 1.0
    assert clip_factor(10.0, 2.5) == 0.25
    assert clip_factor(0.0, 2.5) == 1.0


def test_a_clipped_gradient_keeps_its_direction_and_the_log_its_norm():
    g = np.array([3.0, -4.0])
    theta, _, (log,) = run(SGD(0.1, clip=0.5), Slope(), dev([0.0, 0.0]), [dev(g)])
    close(theta, -0.1 * 0.5 * g / 5)
    assert log["gradient_norm"] == 5.0
    close(path(SGD(0.1, clip=6.0), [g])[0], -0.1 * g)


@each_method
def test_every_method_remembers_the_clipped_gradient(optimizer, rng):
    gradients = rng.standard_normal((4, 5)) * np.array([[0.01], [10.0], [0.1], [5.0]])
    options = {name: getattr(optimizer, name) for name in optimizer.__dataclass_fields__}
    clipped = type(optimizer)(**options | {"clip": 0.7})
    by_hand = [g * min(1.0, 0.7 / np.linalg.norm(g)) for g in gradients]
    (theta, state), (expected, expected_state) = path(clipped, gradients), path(optimizer, by_hand)
    close(theta, expected)
    for name, vector in arrays(expected_state).items():
        close(state[name], vector)


# --- errors --------------------------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_names_the_update_and_the_loss(optimizer, bad):
    theta = dev([1.0, 2.0])
    theta, state, _ = run(optimizer, Slope(), theta, [dev([1.0, 1.0])] * 2)
    with pytest.raises(FloatingPointError, match=r"update 3: the gradient's norm is (nan|inf) at a loss of -?\d"):
        optimizer.step(theta, state, Slope(), dev([1.0, bad]))
    assert state["update"] == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_too(bad):
    class Broken(Slope):
        value_and_grad = lambda self, theta, batch: (bad, batch)

    with pytest.raises(FloatingPointError, match=f"update 1: .* at a loss of {bad}"):
        run(SGD(0.1), Broken(), dev([1.0]), [dev([1.0])])


@pytest.mark.parametrize("method", [SGD, Adagrad, RMSProp, Adam])
@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, "1", True])
def test_bad_clip(method, bad):
    with pytest.raises(ValueError, match=f"{method.__name__}: clip must be a positive finite number, got {bad!r}"):
        method(0.1, clip=bad)


def test_optimizers_are_frozen():
    with pytest.raises(AttributeError):
        Adam().lr = 0.1


def test_by_name():
    found = {name: by_name(name).__name__ for name in OPTIMIZERS}
    assert found == {
        "sgd": "SGD",
        "adagrad": "Adagrad",
        "rmsprop": "RMSProp",
        "adam": "Adam",
        "newton": "Newton",
        "hessian-free": "HessianFree",
        "krylov-subspace-descent": "KrylovSubspaceDescent",
        "natural-gradient": "NaturalGradient",
        "tonga": "TONGA",
        "centred-gd": "CentredGD",
        "acp": "ACP",
        "prong": "PRONG",
        "hcgd": "HCGD",
        "natural-descent": "NaturalDescent",
        "kfac": "KFAC",
        "ekfac": "EKFAC",
        "diagonal-fisher": "DiagonalFisher",
    }
    with pytest.raises(ValueError, match="unknown optimizer 'adm'; did you mean 'adam'"):
        by_name("adm")


# --- on a net, here and on the device ------------------------------------------------------------------------


@each_method
def test_steps_lower_the_loss_of_a_net(optimizer, device, rng):
    net = mlp([3, 4, 2])
    objective = minigrad.Objective(net, Gaussian())
    theta = net.init(backend.rng(1), "float32")
    batch = dev(rng.standard_normal((5, 3)), "float32"), dev(rng.standard_normal((5, 2)), "float32")
    theta, state, logs = run(optimizer, objective, theta, [batch] * 3)
    assert theta.dtype == "float32" and state["update"] == 3
    assert objective.value(theta, batch) < logs[0]["loss"]
    optimizer.observe(state, 1.0)
