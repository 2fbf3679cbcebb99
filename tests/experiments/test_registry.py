"""Every experiment has what the command line needs."""

import inspect
from types import SimpleNamespace

import pytest

from minigrad import experiments


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_experiment_is_complete(name):
    module = experiments.find(name)
    assert name == module.NAME and module.DESCRIPTION and module.PAPER and module.__doc__
    assert list(inspect.signature(module.run).parameters) == ["options"]
    assert list(inspect.signature(module.plot).parameters) == ["record", "folder"]


def test_unknown_experiment_names_the_nearest():
    with pytest.raises(ValueError, match="unknown experiment 'deep-autoencode'; did you mean 'deep-autoencoder'"):
        experiments.find("deep-autoencode")


def test_recorded_is_what_comes_with_minigrad_or_else_a_quick_run(monkeypatch):
    assert experiments.recorded("conditioning")["settings"]["scale"] == "full"
    record = {"results": 0}
    module = SimpleNamespace(run=lambda options: record | {"options": options})
    monkeypatch.setattr(experiments, "find", lambda name: module)
    found = experiments.recorded("nothing-recorded")
    assert (found["options"].scale, found["options"].progress, found["options"].resume) == ("quick", False, False)
    assert not found["options"].tune and experiments.recorded("nothing-recorded", tune=True)["options"].tune


@pytest.mark.parametrize("tuned", [False, True])
def test_show_says_which_claims_held(tuned, monkeypatch, capsys):
    record = {"settings": {"scale": "full"}, "seeds": [0, 1], "machine": {"cpu": "a CPU"}}
    findings = [{"claim": "up", "numbers": "3", "held": True}, {"claim": "down", "numbers": "4", "held": False}]
    drawn = []
    module = SimpleNamespace(findings=lambda record: findings, plot=lambda record, folder: drawn.append(record))
    monkeypatch.setattr(experiments, "find", lambda name: module)
    monkeypatch.setattr(experiments, "recorded", lambda name, tune: record if tune == tuned else None)
    assert experiments.show("some", *([True] if tuned else [])) is record and drawn == [record]
    assert capsys.readouterr().out == (
        "some, full form, 2 seeds, a CPU\n  held      up\n            3\n  NOT HELD  down\n            4\n"
    )
