"""The experiments on function space with the paper's convolutional nets, as they stand in section 2 of 2019.

Figures 1 (trajectories), 2, A.1, A.3 (distance-ratio), 3, A.2 (distance-estimator) on CIFAR-10; A.4, A.5 without batch
normalization (plain); B.6 on MNIST.

`trajectories.py`, `distance_ratio.py` and `distance_estimator.py` have the questions, `measured.py` the nets, how they
are trained, and what the paper does not say. The usual forms are reduced, so that one CPU core makes them in minutes:
8, 8, 16 and 16 maps and 64 hidden units, 5,000 training images, 15 epochs (plain 25, on MNIST 12; distance-estimator:
8), one seed but for trajectories, which has the paper's 5,000 images and three seeds. Nets without batch normalization
have a smaller learning rate than the paper's, and He's initial weights. The whole nets, for a GPU:

    MINIGRAD_BACKEND=cupy python -m minigrad run trajectories-cnn --full
    MINIGRAD_BACKEND=cupy python -m minigrad run distance-ratio-cnn --full
    MINIGRAD_BACKEND=cupy python -m minigrad run distance-ratio-cnn-plain --full
    MINIGRAD_BACKEND=cupy python -m minigrad run distance-ratio-cnn-mnist --full
    MINIGRAD_BACKEND=cupy python -m minigrad run distance-estimator-cnn --full
    MINIGRAD_BACKEND=cupy python -m minigrad run distance-estimator-cnn-mnist --full
"""

from dataclasses import dataclass
from types import ModuleType

from . import distance_estimator, distance_ratio, trajectories
from .measured import Convolutional


@dataclass(frozen=True)
class Variant:
    """An experiment that is `module` with scales of its own."""

    NAME: str
    DESCRIPTION: str
    PAPER: str
    module: ModuleType
    SCALES: dict

    def run(self, options):
        """As the module's."""
        return self.module.run_scale(self.NAME, options, self.SCALES[options.scale])

    def plot(self, record, folder):
        """As the module's."""
        return self.module.plot(record, folder)

    def findings(self, record):
        """As the module's."""
        return self.module.findings(record)


def scales(module, data, quick, usual, full, normalized=True):
    """{"quick": module.Scale(net, *quick), ...}: of ever wider nets."""
    widths = {"quick": (4, 4, 8), "usual": (8, 16, 64), "full": Convolutional.widths}
    nets = {scale: Convolutional(data, each, normalized) for scale, each in widths.items()}
    return {scale: module.Scale(nets[scale], *given) for scale, given in zip(nets, (quick, usual, full), strict=True)}


RATIO = (300, 100, 3, 2, 1), (5000, 500, 15, 4, 1), (None, 5000, 50, 8, 3)
RATIO_PLAIN = (300, 100, 3, 2, 1), (5000, 500, 25, 4, 1), (None, 5000, 50, 8, 3)
RATIO_MNIST = (300, 100, 3, 2, 1), (5000, 500, 12, 4, 1), (None, 5000, 50, 8, 3)
ESTIMATOR = (300, 200, 3, (1, 3), 2, 1), (5000, 2000, 8, (1, 2, 4, 8), 4, 1), (None, 10_000, 30, (1, 3, 10, 30), 4, 3)

VARIANTS = (
    Variant(
        "trajectories-cnn",
        "paths of three seeds, embedded in the plane: a convolutional net on CIFAR-10",
        "Benjamin et al. 2019, figure 1",
        trajectories,
        scales(trajectories, "CIFAR-10", (300, 100, 2, 3, 1), (5000, 1000, 15, 3, 4), (5000, 10_000, 50, 3, 8)),
    ),
    Variant(
        "distance-ratio-cnn",
        "parameter against function distance: a convolutional net on CIFAR-10",
        "Benjamin et al. 2019, figures 2, A.1, A.3",
        distance_ratio,
        scales(distance_ratio, "CIFAR-10", *RATIO),
    ),
    Variant(
        "distance-ratio-cnn-plain",
        "parameter against function distance: a convolutional net on CIFAR-10 without batch normalization",
        "Benjamin et al. 2019, figures A.4, A.5",
        distance_ratio,
        scales(distance_ratio, "CIFAR-10", *RATIO_PLAIN, normalized=False),
    ),
    Variant(
        "distance-ratio-cnn-mnist",
        "parameter against function distance: a convolutional net on MNIST",
        "Benjamin et al. 2019, figure B.6",
        distance_ratio,
        scales(distance_ratio, "MNIST", *RATIO_MNIST),
    ),
    Variant(
        "distance-estimator-cnn",
        "a distance between functions by the number of samples: a convolutional net on CIFAR-10",
        "Benjamin et al. 2019, figures 3, A.2",
        distance_estimator,
        scales(distance_estimator, "CIFAR-10", *ESTIMATOR),
    ),
    Variant(
        "distance-estimator-cnn-mnist",
        "a distance between functions by the number of samples: a convolutional net on MNIST",
        "Benjamin et al. 2019, figure B.6",
        distance_estimator,
        scales(distance_estimator, "MNIST", *ESTIMATOR),
    ),
)
EXPERIMENTS = {variant.NAME: variant for variant in VARIANTS}
