"""Order robustness: branched runs are those trained from the start, its resume, its search, and what it concludes."""

import dataclasses

import numpy as np
import pytest

from minigrad import backend
from minigrad.data import DeformedDigits
from minigrad.experiments import order_robustness as order
from minigrad.optimizers import ConjugateGradient, FixedDamping, NaturalGradient
from minigrad.training import records
from tests.experiments.noise import options
from tests.helpers import host

TINY = order.Scale(updates=2, batch_size=8, hidden=3, runs=3, trials=2, held_out=20, seeds=1)
NATURAL = [name for name in order.METHODS if name != "SGD"]
ignore = lambda: None


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images, a tiny net, and for whatever trains two updates in each of six parts, three of them segments."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    rng = np.random.default_rng(0)
    x, t = rng.random((60, 784), dtype="float32"), np.arange(60) % 10
    monkeypatch.setattr(order, "mnist", lambda: ((x, t), (x[:20], t[:20])))
    monkeypatch.setitem(order.SCALES, "quick", TINY)
    monkeypatch.setattr(order, "ITERATIONS", 3)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(order, "SEGMENTS", 3)
    monkeypatch.setattr(order, "PARTS", 6)


def test_run_and_plot(short, tmp_path):
    record = order.run(options(tmp_path, seeds=2))
    loaded = records.load(tmp_path / "record.json", order.NAME)
    assert loaded["results"] == record["results"] and record["results"]["complete"]
    assert len(record["results"]["trials"]["SGD"]) == 1
    for found in record["results"]["seeds"]:
        assert found["samples"] == list(range(16, 97, 16))
        for name in order.METHODS:
            assert len(found["error"][name]) == order.PARTS and len(found["errors"][name]) == 1 + 3 * 2
            assert len(found["variance"][name]) == 3 and min(found["variance"][name]) > 0
            assert found["error"][name][-1] == found["errors"][name][0]
    assert record["results"]["seeds"][0] != record["results"]["seeds"][1]
    assert not (tmp_path / "checkpoints").exists()
    (path,) = order.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert "median and range of 2 seeds" in order.caption(loaded) and "96 samples a run" in order.caption(loaded)
    assert order.run(options(tmp_path, seeds=2, resume=True))["results"] == loaded["results"]  # nothing is repeated


def test_the_bar_knows_how_much_there_is(short, tmp_path):
    task, path, total = order.Task(TINY), tmp_path / "0.npz", 0
    rates = {name: 0.1 for name in order.METHODS}
    ticks = []
    for found in order.train(task, rates, 0, path, lambda n=1: ticks.append(n)):
        total = len(rates) * order.updates_until(len(found["samples"]), TINY)
        assert sum(ticks) == total
    assert total == len(rates) * 2 * (6 + 2 * (6 + 5 + 4))  # the base, and two more runs for each of three segments
    ticks.clear()
    list(order.train(task, rates, 0, path, lambda n=1: ticks.append(n)))
    assert ticks == [total]  # resumed: all of it is there


def alone(task, method, segment, drawing):
    """theta of one run trained from the start, by a loop of its own."""
    theta = task.objective.net.init(np.random.default_rng(0))
    state, size = method.init(task.objective, theta), task.scale.batch_size
    for part, update in np.ndindex(order.PARTS, task.scale.updates):
        name = (0, part, drawing if part == segment else 0)

        def samples(n, purpose, u=update, name=name):
            return tuple(map(backend.asarray, task.train.samples(n * u, n * (u + 1), *name, purpose)))

        draw = lambda n, samples=samples: samples(n, 1)
        rng = np.random.default_rng([*name, update])
        theta, state, _ = method.step(theta, state, task.objective, samples(size, 0), draw, rng)
    return host(theta)


@pytest.mark.parametrize("name, metric_batch", [("SGD", None), ("natural gradient", None), ("natural gradient", 5)])
def test_branched_runs_are_those_trained_from_the_start(short, name, metric_batch):
    method = order.optimizer(name, 0.2)
    if metric_batch:
        method = dataclasses.replace(method, metric_batch=metric_batch)
    task = order.Task(TINY)
    runs = order.start(task, {name: method}, 0)
    for part in range(order.PARTS):
        if part < order.SEGMENTS:
            runs = order.branch(runs, part, TINY.runs)
        runs = order.advance(task, {name: method}, runs, 0, part, ignore)
    assert len(runs) == 1 + 3 * 2
    ends = {which: host(theta) for (_, which), (theta, _) in runs.items()}
    for which in [(0, 0), (0, 1), (1, 2), (2, 1)]:
        np.testing.assert_array_equal(ends[which], alone(task, method, *which))
    assert len({end.tobytes() for end in ends.values()}) == len(ends)  # and no two are the same


def test_methods_are_the_papers():
    """Appendix 8.8: learning rate .1 for SGD, a constant damping of 3, the metric on the gradient's own batch."""
    assert order.METHODS["SGD"] == {"lr": 0.1} and order.METHODS["natural gradient"] == {"lr": 0.2, "damping": 3.0}
    full = order.SCALES["full"]
    assert (full.batch_size, full.hidden, full.runs, order.SEGMENTS) == (512, 500, 5, 10)
    assert full.batch_size * full.updates * order.PARTS == 512_000
    for name in NATURAL:
        solver = ConjugateGradient(maxiter=3, rtol=0.05, stop=None)
        damping = FixedDamping(order.METHODS[name]["damping"])
        assert order.optimizer(name, 0.3) == NaturalGradient(0.3, damping=damping, solver=solver)


def test_sets_are_apart():
    task = order.Task(TINY)
    digits, _ = order.mnist()
    validation = {tuple(row) for row in digits[0].tolist()} - {tuple(row) for row in task.train.x.tolist()}
    assert len(task.train.x) == 50 and len(validation) == 10
    x, t = task.held_out
    expected = DeformedDigits(*order.mnist()[1], seed=0).samples(0, 20)
    np.testing.assert_array_equal(host(x), expected[0])
    np.testing.assert_array_equal(host(t), expected[1])


def test_variance_is_that_of_the_outputs():
    task = order.Task(TINY)
    rng = np.random.default_rng(0)
    theta = task.objective.net.init(rng)
    runs = {("SGD", which): (theta + backend.normal(rng, theta.shape, "float32"), {})
            for which in [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]}  # fmt: skip
    runs["other", (0, 0)] = theta, {}
    y = {which: host(task.objective.predict(theta, task.held_out[0])).astype(float)
         for (name, which), (theta, _) in runs.items() if name == "SGD"}  # fmt: skip
    expected = []
    for group in ([(0, 0), (0, 1), (0, 2)], [(0, 0), (1, 1), (1, 2)]):
        mean = sum(y[which] for which in group) / 3
        expected.append(sum(((y[which] - mean) ** 2).sum() for which in group) / 2 / mean.size)
    np.testing.assert_allclose(order.variances(task, runs, "SGD"), expected, rtol=1e-5)  # float32


def test_interrupted_then_resumed(short, tmp_path, monkeypatch):
    """Ctrl-C at some call of the error: in the search, in the first part, near the end. The results are the same."""
    (tmp_path / "whole").mkdir()
    whole, measure = order.run(options(tmp_path / "whole"))["results"], order.Task.error
    for call in (1, 7, 40):
        folder, calls = tmp_path / str(call), []
        folder.mkdir()

        def pressed(task, theta, calls=calls, call=call):
            calls.append(0)
            if len(calls) == call:
                raise KeyboardInterrupt
            return measure(task, theta)

        with monkeypatch.context() as patch:
            patch.setattr(order.Task, "error", pressed)
            record = order.run(options(folder))
        assert not record["results"]["complete"] and len(calls) == call
        if call > 1:
            order.plot(records.load(folder / "record.json"), folder)
        assert order.caption(record).endswith("unfinished.")
        assert order.run(options(folder, resume=True))["results"] == whole


def test_resume_refuses_a_record_of_other_settings(short, tmp_path):
    order.run(options(tmp_path))
    with pytest.raises(ValueError, match=r"record\.json is of another run: seeds is \[0\] there, \[0, 1\] here"):
        order.run(options(tmp_path, resume=True, seeds=2))


def test_without_resume_old_checkpoints_are_not_used(short, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "0.npz").write_bytes(b"not one")
    assert order.run(options(tmp_path))["results"]["complete"]


# --- equal validation error -----------------------------------------------------------------------------


def trials(*pairs):
    return [{"lr": lr, "error": error} for lr, error in pairs]


@pytest.mark.parametrize("done, expected", [
    (trials((0.2, 0.5)), 0.4),  # too slow: twice as fast
    (trials((0.2, 0.5), (0.4, 0.45)), 0.8),
    (trials((0.2, 0.3)), 0.1),  # too fast: half as fast
    (trials((0.2, 0.3), (0.1, 0.35)), 0.05),
    (trials((0.1, 0.45), (0.4, 0.35)), 0.2),  # half-way in the error is half-way in log(lr)
    (trials((0.1, 0.6), (1.6, 0.2), (0.4, 0.3)), 0.1 * 4 ** (2 / 3)),  # between the nearest two
    (trials((0.1, 0.401), (1.0, 0.2)), 0.1 * 10**0.1),  # at least a tenth of the way
    (trials((0.1, 0.9), (1.0, 0.399)), 0.1 * 10**0.9),
])  # fmt: skip
def test_next_learning_rate(done, expected):
    assert order.next_lr(done, 0.4) == pytest.approx(expected, rel=1e-12)


def search(monkeypatch, error_of, count=6):
    """The trials of `match` where a method at a learning rate ends with error_of(method, lr)."""
    task = order.Task(dataclasses.replace(TINY, trials=count))
    monkeypatch.setattr(order, "optimizer", lambda name, lr: (name, lr))
    start = lambda task, optimizers, seed: {(name, order.BASE): (pair, {}) for name, pair in optimizers.items()}
    monkeypatch.setattr(order, "start", start)
    monkeypatch.setattr(order, "advance", lambda task, optimizers, runs, *rest: runs)
    monkeypatch.setattr(order.Task, "error", lambda task, theta: error_of(*theta))
    done = {name: [] for name in order.METHODS}
    entries = [sum(map(len, done.values())) for _ in order.match(task, done, 0, ignore)]
    assert entries == list(range(1, len(entries) + 1))  # one at a time
    return done


def test_search_ends_where_errors_meet(monkeypatch):
    done = search(monkeypatch, lambda name, lr: 0.3 if name == "SGD" else 0.5 - 0.1 * np.log(1 + 20 * lr))
    rates = order.learning_rates(done)
    assert len(done["SGD"]) == 1 and rates["SGD"] == 0.1
    for name in NATURAL:
        *before, last = done[name]
        assert rates[name] == last["lr"] == pytest.approx((np.exp(2) - 1) / 20, rel=0.03)
        assert abs(last["error"] - 0.3) <= order.NEAR < min(abs(trial["error"] - 0.3) for trial in before)


def test_search_gives_up_after_its_trials_and_keeps_the_nearest(monkeypatch):
    done = search(monkeypatch, lambda name, lr: 0.3 if name == "SGD" else 0.4 + lr, count=4)
    assert [trial["lr"] for trial in done["natural gradient"]] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert order.learning_rates(done)["natural gradient"] == 0.2


# --- the paper's claims ---------------------------------------------------------------------------------


def found(**variances):
    return {"variance": {name: variances[name.split(",")[0].split(" ")[0]] for name in order.METHODS},
            "errors": {name: [0.25, 0.27] for name in order.METHODS}}  # fmt: skip


FALLING = [10.0, 8, 9, 7, 6, 5, 4, 3, 2, 1]
MIXED = [3.0, 1, 4, 1.5, 5, 9, 2, 6, 5.5, 3.5]


@pytest.mark.parametrize("own, early", [
    (FALLING, "reproduced"), (FALLING[::-1], "reversed"), (MIXED, "undecided"), (MIXED[::-1], "undecided")
])  # fmt: skip
def test_do_early_segments_matter_more(own, early):
    trend = pytest.importorskip("scipy.stats").spearmanr(range(10), own).statistic
    claims = order.claims([found(SGD=own, natural=own)])["SGD"]
    assert claims["early matters more"] == early and claims["trend"] == pytest.approx(trend, rel=1e-12)
    assert claims["first / last"] == own[0] / own[-1]


@pytest.mark.parametrize("lower, words", [(10, "reproduced"), (9, "reproduced"), (8, "undecided"), (2, "undecided"),
                                          (1, "reversed"), (0, "reversed")])  # fmt: skip
def test_does_natural_gradient_vary_less(lower, words):
    own = [v * (0.5 if k < lower else 2.0) for k, v in enumerate(FALLING)]
    claims = order.claims([found(SGD=FALLING, natural=own)])
    assert claims["natural gradient"]["lower in"] == lower and claims["natural gradient"]["varies less"] == words
    assert claims["natural gradient"]["ratio"] == pytest.approx(4.0 ** ((10 - lower) / 10) / 2)
    assert "ratio" not in claims["SGD"]


def test_claims_are_of_the_median_over_seeds():
    seeds = [found(SGD=FALLING, natural=[c * v for v in FALLING]) for c in (0.1, 0.5, 70.0)]
    assert order.claims(seeds)["natural gradient"]["ratio"] == pytest.approx(0.5)


def test_caption_says_what_the_numbers_say():
    seeds = [found(SGD=FALLING, natural=[0.5 * v for v in FALLING[::-1]])]
    record = {
        "settings": {"sizes": dataclasses.asdict(TINY), "data": "some digits"},
        "seeds": [0],
        "results": {"complete": True, "seeds": seeds, "claims": order.claims(seeds),
                    "trials": {name: trials((0.123, 0.26)) for name in order.METHODS}},
    }  # fmt: skip
    text = order.caption(record)
    assert "SGD (lr 0.123, final error 26 %) varies 10 times as much by the first segment as by the last" in text
    assert (
        "(that early segments matter more: reproduced); natural gradient (lr 0.123, damping 3, final error 26 %) has"
        in text
    )
    assert "; natural gradient (lr 0.123, damping 0.1, final error" in text
    assert "in 7 of 10 segments (that it varies less: undecided), and varies 0.1 times as much" in text
    assert text.endswith("(that early segments matter more: reversed).") and text.count(". ") == 0
