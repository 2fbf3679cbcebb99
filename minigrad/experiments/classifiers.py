"""What the experiments with convolutional classifiers share: one run that checkpoints can resume, and CIFAR-10."""

import time

from .. import backend
from ..data import cifar10, images
from ..training import Diverged, fit, share_wrong
from .parts import checkpoints, set_or_excerpt

COLUMNS = ("update", "seconds", "gradients", "loss", "train_error", "test_error")
POPULATION = 1000  # training images whose statistics a batch-normalized net is evaluated with


def train_classifier(
    objective,
    optimizer,
    train,
    test,
    options,
    job,
    *,
    batch_size,
    updates,
    every,
    measured,
    cores=None,
    augment=None,
    validation=None,
):
    """The History of a job (method, seed); of one that diverged what there was.

    train, test, validation: pairs (x, t); the errors in the curves are those of the first `measured` images of train
    and of all of test, every so many updates. The run goes on from the checkpoint that it left, if it left one. cores:
    as `run_seeds` has it; with a number of them a second of training is one of the processor.
    """
    central = augment.central if augment is not None else lambda x: x
    seen = [part[:measured] for part in train]
    seen, unseen = ((backend.asarray(central(x)), backend.asarray(t)) for x, t in (seen, test))

    def error(pair):
        return lambda theta: share_wrong(objective.settled(theta, seen[0][:POPULATION]), theta, pair)

    name, seed = job
    try:
        return fit(
            objective,
            optimizer,
            train,
            batch_size=batch_size,
            updates=updates,
            seed=seed,
            augment=augment,
            validation=validation,
            metrics={"train_error": error(seen), "test_error": error(unseen)},
            evaluate_every=every,
            train_samples=min(measured, POPULATION),
            checkpoint=checkpoints(options, job) / "run",
            resume=True,  # `run_seeds` removes what another run left
            progress=f"{name:20} seed {seed}" if options.progress else False,
            clock=time.perf_counter if cores is None else time.process_time,
        )
    except Diverged as failure:
        return failure.history


def standardized_cifar(count, test_count):
    """(training pair, test pair, what they are of), so many of each (None: all), images (N, 32, 32, 3) on the host.

    Each colour has mean 0 and variance 1 in the training images.
    """
    (x, t), (x_test, t_test) = cifar10()
    source = set_or_excerpt("CIFAR-10", 50_000, len(x), len(x_test))
    x, x_test = images(x[:count], 3), images(x_test[:test_count], 3)
    mean, deviation = x.mean(axis=(0, 1, 2), dtype="float64"), x.std(axis=(0, 1, 2), dtype="float64")
    for part in (x, x_test):
        part -= mean
        part /= deviation
    return (x, t[:count]), (x_test, t_test[:test_count]), source
