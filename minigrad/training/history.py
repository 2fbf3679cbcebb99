"""What a training run has done so far: two tables and the parameters it has reached.

    curves   one row an evaluation: update, seconds, gradients, loss, validation_loss, ...
    steps    one row an update: what the optimizer logged (loss on the batch, lr, gradient_norm, damping, ...)

A table is a dict of columns, each a list, all of one length, NaN where a row had no such entry.
"""

import math
from dataclasses import dataclass, field


@dataclass
class History:
    """The result of `fit`, usable after every end: done, time over, interrupted, diverged.

    point (n,), state: where the optimizer is after `update` updates; `theta` are the net's parameters there. For all
    methods but those that train in coordinates of their own (PRONG) the two are one: canonical(point, state) is point.
    seconds: training time, without evaluations and checkpoints, over all resumed parts. gradients: the cost so far, in
    gradients of one batch. stopped: why the run ended: "updates", "time limit", "callback", "interrupted", "diverged";
    None while it runs.
    """

    point: object = field(repr=False)
    state: dict = field(repr=False)
    canonical: object = field(repr=False, default=lambda point, state: point)
    update: int = 0
    seconds: float = 0.0
    gradients: float = 0.0
    stopped: str | None = None
    curves: dict = field(default_factory=dict, repr=False)
    steps: dict = field(default_factory=dict, repr=False)

    @property
    def theta(self):
        """The net's parameters (n,), computed anew from the optimizer's coordinates where these are others."""
        return self.canonical(self.point, self.state)

    @property
    def losses(self):
        """The objective before each update, on that update's own batch."""
        return self.steps.get("loss", [])

    @property
    def interrupted(self):
        """Did Ctrl-C end it?"""
        return self.stopped == "interrupted"


def add_row(table, row):
    """Append {column: number} to a table; columns that either side lacks are filled with NaN."""
    length = len(next(iter(table.values()), ()))
    for name in row:
        table.setdefault(name, [math.nan] * length)
    for name, column in table.items():
        column.append(row.get(name, math.nan))
