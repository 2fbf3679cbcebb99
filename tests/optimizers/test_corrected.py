"""HCGD and natural gradient by descent against loops in NumPy, direct solves and hand-made steps."""

import math

import numpy as np
import pytest

from minigrad import Objective
from minigrad.curvature import fisher, gauss_newton
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import mlp
from minigrad.optimizers import (
    ACP,
    HCGD,
    KFAC,
    PRONG,
    SGD,
    Adam,
    InverseTime,
    NaturalDescent,
    RMSProp,
    Steps,
    Unlabeled,
    Waterfall,
)
from tests.helpers import close, dev, host
from tests.optimizers.problems import draw_of, no_draw, problem, run

LAM, ETA = 0.7, 0.3


# --- the same methods in NumPy: outputs by matrix algebra, gradients by complex steps ------------------------------


def outputs(theta, x, sizes=(4, 3, 2)):
    """Probabilities (N, 2) of the net of `problem(Categorical())`."""
    cut = (sizes[0] + 1) * sizes[1]
    V, W = theta[:cut].reshape(-1, sizes[1]), theta[cut:].reshape(-1, sizes[2])
    e = np.exp(np.tanh(x @ V[:-1] + V[-1]) @ W[:-1] + W[-1])
    return e / e.sum(axis=1, keepdims=True)


def slope_of(f, theta):
    """The gradient of f at theta by complex steps: no error but rounding."""
    return np.array([f(theta + 1e-30j * e).imag / 1e-30 for e in np.eye(theta.size)])


def loss_slope(theta, batch):
    x, t = batch
    return slope_of(lambda theta: -np.log(outputs(theta, x)[np.arange(len(t)), t]).mean(), theta)


def penalty_slope(theta, d, x, root):
    f = outputs(theta, x)

    def penalty(d):
        square = ((outputs(theta + d, x) - f) ** 2).sum() / len(x)
        return LAM * (square**0.5 if root else square)

    return slope_of(penalty, d)


def hcgd_by_loop(theta, v, batch, validation, n, *, lr, momentum, root, damping):
    """Algorithm 1 line by line, in its own letters (v points uphill); n corrections, j to n. Returns theta, v."""
    J = loss_slope(theta, batch)
    v = momentum * v + lr * J
    d = -v
    for j in range(1, n + 1):
        g = penalty_slope(theta, d, validation[(j - 1) % len(validation)], root)
        if damping is not None:
            g = J + g + damping * d
        elif j > 1:
            g = J + g
        d = d - ETA * g
        v = v + ETA * g
    return theta + d, v


def setting(dtype="float64"):
    """(objective, theta, batch, further batches)."""
    objective, theta, (x, t) = problem(Categorical(), dtype=dtype)
    return (
        objective,
        theta,
        (x[:20], t[:20]),
        [(x[20 + 4 * i : 24 + 4 * i], t[20 + 4 * i : 24 + 4 * i]) for i in range(5)],
    )


FORMS = {
    "one correction": {},
    "three": {"n": 3},
    "three, fresh": {"n": 3, "fresh": True},
    "mean": {"n": 2, "penalty": "mean"},
    "mean, damped": {"n": 2, "penalty": "mean", "damping": 0.4},
    "root, damped": {"n": 1, "damping": 0.4},
    "undamped, no g left out": {"n": 1, "damping": 0.0},
}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_hcgd_is_the_algorithm_box_step_for_step(form, momentum):
    objective, theta, batch, further = setting()
    optimizer = HCGD(SGD(0.5, momentum), eta=ETA, lam=LAM, validation=4, **form)
    count = form.get("n", 1) if form.get("fresh") else 1
    draw, asked = draw_of(*(further * 2)[: 2 * count])
    state, by_loop, v = optimizer.init(objective, theta), host(theta), np.zeros(theta.shape[0])
    for step in range(2):  # the second shows what the first left in the velocity
        theta, state, log = optimizer.step(theta, state, objective, batch, draw, None)
        mine = [host(x) for x, _ in (further * 2)[step * count : (step + 1) * count]]
        by_loop, v = hcgd_by_loop(
            by_loop, v, tuple(map(host, batch)), mine, form.get("n", 1), lr=0.5, momentum=momentum,
            root=form.get("penalty", "root") == "root", damping=form.get("damping"),
        )  # fmt: skip
        close(theta, by_loop, rtol=1e-12)
        if momentum:
            close(state["v"], -v, rtol=1e-12)
    assert asked == [4] * (2 * count)


def test_one_step_by_hand():
    """y = x w, one sample x = 2, t = 0, w = 1: g = 4, d_0 = -0.4; D = 2 |d| has slope -2, D^2 = 4 d^2 slope -3.2."""
    objective = Objective(mlp([1, 1]), Gaussian())
    theta, batch = dev([1.0, 0.0]), (dev([[2.0]]), dev([[0.0]]))
    still = dev([[0.0]]), dev([[0.0]])  # there the function changes by the bias alone, d_0 = -0.2
    for penalty, slope in {"root": -1.0, "mean": -0.4}.items():
        optimizer = HCGD(SGD(0.1), eta=0.5, lam=0.25, penalty=penalty, validation=1)
        new, _, log = run_once(optimizer, objective, theta, batch, draw_of(still)[0])
        close(new, [0.6, -0.2 - 0.5 * 0.25 * slope], rtol=1e-14)
        assert log["correction"] == pytest.approx(0.125 * -slope)


def run_once(optimizer, objective, theta, batch, draw=no_draw, rng=None):
    return optimizer.step(theta, optimizer.init(objective, theta), objective, batch, draw, rng)


@pytest.mark.parametrize(
    "base", [Adam(0.1), RMSProp(0.1), SGD(0.1, 0.5, nesterov=True)], ids=["Adam", "RMSProp", "Nesterov"]
)
def test_any_base_proposes(base):
    """d_0 is the base's own step; Adam's moments, which hold gradients and not steps, take no correction."""
    objective, theta, batch, further = setting()
    plain, kept, _ = run(base, objective, theta, [batch])
    corrected, state, _ = run_once(
        HCGD(base, eta=ETA, lam=LAM, validation=4), objective, theta, batch, draw_of(further[0])[0]
    )
    change = ETA * penalty_slope(host(theta), host(plain - theta), host(further[0][0]), root=True)
    close(corrected - plain, -change, rtol=1e-12)
    for name in kept:
        if name == "v" and isinstance(base, SGD):
            close(state[name] - kept[name], -change, rtol=1e-12)
        elif name != "update":
            close(state[name], kept[name], rtol=0)


# --- limits ---------------------------------------------------------------------------------------------------


def near_a_minimum(size):
    """A net whose targets are its own outputs but for `size`: gradient and step are as small."""
    rng = np.random.default_rng(1)
    objective = Objective(mlp([3, 4, 2], activation="tanh"), Gaussian())
    theta, x = objective.net.init(rng, "float64"), dev(rng.standard_normal((12, 3)))
    return objective, theta, (x, objective.predict(theta, x) + size * dev(rng.standard_normal((12, 2))))


def test_with_squared_penalty_and_damping_the_corrections_tend_to_a_direct_solve():
    """(2 lam J'J/N + delta I) d = -g; what is left is of second order: ten times smaller steps, ten times closer."""
    lam, delta, far = 0.5, 0.1, []
    for size in (1e-3, 1e-4):
        objective, theta, batch = near_a_minimum(size)
        _, g = objective.value_and_grad(theta, batch)
        G = host(gauss_newton(objective, theta, batch).dense())  # J'J/N: the Gaussian's own metric
        direct = np.linalg.solve(2 * lam * G + delta * np.eye(len(G)), -host(g))
        optimizer = HCGD(SGD(0.1), 2000, 0.2, lam=lam, penalty="mean", validation=None, damping=delta)
        new, _, _ = run_once(optimizer, objective, theta, batch)
        far.append(np.linalg.norm(host(new - theta) - direct) / np.linalg.norm(direct))
    assert far[0] < 0.02
    assert far[0] / far[1] == pytest.approx(10, rel=0.1)


def test_damped_by_one_over_lr_the_first_correction_is_the_printed_one():
    objective, theta, batch, further = setting()
    printed, damped = (
        run_once(HCGD(SGD(0.25), validation=4, damping=delta), objective, theta, batch, draw_of(further[0])[0])[0]
        for delta in (None, 4.0)
    )
    close(printed, damped, rtol=1e-14)


def test_what_the_printed_corrections_do_where_the_function_does_not_change():
    """Two inputs that are always equal: along theta_1 - theta_2 the penalty has no slope, and nothing stops -eta g.

    g is 0 there too on the same data; it is not on other data, where the inputs differ."""
    objective = Objective(mlp([2, 1]), Gaussian())
    theta = dev([1.0, 1.0, 0.0])
    batch, same = (dev([[1.0, -1.0]]), dev([[1.0]])), (dev([[1.0, 1.0]]), dev([[0.0]]))
    along = []
    for n in (1, 11, 21):
        new, _, _ = run_once(HCGD(SGD(0.1), n, 0.05, validation=1), objective, theta, batch, draw_of(same)[0])
        along.append(float(host(new - theta) @ [1, -1, 0]))
    assert along[1] - along[0] == pytest.approx(along[2] - along[1], rel=1e-12)  # a straight way out, no end
    assert along[1] - along[0] == pytest.approx(
        10 * 0.05 * 2, rel=1e-12
    )  # -eta g'(1, -1, 0) a correction, g = (-1, 1, -1)


METRICS = {
    "exact": lambda objective, theta, batch: fisher(objective, theta, batch[0]),
    "empirical": lambda objective, theta, batch: fisher(objective, theta, batch, "empirical"),
    "mc": lambda objective, theta, batch: fisher(objective, theta, batch[0], "mc", rng=np.random.default_rng(3)),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("other", [False, True], ids=["same batch", "other batch"])
def test_descent_to_the_natural_gradient_is_the_loop_and_its_limit_the_solve(metric, other):
    objective, theta, batch, further = setting()
    data = further[0] if other else batch
    F, g = host(METRICS[metric](objective, theta, data).dense()), loss_slope(host(theta), tuple(map(host, batch)))
    lam, delta, eta = 2.0, 0.1, 0.4
    A, d = lam * F + delta * np.eye(len(F)), -0.5 * g
    for n in range(1, 401):
        d = d - eta * (g + A @ d)
        if n in (1, 3, 400):
            optimizer = NaturalDescent(
                SGD(0.5), n, eta, lam=lam, damping=delta, metric=metric, metric_batch=4 if other else None
            )
            draw = draw_of(data)[0] if other else no_draw
            new, _, _ = run_once(optimizer, objective, theta, batch, draw, np.random.default_rng(3))
            close(new - theta, d, rtol=1e-11)
    close(d, np.linalg.solve(A, -g), rtol=1e-6)  # (1 - eta delta)^400 = 8e-8 is left of the slowest error


def test_without_damping_the_null_space_keeps_what_was_proposed():
    """The exact Fisher information of 20 samples and 2 outputs has rank <= 20 of 23; g lies in its range."""
    objective, theta, batch, _ = setting()
    F = host(fisher(objective, theta, batch[0]).dense())
    values, vectors = np.linalg.eigh(F)
    null = vectors[:, values < 1e-12 * values[-1]]
    assert null.shape[1] >= 3
    base = SGD(0.5, 0.9)
    state = base.init(objective, theta) | {"v": dev(np.random.default_rng(0).standard_normal(theta.shape[0]))}
    proposed, _, _ = base.step(theta, state, objective, batch)
    new, _, _ = NaturalDescent(base, 50, 0.5).step(theta, state, objective, batch, no_draw, None)
    close(null.T @ host(new - theta), null.T @ host(proposed - theta), rtol=1e-10)
    assert np.linalg.norm(host(new - proposed)) > 0.1


# --- what it costs, and what falls with the rate --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "gradients"),
    [
        (HCGD(validation=None), 1 + 1 + 1 / 3),
        (HCGD(validation=4), 1 + (1 + 1 / 3) / 5),
        (HCGD(n=3, validation=4), 1 + (3 + 1 / 3) / 5),
        (HCGD(n=3, validation=4, fresh=True), 1 + (3 + 1) / 5),
        (NaturalDescent(n=3), 1 + 1 / 3 + 4),
        (NaturalDescent(n=3, metric="empirical", metric_batch=4), 1 + (1 / 3 + 4) / 5),
    ],
)
def test_cost_in_gradients(optimizer, gradients):
    objective, theta, batch, further = setting()
    _, _, log = run_once(optimizer, objective, theta, batch, draw_of(*further)[0])
    assert log["gradients"] == pytest.approx(gradients, rel=1e-14)


def test_the_inner_rate_falls_with_the_learning_rate():
    objective, theta, batch, _ = setting()
    optimizer = HCGD(SGD(Steps(0.5, at=(2,), factor=0.1)), eta=ETA, validation=None)
    state, rates = optimizer.init(objective, theta), []
    for _ in range(3):
        theta, state, log = optimizer.step(theta, state, objective, batch, no_draw, None)
        rates.append(log["eta"])
    assert rates == pytest.approx([ETA, ETA, ETA / 10], rel=1e-14)
    _, _, log = run_once(HCGD(SGD(InverseTime(0.5, 1.0)), eta=ETA, validation=None), objective, theta, batch)
    assert log["eta"] == ETA  # at the first update, whatever comes later


def test_defaults_are_the_papers():
    """2018, section 3: lam 0.5, eta 0.02, validation batches of 256, one correction; of SGD without momentum at 0.1."""
    optimizer = HCGD()
    assert (optimizer.lam, optimizer.eta, optimizer.validation, optimizer.n) == (0.5, 0.02, 256, 1)
    assert optimizer.base == SGD(0.1) and optimizer.penalty == "root" and optimizer.damping is None
    assert NaturalDescent().lam == 1.0  # "when lambda = 1 this update is equal to the natural gradient"


def test_observe_reaches_the_schedule_of_the_base():
    optimizer = HCGD(SGD(Waterfall(0.5, patience=1)))
    state = optimizer.init(None, dev([0.0]))
    for loss in (1.0, 2.0):
        state = optimizer.observe(state, loss)
    assert state["drops"] == 1


# --- bad input, and results that must be known ------------------------------------------------------------------------


def test_a_zero_proposal():
    """At a stationary point d_0 = 0: the root penalty takes its shortest subgradient, 0, and the step is 0."""
    objective, theta, (x, _), _ = setting()
    objective = Objective(objective.net, Gaussian())
    batch = x, objective.predict(theta, x)
    for penalty in ("root", "mean"):
        new, _, log = run_once(HCGD(SGD(0.1), 3, penalty=penalty, validation=None), objective, theta, batch)
        close(new, theta, rtol=0)
        assert log["correction"] == 0


def test_a_correction_that_overflows_is_named():
    objective, theta, batch, _ = setting()
    objective = Objective(objective.net, Gaussian())
    batch = batch[0], dev(np.ones((20, 2)))
    optimizer = HCGD(SGD(0.1), 40, 1e30, penalty="mean", validation=None)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"update 1: correction \d+ .*smaller eta"):
        run_once(optimizer, objective, theta, batch)


REFUSED = {
    "base with a curvature": (lambda: HCGD(KFAC()), TypeError, "HCGD: base must be a first-order method"),
    "base in its own coordinates": (lambda: NaturalDescent(PRONG(0.1)), TypeError, "in theta itself"),
    "n": (lambda: HCGD(n=0), ValueError, "HCGD: n must be a whole number of at least 1, got 0"),
    "eta": (lambda: HCGD(eta=math.nan), ValueError, "HCGD: eta must be a positive finite number, got nan"),
    "lam": (lambda: HCGD(lam=-1.0), ValueError, "HCGD: lam must be"),
    "penalty": (lambda: HCGD(penalty="roots"), ValueError, "penalty 'roots'"),
    "validation": (lambda: HCGD(validation=0), ValueError, "HCGD: validation must be a whole number"),
    "fresh": (lambda: HCGD(fresh=1), ValueError, "HCGD: fresh must be True or False, got 1"),
    "damping": (lambda: HCGD(damping=-0.1), ValueError, "HCGD: damping must be a finite number of at least 0"),
    "infinite damping": (lambda: NaturalDescent(damping=math.inf), ValueError, "of at least 0, got inf"),
    "lam of the Fisher": (lambda: NaturalDescent(lam=0), ValueError, "NaturalDescent: lam must be"),
    "metric": (lambda: NaturalDescent(metric="exakt"), ValueError, "metric 'exakt'"),
    "samples": (lambda: NaturalDescent(samples=2), ValueError, "samples=2 is for metric 'mc'"),
    "no samples": (lambda: NaturalDescent(metric="mc", samples=0), ValueError, "samples must be a whole number"),
    "metric_batch": (lambda: NaturalDescent(metric_batch=0), ValueError, "metric_batch must be a whole number"),
    "unlabeled": (
        lambda: NaturalDescent(metric="empirical", metric_batch=lambda rng: None), ValueError, "which an unlabeled",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_validation_batch_of_another_width():
    objective, theta, batch, _ = setting()
    optimizer = HCGD(validation=Unlabeled(np.zeros((9, 3)), 5))
    with pytest.raises(ValueError, match=r"validation batch: samples must have .* \(4,\), got \(3,\)"):
        run_once(optimizer, objective, theta, batch, rng=np.random.default_rng(0))


def test_acp_can_propose():
    """A preconditioned first-order method is a base too; its statistics stay in its own state."""
    objective, theta, batch, further = setting()
    _, state, log = run_once(HCGD(ACP(0.1, samples=None), validation=4), objective, theta, batch, draw_of(*further)[0])
    assert log["correction"] > 0 and state["update"] == 1
