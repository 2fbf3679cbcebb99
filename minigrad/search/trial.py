"""A trial, before and after: what is to be tried, and what came of it."""

import json
import math
import numbers
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trial:
    """What a function gets: hyper-parameters (trial["lr"]), a seed of its own, and how many seconds it should take.

    Both are functions of the search's seed and the trial's number, whoever runs it. seconds: None without a deadline.
    """

    number: int
    parameters: dict
    seed: int
    seconds: float | None = None

    def __getitem__(self, name):
        return self.parameters[name]


@dataclass(frozen=True)
class Outcome:
    """A finished trial. loss: inf for one that failed, and `failed` says why; notes: what else the function returned.

    origin: the search that it was taken over from, None for the search's own.
    """

    number: int
    parameters: dict
    loss: float
    failed: str | None = None
    notes: dict | None = None
    origin: str | None = None

    def __getitem__(self, name):
        return self.parameters[name]


def evaluate(fn, trial):
    """The Outcome of fn(trial); an exception is one too. Ctrl-C goes through."""
    try:
        returned = fn(trial)
    except (Exception, SystemExit) as error:
        return failure(trial, f"{type(error).__name__}: {error}")
    return judge(trial, returned)


def judge(trial, returned):
    """The Outcome of what a function returned: a finite number, or (number, {notes that JSON can hold}).

    Anything else has failed, NaN, infinities and strings among it, and the reason says what it was.
    """
    loss, notes = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    try:
        loss, notes = _finite(loss), None if notes is None else _plain(notes)
    except (ValueError, TypeError, OverflowError) as error:
        return failure(trial, str(error))
    return Outcome(trial.number, trial.parameters, loss, notes=notes)


def failure(trial, reason):
    """The Outcome of a trial that failed; the reason in one line."""
    return Outcome(trial.number, trial.parameters, math.inf, failed=" ".join(reason.split())[:500])


def _finite(loss):
    value = loss.item() if hasattr(loss, "item") else loss  # arrays of one element, on a device too
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"returned {loss!r:.80}, expected a number")
    if not math.isfinite(float(value)):
        raise ValueError(f"returned {value!r}, expected a finite number")
    return float(value)


def _plain(notes):
    """The notes as a file gives them back: tuples are lists, and names strings."""
    if not isinstance(notes, dict):
        raise ValueError(f"returned the notes {notes!r:.80}, expected a dictionary")
    try:
        return json.loads(dumps(notes))
    except (TypeError, ValueError) as error:
        raise ValueError(f"returned notes that JSON cannot hold: {error}") from error


def dumps(value):
    """One line of JSON, without NaN or infinities. Raises ValueError or TypeError for what it cannot hold."""
    return json.dumps(value, allow_nan=False)


def rng(seed, number):
    """The generator that a trial's proposal is drawn from."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, 0)))


def seed_of(seed, number):
    """The seed handed to a trial's function: 53 bits, which every reader of JSON keeps."""
    state = np.random.SeedSequence(seed, spawn_key=(number, 1)).generate_state(1, np.uint64)
    return int(state[0]) >> 11
