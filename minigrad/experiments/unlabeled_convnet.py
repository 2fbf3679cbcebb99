"""Unlabeled images beside the batch (Pascanu & Bengio, section 8.7: figure 2, TFD row of table 1), on Fashion-MNIST.

    KL, unlabeled     exact Fisher information, measured on the gradient's batch and half as many unlabeled images
    KL, same batch    ... on the gradient's batch alone: Hessian-free

From the paper: 300 filters of 12 x 12, 2048 and 1024 hidden units, batches of 960, 480 unlabeled images (so the metric
has 1440 samples), damping 8 at the beginning, l0 = 1; `metric_batch_convnet.py` has what both experiments share.
The paper's images are the faces of TFD, whose unlabeled ones are of poorer quality; Fashion-MNIST's are all alike, so
that here only the number of samples and their novelty can help. Not in the paper, so ours to state: 3,000 labelled
images, the seed's draw, all others unlabeled; 2000 updates, section 8.6's budget. Its table, as we read it, has the
numbers of the batch alone in the column "KL, different batch", but its text says that it is the same: so it is here.

The usual form is reduced, so that one CPU core makes it in minutes: 16 filters, 128 and 64 hidden units, batches of 240
with 120 unlabeled images, 750 labelled images, 120 updates, the first 60 at the constant rate. The paper's net and
batches, for a GPU:

    MINIGRAD_BACKEND=cupy python -m minigrad run unlabeled-convnet --full
"""

from ..nets.zoo import large_filter_convnet
from .metric_batch_convnet import Comparison, Scale

NAME = "unlabeled-convnet"
DESCRIPTION = "unlabeled images beside the batch that measures the metric, with a convolutional net"
PAPER = "Pascanu & Bengio, figure 2, table 1 (TFD)"

METHODS = ("KL, unlabeled", "KL, same batch")
PARAMETERS = {name: {"lr": 1.0, "damping": 8.0} for name in METHODS}  # damping: where Levenberg-Marquardt starts
PAPERS_TABLE = {"KL, unlabeled": (0.054, 16.96), "KL, same batch": (0.098, 18.87)}  # cross-entropy, test error (%)
CLAIMS = {
    "with unlabeled images it tests better": ("test", METHODS[:1], METHODS[1:]),
    "and fits the training images better": ("train", METHODS[:1], METHODS[1:]),
}
SCALES = {
    "quick": Scale(3, 2, 60, 200, 200, (3, 12, 10), 1),
    "usual": Scale(120, 60, 240, 750, None, (16, 128, 64), 3),
    "full": Scale(2000, 200, 960, 3000, None, (300, 2048, 1024), 3),
}
COMPARISON = Comparison(
    NAME,
    "Fashion-MNIST",
    large_filter_convnet,
    PARAMETERS,
    PAPERS_TABLE,
    CLAIMS,
    "300-2048-1024, batches of 960 and 480 unlabeled images, faces of TFD",
    SCALES,
)
run, findings, plot, caption = COMPARISON.run, COMPARISON.findings, COMPARISON.plot, COMPARISON.caption
