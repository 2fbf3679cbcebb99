"""Dropout: hidden units left out at random while a net learns (Srivastava et al. 2014).

    h <- h * m / (1 - rate),      m_k = 1 with probability 1 - rate, else 0, for each hidden unit k

so that the mean over masks is h. A net with dropout is many nets: `net.thinned(rng, dtype)` is one of them, its masks
are constants, and all passes of an update see that one function: gradient, products, line searches, the corrections of
HCGD on another batch (Benjamin et al. 2018, algorithm 1, line 5). `fit` draws masks for every update; the net itself,
which evaluations see, leaves nothing out.

A mask serves all samples of a batch, whatever batch (batchwise dropout, Graham et al. 2015); Srivastava's differ from
sample to sample. Of a convolution it leaves out whole maps, for neighbouring pixels say nearly the same (spatial
dropout, Tompson et al. 2015).
"""

from dataclasses import dataclass, field

from ..backend import uniform


@dataclass(frozen=True)
class Dropout:
    """Leaves out each hidden unit with probability `rate`, in [0, 1).

    masks: {layer: m / (1 - rate)}, constants; None leaves nothing out.
    """

    rate: float
    masks: dict | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 <= self.rate < 1:
            raise ValueError(f"Dropout: rate must be a number in [0, 1), got {self.rate!r}")

    def __call__(self, h, name):
        """What is left of the outputs h (N, ..., out) of layer `name`."""
        return h if self.masks is None else h * self.masks[name]

    def drawn(self, rng, widths, dtype):
        """The same with masks for layers of these {name: width}."""
        keep = 1 - self.rate
        masks = {name: (uniform(rng, (n,), dtype) < keep).astype(dtype) / keep for name, n in widths.items()}
        return Dropout(self.rate, masks)
