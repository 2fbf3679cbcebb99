"""What methods with a curvature matrix or inner loop promise: purity, dtype, log, resume, a step on the fake device."""

import numpy as np
import pytest

import minigrad
from minigrad import backend
from minigrad.losses import Categorical, Gaussian
from minigrad.optimizers import (
    EKFAC,
    HCGD,
    KFAC,
    OPTIMIZERS,
    SGD,
    TONGA,
    Adam,
    DiagonalFisher,
    FixedDamping,
    HessianFree,
    InverseTime,
    KrylovSubspaceDescent,
    Minres,
    MinresQLP,
    NaturalDescent,
    NaturalGradient,
    Newton,
    SampleSpace,
    Unlabeled,
)
from tests.helpers import close, dev, host
from tests.optimizers.problems import problem, take

POOL = np.random.default_rng(7).standard_normal((30, 4))
METHODS = {
    "Newton": Newton(),
    "HessianFree": HessianFree(curvature_batch=10),
    "HessianFree, plain": HessianFree(FixedDamping(0.1), exponent=None),
    "KSD": KrylovSubspaceDescent(4, curvature_batch=10, search_batch=30),
    "KSD, same batch": KrylovSubspaceDescent(4),
    "TONGA": TONGA(),
    "TONGA, other batch": TONGA(0.3, metric="empirical", metric_batch=10),
    "K-FAC": KFAC(interval=2),
    "K-FAC, exact damping": KFAC(factored=False, kind="exact", interval=2),
    "K-FAC, fixed": KFAC(InverseTime(0.1, 0.1), 0.5, FixedDamping(0.1), samples=2),
    "EKFAC": EKFAC(interval=2),
    "EKFAC, empirical": EKFAC(0.1, 0.5, FixedDamping(0.1), "empirical"),
    "diagonal": DiagonalFisher(),
    "HCGD": HCGD(SGD(0.1, 0.9), validation=10),
    "HCGD, mean, damped": HCGD(
        Adam(0.01), 3, 0.1, penalty="mean", validation=Unlabeled(POOL, 10), fresh=True, damping=1.0
    ),
    "natural descent": NaturalDescent(n=2),
    "natural descent, mc": NaturalDescent(SGD(InverseTime(0.1, 0.1)), 2, 0.1, metric="mc", samples=2, metric_batch=10),
    "natural": NaturalGradient(),
    "natural, MINRES": NaturalGradient(solver=Minres(20), metric_batch=10),
    "natural, MINRES-QLP": NaturalGradient(solver=MinresQLP(20), metric="covariance"),
    "natural, mc": NaturalGradient(metric="mc", samples=2),
    "natural, sample space": NaturalGradient(metric="mc", solver=SampleSpace(), lr=InverseTime(1.0, 0.1)),
    "natural, unlabeled": NaturalGradient(metric_batch=Unlabeled(POOL, 10)),
    "natural, unlabeled, mc": NaturalGradient(metric="mc", solver=SampleSpace(), metric_batch=Unlabeled(POOL, 10)),
}
each_method = pytest.mark.parametrize("optimizer", METHODS.values(), ids=METHODS)


def setting(dtype="float64"):
    """(objective, theta, batch); with weight decay, or KSD, which nothing damps, fits its search batch at any price."""
    return problem(Categorical(), dtype=dtype, weight_decay=0.05)


def draw(size):
    x, t = setting()[2]
    return x[:size], t[:size]


def steps(optimizer, objective, theta, batch, count, state=None, seed=5):
    """theta, state, log after some steps, with an rng of its own."""
    rng, state = np.random.default_rng(seed), state or optimizer.init(objective, theta)
    for _ in range(count):
        theta, state, log = optimizer.step(theta, state, objective, batch, draw, rng)
    return theta, state, log


def numbers(state):
    return {name: host(value).tobytes() if backend.is_array(value) else value for name, value in state.items()}


@each_method
def test_a_step_leaves_theta_and_state_as_they_were_and_can_be_repeated(optimizer):
    objective, theta, batch = setting()
    theta, state, _ = steps(optimizer, objective, theta, batch, 2)
    before, kept = host(theta).copy(), numbers(state)
    first = steps(optimizer, objective, theta, batch, 1, state)
    again = steps(optimizer, objective, theta, batch, 1, state)
    close(theta, before, rtol=0)
    assert numbers(state) == kept
    close(first[0], again[0], rtol=0)
    assert first[2] == again[2] and numbers(first[1]) == numbers(again[1])


@each_method
def test_the_state_survives_a_round_trip_through_the_host(optimizer):
    objective, theta, batch = setting()
    theta, state, _ = steps(optimizer, objective, theta, batch, 2)
    assert {type(value) for value in state.values()} <= {int, float, backend.xp.ndarray}
    moved = {name: dev(host(value)) if backend.is_array(value) else value for name, value in state.items()}
    close(
        steps(optimizer, objective, dev(host(theta)), batch, 2, moved)[0],
        steps(optimizer, objective, theta, batch, 2, state)[0],
        rtol=0,
    )


@each_method
def test_the_log_is_a_flat_dict_of_numbers(optimizer):
    objective, theta, batch = setting()
    _, state, log = steps(optimizer, objective, theta, batch, 3)
    assert {type(value) for value in log.values()} <= {int, float}
    assert {"loss", "gradient_norm", "gradients"} <= set(log)
    assert log["gradients"] > 1 and log.get("taken", 1.0) in (0.0, 1.0) and state["update"] == 3


@each_method
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_lower_the_loss_and_dtype_follows_theta(optimizer, dtype):
    objective, theta, batch = setting(dtype)
    new, state, _ = steps(optimizer, objective, theta, batch, 3)
    assert new.dtype == dtype
    assert {value.dtype for value in state.values() if backend.is_array(value)} <= {np.dtype(dtype)}
    assert objective.value(new, batch) < objective.value(theta, batch)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_on_the_device(name, device):
    """On the fake device arrays refuse to mix with the host's; unlabeled inputs lie there, rng draws on the host."""
    objective, theta, batch = setting()
    new, _, log = steps(METHODS[name], objective, theta, batch, 2)
    assert backend.is_array(new) and log.get("taken", 1.0) == 1.0
    assert objective.value(new, batch) < objective.value(theta, batch)


@each_method
def test_a_run_resumes_bit_for_bit(optimizer, tmp_path):
    """By fit's own checkpoints: batches, further batches and rng go on where they stood."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
    objective, _, _ = setting()
    options = {"batch_size": 20, "progress": False, "train_samples": 20}
    unbroken = minigrad.fit(objective, optimizer, data, updates=5, **options)
    options["checkpoint"] = tmp_path / "run.npz"
    minigrad.fit(objective, optimizer, data, updates=2, **options)
    resumed = minigrad.fit(objective, optimizer, data, updates=5, resume=True, **options)
    close(resumed.theta, unbroken.theta, rtol=0)
    assert numbers(resumed.state) == numbers(unbroken.state) and resumed.steps == unbroken.steps


def test_a_run_on_other_unlabeled_inputs_is_another_run(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
    objective, _, _ = setting()
    options = {"batch_size": 20, "progress": False, "checkpoint": tmp_path / "run.npz", "updates": 1}
    minigrad.fit(objective, NaturalGradient(metric_batch=Unlabeled(POOL, 10)), data, **options)
    with pytest.raises(ValueError, match="is of another run: optimizer is"):
        other = NaturalGradient(metric_batch=Unlabeled(POOL + 1e-12, 10))
        minigrad.fit(objective, other, data, resume=True, **options)


def test_every_method_with_a_curvature_matrix_is_tested_here():
    elsewhere = {"sgd", "adagrad", "rmsprop", "adam", "centred-gd", "acp", "prong"}
    assert {type(optimizer) for optimizer in METHODS.values()} == {OPTIMIZERS[n] for n in set(OPTIMIZERS) - elsewhere}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_are_frozen(name):
    optimizer = OPTIMIZERS[name](0.1) if name in ("sgd", "centred-gd") else OPTIMIZERS[name]()
    with pytest.raises(AttributeError):
        optimizer.damping = None


def test_a_metric_of_zero_gradient_changes_nothing():
    """At a perfect fit the gradient is zero, and so is the step, whatever the solver."""
    objective, theta, (x, _) = problem(Gaussian())
    batch = x, objective.predict(theta, x)
    for solver, metric in ((Minres(), "exact"), (MinresQLP(), "exact"), (SampleSpace(), "mc")):
        optimizer = NaturalGradient(damping=FixedDamping(0.1), solver=solver, metric=metric)
        new, _, log = take(optimizer, objective, theta, batch, rng=np.random.default_rng(0))
        close(new, theta, rtol=0)
        assert log["gradient_norm"] == 0.0 and np.isnan(log["rho"])
