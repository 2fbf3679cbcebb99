"""The history of a search: its finished trials, in memory, and in a file that grows trial by trial.

The file is text, a header and a line a trial (JSON lines), each on the disk before the search goes on:

    {"format": "minigrad search", "version": 1, "search": "RandomSearch(seed=0)", "space": [["lr", "LogUniform", ...]]}
    {"number": 0, "parameters": {"lr": 0.02}, "loss": 26.6}
    {"number": 2, "parameters": {"lr": 0.9}, "loss": null, "failed": "returned nan, expected a finite number"}

JSON has neither NaN nor infinities: the loss of a failed trial is null, and `failed` has the reason. Lines come in the
order in which trials end; everything that reads a history has them by number, so that this order does not matter. What
a kill leaves behind is a last line without its end: it is dropped, with a warning, and its trial is run again. Any
other damage is an error that names the line.
"""

import json
import math
import os
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from .space import Space
from .trial import Outcome, dumps

FORMAT, VERSION = "minigrad search", 1


class History:
    """The finished trials of one search, and those taken over from others.

    space, search: whose history it is; search is the text that a search's repr gives. path: of its file, or None. A
    file that is there must be of the same search, and is read and continued; otherwise it is begun.
    """

    def __init__(self, space, search, path=None):
        self.space, self.search, self.path = space, search, None if path is None else Path(path)
        self.interrupted = False  # did Ctrl-C end the last run?
        self._own, self._others, self._best = {}, {}, None  # Outcomes by number, and by (origin, number)
        self._features, self._losses = space.features([]), np.empty(0)  # of own trials; row = number, NaN = unfinished
        self._taken = None  # the others' features and losses
        if self.path is not None:
            self._size = self._begin_or_resume()

    # --- reading it ---------------------------------------------------------------------------------------

    @property
    def trials(self):
        """The search's own Outcomes, by number."""
        return [self._own[number] for number in sorted(self._own)]

    @property
    def others(self):
        """The Outcomes taken over from other searches, by origin and number."""
        return [self._others[key] for key in sorted(self._others)]

    @property
    def best(self):
        """The Outcome with the least loss, own or taken over, the first of equals. Raises ValueError without one."""
        if self._best is None or self._best.failed is not None:
            reason = f"; the first failed: {self.trials[0].failed}" if self._own else ""
            raise ValueError(f"of {len(self)} trials none succeeded{reason}")
        return self._best

    def __len__(self):
        return len(self._own)

    def __contains__(self, number):
        return number in self._own

    def seen(self, before=None):
        """(features (n, f), losses (n,)) of what was taken over, then of own trials by number; a failed loss is inf.

        before: of own trials, only those with a number below it.
        """
        if self._taken is None:
            points = [self.space.point(outcome.parameters) for outcome in self.others]
            self._taken = self.space.features(points), np.array([outcome.loss for outcome in self.others])
        features, losses = self._features[:before], self._losses[:before]
        there = ~np.isnan(losses)
        return np.concatenate([self._taken[0], features[there]]), np.concatenate([self._taken[1], losses[there]])

    # --- adding to it -------------------------------------------------------------------------------------

    def add(self, outcome):
        """Keep an outcome; when this returns it is in the file. What is there already is left alone.

        Raises ValueError for another outcome of a trial that is there, or with parameters outside the space.
        """
        self._add([outcome])

    def adopt(self, other):
        """Take over the trials of another search's History, or of its file: they teach the models of the landscape.

        The union of both: each trial keeps its number and says where it comes from, and what is there already is left
        alone. So trials of the same search, run elsewhere, become its own. Raises ValueError for another space, and
        where the two hold different outcomes of one trial: nothing is taken over then.
        """
        other = other if isinstance(other, History) else load(other)
        if sorted(other.space.to_json()) != sorted(self.space.to_json()):
            raise ValueError(f"histories of different spaces cannot be merged: {self.space} and {other.space}")
        arrived = [replace(outcome, origin=outcome.origin or other.search) for outcome in other.trials + other.others]
        arrived = [replace(each, origin=None) if each.origin == self.search else each for each in arrived]
        self._add(arrived)

    def _add(self, outcomes):
        """All or none: what is wrong with one is seen before the first is kept."""
        new = [(outcome, self.space.point(outcome.parameters)) for outcome in outcomes if not self._has(outcome)]
        if self.path is not None and new:
            self._append("".join(dumps(_to_json(outcome)) + "\n" for outcome, _ in new))
        for outcome, point in new:
            self._keep(outcome, point)

    def _has(self, outcome):
        """Is it there? Raises ValueError if another one is in its place."""
        if outcome.origin is None:
            earlier = self._own.get(outcome.number)
        else:
            earlier = self._others.get((outcome.origin, outcome.number))
        if earlier is not None and earlier != outcome:
            raise ValueError(f"trial {outcome.number} is in the history with another outcome: {earlier}, not {outcome}")
        return earlier is not None

    def _keep(self, outcome, point):
        if outcome.origin is None:
            self._make_room(outcome.number + 1)
            self._own[outcome.number] = outcome
            self._features[outcome.number], self._losses[outcome.number] = self.space.features(point)[0], outcome.loss
        else:
            self._others[outcome.origin, outcome.number] = outcome
            self._taken = None
        place = lambda each: (each.loss, each.origin or "", each.number)
        if self._best is None or place(outcome) < place(self._best):
            self._best = outcome

    def _make_room(self, count):
        """Rows for trials up to `count`, at least twice as many as before."""
        have = len(self._losses)
        if count > have:
            more = max(count, 2 * have) - have
            self._features = np.concatenate([self._features, np.zeros((more, self._features.shape[1]))])
            self._losses = np.concatenate([self._losses, np.full(more, np.nan)])

    # --- its file -----------------------------------------------------------------------------------------

    def _begin_or_resume(self):
        """Read the file, or write a new one; its size in bytes."""
        header = {"format": FORMAT, "version": VERSION, "search": self.search, "space": self.space.to_json()}
        header = (dumps(header) + "\n").encode()
        found = self.path.read_bytes() if self.path.exists() else b""
        if found != header and header.startswith(found):  # not there, or killed while its header was written
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write(self.path, header, "wb")
            return len(header)
        earlier, size = _read(self.path)
        if earlier.search != self.search:
            raise _unusable(self.path, self.search, f"{earlier.search}; adopt takes over another search's trials")
        if earlier.space.to_json() != self.space.to_json():
            raise _unusable(self.path, self.space, earlier.space)
        if size < len(found):
            os.truncate(self.path, size)
        vars(self).update({name: value for name, value in vars(earlier).items() if name.startswith("_")})
        return size

    def _append(self, lines):
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._size:
            raise RuntimeError(
                f"history {self.path}: expected {self._size} bytes, found {size}; something else has written there, "
                "and two searches cannot share a file"
            )
        self._size += _write(self.path, lines.encode(), "ab")


def load(path):
    """The History in a file, to look at or to adopt. Raises FileNotFoundError, or ValueError naming file and line."""
    return _read(Path(path))[0]


def _read(path):
    """(History, bytes of the file that are whole lines)."""
    *lines, torn = path.read_bytes().split(b"\n")
    history = _read_header(path, lines[0] if lines else torn)
    for number, line in enumerate(lines[1:], start=2):
        try:
            history.add(_from_json(json.loads(line)))
        except ValueError as error:  # what json.loads raises is one
            raise ValueError(f"history {path} is damaged in line {number}: {error}") from error
    if torn:
        warnings.warn(f"history {path}: its last line was cut off, as by a kill; it is left out", stacklevel=4)
    return history, sum(len(line) + 1 for line in lines)


def _read_header(path, line):
    try:
        header = json.loads(line)
    except ValueError as error:
        raise _unusable(path, f"a {FORMAT}", f"{line[:40]!r}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _unusable(path, f"a {FORMAT}", "other JSON")
    if header.get("version") != VERSION:
        raise _unusable(path, f"version {VERSION}", f"version {header.get('version')!r}")
    if not isinstance(header.get("search"), str):
        raise _unusable(path, "the name of a search", repr(header.get("search")))
    try:
        return History(Space.from_json(header.get("space")), header["search"])
    except ValueError as error:
        raise _unusable(path, "a space", error) from error


def _to_json(outcome):
    """What is not None; the loss of a failed trial as null."""
    line = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    line["loss"] = outcome.loss if outcome.failed is None else None
    return {name: value for name, value in line.items() if value is not None or name == "loss"}


def _from_json(line):
    """The Outcome of a line. Raises ValueError where it is none."""
    names = [field.name for field in fields(Outcome)]
    if not isinstance(line, dict) or not {"number", "parameters", "loss"} <= set(line) <= set(names):
        raise ValueError(f"expected a trial with {', '.join(names)}, found {line!r:.80}")
    number, loss, failed = line["number"], line["loss"], line.get("failed")
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"expected a number of 0 or more, found {number!r}")
    if not isinstance(line["parameters"], dict):
        raise ValueError(f"expected parameters by name, found {line['parameters']!r:.80}")
    succeeded = isinstance(loss, int | float) and not isinstance(loss, bool) and math.isfinite(loss) and failed is None
    if not succeeded and not (loss is None and isinstance(failed, str)):
        raise ValueError(f"expected a finite loss, or null and a reason in failed; found {loss!r} and {failed!r}")
    return Outcome(**line | {"loss": float(loss) if succeeded else math.inf})


def _write(path, data, mode):
    """Write at once, and wait until it is on the disk; how many bytes."""
    with open(path, mode, buffering=0) as file:
        if file.write(data) != len(data):
            raise OSError(f"history {path}: the disk took only a part of a line")
        os.fsync(file.fileno())
    return len(data)


def _unusable(path, expected, found):
    return ValueError(f"history {path} cannot be used: expected {expected}, found {found}")
