"""ACP: both rules against dense systems by plain NumPy, the thesis' equations, alpha's heuristic, amortization."""

import numpy as np
import pytest

import minigrad
from minigrad import Objective, backend
from minigrad.autodiff import ops
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Layout, MeanOnly, mlp
from minigrad.optimizers import ACP, SGD, CentredGD, SquaredGradient, stopwatch
from tests.curvature.cases import cut_into_two_slices
from tests.helpers import close, dev, host
from tests.optimizers.problems import draw_of, each_loss, problem, take
from tests.optimizers.test_centred import layers_of

FORMS = ("damped", "printed")
each_form = pytest.mark.parametrize("form", FORMS)
ALPHAS = {"alpha 0.3": 0.3, "squared gradient": SquaredGradient()}
each_alpha = pytest.mark.parametrize("alpha", ALPHAS.values(), ids=ALPHAS)


def moments(h):
    """A of (h 1), C of h, mu."""
    h1 = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    return h1.T @ h1 / len(h), np.cov(h.T, bias=True).reshape(h.shape[1], -1), h.mean(axis=0)


def gradient(h, delta):
    """G (in + 1, out)."""
    return np.concatenate([h, np.ones((len(h), 1))], axis=1).T @ delta / len(h)


def damped(A, G, alpha, lam):
    """(A kron alpha I + lam I)^-1 vec(G), dense."""
    system = np.kron(A, alpha * np.eye(G.shape[1])) + lam * np.eye(G.size)
    return np.linalg.solve(system, G.ravel()).reshape(G.shape)


def printed(C, h, delta, alpha, lam):
    """Alg. 3, with C from anywhere and the mean from the gradient's batch."""
    weights = np.linalg.solve(C + lam / alpha * np.eye(len(C)), (h - h.mean(axis=0)).T @ delta / len(h))
    return np.concatenate([weights, delta.mean(axis=0)[None]])


def by_hand(form, alpha, lam, objective, theta, batch, others=None):
    """(n,): the preconditioned gradient; statistics of `others`, inputs at theta, or of the batch."""
    out, inputs = np.zeros(theta.shape[0]), {}
    for where, h, _ in layers_of(objective, theta, others or batch):
        inputs[where.start] = h
    for where, h, delta in layers_of(objective, theta, batch):
        a = (delta**2).max() if isinstance(alpha, SquaredGradient) else alpha
        A, C, _ = moments(inputs[where.start])
        step = damped(A, gradient(h, delta), a, lam) if form == "damped" else printed(C, h, delta, a, lam)
        out[where] = step.ravel()
    return out


def acp(lr=1.0, damping=1e-2, samples=None, **options):
    """A whole step of the rule, measured on the batch."""
    return ACP(lr, damping=damping, samples=samples, **options)


# --- both rules --------------------------------------------------------------------------------------------


@each_loss
@each_form
@each_alpha
def test_a_step_is_the_dense_systems_solution(loss, form, alpha):
    objective, theta, batch = problem(loss, (4, 3, 3, 2))
    new, state, log = take(acp(0.5, alpha=alpha, damping=0.02, form=form), objective, theta, batch)
    expected = by_hand(form, alpha, 0.02, objective, theta, batch)
    close((theta - new) / 0.5, expected, 1e-10)
    assert log["loss"] == objective.value(theta, batch) and state["update"] == 1
    assert log["gradient_norm"] == pytest.approx(np.linalg.norm(expected))


@each_form
@each_alpha
@pytest.mark.parametrize("dtype, rtol", [("float32", 2e-4), ("float64", 1e-10)])
def test_dtype_follows_theta(form, alpha, dtype, rtol):
    """float32: 6e-8 times the condition of the damped moments, here below 1e3, and some ten operations."""
    objective, theta, batch = problem(Categorical(), (4, 3, 3, 2), dtype=dtype)
    optimizer = acp(1.0, alpha=alpha, damping=0.02, form=form, momentum=0.5)
    new, state, _ = take(optimizer, objective, theta, batch)
    assert {new.dtype, *(value.dtype for value in state.values() if backend.is_array(value))} == {np.dtype(dtype)}
    exact = Objective(objective.net, objective.loss), dev(theta, "float64"), tuple(dev(part) for part in batch)
    close(host(theta).astype(float) - host(new), by_hand(form, alpha, 0.02, *exact), rtol, atol=1e-6)


@each_form
@each_alpha
def test_without_damping_too(form, alpha):
    objective, theta, batch = problem(Categorical(), (4, 3, 3, 2))
    new, _, _ = take(acp(1.0, alpha=alpha, damping=0, form=form), objective, theta, batch)
    close(theta - new, by_hand(form, alpha, 0, objective, theta, batch), 1e-10)


@each_form
@each_alpha
def test_slices_of_a_batch_give_the_same(form, alpha, monkeypatch):
    objective, theta, batch = problem(Categorical(), (4, 3, 3, 2))
    optimizer = acp(1.0, alpha=alpha, form=form)
    whole = take(optimizer, objective, theta, batch)[0]
    cut_into_two_slices(monkeypatch)
    close(take(optimizer, objective, theta, batch)[0], whole, 1e-10)


def test_weight_decays_gradient_is_preconditioned_with_the_rest():
    objective, theta, batch = problem(Gaussian(), weight_decay=0.4)
    plain = Objective(objective.net, objective.loss)
    difference = take(acp(alpha=0.3), objective, theta, batch)[0] - take(acp(alpha=0.3), plain, theta, batch)[0]
    expected = np.zeros(theta.shape[0])
    for where, h, delta in layers_of(plain, theta, batch):
        decay = 0.4 * host(theta)[where].reshape(-1, delta.shape[1])
        expected[where] = damped(moments(h)[0], decay, 0.3, 1e-2).ravel()
    close(difference, -expected, 1e-10)


def test_momentum_acts_on_the_preconditioned_gradient():
    objective, theta, batch = problem(Gaussian())
    found, state, _ = take(acp(0.05, momentum=0.6, interval=1), objective, theta, batch, steps=3)
    point, v = host(theta), 0.0
    for _ in range(3):
        v = 0.6 * v - 0.05 * by_hand("damped", SquaredGradient(), 1e-2, objective, dev(point), batch)
        point = point + v
    close(found, point, 1e-10)
    close(state["v"], v, 1e-10)


# --- the thesis' equations -----------------------------------------------------------------------------------


@pytest.fixture
def layer(rng):
    """h (N, 4) with a mean of length about 3, delta (N, 3), alpha."""
    h = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 4)) + 1.5
    return h, rng.standard_normal((60, 3)) + h[:, :3], 0.7


def test_section_3_3_3_inverse_of_the_moments(layer):
    A, C, mu = moments(layer[0])
    Ci = np.linalg.inv(C)
    blocks = np.block([[Ci, -Ci @ mu[:, None]], [-mu[None] @ Ci, np.array([[1 + mu @ Ci @ mu]])]])
    close(blocks, np.linalg.inv(A), 1e-10)


def test_eq_3_3_3_the_weights(layer):
    """1 / (alpha n) sum_j delta_j (h_j - mean h)' C^-1, the transpose of ours, with one factor 1 / n, as printed."""
    h, delta, alpha = layer
    A, C, mu = moments(h)
    thesis = sum(np.outer(d, x - mu) for x, d in zip(h, delta)) / len(h) / alpha @ np.linalg.inv(C)
    close(damped(A, gradient(h, delta), alpha, 0)[:-1], thesis.T, 1e-10)


def test_eq_3_3_4_the_bias(layer):
    """mean delta / alpha - mean h dW. As printed, the last line has 1/n twice and no 1 / alpha."""
    h, delta, alpha = layer
    A, C, mu = moments(h)
    *_, bias = step = damped(A, gradient(h, delta), alpha, 0)
    dW, Ci = step[:-1], np.linalg.inv(C)
    first = -(mu @ Ci @ h.T @ delta) / len(h) / alpha + (1 + mu @ Ci @ mu) * delta.mean(axis=0) / alpha
    second = delta.mean(axis=0) / alpha - mu @ Ci @ (h - mu).T @ delta / len(h) / alpha
    close(first, bias, 1e-10)
    close(second, bias, 1e-10)
    close(delta.mean(axis=0) / alpha - mu @ dW, bias, 1e-10)
    as_printed = delta.sum(axis=0) / len(h) ** 2 - mu @ dW
    assert abs(as_printed - bias).max() > 0.5 * abs(delta.mean(axis=0) / alpha).max()


@pytest.mark.parametrize("lam", [0.0, 0.05, 2.0])
def test_the_damped_system_block_by_block(layer, lam):
    """K^-1 = C + e I + e / (1 + e) mu mu', where alg. 3 with section 3.4.2's damping would have C + e I."""
    h, delta, alpha = layer
    e = lam / alpha
    A, C, mu = moments(h)
    K = np.linalg.inv(h.T @ h / len(h) + e * np.eye(4) - np.outer(mu, mu) / (1 + e))
    close(np.linalg.inv(K), C + e * np.eye(4) + e / (1 + e) * np.outer(mu, mu), 1e-10)
    step = damped(A, gradient(h, delta), alpha, lam)
    close(step[:-1], K @ (h - mu / (1 + e)).T @ delta / len(h) / alpha, 1e-10)
    close(step[-1], (delta.mean(axis=0) / alpha - mu @ step[:-1]) / (1 + e), 1e-10)


def test_alg_3_lacks_the_biass_second_term_and_the_factor_1_over_alpha():
    """Undamped, that is all that it lacks: its weights are alpha times eq. 3.3.3's, its bias is E[delta]."""
    objective, theta, batch = problem(Gaussian(), (4, 3, 3, 2))
    steps = {
        form: host(theta - take(acp(alpha=0.3, damping=0, form=form), objective, theta, batch)[0]) for form in FORMS
    }
    for where, h, delta in layers_of(objective, theta, batch):
        full, short = (steps[form][where].reshape(-1, delta.shape[1]) for form in FORMS)
        close(0.3 * full[:-1], short[:-1], 1e-9)
        close(0.3 * full[-1] - short[-1], -h.mean(axis=0) @ short[:-1], 1e-9)


def test_damped_the_weights_differ_too_by_the_order_of_lam():
    """Halved lam, halved difference."""
    objective, theta, batch = problem(Gaussian(), (4, 3, 3, 2), seed=3)
    batch = batch[0] + 2.0, batch[1]
    weights = objective.layout.slices["layer0"].start, objective.layout.slices["layer0"].stop - 3
    differences = []
    for lam in (2e-4, 1e-4, 5e-5):
        full, short = (
            host(theta - take(acp(alpha=0.5, damping=lam, form=form), objective, theta, batch)[0])[slice(*weights)]
            for form in FORMS
        )
        differences.append(np.linalg.norm(0.5 * full - short) / np.linalg.norm(short))
    close(np.array(differences[:-1]) / differences[1:], [2.0, 2.0], 0.01)


def test_on_a_linear_layer_the_system_needs_one_step_and_alg_3_two(rng):
    """Squared error's Hessian is A kron I: what alg. 3 makes of it, [[I, 0], [mu, 1]], is nilpotent up to I."""
    objective = Objective(mlp([3, 2]), Gaussian())
    x, t = rng.standard_normal((30, 3)) + 2.0, rng.standard_normal((30, 2))
    best = np.linalg.lstsq(np.concatenate([x, np.ones((30, 1))], axis=1), t, rcond=None)[0].ravel()
    theta, batch = dev(rng.standard_normal(8)), (dev(x), dev(t))
    close(take(acp(alpha=1.0, damping=0), objective, theta, batch)[0], best, 1e-10)
    optimizer = acp(alpha=1.0, damping=0, form="printed", interval=2)
    once, twice = (take(optimizer, objective, theta, batch, steps=steps)[0] for steps in (1, 2))
    close(once[:6], best[:6], 1e-10)
    assert abs(host(once)[6:] - best[6:]).max() > 0.1
    close(twice, best, 1e-9)


def test_alg_3_with_all_damping_is_centred_gradient_descent():
    """lam to infinity with lr lam / alpha held: (C + e I)^-1 is I / e."""
    objective, theta, batch = problem(Categorical(), (4, 3, 3, 2))
    centred = theta - take(CentredGD(1.0), objective, theta, batch)[0]
    heavy = theta - take(acp(1.0, alpha=1.0, damping=1e8, form="printed"), objective, theta, batch)[0]
    for where, (_, out) in zip(objective.layout.slices.values(), objective.layout.shapes.values()):
        weights, bias = slice(where.start, where.stop - out), slice(where.stop - out, where.stop)
        close(1e8 * heavy[weights], centred[weights], 1e-7)
        close(heavy[bias], centred[bias])


def test_the_system_with_all_damping_is_gradient_descent():
    objective, theta, batch = problem(Categorical(), (4, 3, 3, 2))
    new = take(acp(0.1 * 1e8, alpha=1.0, damping=1e8), objective, theta, batch)[0]
    close(new, take(SGD(0.1), objective, theta, batch)[0], 1e-7)


# --- alpha -------------------------------------------------------------------------------------------------


@each_loss
def test_section_3_4_2_alpha_is_the_largest_squared_gradient_of_a_layer(loss, monkeypatch):
    objective, theta, (x, t) = problem(loss, (4, 3, 3, 2))
    expected = [(delta**2).max() for _, _, delta in layers_of(objective, theta, (x, t))]
    for _ in range(2):
        r, J = objective.linearize(theta, x)
        close(
            np.array([backend.item(alpha) for alpha in SquaredGradient()(J, loss.gradient(r, t, 1))]), expected, 1e-10
        )
        cut_into_two_slices(monkeypatch)


def test_alpha_bounds_the_diagonal_of_S_but_not_S(rng):
    """delta = 1 for all outputs: S = 11' has the eigenvalue `out`, alpha is 1."""
    delta = rng.standard_normal((50, 6))
    assert np.diag(delta.T @ delta / 50).max() <= (delta**2).max()
    objective, theta = Objective(mlp([3, 6]), Gaussian()), dev(rng.standard_normal(24))
    x = dev(rng.standard_normal((50, 3)))
    r, J = objective.linearize(theta, x)
    u = objective.loss.gradient(r, r - 1.0, 1)
    (alpha,) = SquaredGradient()(J, u)
    S = host(u).T @ host(u) / 50
    close(np.linalg.eigvalsh(S)[-1], 6.0)
    close(alpha, np.array(1.0))


def test_the_heuristics_step_shrinks_with_the_losss_unit_a_numbers_does_not():
    """Loss times c: g times c, alpha times c^2. Beta is such a unit: c = 1 / beta^2."""
    c, steps = 16.0, {}
    for name, beta in (("one", 1.0), ("scaled", 0.25)):
        objective, theta, batch = problem(Gaussian(beta))
        steps[name] = theta - take(acp(damping=0), objective, theta, batch)[0]
    close(c * steps["scaled"], steps["one"], 1e-9)


def test_zero_gradients_with_damping(rng):
    """alpha = 0: the system gives weight decay's gradient over lam; alg. 3 leaves the weights."""
    net = mlp([3, 2])
    theta = net.init(rng, "float64") + 1.0
    x = dev(rng.standard_normal((10, 3)))
    batch = x, net.apply(theta, x)
    objective = Objective(net, Gaussian(), weight_decay=0.2)
    close(theta - take(acp(damping=0.5), objective, theta, batch)[0], 0.2 / 0.5 * theta)
    kept = take(acp(damping=0.5, form="printed"), objective, theta, batch)[0]
    close(kept[:6], theta[:6])
    close(kept[6:], 0.8 * theta[6:])


# --- amortization ------------------------------------------------------------------------------------------


@each_form
@each_alpha
def test_statistics_are_measured_every_interval_and_stale_between(form, alpha):
    objective, theta, batch = problem(Gaussian())
    draw, asked = draw_of(*(problem(Gaussian(), samples=20, seed=seed)[2] for seed in (4, 5)))
    optimizer = acp(0.05, alpha=alpha, damping=0.1, interval=3, samples=20, form=form)
    state, measured_at, kept = optimizer.init(objective, theta), None, None
    for update in range(5):
        if update % 3 == 0:
            measured_at = theta, problem(Gaussian(), samples=20, seed=4 + update // 3)[2]
        new, state, log = optimizer.step(theta, state, objective, batch, draw, None)
        matrices = {name: host(value).copy() for name, value in state.items() if name != "update"}
        fresh = update % 3 == 0
        assert kept is None or fresh != all((matrices[name] == kept[name]).all() for name in kept)
        close(log["gradients"], 1 + (optimizer.varies + fresh * 20 / 40) / 3)
        expected = mixed(form, alpha, objective, theta, batch, *measured_at)
        close((theta - new) / 0.05, expected, 1e-9)
        theta, kept = new, matrices
    assert asked == [20, 20]


def mixed(form, alpha, objective, theta, batch, theta_then, others):
    """The preconditioned gradient with statistics of other samples, taken at other parameters; lam = 0.1."""
    out = np.zeros(theta.shape[0])
    inputs = [h for _, h, _ in layers_of(objective, theta_then, others)]
    for h_then, (where, h, delta) in zip(inputs, layers_of(objective, theta, batch)):
        a = (delta**2).max() if isinstance(alpha, SquaredGradient) else alpha
        A, C, _ = moments(h_then)
        step = damped(A, gradient(h, delta), a, 0.1) if form == "damped" else printed(C, h, delta, a, 0.1)
        out[where] = step.ravel()
    return out


def test_its_phases():
    objective, theta, batch = problem(Gaussian())
    optimizer = acp(0.1, interval=2)
    state, named = optimizer.init(objective, theta), []
    for _ in range(3):
        with stopwatch() as seconds:
            theta, state, _ = optimizer.step(theta, state, objective, batch)
        named.append(set(seconds))
    assert named == [{"gradient", "statistics", "inversion"}, {"gradient", "statistics"}] + named[:1]


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alpha": 0}, "ACP: alpha must be a positive finite number, got 0"),
        ({"alpha": -1.0}, "ACP: alpha must be a positive finite number, got -1.0"),
        ({"alpha": "squared"}, "ACP: alpha must be a positive finite number, got 'squared'"),
        ({"damping": -1e-3}, "ACP: damping must be a finite number of at least 0, got -0.001"),
        ({"damping": float("inf")}, "ACP: damping must be .* got inf"),
        ({"interval": 0}, "ACP: interval must be a whole number of at least 1, got 0"),
        ({"samples": 0}, "ACP: samples must be a whole number of at least 1, got 0"),
        ({"samples": 2.5}, "ACP: samples must be a whole number of at least 1, got 2.5"),
        ({"form": "alg3"}, "unknown ACP form 'alg3'"),
        ({"momentum": 1.0}, "momentum must be"),
    ],
)
def test_bad_hyper_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        ACP(**options)


def test_defaults():
    assert ACP() == ACP(0.3, 0.0, False, SquaredGradient(), 1.0, 20, 1000, "damped", clip=None)


@pytest.mark.parametrize("form", FORMS)
def test_defaults_train(form):
    """Small batches of correlated inputs, a few of which hardly vary: where a bolder step climbs."""
    rng = np.random.default_rng(0)
    spread = np.logspace(0, -3, 60)
    t = rng.integers(5, size=1500)
    x = (rng.standard_normal((5, 60))[t] + rng.standard_normal((1500, 60))) * spread
    objective = Objective(mlp([60, 40, 20, 5], activation="relu"), Categorical())

    def end(optimizer):
        try:
            run = minigrad.fit(objective, optimizer, (x, t), updates=60, batch_size=20, seed=0, progress=False)
        except minigrad.training.Diverged:
            return np.inf
        return np.mean(run.losses[-10:])

    assert end(ACP(form=form)) < 0.5 < np.log(5) < end(ACP(1.0, damping=1e-2, form=form))


def test_more_samples_than_there_are(rng):
    data = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
    with pytest.raises(ValueError, match=r"30.*20|20.*30"):
        minigrad.fit(Objective(mlp([4, 2]), Gaussian()), acp(samples=30), data, batch_size=5, updates=1, progress=False)


@each_form
@each_alpha
def test_a_dead_unit_needs_damping(form, alpha, rng):
    objective, theta, (x, t) = problem(Gaussian())
    x = x * dev([1.0, 1.0, 0.0, 1.0])
    what = (
        r"E\[\(h 1\)\(h 1\)\] of its input \(5 x 5\)" if form == "damped" else r"the covariance of its input \(4 x 4\)"
    )
    with pytest.raises(
        ArithmeticError, match=rf"ACP: 'layer0': {what} is (singular|not positive definite) in float64: add"
    ):
        take(acp(alpha=alpha, damping=0, form=form), objective, theta, (x, t))
    new = take(acp(0.1, alpha=alpha, form=form), objective, theta, (x, t))[0]
    close(new, theta - 0.1 * dev(by_hand(form, alpha, 1e-2, objective, theta, (x, t))), 1e-10)
    if form == "damped":
        close(new[6:9], theta[6:9])  # the dead unit's weights have no gradient, and stay


@each_form
def test_a_constant_unit_is_dead_for_the_covariance(form):
    """And beside the bias's 1, for A too."""
    objective, theta, (x, t) = problem(Gaussian())
    x = x * dev([1.0, 1.0, 0.0, 1.0]) + dev([0.0, 0.0, 0.5, 0.0])
    with pytest.raises(ArithmeticError, match="'layer0'"):
        take(acp(damping=0, form=form), objective, theta, (x, t))


def test_fewer_samples_than_inputs_need_damping():
    objective, theta, batch = problem(Bernoulli(), samples=3)
    with pytest.raises(ArithmeticError, match="add damping"):
        take(acp(damping=0), objective, theta, batch)
    assert np.isfinite(host(take(acp(), objective, theta, batch)[0])).all()


def test_alpha_of_zero_needs_damping(rng):
    net = mlp([3, 2])
    theta, x = net.init(rng, "float64"), dev(rng.standard_normal((10, 3)))
    with pytest.raises(ArithmeticError, match="ACP: 'layer0': all gradients are zero, and so is alpha: add damping"):
        take(acp(damping=0), Objective(net, Gaussian()), theta, (x, net.apply(theta, x)))


class Scaled:
    """A net that is not made of affine layers."""

    layout = Layout({"scale": (3,)})

    def apply(self, theta, x):
        return ops.tanh(x * self.layout.views(theta)["scale"])


@pytest.mark.parametrize(
    "optimizer, message",
    [
        (acp(), "ACP: 'scale' is not the matrix of an affine layer, as each parameter must be"),
        (acp(alpha=1.0, form="printed"), "ACP: 'scale' is not the matrix"),
        (CentredGD(0.1), r"CentredGD: the net has no affine layer, only \['scale'\]"),
    ],
)
def test_nets_without_affine_layers_are_refused(optimizer, message):
    batch = dev(np.ones((4, 3))), dev(np.ones((4, 3)))
    with pytest.raises(NotImplementedError, match=message):
        take(optimizer, Objective(Scaled(), Gaussian()), dev(np.ones(3)), batch)


@pytest.mark.parametrize("alpha", [1.0, SquaredGradient()])
def test_batch_normalized_nets_are_refused(alpha, rng):
    net = mlp([3, 4, 2], normalization=MeanOnly())
    theta, x = net.init(rng, "float64"), dev(rng.standard_normal((10, 3)))
    with pytest.raises(NotImplementedError, match=r"ACP: 'layer0\.shift' is not the matrix"):
        take(acp(alpha=alpha), Objective(net, Gaussian()), theta, (x, x[:, :2]))


# --- what both promise -------------------------------------------------------------------------------------

METHODS = {
    "CentredGD": CentredGD(0.05, momentum=0.5),
    "ACP": acp(0.1, interval=2, momentum=0.5),
    "ACP, number": acp(0.1, alpha=1.0, interval=2, samples=10),
    "ACP, printed": acp(0.1, form="printed", interval=3, samples=10),
}
each_method = pytest.mark.parametrize("optimizer", METHODS.values(), ids=METHODS)


def setting(dtype="float64"):
    return problem(Categorical(), dtype=dtype, weight_decay=0.05)


def steps(optimizer, objective, theta, batch, count, state=None):
    draw = lambda size: tuple(part[:size] for part in setting()[2])
    state = state or optimizer.init(objective, theta)
    for _ in range(count):
        theta, state, log = optimizer.step(theta, state, objective, batch, draw, None)
    return theta, state, log


def numbers(state):
    return {name: host(value).tobytes() if backend.is_array(value) else value for name, value in state.items()}


@each_method
def test_a_step_leaves_theta_and_state_as_they_were_and_can_be_repeated(optimizer):
    objective, theta, batch = setting()
    theta, state, _ = steps(optimizer, objective, theta, batch, 2)
    before, kept = host(theta).copy(), numbers(state)
    first, again = (steps(optimizer, objective, theta, batch, 1, state) for _ in range(2))
    close(theta, before, rtol=0)
    assert numbers(state) == kept
    close(first[0], again[0], rtol=0)
    assert first[2] == again[2] and numbers(first[1]) == numbers(again[1])


@each_method
def test_a_run_resumes_bit_for_bit(optimizer, tmp_path):
    """Stopped at an update where statistics are stale."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
    objective, _, _ = setting()
    options = {"batch_size": 20, "progress": False, "train_samples": 20}
    unbroken = minigrad.fit(objective, optimizer, data, updates=6, **options)
    options["checkpoint"] = tmp_path / "run.npz"
    minigrad.fit(objective, optimizer, data, updates=3, **options)
    resumed = minigrad.fit(objective, optimizer, data, updates=6, resume=True, **options)
    close(resumed.theta, unbroken.theta, rtol=0)
    assert numbers(resumed.state) == numbers(unbroken.state) and resumed.steps == unbroken.steps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", METHODS)
def test_steps_on_the_device_lower_the_loss(name, dtype, device):
    objective, theta, batch = setting(dtype)
    new, state, log = steps(METHODS[name], objective, theta, batch, 4)
    assert backend.is_array(new) and new.dtype == dtype
    assert objective.value(new, batch) < objective.value(theta, batch)
    assert {type(value) for value in log.values()} == {float} and state["update"] == 4
