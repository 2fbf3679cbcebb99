"""fit: one training loop for every method.

An update is theta, state, log = optimizer.step(theta, state, objective, batch, draw, rng). Around it the loop keeps
time, evaluates, tells schedules the validation loss, writes checkpoints, and ends in order. All randomness comes from
four seeds (parameters, batches, further batches, the optimizer's own draws) on the host, so that a seed means the same
on every backend and a checkpoint can hold it.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import backend
from ..backend import xp
from ..data import Batches
from ..losses import Categorical
from . import checkpoint as checkpoints
from .files import writable_folder
from .history import History, add_row
from .progress import Progress, interruptible

SECONDS_BETWEEN_CHECKPOINTS = 10


class Diverged(FloatingPointError):
    """Training met numbers that are not finite. `history` holds the run up to the last update that was."""

    def __init__(self, message, history):
        super().__init__(message)
        self.history = history


def fit(
    objective,
    optimizer,
    data,
    *,
    theta=None,
    updates=None,
    time_limit=None,
    batch_size=100,
    seed=0,
    augment=None,
    validation=None,
    metrics=None,
    evaluate_every=100,
    train_samples=1000,
    callbacks=(),
    checkpoint=None,
    checkpoint_every=None,
    resume=False,
    progress=True,
    clock=time.perf_counter,
):
    """Train and return a History.

    data: (x, t), x (N, ...) floating, t as the loss wants it, x itself for an autoencoder. theta: where to start; None
    draws net.init from the seed, in x's dtype. updates, time_limit (seconds of training): stop at whichever comes
    first; at least one is needed. seed: an integer, or a numpy Generator, from which four seeds are drawn.
    augment: an object such as data.RandomCrops(24). Each batch's x, and that of each further batch which the optimizer
    draws, goes through augment(x, rng) by an rng of its own; curves see augment.central(x), of validation too.

    Every `evaluate_every` updates (or where that function of the update's number is true), at the start and at the end,
    a row of history.curves is taken: the objective on `train_samples` training samples drawn once ("loss"), on all of
    validation = (x, t) ("validation_loss", and "validation_error", the share of wrong labels, for Categorical), and
    metrics = {name: f(theta) -> number}. A batch-normalized net is evaluated with the population statistics of
    the drawn training samples.
    Schedules observe the validation loss at the regular evaluations only. callbacks: each is called with the history
    after every update; one that returns True ends the run.

    Where ranks share the batches (`parallel`), each of them calls fit, with the same arguments. The leading one's clock
    and callbacks decide when to stop; it alone shows progress and writes checkpoints, which all must be able to read.

    checkpoint: a file, written every `checkpoint_every` updates (None: every ten seconds) and at the end. resume:
    go on from that file if it is there, bit for bit as if the run had not stopped (on a CPU); any limit may be raised.
    progress: a bar on stderr, with this label if it is a string. clock: what counts as seconds of training; with
    time.process_time they are those of the processor, whatever else the machine does meanwhile. Ctrl-C ends the run
    after the update it is in.

    Raises TypeError and ValueError for bad arguments and data, OSError where the checkpoint cannot be written, all
    before training; Diverged, with the history so far, when numbers stop being finite, or a method's matrix can no
    longer be factored.
    """
    _check_limits(updates, time_limit, evaluate_every, checkpoint_every)
    _check_optimizer(optimizer)
    _check_augment(augment)
    _check_pairs(data=data, validation=validation)
    seeds = _seeds(seed)
    theta, given = _start(objective, theta, data, seeds["theta"])
    data, validation = _place(data, theta.dtype), _place(validation, theta.dtype)
    seen, validation = _central("data", data, augment), _central("validation", validation, augment)
    settled = objective.settled(theta, seen[0][:2])  # takes single samples, as a batch-normalized net does not
    for name, part in (("data", seen), ("validation", validation)):
        _check_targets(settled, theta, part, name)

    run = _Run(objective, optimizer, theta, data, batch_size, augment, seeds, clock)
    evaluation = _Evaluation(objective, seen, validation, metrics or {}, train_samples, seeds["batches"])
    keeper = _Keeper(checkpoint, checkpoint_every, run)
    if checkpoint is not None:
        keeper.identify(given, validation, evaluate_every, train_samples)
        keeper.open(resume)

    history = run.history
    bar = Progress(_label(progress if objective.ranks.leads else None, optimizer), updates, time_limit)
    with interruptible() as interrupt, np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            _train(run, evaluation, keeper, bar, interrupt, callbacks, updates, time_limit, _due(evaluate_every))
        except ArithmeticError as error:  # not finite, or a matrix that has lost its definiteness
            history.stopped = "diverged"
            raise Diverged(_advice(history, error), history) from error
        finally:
            bar.close(history, history.stopped or "failed")
    return history


def _train(run, evaluation, keeper, bar, interrupt, callbacks, updates, time_limit, due):
    history = run.history
    if not history.curves:
        run.evaluate(evaluation)
    agreed = run.objective.ranks.agreed
    history.stopped = agreed(_limit(history, interrupt, updates, time_limit))
    while history.stopped is None:
        loss = run.step()
        if due(history.update):
            run.observe(run.evaluate(evaluation))
        asked = [callback(history) is True for callback in callbacks]
        keeper.regularly()
        bar.show(history, loss)
        history.stopped = agreed("callback" if any(asked) else _limit(history, interrupt, updates, time_limit))
    if not history.interrupted and history.curves["update"][-1] < history.update:
        run.evaluate(evaluation)
    keeper.save()


def _limit(history, interrupt, updates, time_limit):
    """Which limit is reached, None if none is."""
    if interrupt.is_set():
        return "interrupted"
    if updates is not None and history.update >= updates:
        return "updates"
    if time_limit is not None and history.seconds >= time_limit:
        return "time limit"
    return None


class _Run:
    """All that changes while training; `content` and `restore` are its way into a checkpoint and back."""

    def __init__(self, objective, optimizer, theta, data, batch_size, augment, seeds, clock):
        self.objective, self.optimizer, self.seeds, self.clock = objective, optimizer, seeds, clock
        self.batches = Batches(data, batch_size, np.random.default_rng(seeds["batches"]), augment=augment)
        self.draw = Draw(data, self.batches.size, seeds["draw"], augment)
        self.rng = np.random.default_rng(seeds["rng"])
        coordinates = {"canonical": optimizer.canonical} if hasattr(optimizer, "canonical") else {}
        self.history = History(theta, optimizer.init(objective, theta), **coordinates)

    def step(self):
        """One update, timed; returns the loss on its batch. Nothing is kept of a step that was not finite."""
        h, begin = self.history, self.clock()
        objective = self.objective.thinned(h.point, self.rng)  # dropout leaves one net for all of an update
        theta, state, log = self.optimizer.step(h.point, h.state, objective, next(self.batches), self.draw, self.rng)
        backend.sync()
        h.seconds += self.clock() - begin
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(log.get(name, 0.0)):
                raise FloatingPointError(f"{name} is {log[name]}")
        h.point, h.state = theta, state
        h.update += 1
        h.gradients += log["gradients"]
        add_row(h.steps, log)
        return log["loss"]

    def evaluate(self, evaluation):
        """A row of the curves."""
        h = self.history
        row = {"update": h.update, "seconds": h.seconds, "gradients": h.gradients, **evaluation(h.theta)}
        add_row(h.curves, row)
        return row

    def observe(self, row):
        """Tell the optimizer's schedules the validation loss."""
        if "validation_loss" in row and hasattr(self.optimizer, "observe"):
            self.history.state = self.optimizer.observe(self.history.state, row["validation_loss"])

    def content(self):
        """Everything that changes, as a checkpoint holds it."""
        h = self.history
        tables = {
            f"{table}.{name}": np.array(column)
            for table in ("curves", "steps")
            for name, column in getattr(h, table).items()
        }
        return {
            "theta": h.point,
            **{f"state.{name}": value for name, value in h.state.items()},
            **{name: getattr(h, name) for name in ("update", "seconds", "gradients", "stopped")},
            "batches": self.batches.state(),
            "draw": self.draw.state(),
            "rng": self.rng.bit_generator.state,
            **tables,
        }

    def restore(self, content):
        """Continue from a checkpoint's content."""
        h = self.history
        h.point = content["theta"]
        for name in ("update", "seconds", "gradients", "stopped"):
            setattr(h, name, content[name])
        h.state = _under("state.", content)
        for table in ("curves", "steps"):
            columns = _under(f"{table}.", content)
            setattr(h, table, {name: backend.to_host(column).tolist() for name, column in columns.items()})
        self.batches.restore(content["batches"])
        self.draw.restore(content["draw"])
        self.rng.bit_generator.state = content["rng"]


class Draw:
    """Further batches of the data: draw() of the training batch's size, or draw(size). Each size is its own stream.

    Raises ValueError for a size that the data do not have.
    """

    def __init__(self, data, size, seed, augment=None):
        self.data, self.size, self.seed, self.augment, self.streams = data, size, seed, augment, {}

    def __call__(self, size=None):
        return next(self._stream(self.size if size is None else size))

    def state(self):
        """{size: state of its Batches}."""
        return {str(size): stream.state() for size, stream in self.streams.items()}

    def restore(self, states):
        """Go on where `state` was taken."""
        for size, state in states.items():
            self._stream(int(size)).restore(state)

    def _stream(self, size):
        if size not in self.streams:
            rng = np.random.default_rng([self.seed, size])
            try:
                self.streams[size] = Batches(self.data, size, rng, augment=self.augment)
            except ValueError as error:
                whose = "a batch that the optimizer draws for itself (its samples, or its metric's batch)"
                raise ValueError(f"{whose}: {error}") from error
        return self.streams[size]


def share_wrong(objective, theta, pair):
    """Which share of the samples of a pair (x, t) a classifier labels wrongly."""
    x, t = pair
    return backend.item((objective.predict(theta, x).argmax(axis=1) != t).mean())


@dataclass
class _Evaluation:
    """evaluation(theta) -> {"loss": ..., "validation_loss": ..., ...}; `seed` draws the training samples, once."""

    objective: object
    data: tuple
    validation: tuple | None
    metrics: dict
    train_samples: int
    seed: int

    def __post_init__(self):
        x, t = self.data
        order = np.random.default_rng([self.seed, len(x)]).permutation(len(x))
        index = backend.asarray(np.sort(order[: self.train_samples]))
        self.subset = (x[index], t[index])

    def __call__(self, theta):
        if not backend.item(xp.isfinite(theta).all()):
            self.objective.diagnose(theta, self.subset[0])
        objective = self.objective.settled(theta, self.subset[0])
        row = {"loss": objective.value(theta, self.subset)}
        if self.validation is not None:
            row["validation_loss"] = objective.value(theta, self.validation)
            if isinstance(objective.loss, Categorical):
                row["validation_error"] = share_wrong(objective, theta, self.validation)
        return row | {name: float(metric(theta)) for name, metric in self.metrics.items()}


class _Keeper:
    """Writes a run's checkpoints, or none if path is None."""

    def __init__(self, path, every, run):
        self.path, self.every, self.run = Path(path) if path is not None else None, every, run
        self.saved = time.monotonic()
        self.fingerprint = {}

    def identify(self, given, validation, evaluate_every, train_samples):
        """Name what decides the run's numbers: a checkpoint that differs in any of it is another run's."""
        run, pair = self.run, lambda pair: " and ".join(checkpoints.describe_array(part) for part in pair)
        self.fingerprint = {
            "optimizer": checkpoints.describe(run.optimizer),
            "objective": checkpoints.describe(run.objective),
            "theta": checkpoints.describe_array(given) if given is not None else f"drawn in {run.history.point.dtype}",
            "data": pair((run.batches.x, run.batches.t)),
            "validation": pair(validation) if validation is not None else "none",
            "batch_size": str(run.batches.size),
            "evaluate_every": checkpoints.describe(evaluate_every),
            "train_samples": str(train_samples),
            "seed": " ".join(str(seed) for seed in run.seeds.values()),
        }
        if run.batches.augment is not None:
            self.fingerprint["augment"] = checkpoints.describe(run.batches.augment)

    def open(self, resume):
        """Resume if asked to and possible; else see that checkpoints can be written."""
        ranks = self.run.objective.ranks
        with ranks.together("the checkpoint's folder"):
            if ranks.leads:
                writable_folder(self.path.parent)
        found = ranks.agreed(resume and self.path.exists())
        with ranks.together("the checkpoint"):
            if found:
                self.run.restore(checkpoints.load(self.path, self.fingerprint))
            else:
                self.save()

    def regularly(self):
        """Save if it is time."""
        if self.path is None:
            return
        late = self.run.objective.ranks.agreed(time.monotonic() - self.saved > SECONDS_BETWEEN_CHECKPOINTS)
        if late if self.every is None else _due(self.every)(self.run.history.update):
            self.save()

    def save(self):
        """Write the checkpoint; parameters that are not finite are refused, so a good one is never replaced."""
        if self.path is None:
            return
        if not backend.item(xp.isfinite(self.run.history.point).all()):
            raise FloatingPointError("theta is not finite")
        if self.run.objective.ranks.leads:
            checkpoints.save(self.path, self.run.content(), self.fingerprint)
        self.saved = time.monotonic()


def _due(every):
    """A cadence as a function of the update's number."""
    return every if callable(every) else lambda update: update % every == 0


def _under(prefix, content):
    return {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}


def _label(progress, optimizer):
    if not progress:
        return None
    return progress if isinstance(progress, str) else type(optimizer).__name__


def _advice(history, error):
    losses = history.steps.get("loss", [])
    last = f"; the last loss was {losses[-1]:.6g}" if losses else ""
    return (
        f"training diverged at update {history.update + 1}: {error}{last}. "
        "Try a smaller learning rate, more damping, or gradient clipping"
    )


# --- checks, all before the first update -----------------------------------------------------------------


def _check_limits(updates, time_limit, evaluate_every, checkpoint_every):
    if updates is None and time_limit is None:
        raise ValueError("fit: give updates, time_limit (seconds), or both")
    limits = {"updates": updates, "evaluate_every": evaluate_every, "checkpoint_every": checkpoint_every}
    for name, value in limits.items():
        if name != "updates" and callable(value):
            continue
        if value is not None and (not isinstance(value, int | np.integer) or value < 1):
            raise ValueError(f"fit: {name} must be a positive whole number, got {value!r}")
    if time_limit is not None and not 0 < time_limit < math.inf:
        raise ValueError(f"fit: time_limit must be a positive number of seconds, got {time_limit!r}")


def _check_optimizer(optimizer):
    if isinstance(optimizer, str):
        from ..optimizers import by_name

        known = by_name(optimizer).__name__
        raise TypeError(f"fit: give the optimizer itself, {known}(...), not its name {optimizer!r}")
    if isinstance(optimizer, type) or not hasattr(optimizer, "step"):
        raise TypeError(f"fit: an optimizer is an object with init and step, such as SGD(lr=0.1), got {optimizer!r}")


def _check_augment(augment):
    if augment is None or (callable(augment) and hasattr(augment, "central") and not isinstance(augment, type)):
        return
    raise TypeError(
        f"fit: augment must be an object with augment(x, rng) and augment.central(x), such as RandomCrops(24), "
        f"got {augment!r}"
    )


def _check_pairs(**pairs):
    for name, pair in pairs.items():
        if pair is None and name == "validation":
            continue
        try:
            t = Batches(pair, 1, np.random.default_rng(0)).t  # x and t: kinds, shapes, finite
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        if t is None:
            raise ValueError(f"{name}: fit needs targets; for an autoencoder give (x, x)")


def _seeds(seed):
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0:
        seed = np.random.default_rng(int(seed))
    if not isinstance(seed, np.random.Generator):
        raise TypeError(f"fit: seed must be a whole number of at least 0 or a numpy.random.Generator, got {seed!r}")
    numbers = seed.integers(2**53, size=4).tolist()
    return dict(zip(("theta", "batches", "draw", "rng"), numbers, strict=True))


def _start(objective, theta, data, seed):
    """(theta to start from, the one that was given or None)."""
    if theta is None:
        return objective.net.init(np.random.default_rng(seed), dtype=data[0].dtype), None
    objective.layout.check(theta)
    theta = backend.asarray(theta).copy()
    if not backend.item(xp.isfinite(theta).all()):
        raise ValueError("fit: theta must be finite")
    return theta, theta


def _place(data, dtype):
    """(x, t) on the backend, in theta's dtype; t stays x itself where it is. None stays None."""
    if data is None:
        return None
    x, t = data
    placed = backend.asarray(x, dtype=dtype)
    return placed, placed if t is x else backend.asarray(t, dtype=dtype if t.dtype.kind == "f" else None)


def _central(name, data, augment):
    """(x, t) as the curves see it: the central crops of x; t stays x itself where it is. None stays None."""
    if data is None or augment is None:
        return data
    x, t = data
    try:
        central = augment.central(x)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error
    return central, central if t is x else t


def _check_targets(objective, theta, data, name):
    """One forward pass of one sample shows the outputs' shape; the loss then checks all targets against it."""
    if data is None:
        return
    x, t = data
    r = objective.net.apply(theta, x[:1])
    try:
        objective.loss.check((x.shape[0], *r.shape[1:]), t)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error
