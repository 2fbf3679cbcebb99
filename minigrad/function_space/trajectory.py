"""Paths of training through parameters and through functions, measured (Benjamin et al. 2019, section 2, appendix C).

A path is a sequence of points, each the parameters theta (n,) or the outputs y (N, ...) on one fixed batch. `square` is
the squared distance of two points: `mean_square` of outputs, `parameter_square` of parameters.
"""

import itertools

from ..backend import asarray, item, xp
from .distance import mean_square
from .estimate import estimate

SCALES = ("update", "epoch", "start")


def parameter_square(theta, phi):
    """|theta - phi|^2, a number, of two vectors (n,). Raises ValueError for shapes that differ."""
    if theta.shape != phi.shape:
        raise ValueError(f"distance: parameters must have one shape, got {theta.shape} and {phi.shape}")
    d = theta - phi
    return item(xp.dot(d, d))


def travelled(points, square=mean_square):
    """The squared distance travelled up to each of T points: [0, |p_1 - p_0|^2, that + |p_2 - p_1|^2, ...].

    A random walk has one that grows linearly (2019, figure C.7). `points` may be any iterable; two are held at a time.
    """
    return [0.0, *itertools.accumulate(square(p, q) for p, q in itertools.pairwise(points))]


def distances(points, square=mean_square):
    """The distances between all T points, (T, T), float64: of one path, or of several, one after the other.

    Each pair is subtracted, since |p|^2 + |q|^2 - 2 p'q loses the digits of small distances.
    """
    D = [[0.0] * len(points) for _ in points]
    for i, p in enumerate(points):
        p = asarray(p, "float64")
        for j in range(i):
            D[i][j] = D[j][i] = square(p, asarray(points[j], "float64")) ** 0.5
    return asarray(D, "float64")


class Recorder:
    """A callback of `fit` that measures how far parameters and function move, at three scales (2019, figures 2, 3).

        update    from the update before       at every `every`-th update, and at the end of an epoch
        start     from the first theta         at the same updates
        epoch     from the epoch before        at the end of an epoch

    outputs: a function theta -> y (N, ...) on one fixed batch. theta: where `fit` starts. epoch: updates in one.
    `tables[scale]` has the columns "update" (when), "parameters" |theta - phi|, "function" D, and "deviation", the
    standard deviation of a single sample's squared distance. snapshots: updates (0 is the start) at which `outputs` and
    `theta` are kept, as a function of the update's number; what is kept stands in `snapshots`, {column: list}.

    Of all other points only the first, the last epoch's and the last update's are held. Raises ValueError when called
    with a history that did not start here, as a resumed one.
    """

    def __init__(self, outputs, theta, epoch, *, every=1, snapshots=lambda update: False):
        if epoch < 1 or every < 1:
            raise ValueError(f"Recorder: epoch and every must be at least 1, got {epoch} and {every}")
        self.outputs, self.epoch, self.every, self.kept = outputs, epoch, every, snapshots
        self.tables = {scale: {"update": [], "parameters": [], "function": [], "deviation": []} for scale in SCALES}
        self.snapshots = {"update": [], "outputs": [], "theta": []}
        self.seen = 0
        point = (theta, outputs(theta))
        self.points = dict.fromkeys(SCALES, point)  # what each scale measures from
        self._keep(0, point)

    def __call__(self, history):
        update, self.seen = history.update, self.seen + 1
        if update != self.seen:
            raise ValueError(f"Recorder: expected update {self.seen}, got {update}; it must see a run from its start")
        measured = self._due(update)
        if not (measured or self._due(update + 1) or self.kept(update)):
            return
        theta = history.theta
        point = (theta, self.outputs(theta))
        if measured:
            self._measure("update", update, point)
            self._measure("start", update, point)
        if update % self.epoch == 0:
            self._measure("epoch", update, point)
            self.points["epoch"] = point
        self.points["update"] = point
        self._keep(update, point)

    def _due(self, update):
        return update % self.every == 0 or update % self.epoch == 0

    def _measure(self, scale, update, point):
        (theta, y), (before, f) = point, self.points[scale]
        found = estimate(y, f)
        row = (update, parameter_square(theta, before) ** 0.5, found.root_mean_square, found.deviation)
        for column, value in zip(self.tables[scale].values(), row, strict=True):
            column.append(value)

    def _keep(self, update, point):
        if self.kept(update):
            theta, y = point
            for column, value in zip(self.snapshots.values(), (update, y, theta), strict=True):
                column.append(value)
