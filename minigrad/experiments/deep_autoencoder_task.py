"""One training of the deep autoencoder: what the benchmark and its tuning both do (George, section 2.5)."""

import functools

import numpy as np

from .. import backend
from ..data import mnist, split
from ..training import Diverged, fit
from .deep_autoencoder_methods import METHODS, objective
from .parts import set_or_excerpt


def train_one(name, parameters, train, measured, seconds, seed, options, clock, evaluate_every=None):
    """The History of one method and seed; of a diverged run what there was.

    measured: images whose reconstruction errors are the curves "train_error" and "test_error", evaluated now and then
    or as `evaluate_every` says.
    """
    the, (seen, unseen) = objective(name, parameters["init"]), map(backend.asarray, measured)
    if "samples" in parameters:
        parameters = parameters | {"samples": min(parameters["samples"], len(train))}
    error = lambda theta, x: reconstruction_error(the.settled(theta, seen), theta, x)
    try:
        return fit(
            the,
            METHODS[name].make(parameters),
            (train, train),
            batch_size=min(parameters["batch_size"], len(train) // 5),
            time_limit=seconds,
            clock=clock,
            seed=seed,
            metrics={"train_error": lambda theta: error(theta, seen), "test_error": lambda theta: error(theta, unseen)},
            evaluate_every=evaluate_every or now_and_then,
            progress=f"{name:16} seed {seed}" if options.progress else False,
        )
    except Diverged as failure:
        return failure.history


def reconstruction_error(the, theta, x):
    """Squared error of an image, summed over its pixels, mean over images: ||sigmoid(r) - x||^2 / N."""
    e = the.predict(theta, x) - x
    return backend.item((e * e).sum()) / x.shape[0]


RARE = {round(1.35**k) for k in range(60)}


def now_and_then(update):
    """Evaluate at updates 1, 2, 3, 4, 6, 8, ..., evenly on a logarithmic scale, and at every 500th."""
    return update in RARE or update % 500 == 0


@functools.cache
def images(count):
    """(training images (N, 784), test images, what they are of); count: so many of each at most."""
    (train, _), (test, _) = mnist()
    return train[:count], test[:count], set_or_excerpt("MNIST", 60_000, len(train), len(test))


def measured(scale, test):
    """On how many images of each set errors are measured."""
    return len(test) if scale.measured is None else min(scale.measured, len(test))


@functools.cache
def held_out(count):
    """(training images less a sixth of them, that sixth, what they are of): to tune without the test images."""
    train, _, source = images(count)
    (train, _), (held, _) = split(train, None, len(train) // 6, np.random.default_rng(0))
    return train, held, source
