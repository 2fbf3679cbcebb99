"""Rung 4: the three Fisher matrices of small nets against sums over all targets, in plain NumPy."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.autodiff import check, linearize
from minigrad.curvature import factored_fisher, fisher, fisher_diagonal, pullback
from minigrad.linalg import cg, identity
from minigrad.losses import Categorical
from tests.curvature.cases import CASES, N, cut_into_two_slices, each_case, problem, scores
from tests.helpers import close, dev, host, host_only
from tests.nets.reference import all_targets, forward

KINDS = ("exact", "mc", "empirical")


def brute_force(net, loss, theta, x):
    """(G, sigma): E_x E_{t ~ p(t | x)} [g g'] over every target, and the deviation of one draw an input from it."""
    targets, p = all_targets(loss, forward(net, theta, x))
    g = scores(net, loss, theta, x, targets)
    means = np.einsum("kn,kni,knj->nij", p, g, g)
    squares = np.einsum("kn,kni,knj->nij", p, g**2, g**2)
    return means.mean(axis=0), np.sqrt(np.maximum(squares - means**2, 0).sum(axis=0)) / len(x)


def operator(kind, net, loss, theta, x, t, dtype="float64", **options):
    theta, x, t = dev(theta, dtype), dev(x, dtype), dev(t, None if isinstance(loss, Categorical) else dtype)
    options = {"rng": np.random.default_rng(0)} | options if kind == "mc" else options
    return fisher(Objective(net, loss), theta, (x, t) if kind == "empirical" else x, kind=kind, **options)


# --- against brute force ----------------------------------------------------------------------------------


@each_case
def test_exact_is_the_expectation_over_all_targets(net, loss):
    theta, x, _ = problem(net, loss)
    expected, _ = brute_force(net, loss, theta, x)
    close(operator("exact", net, loss, theta, x, None).dense(), expected, rtol=1e-10)


@each_case
def test_the_factored_form_is_the_exact_matrix_with_rows(net, loss):
    theta, x, _ = problem(net, loss)
    exact, G = (make(Objective(net, loss), dev(theta), dev(x)) for make in (fisher, factored_fisher))
    assert G.psd and G.P.shape == (N * net.sizes[-1], theta.size)
    close(G.dense(), exact.dense())
    rows = host(G.P.dense())
    close(rows.T @ rows / len(rows), exact.dense())
    narrow = factored_fisher(Objective(net, loss), dev(theta, "float32"), dev(x))
    assert narrow.P.gram().dtype == (narrow @ dev(theta, "float32")).dtype == "float32"


@each_case
def test_empirical_is_the_mean_over_the_labels(net, loss):
    theta, x, t = problem(net, loss)
    (g,) = scores(net, loss, theta, x, t[None])
    close(operator("empirical", net, loss, theta, x, t).dense(), g.T @ g / N)


@each_case
@pytest.mark.parametrize("samples", [1, 3])
def test_mc_is_the_mean_over_the_drawn_targets(net, loss, samples):
    theta, x, t = problem(net, loss)
    generator, r = np.random.default_rng(5), dev(forward(net, theta, x))
    targets = np.stack([host(loss.sample(r, generator)) for _ in range(samples)])
    g = scores(net, loss, theta, x, targets).reshape(samples * N, -1)
    G = operator("mc", net, loss, theta, x, t, rng=np.random.default_rng(5), samples=samples)
    close(G.dense(), g.T @ g / len(g))


@each_case
def test_mc_converges_to_exact(net, loss):
    theta, x, t = problem(net, loss)
    draws = 4000
    expected, sigma = brute_force(net, loss, theta, x)  # three nodes of quadrature know fourth moments, too
    G = host(operator("mc", net, loss, theta, np.repeat(x, draws, axis=0), t).dense())
    assert (abs(G - expected) <= 6 * sigma / np.sqrt(draws) + 1e-12).all()
    assert abs(G - expected).max() > 1e-6  # it is a sample


def test_mc_is_seeded():
    args = (*CASES["Categorical"], *problem(*CASES["Categorical"]))
    a, b, c = (host(operator("mc", *args, rng=np.random.default_rng(seed)).dense()) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert abs(a - c).max() > 1e-3
    G = operator("mc", *args)
    np.testing.assert_array_equal(host(G.dense()), host(G.dense()))  # the targets are drawn once


def test_exact_and_empirical_differ_where_the_model_is_wrong():
    args = (*CASES["Bernoulli"], *problem(*CASES["Bernoulli"]))
    exact, empirical = (host(operator(kind, *args).dense()) for kind in ("exact", "empirical"))
    assert abs(exact - empirical).max() > 0.1 * abs(exact).max()


# --- the diagonal -----------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize(("kind", "samples"), [("exact", 1), ("mc", 1), ("mc", 3), ("empirical", 1)])
def test_diagonal_is_the_operators(net, loss, kind, samples):
    theta, x, t = problem(net, loss)
    expected = np.diag(
        host(operator(kind, net, loss, theta, x, t, **({"samples": samples} if kind == "mc" else {})).dense())
    )
    data = (dev(x), dev(t)) if kind == "empirical" else dev(x)
    objective, rng = Objective(net, loss), np.random.default_rng(0)
    close(fisher_diagonal(objective, dev(theta), data, kind, rng=rng, samples=samples), expected)


@each_case
@pytest.mark.parametrize("kind", KINDS)
def test_diagonal_goes_through_a_batch_in_slices(net, loss, kind):
    """Slice by slice, with the whole batch's 1/N; targets are drawn in the samples' order."""
    theta, x, t = problem(net, loss, n=7)
    data = (dev(x), dev(t)) if kind == "empirical" else dev(x)
    whole, sliced = (
        fisher_diagonal(Objective(net, loss, rows=rows), dev(theta), data, kind, rng=np.random.default_rng(3))
        for rows in (None, 2)
    )
    close(sliced, whole)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_diagonal_on_a_device(dtype, device):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    draws = dict(rng=np.random.default_rng(0))
    for kind, data in (("exact", dev(x)), ("mc", dev(x)), ("empirical", (dev(x), dev(t)))):
        found = fisher_diagonal(Objective(net, loss), dev(theta, dtype), data, kind, **draws)
        assert found.dtype == dtype and host(found).min() >= 0 and host(found).max() > 0


# --- what every kind promises -----------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("kind", KINDS)
def test_psd_and_of_low_rank(net, loss, kind):
    G = operator(kind, net, loss, *problem(net, loss, n=1))
    dense = host(G.dense())
    assert G.psd
    check.symmetric(G)
    close(dense, dense.T)
    eigenvalues = np.linalg.eigvalsh(dense)
    assert eigenvalues[0] > -1e-12 * eigenvalues[-1]
    outputs = net.sizes[-1] - isinstance(loss, Categorical)  # softmax ignores what is added to all logits
    bound = outputs if kind == "exact" else 1
    assert 1 <= (eigenvalues > 1e-10 * eigenvalues[-1]).sum() <= bound < len(dense)


@each_case
@pytest.mark.parametrize("kind", ["exact", "empirical"])
def test_a_batch_is_the_mean_of_its_samples(net, loss, kind):
    theta, x, t = problem(net, loss, n=4)
    parts = [operator(kind, net, loss, theta, x[i : i + 1], t[i : i + 1]).dense() for i in range(4)]
    close(operator(kind, net, loss, theta, x, t).dense(), sum(host(part) for part in parts) / 4)


@host_only
@each_case
@pytest.mark.parametrize("kind", KINDS)
def test_slices_on_threads_change_nothing(net, loss, kind, monkeypatch):
    args = net, loss, *problem(net, loss, n=5)
    whole = operator(kind, *args).dense()
    cut_into_two_slices(monkeypatch)
    G = operator(kind, *args)
    assert len(G.terms if kind == "exact" else G.P.J.parts) == 2
    assert G.psd
    close(G.dense(), whole)
    close(G.T.dense(), whole)


@each_case
def test_weight_decay_is_left_out(net, loss):
    theta, x, _ = problem(net, loss)
    a, b = (fisher(Objective(net, loss, decay), dev(theta), dev(x)).dense() for decay in (0.0, 10.0))
    np.testing.assert_array_equal(host(a), host(b))


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32(kind):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    narrow, wide = (operator(kind, net, loss, theta, x, t, dtype) for dtype in ("float32", "float64"))
    assert narrow.dtype == "float32"
    product = narrow @ dev(theta, "float32")
    assert product.dtype == "float32"
    if kind != "mc":  # other bits of the generator, other targets
        close(product, wide @ dev(theta), rtol=1e-5)
    assert (narrow + 1e-3 * identity(theta.size)).dtype == "float32"


@each_case
@pytest.mark.parametrize("kind", KINDS)
def test_a_damped_natural_gradient_step(net, loss, kind):
    theta, x, t = problem(net, loss)
    _, g = Objective(net, loss).value_and_grad(dev(theta), (dev(x), dev(t)))
    G = operator(kind, net, loss, theta, x, t) + 1e-2 * identity(theta.size)
    assert G.psd
    d, info = cg(G, -g, rtol=1e-12)
    assert info.converged
    expected = -np.linalg.solve(host(G.dense()), host(g))
    close(d, expected, rtol=1e-8)
    assert expected @ host(g) < 0


@each_case
def test_pullback_of_a_metric_in_y(net, loss):
    """G = J_y' M_y J_y with J_y = dy/dtheta is the same exact matrix (Pascanu & Bengio, eq. 8 to 11)."""
    theta, x = (dev(array) for array in problem(net, loss)[:2])
    y, J = linearize(lambda theta: loss.predict(net.apply(theta, x)), theta)
    G = pullback(J, lambda rows: loss.metric_y(y[rows]))
    assert G.psd
    close(G.dense(), fisher(Objective(net, loss), theta, x).dense())


@each_case
@pytest.mark.parametrize("kind", KINDS)
def test_a_net_that_is_linearized_is_not_run_again(net, loss, kind):
    theta, x, t = problem(net, loss)
    args = (net, loss, theta, x, t)
    _, _, *linearized = Objective(net, loss, 0.3).value_grad_and_linearize(dev(theta), (dev(x), dev(t)))
    G = operator(kind, *args, linearized=linearized)
    assert (G.P.J if kind != "exact" else G.factors[-1]) is linearized[1]
    close(G.dense(), operator(kind, *args).dense())


def test_the_formula_is_printed():
    net, loss = CASES["Gaussian"]
    assert str(operator("exact", net, loss, *problem(net, loss))) == "J.T @ M @ J"


# --- bad input --------------------------------------------------------------------------------------------

generator = np.random.default_rng
ERRORS = {
    "unknown kind": (
        lambda x, t: (x, {"kind": "exakt"}),
        ValueError,
        "unknown Fisher kind 'exakt'; did you mean 'exact'",
    ),
    "no kind at all": (lambda x, t: (x, dict(kind="")), ValueError, "Known: exact, mc, empirical"),
    "mc without rng": (lambda x, t: (x, dict(kind="mc")), ValueError, "mc needs an rng and samples >= 1, got rng=None"),
    "no samples": (lambda x, t: (x, dict(kind="mc", rng=generator(0), samples=0)), ValueError, "samples=0"),
    "batch for exact": (lambda x, t: ((x, t), {}), TypeError, "x must be an array of the active backend, got tuple"),
    "inputs for empirical": (lambda x, t: (x, dict(kind="empirical")), TypeError, "a batch is a pair (x, t), got "),
    "labels out of range": (lambda x, t: ((x, t + 4), dict(kind="empirical")), ValueError, "labels must lie in 0..3"),
    "too few labels": (lambda x, t: ((x, t[1:]), dict(kind="empirical")), ValueError, "got 3 inputs and 2 targets"),
    "empty": (lambda x, t: (x[:0], {}), ValueError, "empty batch"),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_input(call, error, message):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    data, options = call(dev(x), dev(t))
    for function in (fisher, fisher_diagonal):
        with pytest.raises(error) as caught:
            function(Objective(net, loss), dev(theta), data, **{"kind": "exact"} | options)
        assert message in str(caught.value)
