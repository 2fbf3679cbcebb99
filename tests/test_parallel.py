"""Ranks that share each batch agree with one process to rounding, and with each other bit for bit.

Most ranks here are threads (`fake_ranks`); the last tests start real ones by mpiexec. Tolerances: the ranks add the
same numbers in another order, so sums differ by a few units of rounding of their largest entry. A few updates, with a
solve in each, magnify that by the condition of the solved systems: ROUNDING, in units of the precision's epsilon.
"""

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minigrad import Objective, backend, fit, objective, parallel
from minigrad.curvature import (
    fisher,
    fisher_diagonal,
    gauss_newton,
    gradient_covariance,
    hessian,
    input_means,
    input_moments,
    kronecker_factors,
)
from minigrad.curvature.layers import affine_layers
from minigrad.function_space.distance import mean_square_and_grad
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import BatchNorm, Dropout, Layout, MeanOnly, mlp
from minigrad.optimizers import SGD
from minigrad.parallel import ALONE, Ranks
from minigrad.training import checkpoint as checkpoints
from minigrad.training import progress
from minigrad.training.fit import Diverged
from tests.fake_device import fake_device
from tests.fake_ranks import Communicator, spread
from tests.helpers import Recording, close, dev, host, host_only
from tests.spread_training import LISTED, METHODS, N, fitted, problem, trained

ROUNDING = 1e4
ROOT = Path(__file__).parents[1]
pytestmark = host_only  # the ranks' problems are made on the host
sizes = pytest.mark.parametrize("size", [1, 2, 3, 4])


def alike(results):
    """The result of all ranks, which must be the same bits."""
    for result in results:
        if isinstance(result, Exception):
            raise result
    first = results[0]
    for result in results[1:]:
        for one, other in zip(first, result, strict=True):
            assert host(one).tobytes() == host(other).tobytes() and host(one).dtype == host(other).dtype
    return first


@pytest.fixture(params=[False, True], ids=["one slice", "slices on threads"])
def sliced(request, monkeypatch):
    """Each rank's share in one slice, or in two on two threads."""
    if request.param:
        monkeypatch.setattr(objective, "WORTH_A_SLICE", 1)
        monkeypatch.setattr(backend, "_cores", lambda: 2)


# --- messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "size", "shares"),
    [
        (1, 1, [(0, 1)]),
        (7, 2, [(0, 3), (3, 7)]),
        (31, 4, [(0, 7), (7, 15), (15, 23), (23, 31)]),
        (4, 4, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    ],
)
def test_shares(n, size, shares):
    assert spread(size, lambda ranks: ranks.share(n)) == [slice(*share) for share in shares]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_messages(size, dtype):
    """Sums, rows and maxima of what rank k gives: arrays of any shape, one message each."""
    arrays = lambda k: [
        dev(k + 1.0, dtype),
        dev(np.arange(6).reshape(2, 3) * (k - 1), dtype),
        dev(np.ones(2) * k, dtype),
    ]
    rows = np.arange(21.0).reshape(7, 3).astype(dtype)

    def work(ranks):
        k = ranks.rank
        own = rows[ranks.share(7)].T.copy().T  # not contiguous
        got = [*ranks.total(arrays(k)), ranks.gathered(own, 7), ranks.largest(dev([k, -k, 3.0], dtype))]
        assert [name for name, _ in ranks.comm.sent] == ["Allreduce", "Allgatherv", "Allgatherv"]
        return got

    *sums, gathered, largest = alike(spread(size, work))
    for found, expected in zip(sums, zip(*(arrays(k) for k in range(size))), strict=True):
        close(found, sum(expected), rtol=0)
        assert found.dtype == dtype
    assert gathered.tobytes() == rows.tobytes()
    assert largest.tolist() == [size - 1, 0, 3] and largest.dtype == dtype


@pytest.mark.parametrize("word", [None, True, False, 3, 2.5, "time limit"])
def test_the_leading_ranks_word_counts(word):
    assert spread(3, lambda ranks: ranks.agreed(word if ranks.rank == 0 else "something else")) == [word] * 3
    assert spread(2, lambda ranks: ranks.leads) == [True, False]


def test_a_word_is_short():
    (alone,) = spread(1, lambda ranks: ranks)
    assert alone.agreed("x" * 62) == "x" * 62 and alone.comm.sent == [("Bcast", 64)]
    with pytest.raises(ValueError, match=r"'x{63}' is longer than 64 bytes"):
        alone.agreed("x" * 63)


def test_alone_is_one_rank():
    """The ranks of one process give back what they get, as those of a communicator of one do."""
    array, rows = np.ones(3), np.ones((4, 2))
    (one,) = spread(1, lambda ranks: ranks)
    for ranks in (ALONE, one):
        assert (ranks.size, ranks.rank, ranks.leads, ranks.share(4)) == (1, 0, True, slice(0, 4))
        assert ranks.total([array])[0].tolist() == array.tolist()
        assert ranks.gathered(rows, 4).tolist() == rows.tolist() and ranks.largest(array).tolist() == array.tolist()
        assert ranks.agreed("callback") == "callback"
        with ranks.together("nothing"):
            pass


# --- a batch is a sum ----------------------------------------------------------------------------------------


@sizes
@pytest.mark.parametrize("loss", [Gaussian(0.6), Bernoulli(), Categorical()], ids=lambda loss: type(loss).__name__)
def test_objective(size, loss, sliced):
    """Value, gradient, outputs, and all that the Jacobian does; 31 samples on up to 4 ranks."""
    rng = np.random.default_rng(1)
    v, u = rng.standard_normal((2, 59)), rng.standard_normal((N, 4))

    def work(ranks):
        the, theta, (x, t) = problem(loss=loss, ranks=ranks)
        value, g, r, J = the.value_grad_and_linearize(theta, (x, t))
        r2, J2 = the.linearize(theta, x)
        assert J.shape == J2.shape == (N * 4, 59) and J.x_shape == (59,) and J.y_shape == (N, 4) and J.dtype == x.dtype
        found = [value, g, *the.value_and_grad(theta, (x, t)), the.value(theta, (x, t)), r, r2, the.predict(theta, x)]
        return [np.asarray(a) for a in found] + [J.rop(v[0]), J.lop(u), J @ v.T, J2.T @ u.reshape(-1)]

    expected = work(ALONE)
    for a, b in zip(alike(spread(size, work)), expected, strict=True):
        close(a, b, rtol=1e-13)


@sizes
@pytest.mark.parametrize("normalization", [BatchNorm(), MeanOnly()], ids=["batch", "mean only"])
def test_a_net_that_couples_samples(size, normalization, sliced):
    """Its statistics are of all ranks' rows: forward, backward, and in every product."""

    def work(ranks):
        the, theta, (x, t) = problem(ranks=ranks, normalization=normalization)
        v, u, f = (np.random.default_rng(1).standard_normal(shape) for shape in (theta.size, (N, 4), (N, 4)))
        value, g, r, J = the.value_grad_and_linearize(theta, (x, t))
        found = [value, g, *the.value_and_grad(theta, (x, t)), the.value(theta, (x, t)), r, the.predict(theta, x)]
        found += [J.rop(v), J.lop(u), fisher(the, theta, x) @ v, gauss_newton(the, theta, (x, t)) @ v]
        return [np.asarray(a) for a in (*found, *mean_square_and_grad(the, theta, x, f))]

    expected = work(ALONE)
    for a, b in zip(alike(spread(size, work)), expected, strict=True):
        close(a, b, rtol=1e-11)

    def second(ranks):
        the, theta, (x, t) = problem(ranks=ranks, normalization=normalization)
        return [hessian(the, theta, (x, t)) @ theta]

    for found in spread(size, second):
        if size == 1:
            close(found[0], second(ALONE)[0])
        else:
            assert isinstance(found, NotImplementedError) and "slices that do not meet" in str(found)


def curvatures(ranks, loss=None):
    """{name: array} of every curvature that is a sum over samples."""
    the, theta, (x, t) = problem(ranks=ranks, loss=loss)
    found, rng = {}, np.random.default_rng(3)
    V = rng.standard_normal((59, 2))
    draws = lambda kind: {"rng": np.random.default_rng(7), "samples": 2} if kind == "mc" else {}
    for kind in ("exact", "mc", "empirical"):
        data = (x, t) if kind == "empirical" else x
        found[f"fisher {kind}"] = fisher(the, theta, data, kind, **draws(kind)) @ V
        found[f"diagonal {kind}"] = fisher_diagonal(replace(the, rows=9), theta, data, kind, **draws(kind))
        for layer in kronecker_factors(the, theta, data, kind, **draws(kind)):
            found |= {f"A {kind} {layer.name}": layer.A, f"S {kind} {layer.name}": layer.S}
    for at in ("r", "y"):
        found[f"Gauss-Newton at {at}"] = gauss_newton(the, theta, (x, t), at) @ V
    found["Hessian"] = hessian(the, theta, (x, t)) @ V
    C = gradient_covariance(the, theta, (x, t), centred=True)
    found |= {"covariance": C @ V, "Gram": C.P.gram(), "squares": C.P.squares(), "rows": C.P.dense()}
    J = the.linearize(theta, x)[1]
    for m in input_moments(J):
        found |= {f"E[hh'] {m.name}": m.second, f"E[h] {m.name}": m.mean, f"C {m.name}": m.covariance}
    found |= {f"means {name}": mean for name, mean in input_means(J).items()}
    u = rng.standard_normal((N, 4))
    found |= {f"delta {layer.name}": layer.delta for layer in affine_layers(J, u)}
    square, g = mean_square_and_grad(the, theta, x, rng.random((N, 4)))
    return found | {"distance": np.asarray(square), "distance's gradient": g}


@sizes
@pytest.mark.parametrize("loss", [Bernoulli(), Categorical()], ids=lambda loss: type(loss).__name__)
def test_curvature(size, loss, sliced):
    expected = curvatures(ALONE, loss)
    found = spread(size, lambda ranks: curvatures(ranks, loss))
    alike([list(one.values()) if isinstance(one, dict) else one for one in found])
    assert found[0].keys() == expected.keys()
    for name in expected:
        close(found[0][name], expected[name], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", METHODS)
def test_methods_run_unchanged(name, dtype):
    expected = trained(name, dtype)
    for size in (2, 3):
        (theta,) = alike(
            [
                found if isinstance(found, Exception) else [found]
                for found in spread(size, lambda ranks: trained(name, dtype, ranks))
            ]
        )
        assert theta.dtype == dtype
        close(theta, expected, rtol=ROUNDING * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["SGD", "natural gradient, CG", "K-FAC", "PRONG, diagonal", "ACP"])
def test_on_a_device_messages_go_through_the_host(name):
    expected = trained(name)
    with fake_device():
        for theta in spread(2, lambda ranks: host(trained(name, ranks=ranks))):
            close(theta, expected, rtol=ROUNDING * np.finfo(float).eps)


def test_one_rank_is_one_process_bit_for_bit():
    for name in METHODS:
        assert spread(1, lambda ranks, name=name: trained(name, ranks=ranks))[0].tobytes() == trained(name).tobytes()


# --- who does what -------------------------------------------------------------------------------------------


def test_each_rank_does_its_share_and_sends_sums():
    """Forward passes have a share's rows; what is sent does not grow with the batch, but for the outputs."""
    n = 59

    def work(ranks):
        the, theta, (x, t) = problem(ranks=ranks)
        the = replace(the, net=Recording(the.net))
        sent, log = ranks.comm.sent, []

        def step(function):
            before = len(sent)
            result = function()
            log.append(sent[before:])
            return result

        own = ranks.share(N).stop - ranks.share(N).start
        meet, outputs, sum_of = ("Allgather", 16), ("Allgatherv", 8 * 4 * own), lambda k: ("Allreduce", 8 * k)
        step(lambda: the.value(theta, (x, t)))
        step(lambda: the.value_and_grad(theta, (x, t)))
        r, J = step(lambda: the.linearize(theta, x))
        G = step(lambda: fisher(the, theta, x, linearized=(r, J)))
        step(lambda: G @ theta)
        step(lambda: input_moments(J))
        step(lambda: J.rop(theta))
        assert log == [
            [meet, sum_of(1)],
            [meet, sum_of(n + 1)],
            [meet, outputs],
            [],
            [sum_of(n)],
            [sum_of(7 * 7 + 6 * 6)],
            [outputs],
        ]
        assert the.net.passes == [own] * 3
        return own

    assert spread(3, work) == [10, 10, 11]


def test_only_the_own_rows_of_x_are_read():
    """A rank may know no more of x than its shard; targets it knows whole."""

    def work(ranks, whole=False):
        the, theta, (x, t) = problem(ranks=ranks)
        shard = np.full_like(x, np.nan)
        shard[ranks.share(N)] = x[ranks.share(N)]
        x = x if whole else shard
        value, g, r, J = the.value_grad_and_linearize(theta, (x, t))
        return [np.asarray(value), g, r, *(m.second for m in input_moments(J)), the.value_and_grad(theta, (x, t))[1]]

    alike(spread(3, work) + spread(3, lambda ranks: work(ranks, whole=True)))


def test_a_traced_objective_is_each_ranks_own():
    """Where theta is traced, nobody waits: values on a tape cannot be sent."""
    from minigrad.autodiff import grad

    def work(ranks):
        the, theta, batch = problem(ranks=ranks)
        sent = len(ranks.comm.sent) if ranks is not ALONE else 0
        found = (
            grad(lambda theta: the.value(theta, batch))(theta),
            grad(lambda theta: the.value_and_grad(theta, batch)[0])(theta),
        )
        assert ranks is ALONE or len(ranks.comm.sent) == sent
        return found

    for a, b in zip(alike(spread(2, work)), work(ALONE), strict=True):
        close(a, b, rtol=0)


def test_who_computes_is_no_part_of_what_is_computed():
    """A checkpoint knows its objective by its repr: a run may go on with other ranks."""
    the, *_ = problem()
    (spread_one,) = spread(1, lambda ranks: replace(the, ranks=ranks))
    assert spread_one == the and repr(spread_one) == repr(the)
    assert the.alone is the and spread_one.alone.ranks is ALONE and spread_one.alone == the


# --- errors ----------------------------------------------------------------------------------------------------


def errors(size, work):
    """[(type of error, message)] of all ranks."""
    found = spread(size, work)
    assert all(isinstance(error, Exception) for error in found), found
    return [(type(error), str(error)) for error in found]


@pytest.mark.parametrize("call", ["value", "value_and_grad", "value_grad_and_linearize", "linearize", "predict"])
def test_fewer_samples_than_ranks(call):
    def work(ranks):
        the, theta, (x, t) = problem(ranks=ranks)
        return getattr(the, call)(theta, x[:2] if call in ("linearize", "predict") else (x[:2], t[:2]))

    assert set(errors(3, work)) == {(ValueError, "a batch of 2 cannot be spread over 3 ranks: each needs a sample")}


def differing(**changes):
    """Work in which the last of three ranks does something else."""

    def work(ranks):
        the, theta, (x, t) = problem(ranks=ranks)
        odd = ranks.rank == 2
        if odd and "theta" in changes:
            theta = changes["theta"](theta)
        if odd and "batch" in changes:
            x, t = changes["batch"](x, t)
        return getattr(the, "value" if odd and "call" in changes else "value_and_grad")(theta, (x, t))

    return work


@pytest.mark.parametrize(
    "changes",
    [
        {"theta": lambda theta: np.nextafter(theta, 2 * theta)},
        {"theta": lambda theta: theta.astype("float32")},
        {"theta": lambda theta: theta[:-1]},
        {"theta": lambda theta: theta.tolist()},
        {"batch": lambda x, t: (x[:-1], t[:-1])},
        {"batch": lambda x, t: (x, t[:-1])},
        {"batch": lambda x, t: (x, t[::-1])},
        {"batch": lambda x, t: (x, None)},
        {"batch": lambda x, t: (x.astype("float32"), t)},
        {"call": "value"},
    ],
)
def test_ranks_that_are_not_alike(changes):
    first, second, third = errors(3, differing(**changes))
    for kind, message in (first, second):
        assert kind is ValueError and "the ranks are not alike: ranks [2] do something else; this is rank" in message
        assert "value_and_grad at theta (59,) float64" in message and " on (31, 6) float64, (31,) int64 " in message
        assert message.endswith("threads")
    kind, message = third
    assert "rank 0 of 3" in first[1] and "rank 1 of 3" in second[1]
    assert ("ranks [0, 1] do something else" in message) or kind in (TypeError, ValueError)


def test_ranks_with_other_numbers_of_threads(monkeypatch):
    monkeypatch.setattr(backend, "_cores", lambda: 1 + (threading.current_thread().name == "rank 1"))
    for kind, message in errors(2, differing()):
        assert kind is ValueError and "the ranks are not alike" in message


@pytest.mark.parametrize(
    ("inputs", "where", "noticed"), [(9, 0, True), (9, 1, False), (9, 5, False), (9, 10230, True), (0, 1, True)]
)
def test_all_of_theta_is_compared_once_and_then_a_sample(inputs, where, noticed):
    """About 1024 numbers of it: every tenth of 10240, and every one of 1024."""
    net = mlp([inputs or 1, 1024 if inputs else 10])

    def work(ranks, first):
        the = Objective(net, Gaussian(), ranks=ranks)
        theta, x = np.zeros(net.layout.size), np.ones((2, inputs or 1))
        batch = (x, np.ones((2, net.sizes[-1])))
        if not first:
            the.value(theta, batch)
        if ranks.rank:
            theta[where] = 1e-300
        return the.value(theta, batch)

    assert net.layout.size == (10240 if inputs else 20)
    for first in (True, False):
        found = spread(2, lambda ranks, first=first: work(ranks, first))
        assert all(isinstance(one, ValueError) for one in found) == (first or noticed)


def test_a_rank_that_fails_alone():
    """A wrong label in the last rank's share: it says so, the others do not wait for it."""

    def work(ranks):
        the, theta, (x, t) = problem(ranks=ranks)
        t = t.copy()
        t[-1] = 7
        return the.value_and_grad(theta, (x, t))

    (*others, (kind, message)) = errors(3, work)
    assert kind is ValueError and "labels must lie in 0..3 for 4 outputs" in message
    for rank, (kind, message) in enumerate(others):
        assert kind is RuntimeError
        assert message.startswith(
            f"ranks [2] failed, their errors say why; this is rank {rank} of 3, value_and_grad at "
        )


@pytest.mark.parametrize("layer", ["layer0", "layer1", "layer2"])
def test_a_rank_that_fails_between_sums(layer, sliced):
    """Of a net that couples samples, the others wait for its sums: they hear of it there, or at the end of the pass."""

    class Failing:
        couples_samples = True

        def __init__(self, net, fails):
            self.net, self.fails, self.layout, self.work = net, fails, net.layout, net.work

        def among(self, slices):
            return Failing(self.net.among(slices), self.fails)

        def apply(self, theta, x):
            p = self.layout.views(theta)
            if self.fails:
                p[layer] = p[layer][1:]
            return self.net(p, x)

    def work(ranks):
        the, theta, (x, t) = problem(ranks=ranks)
        net = Failing(mlp([6, 5, 5, 4], normalization=BatchNorm()), ranks.rank == 1)
        return replace(the, net=net).value_and_grad(net.net.init(np.random.default_rng(0), "float64"), (x, t))

    first, (kind, message), third = errors(3, work)
    assert kind is ValueError and f"affine {layer!r} of shapes" in message
    for rank, (kind, message) in ((0, first), (2, third)):
        assert kind is RuntimeError
        assert message.startswith(f"ranks [1] failed, their errors say why; this is rank {rank} of 3, value_and_grad")


def test_ranks_with_other_nets_to_add_up_for():
    """One has a layer more to normalize: it waits where the others are done."""

    def work(ranks):
        the, *_, (x, t) = problem(ranks=ranks)
        net = mlp([6, *([5, 5] if ranks.rank else [5]), 4], normalization=BatchNorm())
        padded = replace(the, net=Padded(net))
        return padded.value(np.full(300, 0.1), (x, t))

    class Padded:
        couples_samples = True

        def __init__(self, net):
            self.net, self.layout = net, Layout({"all": (300,)})

        def among(self, slices):
            return Padded(self.net.among(slices))

        def apply(self, theta, x):
            return self.net.apply(theta[: self.net.layout.size], x)

    for rank, (kind, message) in enumerate(errors(2, work)):
        assert kind is ValueError and f"the ranks are not alike: ranks [{1 - rank}] do something else" in message


def test_numbers_that_are_not_finite_are_seen_by_all():
    def work(ranks):
        the, theta, (x, t) = problem(ranks=ranks)
        x[-1, 0] = np.nan
        return the.value_and_grad(theta, (x, t))

    assert set(errors(3, work)) == {(FloatingPointError, "x is not finite, first in sample 30")}


def test_bad_ranks():
    the, *_ = problem()
    with pytest.raises(TypeError, match=r"ranks must be minigrad\.parallel\.Ranks\(communicator\), got <tests"):
        replace(the, ranks=Communicator(0, None, [None]))
    coupled = Recording(the.net)
    coupled.couples_samples = True
    with pytest.raises(NotImplementedError, match="couples the samples of a batch, and has no `among`, cannot be"):
        replace(the, net=coupled, ranks=Ranks(Communicator(0, None, [None] * 2)))
    assert replace(the, net=coupled, ranks=Ranks(Communicator(0, None, [None]))).couples_samples


# --- fit -------------------------------------------------------------------------------------------------------


def test_fit():
    """The same run on two ranks: the same curves to rounding, and the same bits on both."""
    expected = fitted()
    histories = spread(2, fitted)
    alike([[h.theta, np.array(h.curves["loss"]), np.array(h.losses)] for h in histories])
    close(histories[0].theta, expected.theta, rtol=ROUNDING * np.finfo(float).eps)
    for column in ("loss", "validation_loss", "validation_error", "update"):
        close(histories[1].curves[column], expected.curves[column], rtol=ROUNDING * np.finfo(float).eps)
    assert {h.stopped for h in histories} == {"updates"}


def test_fit_resumes_on_all_ranks(tmp_path, monkeypatch):
    """Rank 0 writes, all read; a run on two ranks may go on on three."""
    writers = []
    save = checkpoints.save
    monkeypatch.setattr(
        checkpoints, "save", lambda *args: (writers.append(threading.current_thread().name), save(*args))
    )
    file = tmp_path / "new" / "run.npz"
    spread(2, lambda ranks: fitted(ranks, updates=3, checkpoint=file, checkpoint_every=1))
    assert set(writers) == {"rank 0"} and len(writers) == 5  # at the start, after each update, at the end
    unbroken = spread(2, lambda ranks: fitted(ranks, updates=7))
    keep = file.read_bytes()
    resumed = spread(2, lambda ranks: fitted(ranks, updates=7, checkpoint=file, resume=True))
    alike([[h.theta, np.array(h.losses)] for h in unbroken + resumed])
    file.write_bytes(keep)
    wider = spread(3, lambda ranks: fitted(ranks, updates=7, checkpoint=file, resume=True))
    alike([[h.theta] for h in wider])
    close(wider[0].theta, unbroken[0].theta, rtol=ROUNDING * np.finfo(float).eps)


def test_dropout_and_a_run_that_diverges():
    """The ranks draw the same masks; numbers that are not finite end the run on all of them."""
    _, _, data = problem()

    def run(ranks=ALONE, loss=None, **options):
        the = Objective(mlp([6, 8, 4], dropout=Dropout(0.4)), loss or Categorical(), ranks=ranks)
        return fit(the, updates=5, batch_size=15, data=data, progress=False, **options)

    expected = run(optimizer=SGD(0.2))
    histories = spread(2, lambda ranks: run(ranks, optimizer=SGD(0.2)))
    alike([[h.theta] for h in histories])
    close(histories[0].theta, expected.theta, rtol=ROUNDING * np.finfo(float).eps)
    data = data[0], data[0][:, :4]
    found = spread(2, lambda ranks: run(ranks, Gaussian(), optimizer=SGD(1e200)))
    assert [type(error) for error in found] == [Diverged, Diverged] and str(found[0]) == str(found[1])


def test_the_leading_rank_decides_when_to_stop():
    """By its callbacks and its clock; the others' count for nothing."""

    def run(ranks, stop=(99, 99), ticks=(1, 1), **limits):
        clock = iter(range(0, 10**6, ticks[ranks.rank])).__next__
        return fitted(
            ranks, callbacks=[lambda h: h.update >= stop[ranks.rank]], clock=clock, **({"updates": 8} | limits)
        )

    for options, update, reason in [
        ({"stop": (3, 1)}, 3, "callback"),
        ({"stop": (99, 1)}, 8, "updates"),
        ({"ticks": (2, 1), "updates": None, "time_limit": 10}, 5, "time limit"),
        ({"ticks": (1, 9), "updates": None, "time_limit": 5}, 5, "time limit"),
    ]:
        histories = spread(2, lambda ranks, options=options: run(ranks, **options))
        assert [(h.update, h.stopped) for h in histories] == [(update, reason)] * 2


def test_the_leading_rank_alone_shows_progress(monkeypatch):
    labels = []
    monkeypatch.setattr(progress.Progress, "__init__", lambda self, label, *limits: labels.append(label))
    monkeypatch.setattr(progress.Progress, "show", lambda self, *args: None)
    monkeypatch.setattr(progress.Progress, "close", lambda self, *args: None)
    for given, shown in ((True, "KFAC"), ("my run", "my run"), (False, None)):
        labels.clear()
        spread(2, lambda ranks, given=given: fitted(ranks, updates=1, progress=given))
        assert sorted(labels, key=str) == sorted([shown, None], key=str)


def test_checkpoints_that_cannot_be_used_stop_all_ranks(tmp_path):
    (tmp_path / "file").write_text("")
    found = errors(2, lambda ranks: fitted(ranks, checkpoint=tmp_path / "file" / "run.npz"))
    assert issubclass(found[0][0], OSError) and found[1][0] is RuntimeError and "the checkpoint's folder" in found[1][1]
    (tmp_path / "run.npz").write_text("something else")
    found = errors(2, lambda ranks: fitted(ranks, checkpoint=tmp_path / "run.npz", resume=True))
    assert {kind for kind, _ in found} == {ValueError} and all("cannot be used" in message for _, message in found)


# --- real ranks --------------------------------------------------------------------------------------------------


def mpiexec(size, *command, timeout=240):
    """The finished process of `mpiexec -n size python -m mpi4py command`."""
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    program = str(beside) if beside.exists() else shutil.which("mpiexec")
    if program is None:
        pytest.skip("needs mpiexec")
    command = [program, "-n", str(size), sys.executable, "-m", "mpi4py", *map(str, command)]
    environment = {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "MINIGRAD_THREADS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 4])
def test_real_ranks(size, tmp_path):
    done = mpiexec(size, "tests/spread_training.py", tmp_path)
    assert done.returncode == 0, done.stderr
    found = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(size)]
    alike([list(one.values()) for one in found])
    expected = {f"{name}, {dtype}": trained(name, dtype) for name in LISTED for dtype in ("float64", "float32")}
    expected |= {"fit": fitted().theta, "resumed": fitted(updates=9).theta}
    assert found[0].keys() == expected.keys() | {"loss"}
    for name, theta in expected.items():
        close(found[0][name], theta, rtol=ROUNDING * np.finfo(theta.dtype).eps)


@pytest.mark.slow
def test_the_ten_lines_run(tmp_path):
    """The program of the module's docstring, for fewer updates."""
    lines = [line[4:] for line in parallel.__doc__.splitlines() if line.startswith("    ")]
    program = "\n".join(lines[: 1 + max(i for i, line in enumerate(lines) if "history" in line)])
    assert "updates=500, batch_size=2000" in program
    program = program.replace("updates=500", "updates=2").replace('"run.npz"', f"{str(tmp_path / 'run.npz')!r}")
    (tmp_path / "train.py").write_text(program + "\nassert history.update == 2\n")
    done = mpiexec(2, tmp_path / "train.py")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run.npz").exists()


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_job(tmp_path):
    """An error outside of a pass reaches nobody; `python -m mpi4py` ends all ranks."""
    script = tmp_path / "dies.py"
    script.write_text(
        "from mpi4py import MPI\n"
        "from minigrad.parallel import Ranks\n"
        "from tests.spread_training import fitted\n"
        "ranks = Ranks(MPI.COMM_WORLD)\n"
        "def callback(history):\n"
        "    if ranks.rank == 1 and history.update == 2:\n"
        "        raise OSError('rank 1 has had enough')\n"
        "fitted(ranks, callbacks=[callback], updates=10**9)\n"
    )
    done = mpiexec(2, script, timeout=120)
    assert done.returncode != 0 and "rank 1 has had enough" in done.stderr
