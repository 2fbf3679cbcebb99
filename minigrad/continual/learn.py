"""learn: one task after another by one call of `fit` each, whatever the method.

    theta, kept = None, {}
    for task in tasks:
        history = fit(objective, method.optimizer(base, kept), task, theta=theta)
        theta, kept = history.theta, method.keep(kept, objective, history, task, rng)

The optimizer begins anew with each task (Adam's moments are zero again): the paper does not say, and what belongs to
the former task's loss has no place in the next one's.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import backend
from ..data.minibatches import Batches
from ..optimizers import Adam
from ..training import fit
from ..training.history import History
from ..training.progress import interruptible


@dataclass(frozen=True)
class Lesson:
    """A task that has been learned: its number (0, 1, ...), the run, and what the method has kept of it and before."""

    number: int
    history: History
    kept: dict = field(repr=False)

    @property
    def theta(self):
        """The net's parameters at the task's end."""
        return self.history.theta


def learn(
    objective,
    method,
    tasks,
    *,
    updates,
    base=None,
    theta=None,
    batch_size=100,
    seed=0,
    metrics=None,
    evaluate_every=100,
    train_samples=1000,
    folder=None,
    resume=False,
    progress=True,
    clock=time.perf_counter,
):
    """Learn the tasks in order, `updates` each; returns their Lessons.

    tasks: a sequence of (x, t), alike in all but the number of samples; each is asked for once before the first is
    learned and once when it is its turn. method: Plain(), Retrain(), L2Memory(), EWC(), SI(). base: a first-order
    optimizer, Adam() by default. theta: where the first task starts; None draws it, as in `fit`. seed: of parameters,
    batches and whatever the method draws; the first task is learned alike by all methods. metrics: a function of a
    task's number that gives `fit` its metrics, {name: f(theta)}. batch_size, evaluate_every, train_samples, clock: as
    in `fit`; each task's curves begin at update 0. progress: a bar for each task, with this label if it is a string.

    folder: holds the checkpoint of every task. resume: go on from there, bit for bit (on a CPU); tasks learned before
    are read from their checkpoints, and what the method keeps of them is made again.
    After Ctrl-C the list ends early; the last lesson, if its history is interrupted, has kept nothing yet of its task.

    Raises before training: TypeError and ValueError for tasks, a base, a seed or a memory that cannot be meant. Raises
    what `fit` raises.
    """
    base = Adam() if base is None else base
    _check(base, seed)
    method.check(_samples(tasks))
    if folder is not None and not resume:
        for old in Path(folder).glob("task-*.npz"):
            old.unlink()

    lessons, kept, label = [], {}, progress if isinstance(progress, str) else type(method).__name__
    with interruptible() as pressed:
        for number, (x, t) in enumerate(tasks):
            rng, placed = np.random.default_rng([seed, number]), backend.asarray(x)
            task = placed, placed if t is x else backend.asarray(t)
            history = fit(
                objective,
                method.optimizer(base, kept),
                task,
                theta=theta,
                updates=updates,
                batch_size=batch_size,
                seed=rng,
                metrics=metrics(number) if metrics else None,
                evaluate_every=evaluate_every,
                train_samples=train_samples,
                checkpoint=None if folder is None else Path(folder) / f"task-{number}.npz",
                resume=resume,
                progress=f"{label} task {number}" if progress else False,
                clock=clock,
            )
            if not history.interrupted:
                theta, kept = history.theta, method.keep(kept, objective, history, task, rng)
            lessons.append(Lesson(number, history, kept))
            if history.interrupted or pressed.is_set():
                break
    return lessons


def _check(base, seed):
    if isinstance(base, type) or not hasattr(base, "follow"):
        raise TypeError(f"learn: base must be a first-order optimizer, such as Adam(), got {base!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise TypeError(f"learn: seed must be a whole number of at least 0, got {seed!r}")


def _samples(tasks):
    """How many samples each task has; an error that names the first that is no (x, t), or not like task 0."""
    if not hasattr(tasks, "__len__") or not len(tasks):
        raise TypeError(f"learn: tasks must be a sequence of at least one (x, t), got {tasks!r}")
    samples, first = [], None
    for number, task in enumerate(tasks):
        try:
            data = Batches(task, 1, np.random.default_rng(0))  # x and t: kinds, shapes, finite
        except (TypeError, ValueError) as error:
            raise type(error)(f"task {number}: {error}") from error
        if data.t is None:
            raise ValueError(f"task {number}: needs targets; for an autoencoder give (x, x)")
        shapes = [(part.shape[1:], part.dtype.kind) for part in (data.x, data.t)]
        first = first or shapes
        for name, (shape, kind), (expected, expected_kind) in zip("xt", shapes, first, strict=True):
            if (shape, kind) != (expected, expected_kind):
                raise ValueError(
                    f"task {number}: a sample of {name} must be {_kind(expected, expected_kind)} as in task 0, "
                    f"got {_kind(shape, kind)}"
                )
        samples.append(data.samples)
    return samples


def _kind(shape, kind):
    return f"{'floating' if kind == 'f' else 'whole numbers'} of shape {shape}"
