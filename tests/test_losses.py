"""Rung 3: the three losses against SciPy, complex steps, and sums over all targets."""

import numpy as np
import pytest

from minigrad.autodiff import check, grad, jacobian, linearize, ops
from minigrad.losses import Bernoulli, Categorical, Gaussian
from tests.fake_device import fake_device
from tests.helpers import close, dev, host
from tests.nets.reference import all_targets, complex_jacobian, distribution, sample_losses, targets_for

N, O = 4, 3
LOSSES = {
    "Gaussian": Gaussian(),
    "Gaussian beta": Gaussian(beta=0.3),
    "Bernoulli": Bernoulli(),
    "Categorical": Categorical(),
}
COUNTS = {"n = N": None, "n = 11": 11, "n = 1": 1}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_count = pytest.mark.parametrize("n", COUNTS.values(), ids=COUNTS)


@pytest.fixture
def r(rng):
    return 1.5 * rng.standard_normal((N, O))


@pytest.fixture
def t(loss, r, rng):
    return targets_for(loss, r, rng)


def blocks(M, rows=N):
    """The diagonal blocks (N, O, O) of an operator on N x O numbers; whatever couples samples must be zero."""
    dense = host(M.dense()).reshape(rows, -1, rows, M.shape[0] // rows)
    coupling = dense.swapaxes(1, 2)[~np.eye(rows, dtype=bool)]
    np.testing.assert_array_equal(coupling, 0)
    return np.stack([dense[i, :, i] for i in range(rows)])


# --- value ------------------------------------------------------------------------------------------------


@each_loss
@each_count
def test_value_is_the_mean_over_samples_and_sum_over_outputs(loss, r, t, n):
    expected = sample_losses(loss, r, t).sum() / (n or N)
    assert loss.value(dev(r), dev(t), n).shape == ()
    close(loss.value(dev(r), dev(t), n), expected, rtol=1e-14)


def test_values_against_scipy(rng, r):
    stats = pytest.importorskip("scipy.stats")
    t = rng.standard_normal(r.shape)
    for beta in (0.3, 1.0, 2.0):
        dropped = O * np.log(beta * np.sqrt(2 * np.pi))  # what the likelihood has beside the squared error
        expected = -stats.norm.logpdf(t, r, beta).sum(axis=1).mean() - dropped
        close(Gaussian(beta).value(dev(r), dev(t)), expected)
    t = rng.integers(2, size=r.shape)
    expected = -stats.bernoulli.logpmf(t, distribution(Bernoulli(), r)).sum(axis=1).mean()
    close(Bernoulli().value(dev(r), dev(t, float)), expected)
    t = rng.integers(O, size=N)
    expected = -stats.multinomial.logpmf(np.eye(O)[t], 1, distribution(Categorical(), r)).mean()
    close(Categorical().value(dev(r), dev(t)), expected)


@each_loss
def test_slices_add_up_to_the_batch(loss, r, t):
    slices = [(dev(r[a:b]), dev(t[a:b])) for a, b in ((0, 1), (1, 4))]
    close(sum(loss.value(*slice_, N) for slice_ in slices), loss.value(dev(r), dev(t)))
    close(np.concatenate([host(loss.gradient(*slice_, N)) for slice_ in slices]), loss.gradient(dev(r), dev(t)))
    for metric in (loss.metric, loss.factor):
        whole = blocks(metric(dev(r)))
        close(np.concatenate([blocks(metric(s, N), rows) for (s, _), rows in zip(slices, (1, 3))]), whole)


@each_loss
def test_predict(loss, r):
    close(loss.predict(dev(r)), distribution(loss, r))


# --- gradient ---------------------------------------------------------------------------------------------


@each_loss
@each_count
def test_gradient_by_complex_step(loss, r, t, n):
    expected = complex_jacobian(lambda z: sample_losses(loss, z.reshape(N, O), t).sum() / (n or N), r.ravel())
    close(loss.gradient(dev(r), dev(t), n), expected.reshape(N, O))


@each_loss
@each_count
def test_gradient_is_what_the_tape_makes_of_the_value(loss, r, t, n):
    value = lambda r: loss.value(r, dev(t), n)
    close(grad(value)(dev(r)), loss.gradient(dev(r), dev(t), n))
    check.derivatives(value, dev(r))
    check.derivatives(lambda r: loss.gradient(r, dev(t), n), dev(r))


@each_loss
@each_count
def test_value_and_gradient_are_the_value_and_the_gradient(loss, r, t, n):
    value, gradient = loss.value_and_gradient(dev(r), dev(t), n)
    close(value, sample_losses(loss, r, t).sum() / (n or N), rtol=1e-14)
    close(gradient, loss.gradient(dev(r), dev(t), n))
    for i in range(2):
        check.derivatives(lambda r, i=i: loss.value_and_gradient(r, dev(t), n)[i], dev(r))


# --- metrics ----------------------------------------------------------------------------------------------


@each_loss
@each_count
def test_metric_is_the_hessian_in_r(loss, r, t, n):
    """All three are matched pairs, and then the Hessian does not depend on the targets."""
    M = host(loss.metric(dev(r), n).dense())
    _, H = linearize(grad(lambda r: loss.value(r, dev(t), n)), dev(r))
    close(H.dense(), M)
    differences = [
        host(
            check.central_difference(lambda r: loss.gradient(r, dev(t), n), dev(r), dev(e.reshape(N, O)), 1e-5)
        ).ravel()
        for e in np.eye(N * O)
    ]
    close(np.stack(differences), M, rtol=1e-8)


@each_loss
@each_count
def test_metric_is_the_expected_product_of_scores(loss, r, n):
    """E over t ~ p(t | r) of (d log p / dr)(d log p / dr)': all 2^O or O targets, or quadrature."""
    targets, p = all_targets(loss, r)
    np.testing.assert_allclose(p.sum(axis=0), 1, rtol=1e-14)
    scores = np.stack([host(loss.gradient(dev(r), dev(target), 1)) for target in targets])
    np.testing.assert_allclose(np.einsum("kn,kni->ni", p, scores), 0, atol=1e-13)
    expected = np.einsum("kn,kni,knj->nij", p, scores, scores) / (n or N)
    close(blocks(loss.metric(dev(r), n)), expected)


@each_loss
@each_count
def test_metric_in_y_is_the_expected_product_of_scores_in_y(loss, r, n):
    y = distribution(loss, r)
    targets, p = all_targets(loss, r)
    scores = {
        "Gaussian": lambda t: (t - y) / getattr(loss, "beta", 1) ** 2,
        "Bernoulli": lambda t: t / y - (1 - t) / (1 - y),
        "Categorical": lambda t: np.eye(O)[t] / y,
    }[type(loss).__name__]
    scores = np.stack([scores(target) for target in targets])
    close(blocks(loss.metric_y(dev(y), n)), np.einsum("kn,kni,knj->nij", p, scores, scores) / (n or N))


@each_loss
@each_count
def test_metric_in_y_pulled_back_is_the_metric_in_r(loss, r, n):
    y, P = linearize(loss.predict, dev(r))
    pulled = P.T @ loss.metric_y(y, n) @ P
    assert pulled.psd
    close(pulled.dense(), loss.metric(dev(r), n).dense())


@each_loss
@each_count
def test_factor_times_its_transpose_is_the_metric(loss, r, n):
    M, B = loss.metric(dev(r), n), loss.factor(dev(r), n)
    dense = host(B.dense())
    close(B.T.dense(), dense.T, rtol=1e-15)
    close((B @ B.T).dense(), M.dense())
    close(dense @ dense.T, M.dense())
    assert (B @ B.T).psd
    assert host(B.dense()).trace() > 0  # the root that is not turned round


@each_loss
def test_shapes_symmetry_and_promises(loss, r):
    for M in (loss.metric(dev(r)), loss.metric_y(loss.predict(dev(r)))):
        dense = host(M.dense())
        assert M.shape == (N * O, N * O)
        assert M.psd
        np.testing.assert_allclose(dense, dense.T, atol=1e-16)
        assert np.linalg.eigvalsh(dense).min() > -1e-15
    B = loss.factor(dev(r))
    assert B.shape == (N * O, N * O)
    assert not B.psd and not B.symmetric
    assert (str(loss.metric(dev(r))), str(B), str(B.T)) == ("M", "B", "B.T")


def test_the_categorical_metric_ignores_a_constant_added_to_all_logits(r):
    M, B = Categorical().metric(dev(r)), Categorical().factor(dev(r))
    np.testing.assert_allclose(host(M @ dev(np.ones(N * O))), 0, atol=1e-16)
    np.testing.assert_allclose(host(B.T @ dev(np.ones(N * O))), 0, atol=1e-16)
    assert np.linalg.matrix_rank(host(M.dense()), tol=1e-12) == N * (O - 1)


def test_squared_error_after_a_sigmoid_is_no_matched_pair(r, rng):
    """In the pre-activations a of r = sigmoid(a), the metric pulled back is the Fisher information, not the Hessian."""
    loss, t, a = Gaussian(beta=0.5), rng.random((N, O)), dev(r)
    outputs, S = linearize(ops.sigmoid, a)
    pulled = host((S.T @ loss.metric(outputs) @ S).dense())
    y = host(outputs)
    slope, bend = y * (1 - y), y * (1 - y) * (1 - 2 * y)

    def hessian(t):
        return host(linearize(grad(lambda a: loss.value(ops.sigmoid(a), dev(t))), a)[1].dense())

    close(pulled, np.diag((slope**2).ravel()) / (0.25 * N))
    close(hessian(t) - pulled, np.diag(((y - t) * bend).ravel()) / (0.25 * N))
    assert np.abs(hessian(t) - pulled).max() > 0.01 * np.abs(pulled).max()
    targets, p = all_targets(loss, y)  # averaged over the model's own targets, the difference is gone
    close(sum(p_k[0] * hessian(t_k) for t_k, p_k in zip(targets, p)), pulled)


# --- the loss in y, and the divergence --------------------------------------------------------------------


@each_loss
@each_count
def test_hessian_in_y(loss, r, t, n):
    y = distribution(loss, r)
    by_hand = {
        "Gaussian": lambda: np.ones((N, O)) / getattr(loss, "beta", 1) ** 2,
        "Bernoulli": lambda: t / y**2 + (1 - t) / (1 - y) ** 2,
        "Categorical": lambda: np.eye(O)[t] / y**2,
    }[type(loss).__name__]()
    H = loss.hessian_y(dev(y), dev(t), n)
    assert H.psd
    close(H.dense(), np.diag(by_hand.ravel()) / (n or N))


@each_loss
@each_count
def test_averaged_over_the_models_targets_the_hessian_in_y_is_the_metric_in_y(loss, r, n):
    y = dev(distribution(loss, r))
    targets, p = all_targets(loss, r)
    expected = sum(
        np.repeat(p_t, O)[:, None] * host(loss.hessian_y(y, dev(t), n).dense()) for t, p_t in zip(targets, p)
    )
    close(expected, loss.metric_y(y, n).dense())


@each_loss
@each_count
def test_kl_is_the_expected_difference_of_log_likelihoods(loss, r, rng, n):
    s = r + rng.standard_normal(r.shape)
    targets, p = all_targets(loss, r)
    differences = np.stack([sample_losses(loss, s, t) - sample_losses(loss, r, t) for t in targets])
    found = loss.kl(dev(r), dev(s), n)
    close(found, (p * differences).sum() / (n or N))
    assert found.shape == () and host(found) > 0.01
    close(loss.kl(dev(r), dev(r), n), 0.0, atol=1e-15)


@each_loss
@each_count
def test_the_metric_is_the_second_derivative_of_kl_in_either_argument(loss, r, n):
    """And the first is zero: KL(r, r + d) and KL(r + d, r) are both d' M d / 2 to second order."""
    M = host(loss.metric(dev(r), n).dense())
    for kl in (lambda s: loss.kl(dev(r), s, n), lambda s: loss.kl(s, dev(r), n)):
        check.derivatives(kl, dev(1.1 * r))
        np.testing.assert_allclose(host(grad(kl)(dev(r))), 0, atol=1e-13 * M.max())
        close(linearize(grad(kl), dev(r))[1].dense(), M, rtol=1e-10)


# --- samples ----------------------------------------------------------------------------------------------


class Always:
    """A generator that draws the same number all the time."""

    def __init__(self, number):
        self.number = number

    def random(self, shape, dtype):
        return np.full(shape, self.number, dtype)

    standard_normal = random


ROWS = np.array([[0.3, -1.2, 2.0], [-0.4, 0.1, 0.0]])
DRAWS = 20_000


@each_loss
def test_sample_frequencies(loss):
    r = np.repeat(ROWS, DRAWS, axis=0)
    t = host(loss.sample(dev(r), np.random.default_rng(1)))
    y = distribution(loss, ROWS)
    if isinstance(loss, Categorical):
        t, variance = np.eye(O)[t], y * (1 - y)
    else:
        variance = loss.beta**2 * np.ones_like(y) if isinstance(loss, Gaussian) else y * (1 - y)
    t = t.reshape(2, DRAWS, O)
    assert (abs(t.mean(axis=1) - y) < 5 * np.sqrt(variance / DRAWS)).all()
    kurtosis = 3 if isinstance(loss, Gaussian) else ((1 - y) ** 3 + y**3) / variance
    np.testing.assert_array_less(
        abs(((t - y[:, None]) ** 2).mean(axis=1) / variance - 1), 5 * np.sqrt(kurtosis / DRAWS)
    )
    if not isinstance(loss, Categorical):  # outputs are independent
        assert abs(np.corrcoef(t[0].T) - np.eye(O)).max() < 5 / np.sqrt(DRAWS)


@each_loss
def test_same_seed_same_samples(loss, r):
    draws = [host(loss.sample(dev(r), np.random.default_rng(seed))) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


@each_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_are_valid_targets(loss, r, dtype):
    t = loss.sample(dev(r, dtype), np.random.default_rng(0))
    loss.check((N, O), t)
    assert t.dtype.kind == "i" if isinstance(loss, Categorical) else t.dtype == dtype


def test_gaussian_samples_are_y_plus_beta_times_noise(r):
    expected = r + 0.3 * np.random.default_rng(5).standard_normal(r.shape)
    np.testing.assert_array_equal(host(Gaussian(0.3).sample(dev(r), np.random.default_rng(5))), expected)


@pytest.mark.parametrize(
    ("logits", "u", "label"),
    [
        ([0.0, 0.0], 0.0, 0),
        ([0.0, 0.0], 0.49, 0),
        ([0.0, 0.0], 0.5, 1),  # class k owns [y_0 + ... + y_k-1, y_0 + ... + y_k)
        ([-1e3, 0.0], 0.0, 1),  # never a class of probability 0
        ([0.0, -1e3], 1 - 2**-53, 0),
        ([0.0, 0.0, -1e3, 0.0], 1 - 2**-53, 3),
    ],
)
def test_categorical_draws_at_the_edges(logits, u, label):
    assert host(Categorical().sample(dev([logits]), Always(u))).tolist() == [label]


def test_a_sum_of_probabilities_just_under_one_still_gives_a_class(rng):
    r = dev(rng.standard_normal((2000, 50)), "float32")
    t = host(Categorical().sample(r, Always(np.float32(1 - 2**-24))))
    assert (np.cumsum(host(ops.softmax(r)), axis=1)[:, -1] < 1 - 2**-24).any()  # so that the edge was met
    assert t.max() == 49


@pytest.mark.parametrize(
    ("r", "u", "t"), [(0.0, 0.0, 1), (0.0, 0.49, 1), (0.0, 0.5, 0), (-1e3, 0.0, 0), (1e3, 0.999, 1)]
)
def test_bernoulli_draws_at_the_edges(r, u, t):
    assert host(Bernoulli().sample(dev([[r]]), Always(u))).tolist() == [[t]]


# --- extremes and dtype -----------------------------------------------------------------------------------

EXTREME = {  # logits, target, value
    "sure and right": (Bernoulli(), [[1e3, -1e3]], [[1.0, 0.0]], 0.0),
    "sure and wrong": (Bernoulli(), [[1e3, -1e3]], [[0.0, 1.0]], 2000.0),
    "class sure and right": (Categorical(), [[1e3, -1e3, 0.0]], [0], 0.0),
    "class sure and wrong": (Categorical(), [[1e3, -1e3, 0.0]], [1], 2000.0),
    "all logits large": (Categorical(), [[1e3, 1e3]], [1], np.log(2)),
    "all logits low": (Categorical(), [[-1e3, -1e3]], [0], np.log(2)),
    "far away": (Gaussian(), [[1e3, -1e3]], [[-1e3, -1e3]], 2e6),
}


@pytest.mark.parametrize(("loss", "r", "t", "value"), EXTREME.values(), ids=EXTREME)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits(loss, r, t, value, dtype):
    r, t = dev(r, dtype), dev(t, int if isinstance(loss, Categorical) else dtype)
    close(loss.value(r, t), np.asarray(value), rtol=1e-12 if dtype == "float64" else 1e-4)
    products = [A @ dev(np.ones(r.size), dtype) for A in (loss.metric(r), loss.factor(r), loss.factor(r).T)]
    for array in (loss.gradient(r, t), loss.predict(r), grad(lambda r: loss.value(r, t))(r), *products):
        assert np.isfinite(host(array)).all()
        assert array.dtype == dtype


def test_a_small_loss_in_float32_survives_large_logits(rng):
    """Each sample's logsumexp meets its own logit before the sum, which would round the difference away."""
    r = (100 + 3 * rng.standard_normal((1000, 10))).astype("float32")
    t = r.argmax(axis=1)
    r[np.arange(1000), t] += 10
    expected = sample_losses(Categorical(), r.astype("float64") - 100, t).mean()
    assert 1e-5 < expected < 1e-4
    close(Categorical().value(dev(r), dev(t)), expected, rtol=0.02)


@pytest.mark.parametrize("loss", [*LOSSES.values(), Gaussian(np.float64(0.3))], ids=[*LOSSES, "Gaussian NumPy beta"])
@each_count
def test_float32_stays_float32(loss, r, rng, n):
    t = targets_for(loss, r, rng)
    narrow = dev(t) if isinstance(loss, Categorical) else dev(t, "float32")
    r32, v = dev(r, "float32"), dev(rng.standard_normal(N * O))
    assert loss.value(r32, narrow, n).dtype == "float32"
    assert loss.gradient(r32, narrow, n).dtype == "float32"
    assert [part.dtype for part in loss.value_and_gradient(r32, narrow, n)] == ["float32", "float32"]
    close(loss.value(r32, narrow, n), loss.value(dev(r), dev(t), n), rtol=1e-5)
    assert loss.kl(r32, 2 * r32, n).dtype == "float32"
    close(loss.kl(r32, 2 * r32, n), loss.kl(dev(r), 2 * dev(r), n), rtol=1e-4)
    in_y = loss.hessian_y(loss.predict(r32), narrow, n)
    assert in_y.dtype == (in_y @ dev(v, "float32")).dtype == "float32"
    for make in (loss.metric, lambda r, n: loss.metric_y(loss.predict(r), n), loss.factor):
        A = make(r32, n)
        assert A.dtype == "float32"
        for B, expected in ((A, make(dev(r), n)), (A.T, make(dev(r), n).T)):
            product = B @ dev(v, "float32")
            assert product.dtype == "float32"
            close(product, expected @ v, rtol=1e-5)


# --- bad input --------------------------------------------------------------------------------------------

tiny = np.nextafter(1.0, 2.0) - 1
largest = np.finfo("float64").max
TARGET_ERRORS = {
    "label too large": (Categorical(), [0, 3, 1, 1], ValueError, r"must lie in 0..2 for 3 outputs, got 0..3"),
    "label negative": (Categorical(), [0, 2, -1, 1], ValueError, r"must lie in 0..2 for 3 outputs, got -1..2"),
    "all labels too large": (Categorical(), [3, 3, 3, 3], ValueError, r"got 3..3"),
    "float labels": (Categorical(), [0.0, 1.0, 2.0, 1.0], TypeError, "labels must be integers, got float64"),
    "bool labels": (Categorical(), [True, True, False, True], TypeError, "labels must be integers, got bool"),
    "too few labels": (Categorical(), [0, 1, 2], ValueError, r"labels must have shape \(4,\), got \(3,\)"),
    "one-hot labels": (Categorical(), np.eye(4, 3, dtype=int), ValueError, r"must have shape \(4,\), got \(4, 3\)"),
    "labels in a column": (Categorical(), np.ones((4, 1), int), ValueError, r"got \(4, 1\)"),
    "above one": (
        Bernoulli(),
        np.full((4, 3), 1 + tiny),
        ValueError,
        r"Bernoulli: targets must be in \[0, 1\], got values in",
    ),
    "one above one": (Bernoulli(), 2.0 * np.eye(4, 3), ValueError, r"in \[0, 1\], got values in 0..2"),
    "below zero": (Bernoulli(), -tiny * np.eye(4, 3), ValueError, r"in \[0, 1\]"),
    "integer bits": (Bernoulli(), np.ones((4, 3), int), TypeError, "targets must be floating-point numbers, got int"),
    "bits of another shape": (Bernoulli(), np.ones((3, 4)), ValueError, r"outputs' shape \(4, 3\), got \(3, 4\)"),
    "NaN bit": (Bernoulli(), np.where(np.eye(4, 3), np.nan, 1.0), ValueError, "got values in nan..nan"),
    "integers": (
        Gaussian(),
        np.ones((4, 3), int),
        TypeError,
        "Gaussian: targets must be floating-point numbers, got int",
    ),
    "flat": (Gaussian(), np.ones(12), ValueError, r"outputs' shape \(4, 3\), got \(12,\)"),
    "labels": (Gaussian(), np.ones(4), ValueError, r"outputs' shape \(4, 3\), got \(4,\)"),
    "NaN": (Gaussian(), np.where(np.eye(4, 3), np.nan, 1.0), ValueError, "targets must be finite"),
    "inf": (
        Gaussian(),
        np.where(np.eye(4, 3), np.inf, 1.0),
        ValueError,
        "targets must be finite, got values in 1..inf",
    ),
    "-inf": (
        Gaussian(),
        np.where(np.eye(4, 3), -np.inf, 1.0),
        ValueError,
        "targets must be finite, got values in -inf..1",
    ),
}


@pytest.mark.parametrize(("loss", "t", "error", "message"), TARGET_ERRORS.values(), ids=TARGET_ERRORS)
def test_bad_targets(loss, t, error, message):
    with pytest.raises(error, match=message):
        loss.check((4, 3), dev(t))


GOOD_TARGETS = {
    "labels from first to last": (Categorical(), np.array([0, 2, 2, 0])),
    "first label alone": (Categorical(), np.zeros(4, "uint8")),
    "last label alone": (Categorical(), np.full(4, 2, "int32")),
    "zeros": (Bernoulli(), np.zeros((4, 3))),
    "ones": (Bernoulli(), np.ones((4, 3), "float32")),
    "bits": (Bernoulli(), np.eye(4, 3)),
    "probabilities": (Bernoulli(), np.full((4, 3), 0.5)),
    "numbers": (Gaussian(), 7.5 * np.eye(4, 3)),
    "largest": (Gaussian(), np.where(np.eye(4, 3), largest, -largest)),
    "largest float32": (Gaussian(), np.full((4, 3), np.finfo("float32").max)),
}


@pytest.mark.parametrize(("loss", "t"), GOOD_TARGETS.values(), ids=GOOD_TARGETS)
def test_good_targets(loss, t):
    loss.check((4, 3), dev(t))


def test_a_list_is_no_target():
    with pytest.raises(ValueError, match="outputs' shape"):
        Gaussian().check((1, 2), [[0.0, 1.0]])


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_be_positive(beta):
    with pytest.raises(ValueError, match=f"beta must be positive, got {beta}"):
        Gaussian(beta)


def test_beta():
    assert Gaussian().beta == 1
    assert Gaussian(1e-3).beta == 1e-3
    assert Gaussian(2) == Gaussian(2.0) != Gaussian()


# --- another device ---------------------------------------------------------------------------------------


@each_loss
def test_the_device_does_the_same(loss, r, t):
    def everything():
        z, u, v = dev(r), dev(t), dev(np.arange(12.0))
        loss.check((N, O), u)
        y = loss.predict(z)
        operators = loss.metric(z), loss.metric_y(y), loss.hessian_y(y, u), loss.factor(z), loss.factor(z).T
        sample = loss.sample(z, np.random.default_rng(0))
        arrays = [
            loss.value(z, u),
            loss.kl(z, 2 * z),
            loss.gradient(z, u),
            loss.predict(z),
            sample,
            *(A @ v for A in operators),
        ]
        arrays += loss.value_and_gradient(z, u)
        return [host(array) for array in arrays] + [host(jacobian(lambda z: loss.gradient(z, u))(z))]

    expected = everything()
    with fake_device():
        found = everything()
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-13)
