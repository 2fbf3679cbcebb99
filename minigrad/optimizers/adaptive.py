"""Methods that give each parameter a learning rate of its own, by the size of its past gradients.

All three divide by a root of its summed squares: Adagrad keeps them all, RMSProp and Adam forget old ones. So steps do
not depend on the scale of a parameter's gradient. That is no natural gradient on the diagonal: these are squares of a
batch's mean gradient, not means of samples' squares, and they stand under a root.
"""

from dataclasses import dataclass

from ..backend import xp
from .checks import check_fraction, check_positive
from .first_order import FirstOrder


@dataclass(frozen=True)
class Adagrad(FirstOrder):
    """theta -= lr g / (sqrt(sum of all g^2 so far) + eps).

    Duchi et al. 2011, figure 1, with the diagonal H_t = eps I + diag(s_t) and no regularizer.
    lr: a number or a schedule. eps: keeps the division finite. clip: the largest norm of a gradient, or None.
    """

    lr: object = 1e-2
    eps: float = 1e-8

    memory = ("squares",)

    def __post_init__(self):
        super().__post_init__()
        check_positive("Adagrad", eps=self.eps)

    def rule(self, g, lr, t, squares):
        """Duchi et al. 2011, figure 1."""
        squares = squares + g * g
        return -lr * g / (xp.sqrt(squares) + self.eps), squares


@dataclass(frozen=True)
class RMSProp(FirstOrder):
    """theta -= lr g / (sqrt(running mean of g^2) + eps) (Tieleman & Hinton 2012, lecture 6.5).

    lr: a number or a schedule. decay: of the mean, in [0, 1). eps: keeps the division finite; the lecture has none.
    clip: the largest norm of a gradient, or None.
    """

    lr: object = 1e-3
    decay: float = 0.9
    eps: float = 1e-8

    memory = ("squares",)

    def __post_init__(self):
        super().__post_init__()
        check_fraction("RMSProp", decay=self.decay)
        check_positive("RMSProp", eps=self.eps)

    def rule(self, g, lr, t, squares):
        """Tieleman & Hinton 2012, lecture 6.5; the mean starts at 0, so the first steps are long."""
        squares = self.decay * squares + (1 - self.decay) * (g * g)
        return -lr * g / (xp.sqrt(squares) + self.eps), squares


@dataclass(frozen=True)
class Adam(FirstOrder):
    """theta -= lr m_hat / (sqrt(v_hat) + eps): running means m of g and v of g^2, corrected for their start at 0.

    Kingma & Ba 2015, algorithm 1, with its defaults. lr: a number or a schedule. beta1, beta2: decays of m and v,
    in [0, 1). eps: keeps the division finite. clip: the largest norm of a gradient, or None.
    """

    lr: object = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    memory = ("m", "v")

    def __post_init__(self):
        super().__post_init__()
        check_fraction("Adam", beta1=self.beta1, beta2=self.beta2)
        check_positive("Adam", eps=self.eps)

    def rule(self, g, lr, t, m, v):
        """Kingma & Ba 2015, algorithm 1."""
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * (g * g)
        correct_m, correct_v = 1 - self.beta1**t, 1 - self.beta2**t
        return (-lr / correct_m) * m / (xp.sqrt(v / correct_v) + self.eps), m, v
