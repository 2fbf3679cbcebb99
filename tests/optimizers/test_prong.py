"""PRONG against what it amounts to in the net's own parameters, written with dense inverses in plain NumPy."""

import itertools

import numpy as np
import pytest

import minigrad
from minigrad import Objective, backend
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import BatchNorm, Layout, MeanOnly, WhitenedNet, from_whitened, mlp, whitening
from minigrad.optimizers import PRONG, SGD, InverseTime
from minigrad.optimizers.phases import stopwatch
from minigrad.optimizers.prong import coefficients
from tests.helpers import close, dev, host
from tests.nets.reference import forward
from tests.optimizers.problems import draw_of, no_draw, problem

SIZES = (4, 5, 3, 2)
EPSILON = 0.05


def setting(loss=None, dtype="float64", **options):
    objective, theta, batch = problem(loss or Categorical(), SIZES, dtype=dtype, **options)
    rng = np.random.default_rng(8)
    return objective, theta + dev(0.3 * rng.standard_normal(theta.size), dtype), batch


def batches(count, samples=12, seed=1):
    """Host batches (x, t) of other samples, correlated and not centred."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((4, 4))
    return [(rng.standard_normal((samples, 4)) @ mix + 1.0, rng.integers(0, 2, samples)) for _ in range(count)]


def on_device(batch, dtype="float64"):
    return dev(batch[0], dtype), dev(batch[1])


def run(optimizer, objective, theta, stream, draws, rng=None):
    """(thetas after every step, Omega, state, logs)."""
    point, state, path, logs = theta, optimizer.init(objective, theta), [], []
    draw, asked = draw_of(*map(on_device, draws))
    for batch in stream:
        point, state, log = optimizer.step(point, state, objective, on_device(batch), draw, rng)
        path.append(host(optimizer.canonical(point, state)))
        logs.append(log)
    assert all(size == optimizer.samples for size in asked) and len(asked) == len(draws)
    return path, point, state, logs


def layer_inputs(net, theta, x):
    """[(slice of theta, h)] of each layer, by the formulas alone."""
    found, h = [], x
    p = {name: theta[where].reshape(net.layout.shapes[name]) for name, where in net.layout.slices.items()}
    for name, activation in zip(net.names, net.activations, strict=True):
        found.append((net.layout.slices[name], h))
        a = h @ p[name][:-1] + p[name][-1]
        h = np.tanh(a) if activation == "tanh" else a
    return found


def preconditioner(net, theta, x, epsilon=EPSILON, scale=None):
    """(E[(h 1)(h 1)'] + epsilon diag(1, ..., 1, 0))^-1 kron I of every layer, as one dense matrix."""
    P = np.zeros((theta.size, theta.size))
    for where, h in layer_inputs(net, theta, x):
        h1 = np.hstack([h, np.ones((len(h), 1))])
        A = h1.T @ h1 / len(h) + epsilon * np.diag([1.0] * h.shape[1] + [0.0])
        outputs = (where.stop - where.start) // len(A)
        P[where, where] = np.kron(np.linalg.inv(A), np.eye(outputs))
    return P


def gradient(objective, theta, batch):
    return host(objective.value_and_grad(dev(theta), on_device(batch))[1])


# --- one step ---------------------------------------------------------------------------------------------


def test_a_step_is_covariance_preconditioned_descent():
    """Algorithm 1 without momentum: theta -= lr (E[(h 1)(h 1)'] + epsilon diag(1, ..., 1, 0))^-1 g, bias included."""
    objective, theta, _ = setting()
    (batch,), (sample,) = batches(1), batches(1, 40, seed=2)
    (found,), _, _, _ = run(PRONG(0.1, samples=40, epsilon=EPSILON), objective, theta, [batch], [sample])
    P = preconditioner(objective.net, host(theta), sample[0])
    close(found, host(theta) - 0.1 * P @ gradient(objective, theta, batch), rtol=1e-10)


def test_written_out_for_w_and_b():
    """George, eq. of 3.3.4: dW = -lr (C + eps I)^-1 E[(h - c)' delta], db = -lr E[delta] - c dW."""
    objective, theta, _ = setting()
    (batch,), (sample,) = batches(1), batches(1, 40, seed=2)
    (found,), _, _, _ = run(PRONG(0.1, samples=40, epsilon=EPSILON), objective, theta, [batch], [sample])
    g = gradient(objective, theta, batch)
    for where, h in layer_inputs(objective.net, host(theta), sample[0]):
        n = h.shape[1]
        c, C = h.mean(axis=0), np.cov(h.T, bias=True)
        gW, gb = np.split(g[where].reshape(n + 1, -1), [n])
        dW = -0.1 * np.linalg.inv(C + EPSILON * np.eye(n)) @ (gW - np.outer(c, gb))
        db = -0.1 * gb[0] - c @ dW
        close((found - host(theta))[where].reshape(n + 1, -1), np.vstack([dW, db]), rtol=1e-9)


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-10), ("float32", 2e-4)])
def test_between_measurements_the_metric_is_that_of_the_last_one(dtype, rtol):
    """Each step takes the covariance at the last reparametrization, not at theta: there the equality ends."""
    objective, theta, _ = setting(dtype=dtype)
    stream, draws = batches(7), batches(3, 40, seed=2)
    optimizer = PRONG(0.2, interval=3, samples=40, epsilon=EPSILON)
    point, state = theta, optimizer.init(objective, theta)
    expected, left = host(theta).astype("float64"), list(draws)
    reference, _, _ = setting()
    for t, batch in enumerate(stream):
        if t % 3 == 0:
            P = preconditioner(reference.net, expected, left[0][0])
        expected = expected - 0.2 * P @ gradient(reference, expected, batch)
        draw, _ = draw_of(*([on_device(left.pop(0), dtype)] if t % 3 == 0 else []))
        point, state, _ = optimizer.step(point, state, objective, on_device(batch, dtype), draw, None)
        close(optimizer.canonical(point, state), expected, rtol=rtol)
    stale = preconditioner(reference.net, expected, draws[2][0])
    assert np.abs(stale - P).max() > 0.002 * np.abs(P).max()


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_carried_through_a_change_of_coordinates(nesterov):
    """In theta: v <- mu v - lr P g, theta <- theta + v, with one P after the other; the velocity itself never jumps."""
    objective, theta, _ = setting()
    stream, draws = batches(7), batches(3, 40, seed=2)
    optimizer = PRONG(0.05, momentum=0.8, nesterov=nesterov, interval=3, samples=40, epsilon=EPSILON)
    path, _, state, _ = run(optimizer, objective, theta, stream, draws)
    expected, v = host(theta), np.zeros(theta.size)
    for t, (batch, found) in enumerate(zip(stream, path, strict=True)):
        if t % 3 == 0:
            P = preconditioner(objective.net, expected, draws[t // 3][0])
        step = 0.05 * P @ gradient(objective, expected, batch)
        v = 0.8 * v - step
        expected = expected + (0.8 * v - step if nesterov else v)
        close(found, expected, rtol=1e-10)
    B = from_whitened(coefficients(state), theta.size)
    close(B @ state["v"], v, rtol=1e-9)


def test_a_velocity_left_in_its_old_coordinates_would_point_elsewhere():
    objective, theta, _ = setting()
    stream, draws = batches(6), batches(2, 40, seed=2)
    optimizer = PRONG(0.05, momentum=0.8, interval=5, samples=40, epsilon=EPSILON)
    _, _, state, _ = run(optimizer, objective, theta, stream[:5], draws[:1])
    v = host(state["v"])
    before = host(from_whitened(coefficients(state), theta.size) @ state["v"])
    _, _, state, _ = run(optimizer, objective, theta, stream, draws)
    carried = host(from_whitened(coefficients(state), theta.size).matvec(dev(v)))
    assert np.linalg.norm(carried - before) > 0.05 * np.linalg.norm(before)


def test_a_reparametrization_alone_changes_neither_theta_nor_the_loss():
    objective, theta, batch = setting()
    stream, draws = batches(4), batches(2, 40, seed=2)
    optimizer = PRONG(0.3, momentum=0.5, samples=40, epsilon=EPSILON)
    _, point, state, _ = run(optimizer, objective, theta, stream, draws[:1])
    new, other = optimizer.reparametrized(point, state, objective, dev(draws[1][0]))
    assert np.abs(host(new) - host(point)).max() > 0.1
    close(optimizer.canonical(new, other), optimizer.canonical(point, state), rtol=1e-11)
    values = [
        Objective(WhitenedNet(objective.net, coefficients(s)), objective.loss).value(p, batch)
        for p, s in ((point, state), (new, other))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    velocities = [from_whitened(coefficients(s), theta.size) @ s["v"] for s in (state, other)]
    close(velocities[1], velocities[0], rtol=1e-10)


def test_in_one_loop_as_printed_algorithm_1_changes_the_function():
    """Lines 7-10 layer after layer: at layer i, line 7 multiplies by the U_{i-1} that line 9 has just replaced.

    The old V_i meets the new U_{i-1}; what is then projected back is V_i itself. All of line 7 must come first.
    """
    objective, theta, (x, _) = setting()
    net = objective.net
    rng = np.random.default_rng(3)

    def random_phi():
        layers = []
        for where, h in layer_inputs(net, host(theta), host(x)):
            C = np.cov(h.T, bias=True) * rng.uniform(0.2, 5.0)
            name = next(n for n, s in net.layout.slices.items() if s == where)
            layers.append(whitening(name, (where.start, where.stop), dev(C), dev(h.mean(axis=0)), EPSILON))
        return tuple(layers)

    old, new = random_phi(), random_phi()
    omega = host(from_whitened(old, theta.size).matvec(theta))
    printed = omega.copy()
    for i, (before, after) in enumerate(zip(old, new, strict=True)):
        used = before if i == 0 else after  # U_0 is replaced by nobody: the loop starts at i = 1 and updates U_i
        W = used.forth @ dev(omega[slice(*before.span)])
        printed[slice(*before.span)] = host(used.back @ W)
    close(printed, omega, rtol=1e-10)  # nothing was projected
    r = [host(WhitenedNet(net, phi).apply(dev(omega), x)) for phi in (old, (old[0], *new[1:]))]
    assert np.abs(r[1] - r[0]).max() > 0.05 * np.abs(r[0]).max()


# --- the variants -----------------------------------------------------------------------------------------


def test_the_diagonal_variant_is_the_explicit_rescaling_of_u_and_v():
    """Section 3.2, carried out: in every batch U <- D U, V <- D^-1 V with the batch's D, velocity too, then SGD."""
    objective, theta, _ = setting()
    net, n = objective.net, theta.size
    stream, draws = batches(6), batches(2, 40, seed=2)
    optimizer = PRONG(0.05, momentum=0.7, interval=4, samples=40, epsilon=EPSILON, diagonal=True)
    path, _, _, _ = run(optimizer, objective, theta, stream, draws)

    expected, v = host(theta), np.zeros(n)
    for t, (batch, found) in enumerate(zip(stream, path, strict=True)):
        if t % 4 == 0:
            phi = []
            for _, h in layer_inputs(net, expected, draws[t // 4][0]):
                lam, Q = np.linalg.eigh(np.cov(h.T, bias=True))
                phi.append((np.diag((lam + EPSILON) ** -0.5) @ Q.T, h.mean(axis=0)))
            first = phi
        B, phi = np.zeros((n, n)), list(phi)
        for i, (where, h) in enumerate(layer_inputs(net, expected, batch[0])):
            U, c = phi[i]
            white = (h - c) @ U.T
            D = (white.var(axis=0) + EPSILON * (U**2).sum(axis=1)) ** -0.5
            phi[i] = U, c = np.diag(D) @ U, c
            # with epsilon = 0 this would say V[D U h] = 1
            shrunk = ((h - c) @ U.T).var(axis=0) + EPSILON * (U**2).sum(axis=1)
            close(shrunk, np.ones(len(shrunk)), rtol=1e-9)
            k = len(c)
            block = np.zeros((k + 1, k + 1))
            block[:k, :k], block[k, :k], block[k, k] = U.T, -c @ U.T, 1.0
            B[where, where] = np.kron(block, np.eye((where.stop - where.start) // (k + 1)))
        omega = np.linalg.solve(B, expected)
        velocity = np.linalg.solve(B, v)
        velocity = 0.7 * velocity - 0.05 * B.T @ gradient(objective, expected, batch)
        omega = omega + velocity
        expected, v = B @ omega, B @ velocity
        close(found, expected, rtol=1e-9)
    assert np.abs(phi[1][0] - first[1][0]).max() > 0.1


def test_v_d_inverse_u_as_printed_squares_the_variance():
    """Section 3.2 prints W = V D^-1 U with V[D U h] = 1. What V then sees is D^-1 U h, of variance V[U h]^2."""
    rng = np.random.default_rng(0)
    Uh = rng.standard_normal((500, 3)) * np.array([0.5, 1.0, 3.0])
    D = 1 / Uh.std(axis=0)
    close((Uh * D).var(axis=0), np.ones(3))
    close((Uh / D).var(axis=0), Uh.var(axis=0) ** 2)
    V, U = rng.standard_normal((2, 3)), rng.standard_normal((3, 3))
    close((V @ np.diag(1 / D)) @ (np.diag(D) @ U), V @ U)  # V <- V D^-1, U <- D U: the function stays


def test_the_diagonal_variant_on_the_samples_themselves_changes_nothing():
    """D = 1 where the batch has the moments on which U was measured, with epsilon too."""
    objective, theta, _ = setting()
    (batch,) = batches(1, 40)
    for momentum in (0.0, 0.9):
        options = {"momentum": momentum, "samples": 40, "epsilon": EPSILON}
        plain = run(PRONG(0.1, **options), objective, theta, [batch], [batch])[0]
        diagonal = run(PRONG(0.1, **options, diagonal=True), objective, theta, [batch], [batch])[0]
        close(diagonal[0], plain[0], rtol=1e-10)


def test_the_diagonal_variant_before_the_first_measurement():
    """U = I, c = 0: each row of a weight matrix has a rate of 1 / (its input's variance + epsilon), biases have lr."""
    objective, theta, _ = setting()
    (batch,) = batches(1)
    found, _, _, _ = run(PRONG(0.1, first=5, epsilon=EPSILON, diagonal=True), objective, theta, [batch], [])
    expected, g = host(theta).copy(), gradient(objective, theta, batch)
    for where, h in layer_inputs(objective.net, host(theta), batch[0]):
        rates = np.append(1 / (h.var(axis=0) + EPSILON), 1.0)
        expected[where] -= (0.1 * rates[:, None] * g[where].reshape(len(rates), -1)).ravel()
    close(found[0], expected, rtol=1e-10)


def test_with_the_signal_whitened_a_step_is_kfacs():
    """Footnote 4: -lr (A + epsilon diag(1, .., 1, 0))^-1 g (S + signal I)^-1, S of targets drawn from the model."""
    objective, theta, _ = setting(Categorical())
    (batch,), (sample,) = batches(1), batches(1, 40, seed=2)
    optimizer = PRONG(0.1, samples=40, epsilon=EPSILON, signal=0.02)
    (found,), _, _, (log,) = run(optimizer, objective, theta, [batch], [sample], np.random.default_rng(4))

    x = sample[0]
    r = forward(objective.net, host(theta), x)
    t = host(objective.loss.sample(dev(r), np.random.default_rng(4)))
    expected, g = host(theta).copy(), gradient(objective, theta, batch)
    for where, h in layer_inputs(objective.net, host(theta), x):
        n = h.shape[1]
        deltas = []
        for i in range(len(x)):  # a bias row's gradient is the sample's delta
            alone = gradient(objective, theta, (x[i : i + 1], t[i : i + 1]))
            deltas.append(alone[where].reshape(n + 1, -1)[-1])
        S = np.mean([np.outer(d, d) for d in deltas], axis=0) + 0.02 * np.eye(len(deltas[0]))
        h1 = np.hstack([h, np.ones((len(h), 1))])
        A = h1.T @ h1 / len(h) + EPSILON * np.diag([1.0] * n + [0.0])
        expected[where] -= 0.1 * (np.linalg.inv(A) @ g[where].reshape(n + 1, -1) @ np.linalg.inv(S)).ravel()
    close(found, expected, rtol=1e-9)
    assert log["gradients"] == 1 + 40 / 12


def test_prong_plus_is_prong_on_a_batch_normalized_net():
    """Section 3.2: the statistics are of the net in training mode; gamma and beta take plain SGD steps."""
    net = mlp(list(SIZES), "tanh", normalization=BatchNorm(0.01))
    objective, rng = Objective(net, Categorical()), np.random.default_rng(0)
    theta = dev(net.init(rng, "float64") + 0.3 * rng.standard_normal(net.layout.size))
    (batch,), (sample,) = batches(1), batches(1, 40, seed=2)
    (found,), _, state, _ = run(PRONG(0.1, samples=40, epsilon=EPSILON), objective, theta, [batch], [sample])
    assert [key for key in state if key.startswith("U.")] == ["U.layer0", "U.layer1", "U.layer2"]
    g, p = gradient(objective, theta, batch), net.layout.views(host(theta))
    expected, h = host(theta) - 0.1 * g, sample[0]
    for name in net.names:
        where, n = net.layout.slices[name], h.shape[1]
        h1 = np.hstack([h, np.ones((len(h), 1))])
        A = h1.T @ h1 / len(h) + EPSILON * np.diag([1.0] * n + [0.0])
        expected[where] = host(theta)[where] - 0.1 * (np.linalg.inv(A) @ g[where].reshape(n + 1, -1)).ravel()
        if name != "layer2":
            a = h @ p[name][:-1]
            white = (a - a.mean(axis=0)) / np.sqrt(a.var(axis=0) + 0.01)
            h = np.tanh(white * p[f"{name}.scale"] + p[f"{name}.shift"])
    close(found, expected, rtol=1e-10)


def test_when_it_measures():
    """Every T updates from `first` on; at T = None once; until then it is SGD."""
    for interval, first, expected in [
        (2, 0, [0, 2, 4, 6]),
        (3, 1, [1, 4]),
        (None, 2, [2]),
        (5, 5, [5]),
        (1, 5, [5, 6]),
    ]:
        objective, theta, _ = setting()
        stream, draws = batches(7), batches(len(expected), 40, seed=2)
        optimizer = PRONG(0.1, interval=interval, first=first, samples=40, epsilon=EPSILON)
        path, _, _, logs = run(optimizer, objective, theta, stream, draws)
        assert [t for t, log in enumerate(logs) if log["gradients"] > 1] == expected
        close([logs[t]["gradients"] for t in expected], [1 + 40 / 12 / 3] * len(expected))
        sgd, state = theta, SGD(0.1).init(objective, theta)
        for t in range(first):
            sgd, state, _ = SGD(0.1).step(sgd, state, objective, on_device(stream[t]))
            close(path[t], sgd, rtol=1e-12)


def test_weight_decay_is_of_theta():
    """The objective's penalty is ||theta||^2, whatever the coordinates; loss and step are the whole objective's."""
    objective, theta, _ = setting(weight_decay=0.3)
    (batch,), (sample,) = batches(1), batches(1, 40, seed=2)
    (found,), _, _, (log,) = run(PRONG(0.1, samples=40, epsilon=EPSILON), objective, theta, [batch], [sample])
    P = preconditioner(objective.net, host(theta), sample[0])
    close(found, host(theta) - 0.1 * P @ gradient(objective, theta, batch), rtol=1e-10)
    assert log["loss"] == pytest.approx(objective.value(theta, on_device(batch)), rel=1e-12)


def test_a_clipped_gradient_is_clipped_in_omega():
    """Its length there is sqrt(g' B B' g): natural, so to speak. The norm is logged as it was."""
    objective, theta, _ = setting()
    (batch,), (sample,) = batches(1), batches(1, 40, seed=2)
    options = {"samples": 40, "epsilon": EPSILON}
    (found,), _, _, (log,) = run(PRONG(0.1, clip=0.01, **options), objective, theta, [batch], [sample])
    P, g = preconditioner(objective.net, host(theta), sample[0]), gradient(objective, theta, batch)
    norm = np.sqrt(g @ P @ g)
    assert log["gradient_norm"] == pytest.approx(norm, rel=1e-10)
    close(found, host(theta) - 0.1 * 0.01 / norm * P @ g, rtol=1e-10)


# --- mirror descent ---------------------------------------------------------------------------------------


def fisher_and_gradient():
    rng = np.random.default_rng(5)
    J = rng.standard_normal((20, 4))
    return J.T @ J / 20 + 0.1 * np.eye(4), rng.standard_normal(4), rng.standard_normal(4)


def power(F, exponent):
    lam, Q = np.linalg.eigh(F)
    return Q @ np.diag(lam**exponent) @ Q.T


def test_mirror_descent_equations_8_and_9():
    """psi = theta' F theta / 2: Omega = F theta - alpha g, theta = F^-1 Omega, a natural-gradient step."""
    F, theta, g = fisher_and_gradient()
    close(np.linalg.solve(F, F @ theta - 0.1 * g), theta - 0.1 * np.linalg.solve(F, g), rtol=1e-12)


def test_mirror_descent_equation_10():
    """psi = theta' F^1/2 theta / 2, the gradient taken in Omega = F^1/2 theta: F^-1/2 g (printed transposed)."""
    F, theta, _ = fisher_and_gradient()
    A, b = np.diag([1.0, 2.0, 3.0, 4.0]), np.ones(4)
    loss = lambda theta: theta @ A @ theta / 2 - b @ theta
    g = A @ theta - b
    omega = power(F, 0.5) @ theta
    h = 1e-6
    in_omega = [
        (loss(power(F, -0.5) @ (omega + h * e)) - loss(power(F, -0.5) @ (omega - h * e))) / (2 * h) for e in np.eye(4)
    ]
    close(in_omega, power(F, -0.5) @ g, rtol=1e-8)
    new = omega - 0.1 * power(F, -0.5) @ g
    close(power(F, -0.5) @ new, theta - 0.1 * np.linalg.solve(F, g), rtol=1e-12)
    psi = lambda theta: theta @ power(F, 0.5) @ theta / 2
    close([(psi(theta + h * e) - psi(theta - h * e)) / (2 * h) for e in np.eye(4)], omega, rtol=1e-8)


def test_any_square_root_of_the_inverse_gives_the_same_step():
    """B B' = F^-1 suffices: B = F^-1/2 Q for any rotation Q, of which only Q = I is a mirror map."""
    F, theta, g = fisher_and_gradient()
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))
    for B in (power(F, -0.5), power(F, -0.5) @ Q, np.linalg.inv(np.linalg.cholesky(F)).T):
        omega = np.linalg.solve(B, theta) - 0.1 * B.T @ g
        close(B @ omega, theta - 0.1 * np.linalg.solve(F, g), rtol=1e-12)


def test_prongs_projection_is_no_gradient_of_a_function():
    """Section 3.3 takes P for the gradient of psi: its matrix would be symmetric, a Hessian. It is not."""
    objective, theta, (x, _) = setting()
    _, state = PRONG(samples=40).reparametrized(theta, PRONG().init(objective, theta), objective, x)
    P = np.linalg.inv(host(from_whitened(coefficients(state), theta.size).dense()))
    assert np.linalg.norm(P - P.T) > 0.5 * np.linalg.norm(P)


# --- what all methods promise -----------------------------------------------------------------------------

METHODS = {
    "PRONG": PRONG(0.1, interval=2, samples=10),
    "momentum": PRONG(0.1, momentum=0.5, interval=2, samples=10),
    "Nesterov": PRONG(0.1, momentum=0.5, nesterov=True, interval=2, samples=10),
    "diagonal": PRONG(0.1, momentum=0.5, interval=2, samples=10, diagonal=True),
    "signal": PRONG(InverseTime(0.05, 0.1), interval=2, samples=10, signal=0.3),
    "late": PRONG(0.1, interval=None, first=1, samples=10),
}
NETS = {"plain": None, "PRONG+": BatchNorm(), "mean only": MeanOnly()}
PAIRS = [
    (method, net)
    for method, net in itertools.product(METHODS, NETS)
    if net == "plain" or method not in ("signal", "late")
]
each_pair = pytest.mark.parametrize(("method", "net"), PAIRS, ids=" ".join)


def on_net(net, dtype="float64"):
    """(objective, theta, batch)."""
    objective, theta, batch = problem(Categorical(), SIZES, dtype=dtype, weight_decay=0.01)
    if NETS[net] is None:
        return objective, theta, batch
    net = mlp(list(SIZES), normalization=NETS[net])
    return Objective(net, Categorical(), 0.01), net.init(np.random.default_rng(0), dtype), batch


def steps(optimizer, objective, theta, batch, count, state=None):
    rng, state = np.random.default_rng(5), state or optimizer.init(objective, theta)
    draw = lambda size: (batch[0][:size], batch[1][:size])
    for _ in range(count):
        theta, state, log = optimizer.step(theta, state, objective, batch, draw, rng)
    return theta, state, log


def numbers(state):
    return {name: host(value).tobytes() if backend.is_array(value) else value for name, value in state.items()}


@each_pair
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_lower_the_loss_on_the_device_in_thetas_dtype(method, net, dtype, device):
    optimizer, (objective, theta, batch) = METHODS[method], on_net(net, dtype)
    point, state, log = steps(optimizer, objective, theta, batch, 4)
    new = optimizer.canonical(point, state)
    assert objective.value(new, batch) < objective.value(theta, batch)
    assert new.dtype == point.dtype == dtype
    assert {value.dtype for value in state.values() if backend.is_array(value)} == {np.dtype(dtype)}
    assert {type(value) for value in log.values()} == {float}
    assert {type(value) for value in state.values() if not backend.is_array(value)} <= {int, float}


@each_pair
def test_a_step_leaves_its_arguments_as_they_were_and_can_be_repeated(method, net):
    optimizer, (objective, theta, batch) = METHODS[method], on_net(net)
    theta, state, _ = steps(optimizer, objective, theta, batch, 2)  # the next one measures
    before, kept = host(theta).copy(), numbers(state)
    one, other = (steps(optimizer, objective, theta, batch, 1, state) for _ in range(2))
    close(theta, before, rtol=0)
    assert numbers(state) == kept
    close(one[0], other[0], rtol=0)
    assert numbers(one[1]) == numbers(other[1]) and one[2] == other[2]


@each_pair
def test_a_run_resumes_bit_for_bit(method, net, tmp_path):
    """Before, at and after a measurement; the coefficients are in the checkpoint."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
    optimizer, (objective, _, _) = METHODS[method], on_net(net)
    options = {"batch_size": 20, "progress": False, "train_samples": 20, "evaluate_every": 2}
    unbroken = minigrad.fit(objective, optimizer, data, updates=6, **options)
    options["checkpoint"] = tmp_path / "run.npz"
    for stop in (1, 2, 5):
        minigrad.fit(objective, optimizer, data, updates=stop, resume=True, **options)
    resumed = minigrad.fit(objective, optimizer, data, updates=6, resume=True, **options)
    close(resumed.theta, unbroken.theta, rtol=0)
    assert numbers(resumed.state) == numbers(unbroken.state) and resumed.steps == unbroken.steps
    settled = objective.settled(unbroken.theta, dev(data[0]))
    whole = minigrad.fit(objective, optimizer, data, updates=6, **options | {"checkpoint": None, "train_samples": 60})
    assert whole.curves["loss"][-1] == pytest.approx(settled.value(whole.theta, tuple(map(dev, data))), rel=1e-12)


def test_the_time_of_an_update_has_three_parts():
    objective, theta, batch = on_net("plain")
    with stopwatch() as seconds:
        steps(METHODS["PRONG"], objective, theta, batch, 1)
    assert set(seconds) == {"statistics", "inversion", "gradient"} and min(seconds.values()) > 0
    with stopwatch() as seconds:
        steps(METHODS["late"], objective, theta, batch, 1)
    assert set(seconds) == {"gradient"}


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": 0}, "PRONG: interval must be a whole number of at least 1, got 0"),
        ({"interval": 2.5}, "PRONG: interval must be a whole number of at least 1, got 2.5"),
        ({"samples": 0}, "PRONG: samples must be a whole number of at least 1, got 0"),
        ({"first": -1}, "PRONG: first must be a whole number of at least 0, got -1"),
        ({"first": None}, "PRONG: first must be a whole number of at least 0, got None"),
        ({"epsilon": -0.1}, "PRONG: epsilon must be a finite number of at least 0, got -0.1"),
        ({"epsilon": float("inf")}, "PRONG: epsilon must be a finite number of at least 0, got inf"),
        ({"signal": -1.0}, "PRONG: signal must be a finite number of at least 0, got -1.0"),
        ({"signal": True}, "PRONG: signal must be a finite number of at least 0, got True"),
        ({"diagonal": 1}, "PRONG: diagonal must be True or False, got 1"),
        ({"momentum": 1.0}, r"PRONG: momentum must be a number in \[0, 1\), got 1.0"),
        ({"nesterov": 0}, "PRONG: nesterov must be True or False, got 0"),
    ],
)
def test_bad_hyper_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        PRONG(0.1, **options)


def test_defaults():
    optimizer = PRONG()
    assert (optimizer.lr.lr, optimizer.interval, optimizer.samples, optimizer.epsilon) == (1e-2, 100, 1000, 1e-2)
    assert optimizer == PRONG(1e-2, momentum=0.0, first=0, diagonal=False, signal=None)


def test_more_samples_than_there_are():
    data = np.ones((30, 4)), np.zeros((30, 2))
    whose = r"a batch that the optimizer draws for itself \(its samples, or its metric's batch\): "
    with pytest.raises(ValueError, match=whose + r"size of a batch must be 1\.\.30 \(the number of samples\), got 31"):
        minigrad.fit(problem(Gaussian())[0], PRONG(samples=31), data, updates=1, batch_size=5, progress=False)


def test_a_net_without_an_affine_layer():
    class Scaled:
        layout = Layout({"scale": (4,)})

        def apply(self, theta, x):
            return x * self.layout.views(theta)["scale"]

        __call__ = apply

    objective, batch = Objective(Scaled(), Gaussian()), (dev(np.ones((3, 4))), dev(np.ones((3, 4))))
    with pytest.raises(ValueError, match="PRONG: the net has no affine layer whose input could be whitened"):
        steps(PRONG(samples=3), objective, dev(np.ones(4)), batch, 1)


def test_a_dead_unit():
    """Refused without epsilon; with it, the dead input's weights are as slow or as fast as 1 / epsilon makes them."""
    objective, theta, _ = setting(Bernoulli())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 4))
    x[:, 2] = 0.0
    batch = dev(x), dev(rng.random((12, 2)))
    with pytest.raises(ArithmeticError, match="the covariance of the input of 'layer0' is singular"):
        steps(PRONG(samples=12, epsilon=0.0), objective, theta, batch, 1)
    point, state, _ = steps(PRONG(0.1, samples=12), objective, theta, batch, 3)
    W = [host(a)[:25].reshape(5, 5) for a in (theta, PRONG().canonical(point, state))]
    close(W[1][2], W[0][2], rtol=1e-9)  # its gradient is zero
    assert np.isfinite(host(point)).all()


def test_one_sample():
    """Its covariance is zero. With epsilon U is I / sqrt(epsilon); D has nothing to be measured on."""
    objective, theta, batch = on_net("plain")
    one = (batch[0][:1], batch[1][:1])
    point, state, _ = steps(PRONG(1e-3, samples=1, epsilon=0.25), objective, theta, one, 1)
    U = host(state["U.layer0"])
    close(U @ U.T, 4 * np.eye(4), rtol=1e-9)
    with pytest.raises(ValueError, match="PRONG: the diagonal variant needs batches of at least two samples, got one"):
        steps(PRONG(1e-3, samples=1, diagonal=True), objective, theta, one, 1)
    two = (batch[0][:2], batch[1][:2])
    point, _, _ = steps(PRONG(1e-3, samples=1, diagonal=True), objective, theta, two, 1)
    assert np.isfinite(host(point)).all()
    objective, theta, _ = on_net("PRONG+")
    with pytest.raises(ValueError, match="batch normalization of 'layer0' needs at least two samples"):
        steps(PRONG(1e-3, samples=1), objective, theta, batch, 1)


def test_a_signal_through_batch_normalization_is_refused():
    objective, theta, batch = on_net("PRONG+")
    with pytest.raises(NotImplementedError, match="the net couples the samples of a batch"):
        steps(METHODS["signal"], objective, theta, batch, 1)


def test_parameters_that_are_not_finite_are_named():
    objective, theta, batch = on_net("plain")
    theta = theta.copy()
    theta[0] = np.nan
    with pytest.raises(FloatingPointError, match="the covariance of the input of 'layer1' is not finite"):
        steps(METHODS["PRONG"], objective, theta, batch, 1)
    with pytest.raises(AssertionError, match="no further batch"):
        METHODS["PRONG"].step(theta, METHODS["PRONG"].init(objective, theta), objective, batch, no_draw, None)
