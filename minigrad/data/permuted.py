"""Permuted tasks: one data set, whose pixels each task shows in another order (Benjamin et al. 2019, section 3.1.1).

To a net without knowledge of neighbourhoods all tasks are equally hard, and what it has learned of one is of no use in
the first layer of another.
"""

import operator

import numpy as np

from minigrad import backend


class Permuted:
    """`count` tasks (x, t), a sequence: task k shows the columns of x (N, width) in the order `order(k)`.

    Task 0 is the data as they are. The orders are a function of the seed and k alone, so that training and test data
    made with one seed belong together. Each task is made when it is asked for; t is shared.
    Raises ValueError unless x is (N, width), TypeError or ValueError for a count or a seed that cannot be meant.
    """

    def __init__(self, x, t, count, seed=0):
        if x.ndim != 2:
            raise ValueError(f"permuted tasks: x must be (N, width), got shape {x.shape}")
        self.x, self.t, self.count, self.seed = x, t, operator.index(count), operator.index(seed)
        if self.count < 1 or self.seed < 0:
            raise ValueError(
                f"permuted tasks: need a count of at least 1 and a seed of at least 0, got {count}, {seed}"
            )

    def order(self, k):
        """The columns of task k, a permutation (width,) on the host."""
        width = self.x.shape[1]
        return np.random.default_rng([self.seed, k]).permutation(width) if k else np.arange(width)

    def __len__(self):
        return self.count

    def __getitem__(self, k):
        if not 0 <= k < self.count:
            raise IndexError(f"permuted tasks: there are tasks 0 to {self.count - 1}, not {k}")
        order = self.order(k)
        return self.x.take(backend.asarray(order) if backend.is_array(self.x) else order, axis=1), self.t
