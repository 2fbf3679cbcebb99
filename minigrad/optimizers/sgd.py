"""Stochastic gradient descent, with classical or Nesterov momentum (Sutskever et al. 2013, eq. 1-4).

With velocity v, momentum mu and learning rate lr,

    classical                              Nesterov
    v     <- mu v - lr g(theta)     (1)    v     <- mu v - lr g(theta + mu v)     (3)
    theta <- theta + v              (2)    theta <- theta + v                     (4)

Nesterov's gradient is taken where momentum alone would lead. The parameters that we hold are that point,
p = theta + mu v: then loss and gradient are asked for where we are. By (4) p moves by v_new + mu v_new - mu v, in which
v_new - mu v = -lr g(p) by (3):

    v <- mu v - lr g(p)
    p <- p + mu v - lr g(p)
"""

from dataclasses import dataclass

from .checks import check_fraction
from .first_order import FirstOrder


@dataclass(frozen=True)
class SGD(FirstOrder):
    """theta += v with v = momentum v - lr g; without momentum theta -= lr g.

    lr: a number or a schedule. momentum: in [0, 1). nesterov: theta is then the look-ahead point, see above.
    clip: the largest norm of a gradient, or None.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_fraction(type(self).__name__, momentum=self.momentum)
        if not isinstance(self.nesterov, bool):
            raise ValueError(f"{type(self).__name__}: nesterov must be True or False, got {self.nesterov!r}")

    @property
    def memory(self):
        """The velocity, if there is momentum."""
        return ("v",) if self.momentum else ()

    def rule(self, g, lr, t, *memory):
        """Sutskever et al. 2013, eq. 1-2, or 3-4 followed at theta + mu v."""
        if not memory:
            return (-lr * g,)
        (v,) = memory
        v = self.momentum * v - lr * g
        return (self.momentum * v - lr * g if self.nesterov else v), v
