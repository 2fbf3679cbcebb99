"""The benchmark: quick runs on random images, its record, its resume, and captions that say what the numbers say."""

import dataclasses
import itertools
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from minigrad import backend
from minigrad.experiments import deep_autoencoder as demo
from minigrad.experiments import deep_autoencoder_report as report
from minigrad.experiments import deep_autoencoder_task as task
from minigrad.experiments import parts
from minigrad.experiments import tune_deep_autoencoder as tuning
from minigrad.experiments.deep_autoencoder_methods import METHODS, objective
from minigrad.losses import Bernoulli
from minigrad.nets import autoencoder
from minigrad.objective import Objective
from minigrad.search import RandomSearch, Space
from minigrad.training import records
from tests.experiments.noise import options
from tests.helpers import close, dev


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images, a small net, a fiftieth of a second each."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    rng = np.random.default_rng(0)
    x = rng.random((60, 784), dtype="float32")
    monkeypatch.setattr(task, "mnist", lambda: ((x, np.zeros(60)), (x[:20], np.zeros(20))))
    for module in (demo, task, tuning):
        monkeypatch.setattr(module, "objective", small_objective)
    for data in (task.images, task.held_out):
        data.cache_clear()
    monkeypatch.setitem(demo.SCALES, "quick", demo.Scale(0.02, None, None, 1, demo.OF_THE_DEMO))
    monkeypatch.setitem(tuning.SCALES, "quick", tuning.Scale(2, 0.01, None, demo.OF_THE_DEMO))
    yield
    for data in (task.images, task.held_out):
        data.cache_clear()


def small_objective(name, initial="sparse"):
    return Objective(autoencoder((784, 6, 3), normalization=METHODS[name].normalization), Bernoulli())


def test_run_and_plot(tmp_path):
    record = demo.run(options(tmp_path, seeds=2))
    assert record["results"]["complete"] and record["seeds"] == [0, 1]
    loaded = records.load(tmp_path / "record.json", demo.NAME)
    assert {name: list(runs) for name, runs in loaded["results"]["runs"].items()} == {
        name: ["0", "1"] for name in demo.OF_THE_DEMO
    }
    pictures = loaded["results"]["runs"]["Adam"]["1"]["pictures"]
    assert {name: np.shape(of) for name, of in pictures.items()} == {
        "digits": (demo.PICTURES, 784), "reproduced": (demo.PICTURES, 784)
    }  # fmt: skip
    assert "excerpt of MNIST with 80 images" in loaded["settings"]["data"]
    assert "median and range of 2 seeds" in demo.caption(loaded)
    (path,) = demo.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert demo.run(options(tmp_path, seeds=2, resume=True))["results"] == loaded["results"]  # nothing is repeated


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(name, monkeypatch, tmp_path):
    """For a moment, from the first parameters of its search; the error is that of the net as it is used afterwards."""
    histories, train_one = [], task.train_one
    monkeypatch.setattr(tuning, "train_one", lambda *a, **b: histories.append(train_one(*a, **b)) or histories[-1])
    trial = RandomSearch(Space(METHODS[name].space)).ask()
    error, notes = tuning.trial(tuning.Scale(1, 0.05, None, (name,)), name, options(tmp_path), trial)
    (history,) = histories
    assert notes == {"updates": history.update} and history.update >= 1
    train, held_out, _ = task.held_out(None)
    the = small_objective(name).settled(history.theta, dev(train[: len(held_out)]))
    y = backend.to_host(the.predict(history.theta, dev(held_out)))
    close(error, np.mean([np.sum((a - b) ** 2) for a, b in zip(y, held_out)]), 1e-5)


def interrupt_in(monkeypatch, method):
    """Press Ctrl-C in the first evaluation of the first run of this method."""
    running, measure, train = [], task.reconstruction_error, task.train_one

    def named(name, *args, **options):
        running.append(name)
        return train(name, *args, **options)

    def pressed(*args):
        if running[-1] == method and running.count(method) == 1 and "pressed" not in running:
            running.insert(0, "pressed")
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    for module in (demo, tuning):
        monkeypatch.setattr(module, "train_one", named)
    monkeypatch.setattr(task, "reconstruction_error", pressed)


def test_interrupted_then_resumed(tmp_path, monkeypatch):
    interrupt_in(monkeypatch, "natural gradient")
    record = demo.run(options(tmp_path))
    assert {name: len(runs) for name, runs in record["results"]["runs"].items()} == {
        "momentum": 1, "Adam": 1, "natural gradient": 0, "K-FAC": 0, "PRONG": 0
    }  # fmt: skip
    assert not record["results"]["complete"] and demo.caption(record).endswith("unfinished.")
    demo.plot(record, tmp_path)
    first = records.load(tmp_path / "record.json")["results"]["runs"]["momentum"]
    record = demo.run(options(tmp_path, resume=True))
    assert record["results"]["complete"] and record["results"]["runs"]["momentum"] == first


def test_resume_refuses_a_record_of_other_settings(tmp_path, monkeypatch):
    demo.run(options(tmp_path, seeds=2))
    with pytest.raises(ValueError, match=r"record\.json is of another run: seeds is \[0, 1\] there, \[0\] here"):
        demo.run(options(tmp_path, resume=True))
    monkeypatch.setitem(demo.SCALES, "quick", dataclasses.replace(demo.SCALES["quick"], seconds=0.3))
    with pytest.raises(ValueError, match=r"record\.json is of another run: seconds is 0\.02 there, 0\.3 here"):
        demo.run(options(tmp_path, resume=True, seeds=3))


def test_divergence_is_in_the_record_and_the_caption(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.SCALES, "quick", demo.Scale(0.2, None, None, 1, demo.OF_THE_DEMO))
    parameters = demo.parameters_of(records.load(demo.TUNED), demo.OF_THE_DEMO)
    parameters["momentum"] = {"lr": 1e37, "momentum": 0.9, "batch_size": 10, "init": "sparse"}
    monkeypatch.setattr(demo, "parameters_of", lambda tuning, methods: parameters)
    record = demo.run(options(tmp_path))
    assert "momentum diverged (seed 0, update" in demo.caption(record)
    demo.plot(records.load(tmp_path / "record.json"), tmp_path)


def example(ahead_by_updates, ahead_by_seconds, methods=demo.OF_THE_DEMO, seeds=(0,), scale="usual"):
    """A record in which these methods are ahead."""
    runs = {}
    for name in methods:
        early = 10.0 if name == ahead_by_updates else 50.0
        late = 1.0 if name == ahead_by_seconds else 5.0
        few = name == ahead_by_updates != ahead_by_seconds
        columns = {"update": [0, 4] if few else [0, 4, 400], "seconds": [0, 20.0] if few else [0, 0.1, 20.0]}
        errors = [200.0, early] if few else [200.0, early, late]
        columns |= {"train_error": errors, "test_error": [2 * e for e in errors]}
        run = {"updates": columns["update"][-1], "seconds": 20.0, "phases": {"gradient": 2.0}, "curves": columns}
        runs[name] = {str(seed): run for seed in seeds}
    parameters = {name: {"batch_size": 10, "lr": 0.1, "init": "sparse"} for name in methods}
    settings = {"data": "some images", "measured": 100, "parameters": parameters, "seconds": 20.0, "scale": scale}
    errors = {name: [5.0, None, 3.0] for name in methods}
    settings["tuning"] = {"search": "random", "trials": 3, "seconds": 45.0, "errors": errors}
    results = {"complete": True, "runs": runs}
    return {"settings": settings, "seeds": list(seeds), "machine": {"cpu": "a CPU"}, "results": results}


@pytest.mark.parametrize("by_updates", ["natural gradient", "momentum"])
@pytest.mark.parametrize("by_seconds", ["Adam", "momentum"])
def test_caption_names_whoever_is_ahead(by_updates, by_seconds):
    text = demo.caption(example(by_updates, by_seconds))
    if by_updates != by_seconds:
        assert f"after 4 updates {by_updates} is ahead, with 20 against 100 for" in text
    assert f"after 20 s of training {by_seconds} is ahead, with 2 against 10 for" in text
    assert text.count(".") == 1


def test_reconstruction_error_is_the_sum_over_pixels():
    the = demo.objective("Adam")
    theta = the.net.init(np.random.default_rng(0))
    x = np.random.default_rng(1).random((7, 784), dtype="float32")
    y = backend.to_host(the.predict(theta, dev(x)))
    close(task.reconstruction_error(the, theta, dev(x)), np.mean([np.sum((a - b) ** 2) for a, b in zip(y, x)]), 1e-5)


# --- the tuning -------------------------------------------------------------------------------------------


def test_tuned_parameters_are_those_of_the_search():
    best = demo.parameters_of(demo.tuned(options(Path("."))), demo.OF_THE_DEMO)
    for name, parameters in best.items():
        assert set(parameters) == set(METHODS[name].space) and METHODS[name].make(parameters)


def test_a_method_that_was_not_tuned_is_named():
    record = records.load(demo.TUNED)
    del record["results"]["runs"]["Adam"]
    with pytest.raises(ValueError, match=r"has no parameters of Adam: run tune-deep-autoencoder --full"):
        demo.parameters_of(record, ["Adam"])


def test_objectives_differ_in_nothing_but_weights_and_normalization():
    nets = {objective(name, initial).net for name, initial in itertools.product(METHODS, ("sparse", "Glorot 16"))}
    assert len({dataclasses.replace(net, initializer=None, normalization=None) for net in nets}) == 1
    assert len(nets) == 2 * 3


def test_tuning_is_fair_and_resumes(tmp_path, monkeypatch):
    interrupt_in(monkeypatch, "K-FAC")
    record = tuning.run(options(tmp_path))
    assert not record["results"]["complete"]
    record = tuning.run(options(tmp_path, resume=True))
    assert record["results"]["complete"]
    for name, trials in tuning.trials(record).items():
        search = RandomSearch(Space(METHODS[name].space), list(METHODS).index(name))
        drawn = [search.trial(number).parameters for number in (0, 1)]
        assert [{key: trial[key] for key in METHODS[name].space} for trial in trials] == drawn
        assert [trial["number"] for trial in trials] == [0, 1]
    assert set(tuning.winners(record)) == set(demo.OF_THE_DEMO)
    tuning.plot(record, tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"record.json", f"{tuning.NAME}.png"}


def test_tune_searches_by_biased_search_and_goes_on_with_what_it_found(tmp_path, monkeypatch):
    interrupt_in(monkeypatch, "K-FAC")
    record = demo.run(options(tmp_path, tune=True))
    assert not record["results"]["complete"] and not any(record["results"]["runs"].values())
    demo.plot(record, tmp_path)
    assert demo.caption(record).endswith("unfinished.")
    record = demo.run(options(tmp_path, tune=True, resume=True))
    assert record["results"]["complete"]
    found = records.load(tmp_path / "tuning" / "record.json", tuning.NAME)
    assert found["settings"]["search"] == "biased"
    assert record["settings"]["parameters"] == tuning.winners(found)
    assert record["settings"]["tuning"]["errors"]["Adam"] == [t["error"] for t in tuning.trials(found)["Adam"]]


@pytest.mark.parametrize(("tune", "search"), [(False, "random"), (True, "biased")])
def test_the_search_by_itself(tune, search, tmp_path):
    """--tune is heard here too: what comes with minigrad as tuned can be made by that command."""
    assert tuning.run(options(tmp_path, tune=tune))["settings"]["search"] == search


def test_best_trial():
    trials = [{"lr": 1, "error": None, "updates": 3}, {"lr": 2, "error": 5.0, "updates": 3}, {"lr": 3, "error": 9.0}]
    assert parts.best([trial | {"number": 0} for trial in trials]) == {"lr": 2}
    assert parts.best(trials[:1]) == {"lr": 1}


# --- the report of a full run -----------------------------------------------------------------------------


def test_families_hold_every_method_once():
    assert sorted(name for names in report.FAMILIES.values() for name in names) == sorted(METHODS)


def test_report_of_all_methods(tmp_path):
    record = example("K-FAC", "PRONG", tuple(METHODS), (0, 1, 2), "full")
    paths = demo.plot(record, tmp_path)
    assert [path.suffix for path in paths] == [".png", ".png", ".md"] and all(path.stat().st_size for path in paths)
    text = report.best_of(record)
    assert text.startswith("after 4 updates K-FAC (10) is ahead of") and "at the end PRONG (1) is ahead of" in text
    lines = paths[2].read_text().splitlines()
    assert len(lines) == 2 + len(METHODS)
    assert lines[2].startswith("| PRONG | 1 (1 - 1) | 2 (2 - 2) | 400 | 50 | 5, 0, 0 |")


def test_two_tunings_side_by_side(tmp_path):
    """Pairs of the same method, by the second record's error at the end; a failed trial is never the best."""
    methods = ("K-FAC", "PRONG", "Adam")
    pair = [example("K-FAC", name, methods, (0, 1, 2), "full") for name in ("PRONG", "Adam")]
    for record, search, errors in zip(pair, ("random", "biased"), ([3.0, None], [None, 2.0, 5.0]), strict=True):
        record["settings"]["tuning"] |= {"search": search, "errors": dict.fromkeys(methods, errors)}
    del pair[0]["results"]["runs"]["K-FAC"]
    assert report.compared(*pair) == [
        {"method": "Adam", "trial": [3.0, 2.0], "train": [5.0, 1.0]},
        {"method": "PRONG", "trial": [3.0, 2.0], "train": [1.0, 5.0]},
    ]
    assert report.plot_compared(*pair, tmp_path / "pair.png").stat().st_size
    text = report.caption_of_two(*pair)
    assert text.endswith("biased search's best trial is better for 2 methods, and its parameters train further for 1.")
    pair[1]["machine"] = {"cpu": "another CPU"}
    assert report.caption_of_two(*pair) == text + " Their seconds are of two machines, a CPU and another CPU."


FOUR = {  # method: (batch size, seconds of an update, training error after 0, 100, 200, 400 of them)
    "PRONG": (20, 0.4, [50, 4, 3, 2]),
    "momentum": (10, 0.1, [50, 20, 10, 6]),
    "RMSProp": (10, 0.9, [50, 30, 20, 8]),
    "batch norm": (10, 0.23, [50, 9, 5, 3]),
}


def four(changes=(), seeds=(0, 1)):
    """A record of PRONG and its baselines; changes: other errors of a method."""
    runs, errors = {}, {name: each[2] for name, each in FOUR.items()} | dict(changes)
    for name, (_, cost, _) in FOUR.items():
        updates = [0, 100, 200, 400]
        curves = {"update": updates, "seconds": [cost * u for u in updates], "train_error": errors[name],
                  "test_error": errors[name]}  # fmt: skip
        run = {"updates": 400, "seconds": 400 * cost, "phases": {}, "curves": curves}
        runs[name] = {str(seed): run for seed in seeds}
    parameters = {name: {"batch_size": size} for name, (size, *_) in FOUR.items()}
    return {"settings": {"parameters": parameters}, "seeds": list(seeds), "results": {"complete": True, "runs": runs}}


def test_findings_that_hold():
    """After 100 updates, the first that is looked at, PRONG has less than momentum's last error: 400 / 100 times."""
    updates, seconds, fewer, epochs = report.findings(four())
    assert updates["held"] and updates["numbers"] == (
        "after 400 updates PRONG 2, momentum 6, RMSProp 8, batch norm 3"
    )  # fmt: skip
    assert seconds["held"] and seconds["numbers"] == "at the end PRONG 4, momentum 6, RMSProp 30, batch norm 6.04"
    assert not fewer["held"] and fewer["numbers"].startswith(
        "it has momentum's error in 4 times fewer; it has RMSProp's error in 4 times fewer"
    )
    assert not epochs["held"] and epochs["numbers"] == "2.00 by PRONG, 2.30 by batch norm, 9.00 by RMSProp"


def test_findings_that_do_not():
    worse = four({"PRONG": [50, 40, 30, 7]})
    updates, _, fewer, _ = report.findings(worse)
    assert not updates["held"] and fewer["numbers"] == (
        "it has momentum's error at no time; it has RMSProp's error in 1 times fewer; "
        "it has batch norm's error at no time"
    )
    slow = four({"PRONG": [50, 4, 3, 2]})
    slow["results"]["runs"]["PRONG"]["1"]["curves"] = slow["results"]["runs"]["PRONG"]["1"]["curves"] | {
        "train_error": [50, 4, 3, 3.5]
    }
    assert not report.findings(slow)[0]["held"]  # one seed is behind batch norm's
    slow["results"]["complete"] = False
    assert report.findings(slow) == [] == report.findings(example("K-FAC", "PRONG"))


def test_a_run_that_diverged_comes_last():
    record = example("K-FAC", "PRONG", ("PRONG", "Adam"), (0, 1))
    record["results"]["runs"]["PRONG"]["1"] = record["results"]["runs"]["PRONG"]["1"] | {"diverged": 3}
    assert [row["method"] for row in report.table(record)] == ["Adam", "PRONG"]


def test_split_is_what_phases_claim_and_the_rest():
    runs = [{"updates": 10, "seconds": 3.0, "phases": {"gradient": 1.0, "inversion": 0.5}},
            {"updates": 10, "seconds": 1.0, "phases": {"gradient": 1.0}}]  # fmt: skip
    close([report.split(runs)[phase] for phase in ("gradient", "statistics", "inversion", "rest")], [100, 0, 25, 75])


@pytest.mark.parametrize("errors", [[3.0, 1.0, 2.0, 7.0], [5.0, None, 1.0]])
def test_best_of_k_is_the_mean_over_all_choices(errors):
    full = [max(e for e in errors if e is not None) if e is None else e for e in errors]
    expected = [np.mean([min(c) for c in itertools.combinations(full, k)]) for k in range(1, len(errors) + 1)]
    close(report.best_of_k(errors), expected)
