"""Dropout against nets with columns cut out, the frequencies of its masks, and what `fit` makes of it."""

import numpy as np
import pytest

import minigrad
from minigrad import Objective
from minigrad.autodiff import check
from minigrad.function_space import root_mean_square_and_grad
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import Dropout, mlp
from minigrad.optimizers import HCGD, SGD
from tests.helpers import close, dev, host

SIZES = [4, 6, 5, 2]


def made(rate=0.4, seed=0):
    """(net, theta, x) with dropout, theta on the host."""
    net, rng = mlp(SIZES, dropout=Dropout(rate)), np.random.default_rng(seed)
    return net, rng.standard_normal(net.layout.size), rng.standard_normal((7, SIZES[0]))


def masks(net):
    """Of a thinned net, on the host."""
    return [host(net.dropout.masks[name]) for name in net.names[:-1]]


def test_a_thinned_net_is_the_net_without_the_units_and_the_others_louder(rng):
    """Built anew from the parameters of what is left, the weights behind a hidden unit times 1 / (1 - rate)."""
    net, theta, x = made()
    thin = net.thinned(rng, "float64")
    left = [np.arange(SIZES[0]), *(np.flatnonzero(m) for m in masks(thin)), np.arange(SIZES[-1])]
    assert all(0 < len(l) < n for l, n in zip(left[1:-1], SIZES[1:-1], strict=True))  # this seed leaves some out
    h = x
    views = {name: host(v) for name, v in net.layout.views(dev(theta)).items()}
    for i, name in enumerate(net.names):
        W, b = views[name][:-1][np.ix_(left[i], left[i + 1])], views[name][-1, left[i + 1]]
        a = h @ W / (0.6 if i else 1.0) + b
        h = np.tanh(a)
    close(thin.apply(dev(theta), dev(x)), a, rtol=1e-13)


def test_both_passes_of_a_thinned_net(rng):
    net, theta, x = made()
    thin = net.thinned(rng, "float64")
    check.rop(lambda theta: thin.apply(theta, dev(x)), dev(theta))
    check.adjoint(lambda theta: thin.apply(theta, dev(x)), dev(theta))


def test_the_net_itself_leaves_nothing_out():
    net, theta, x = made()
    close(net.apply(dev(theta), dev(x)), mlp(SIZES).apply(dev(theta), dev(x)), rtol=0)
    assert net.layout.shapes == mlp(SIZES).layout.shapes


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.7])
def test_masks_have_their_rate_and_mean_one(rate):
    """10,000 units: the share left out within four standard errors."""
    net, rng = mlp([2, 10_000, 3], dropout=Dropout(rate)), np.random.default_rng(1)
    (m,) = masks(net.thinned(rng, "float64"))
    assert abs((m == 0).mean() - rate) <= 4 * (rate * (1 - rate) / 10_000) ** 0.5
    np.testing.assert_allclose(m[m > 0], 1 / (1 - rate), rtol=1e-15)


def test_masks_are_drawn_anew_and_by_the_rng(rng):
    net, _, _ = made()
    first, second = masks(net.thinned(rng, "float64")), masks(net.thinned(rng, "float64"))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    again = [masks(net.thinned(np.random.default_rng(3), "float64")) for _ in range(2)]
    assert all((a == b).all() for a, b in zip(*again, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_follows_theta(dtype, rng):
    net, theta, x = made()
    thin = Objective(net, Gaussian()).thinned(dev(theta, dtype), rng).net
    assert thin.apply(dev(theta, dtype), dev(x, dtype)).dtype == dtype
    assert {m.dtype for m in masks(thin)} == {np.dtype(dtype)}


def test_an_objective_without_dropout_is_itself(rng):
    objective = Objective(mlp(SIZES), Gaussian())
    assert objective.thinned(dev(np.zeros(3)), rng) is objective


def learn(dropout, **options):
    rng = np.random.default_rng(0)
    data = rng.standard_normal((40, 4)).astype("float32"), rng.integers(0, 2, 40)
    objective = Objective(mlp(SIZES, dropout=dropout), Categorical())
    options = {"updates": 6, "batch_size": 10, "progress": False, "evaluate_every": 2} | options
    return objective, data, minigrad.fit(objective, SGD(0.1), data, **options)


def test_fit_leaves_units_out_while_learning_and_none_when_it_evaluates():
    objective, data, dropped = learn(Dropout(0.5), train_samples=40)
    _, _, whole = learn(None, train_samples=40)
    assert dropped.curves["loss"][0] == whole.curves["loss"][0]  # the same weights, evaluated whole
    assert dropped.losses[0] != whole.losses[0]  # the same batch, learned from thinned
    x, t = (dev(part) for part in data)
    assert dropped.curves["loss"][-1] == pytest.approx(objective.value(dropped.theta, (x, t)), rel=1e-6)


def test_a_rate_of_0_changes_nothing():
    close(learn(Dropout(0))[2].theta, learn(None)[2].theta, rtol=0)


def test_a_run_with_dropout_resumes_bit_for_bit(tmp_path):
    unbroken = learn(Dropout(0.5))[2]
    learn(Dropout(0.5), updates=3, checkpoint=tmp_path / "run.npz")
    resumed = learn(Dropout(0.5), checkpoint=tmp_path / "run.npz", resume=True)[2]
    close(resumed.theta, unbroken.theta, rtol=0)


def test_a_checkpoint_of_another_rate_is_refused(tmp_path):
    learn(Dropout(0.5), updates=3, checkpoint=tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"Dropout\(rate=0.5\)"):
        learn(Dropout(0.25), checkpoint=tmp_path / "run.npz", resume=True)


def test_all_passes_of_an_update_see_one_mask(rng):
    """HCGD's: on the net that this update's masks leave, whatever the batch; with masks of its own a validation batch
    would see a function that changed though theta had not."""
    net, theta, x = made()
    objective, theta, x = Objective(net, Gaussian()), dev(theta), dev(x)
    batch, other = (x[:3], dev(np.ones((3, 2)))), x[3:]
    thin = objective.thinned(theta, rng)
    new, _, _ = HCGD(SGD(0.1), lam=0.5, eta=0.2, validation=4).step(
        theta, {"update": 0}, thin, batch, lambda size: (other, None), None
    )
    d = -0.1 * thin.value_and_grad(theta, batch)[1]
    _, slope = root_mean_square_and_grad(thin, theta + d, other, thin.predict(theta, other))
    close(new, theta + d - 0.1 * slope, rtol=1e-13)
    one, two = (objective.thinned(theta, rng).predict(theta, other) for _ in range(2))
    assert np.abs(host(one) - host(two)).max() > 1e-3


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan"), "half", True])
def test_refuses_rates(rate):
    with pytest.raises(ValueError, match=r"Dropout: rate must be a number in \[0, 1\), got"):
        Dropout(rate)
