"""Every experiment has what the command line needs."""

import inspect

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
