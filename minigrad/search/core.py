"""What every search has in common: ask for a trial, tell what came of it, or let `run` do both.

    trial = search.ask()                       without threads, executors or files of its own
    search.tell(trial, loss)
    search.run(fn, n_trials=64)                the same in a loop, on any executor

A trial is a function of the search's seed, of its own number, and (in a biased search) of the outcomes that its
proposal takes into account. `ask` takes all that were told; `run(mode="batch")` those of earlier rounds.
"""

import abc
import numbers

from . import engine
from .history import History
from .trial import Trial, judge, seed_of


class Search(abc.ABC):
    """Base of the searches: they say in `propose` which point of the cube a trial has.

    space: a Space. seed: a whole number of at least 0. history: a file to keep the trials in; if it is there, and of
    the same search, the search goes on where it ended. `search.history` has all finished trials.
    """

    def __init__(self, space, seed=0, history=None):
        if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
            raise ValueError(f"{type(self).__name__}: seed must be a whole number of at least 0, got {seed!r}")
        self.space, self.seed = space, int(seed)
        self.history = History(space, repr(self), history)
        self._next = 0

    def __repr__(self):
        return f"{type(self).__name__}(seed={self.seed})"

    @abc.abstractmethod
    def propose(self, number, before=None):
        """The point of the unit cube of a trial, drawn from its own generator; `before` as in History.seen."""

    def check_count(self, n_trials):  # noqa: B027 - most searches have no end
        """Raise ValueError if the search cannot have so many trials."""

    def trial(self, number, before=None, seconds=None):
        """The trial with this number, as the search would ask for it now; `before` as in History.seen."""
        parameters = self.space.parameters(self.propose(number, before))
        return Trial(number, parameters, seed_of(self.seed, number), seconds)

    def ask(self, seconds=None):
        """The next trial. Several may be asked for before one is told: they know nothing of each other.

        `run` does not wait for them: it tries every number that was not told.
        """
        while self._next in self.history:
            self._next += 1
        trial = self.trial(self._next, seconds=seconds)
        self._next += 1
        return trial

    def tell(self, trial, returned):
        """Keep what a trial's function returned: a loss, or (loss, notes); `judge` says what has failed. The Outcome.

        Raises ValueError for a trial that was told before, TypeError for what is no Trial.
        """
        if not isinstance(trial, Trial):
            raise TypeError(f"tell: expected a Trial, as `ask` returns it, got {trial!r}")
        if trial.number in self.history:
            raise ValueError(f"trial {trial.number} was told before")
        outcome = judge(trial, returned)
        self.history.add(outcome)
        return outcome

    run = engine.run
