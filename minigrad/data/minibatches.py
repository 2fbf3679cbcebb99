"""Splits and minibatches: who sees which sample when, decided by an explicit generator.

A run that stops and resumes must see the samples it would have seen, so the order of an epoch is a pure
function of two integers: `default_rng([seed, epoch]).permutation(N)`. The state of an endless iterator is
then seed, epoch and position (and the sizes they belong to): a line of JSON, and no generator that somebody
else may have drawn from in between.

Arrays may lie on the host, where each minibatch is gathered and put on the backend, or on the backend
already (`minigrad.backend.asarray(x)`, once), where only the indices travel. For an autoencoder the target
is the input: `(x, x)` is gathered once, and the batch is the same array twice. `(x, None)` has no targets.
Augmentation (`augment.py`) is drawn for each batch from a generator that seed, epoch and position name.
"""

import operator

import numpy as np

from minigrad import backend


class Batches:
    """Minibatches without end, each epoch in a fresh random order.

    data: (x, t), x floating of shape (N, ...), t an array of N targets, None, or x itself.
    rng: numpy.random.Generator; one number is drawn from it here, none later.
    drop_last: leave out the last N % size samples of each epoch's order, so that all batches are of one size
    (default, as training wants it: a small batch is a noisy one); other samples are left out next time.
    augment: a function (x, rng) -> x of the same samples, such as RandomCrops; each batch of x on the backend goes
    through it, with a generator of its own, a function of seed, epoch and position. None: x as it is.

    `next` gives (x, t) on the backend. `epoch` counts from 0 and `position` the samples handed out in it.
    Raises ValueError or TypeError for data, sizes or generators that cannot be meant.
    """

    def __init__(self, data, size, rng, drop_last=True, augment=None):
        self.x, self.t = _check_data(data)
        self.augment = _check_augment(augment)
        self.samples = len(self.x)
        self.size = _check_size(size, self.samples)
        self.usable = self.samples - self.samples % self.size if drop_last else self.samples
        seed = int(check_rng(rng).integers(2**53))  # up to 2**53 every JSON reader is exact
        self._begin(seed, epoch=0, position=0)

    def __iter__(self):
        return self

    def __next__(self):
        if self.position >= self.usable:
            self._begin(self.seed, self.epoch + 1, position=0)
        index = self._order[self.position : min(self.position + self.size, self.usable)]
        self.position += len(index)
        x, t = _take(self.x, self.t, index)
        if self.augment is None:
            return x, t
        # The position behind the batch, never 0: a zero at the end would name the generator of the epoch's order.
        augmented = self.augment(x, np.random.default_rng([self.seed, self.epoch, self.position]))
        return augmented, augmented if t is x else t

    def state(self):
        """What `restore` needs, as a dict of integers."""
        names = ("seed", "epoch", "position", "samples", "size", "usable")
        return {name: getattr(self, name) for name in names}

    def restore(self, state):
        """Go on where `state` was taken: the same batches follow, bit for bit (same NumPy release, same `augment`).

        Raises ValueError when the state is incomplete, out of range, or of other data or another batch size,
        TypeError when it holds anything but integers.
        """
        mine = self.state()
        if not isinstance(state, dict) or set(state) != set(mine):
            raise ValueError(f"state of Batches must be a dict of {', '.join(mine)}, got {state!r}")
        state = {name: _check_integer(name, value) for name, value in state.items()}
        for name in ("samples", "size", "usable"):
            if state[name] != mine[name]:
                raise ValueError(f"state of other Batches: {name} is {state[name]}, here {mine[name]}")
        between_batches = (*range(0, self.usable, self.size), self.usable)
        if state["seed"] < 0 or state["epoch"] < 0 or state["position"] not in between_batches:
            raise ValueError(f"state of Batches out of range: {state!r}")
        self._begin(state["seed"], state["epoch"], state["position"])

    def _begin(self, seed, epoch, position):
        self.seed, self.epoch, self.position = seed, epoch, position
        self._order = np.random.default_rng([seed, epoch]).permutation(self.samples)


def batches(data, size, rng=None, drop_last=False):
    """One pass over data = (x, t) in minibatches on the backend: in order, or in the random order of `rng`.

    Every sample comes once; drop_last leaves out the last, smaller batch. Shapes and errors as `Batches`.
    """
    x, t = _check_data(data)
    samples, size = len(x), _check_size(size, len(x))
    order = np.arange(samples) if rng is None else check_rng(rng).permutation(samples)
    usable = samples - samples % size if drop_last else samples
    return (_take(x, t, order[start : min(start + size, usable)]) for start in range(0, usable, size))


def split(x, t, n, rng):
    """Two disjoint parts ((x_a, t_a), (x_b, t_b)) of N samples: b is n of them at random, a the N - n others.

    Both keep the order of x and lie where x and t lie. t may be None or x itself, and is so in both parts.
    Raises ValueError unless 0 < n < N, and as `Batches` for x and t.
    """
    x, t = _check_data((x, t))
    n = _check_integer("n", n)
    if not 0 < n < len(x):
        raise ValueError(f"n must leave samples on both sides: expected 0 < n < {len(x)}, got {n}")
    order = check_rng(rng).permutation(len(x))
    return _gather(x, t, np.sort(order[n:])), _gather(x, t, np.sort(order[:n]))


def _take(x, t, index):
    """The samples `index` on the backend."""
    x_batch, t_batch = _gather(x, t, index)
    placed = backend.asarray(x_batch)
    if t_batch is x_batch:
        return placed, placed
    return placed, None if t_batch is None else backend.asarray(t_batch)


def _gather(x, t, index):
    """The samples `index`, where x and t lie."""
    x_part = _rows(x, index)
    if t is x:
        return x_part, x_part
    return x_part, None if t is None else _rows(t, index)


def _rows(array, index):
    return array[backend.asarray(index) if backend.is_array(array) else index]


# --- bad input ------------------------------------------------------------------------------------------


def _check_data(data):
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data must be a pair (x, t), t None for no targets, got {type(data).__name__}")
    x, t = data
    check_array("x", x)
    if x.dtype.kind != "f":
        raise TypeError(f"x must be floating point, got {x.dtype}; scale and convert: x.astype(np.float32)")
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x must hold one sample a row, shape (N, ...) and not empty, got shape {x.shape}")
    _check_finite("x", x)
    if t is not None and t is not x:
        _check_targets(t, len(x))
    return x, t


def _check_targets(t, samples):
    check_array("t", t)
    if t.dtype.kind not in "fiub":
        raise TypeError(f"t must hold numbers, got {t.dtype}")
    if t.ndim < 1 or len(t) != samples:
        raise ValueError(f"t must hold one target for each of the {samples} rows of x, got shape {t.shape}")
    if t.dtype.kind == "f":
        _check_finite("t", t)


def _check_augment(augment):
    if augment is not None and (isinstance(augment, type) or not callable(augment)):
        raise TypeError(f"augment must be a function (x, rng) -> x, such as RandomCrops(24), got {augment!r}")
    return augment


def check_array(name, array):
    """Raise TypeError unless `array` lies on the host or on the backend."""
    if not isinstance(array, np.ndarray) and not backend.is_array(array):
        raise TypeError(f"{name} must be an array of NumPy or of the backend, got {type(array).__name__}")


def _check_finite(name, array):
    if not array.size:
        return
    # A NaN or inf anywhere shows in the minimum or the maximum, and these need no second array.
    extremes = backend.item(array.min()), backend.item(array.max())
    if not np.isfinite(extremes).all():
        bad = ~np.isfinite(backend.to_host(array)).reshape(len(array), -1)
        row = int(bad.any(axis=1).argmax())
        raise ValueError(f"{name} must be finite, got {bad.sum()} NaN or inf, the first in sample {row}")


def _check_size(size, samples):
    size = _check_integer("size", size)
    if not 0 < size <= samples:
        raise ValueError(f"size of a batch must be 1..{samples} (the number of samples), got {size}")
    return size


def _check_integer(name, value):
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def check_rng(rng):
    """`rng`, or TypeError unless it is the host's generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator (np.random.default_rng(0)), got {rng!r}")
    return rng
