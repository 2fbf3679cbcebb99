"""Natural gradient on MNIST with a convolutional net (Pascanu & Bengio, section 8.6: figure 5, MNIST row of table 1).

    KL, different batch    exact Fisher information, measured on another batch of the training images; l0 = 0.5
    KL, same batch         ... on the gradient's own batch: Hessian-free; l0 = 1
    TONGA                  the paper's "covariance": U = E[gg'] over the gradient's batch; l0 = 1

From the paper: 32 and 64 filters of 5 x 5, 750 hidden units, batches of 10,000 for gradient and metric, 2000 updates,
damping 5 at the beginning (TONGA: 0.1 throughout); `metric_batch_convnet.py` has what both experiments share. Two
batches of 10,000 out of 60,000 have a sixth of their images in common; so have the smaller forms'.

The usual form is reduced, so that one CPU core makes it in minutes: 8 and 16 filters, 100 hidden units, batches of 500
out of 3,000 images, 80 updates, the first 40 at the constant rate. The paper's own, for a GPU:

    MINIGRAD_BACKEND=cupy python -m minigrad run mnist-convnet --full
"""

from ..nets.zoo import mnist_convnet
from .metric_batch_convnet import Comparison, Scale

NAME = "mnist-convnet"
DESCRIPTION = "whose batch measures the metric, with a convolutional net on MNIST"
PAPER = "Pascanu & Bengio, figure 5, table 1 (MNIST)"

PARAMETERS = {  # damping: where Levenberg-Marquardt starts, TONGA's stays
    "KL, different batch": {"lr": 0.5, "damping": 5.0},
    "KL, same batch": {"lr": 1.0, "damping": 5.0},
    "TONGA": {"lr": 1.0, "damping": 0.1},
}
PAPERS_TABLE = {  # (training cross-entropy, test error in percent)
    "KL, different batch": (0.00010, 0.78),
    "KL, same batch": (0.0011, 0.82),
    "TONGA": (0.024, 1.07),
}
METHODS = tuple(PARAMETERS)
CLAIMS = {
    "a different batch tests better than the same": ("test", METHODS[:1], METHODS[1:2]),
    "and fits the training images better": ("train", METHODS[:1], METHODS[1:2]),
    "TONGA tests worst": ("test", METHODS[:2], METHODS[2:]),
    "and fits worst": ("train", METHODS[:2], METHODS[2:]),
}
SCALES = {
    "quick": Scale(3, 2, 60, 360, 200, (2, 4, 20), 1),
    "usual": Scale(80, 40, 500, 3000, None, (8, 16, 100), 2),
    "full": Scale(2000, 200, 10_000, None, None, (32, 64, 750), 3),
}
COMPARISON = Comparison(
    NAME,
    "MNIST",
    mnist_convnet,
    PARAMETERS,
    PAPERS_TABLE,
    CLAIMS,
    "32-64-750, 2000 updates, the first 200 at a constant rate, batches of 10,000 out of 60,000 images",
    SCALES,
)
run, findings, plot, caption = COMPARISON.run, COMPARISON.findings, COMPARISON.plot, COMPARISON.caption
