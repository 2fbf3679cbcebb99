"""What the experiments on function space share: a net on MNIST, and a run of it that a `Recorder` measures.

The net is the perceptron of section 3.1.1 of Benjamin et al. 2019, two hidden layers of 400 relu units; section 2 has
convolutional nets on CIFAR-10 (appendix B: on MNIST), with batch normalization. SGD is theirs: lr 0.1, momentum 0.9,
weight decay 1e-4. They say neither batch size nor initialization: here 128, and PyTorch's default, uniform of variance
1 / (3 n_in), since their code was PyTorch (biases are 0). Functions are compared on test images, after the softmax.
"""

from dataclasses import dataclass, field

import numpy as np

from ..backend import asarray
from ..data import mnist
from ..function_space import Recorder
from ..losses import Categorical
from ..nets import FanIn, mlp
from ..objective import Objective
from ..optimizers import SGD
from ..training import fit

SIZES, SMALL = (784, 400, 400, 10), (784, 30, 30, 10)
BATCH, RATE, MOMENTUM, DECAY = 128, 0.1, 0.9, 1e-4


@dataclass(frozen=True)
class Task:
    """A net with its data: train and test are pairs (x, t) on the host; the first `measured` test images compare."""

    net: object
    train: tuple = field(repr=False)
    test: tuple = field(repr=False)
    measured: int

    @property
    def epoch(self):
        """Updates in one."""
        return len(self.train[0]) // BATCH

    def run(self, seed, epochs, decay=DECAY, *, every=1, snapshots=lambda update: False, progress=False):
        """(history, recorder) of one training; its curves have the test error at the start and after each epoch.

        every, snapshots: as `Recorder` has them. A batch-normalized net is compared with the population statistics of
        1,000 training images.
        """
        objective = Objective(self.net, Categorical(), weight_decay=decay)
        theta = self.net.init(np.random.default_rng(seed), self.train[0].dtype)
        images, sample = asarray(self.test[0][: self.measured]), asarray(self.train[0][:1000])
        outputs = lambda theta: objective.settled(theta, sample).predict(theta, images)
        recorder = Recorder(outputs, theta, self.epoch, every=every, snapshots=snapshots)
        history = fit(objective, SGD(RATE, momentum=MOMENTUM), self.train, theta=theta, updates=epochs * self.epoch,
                      batch_size=BATCH, seed=seed, validation=self.test, evaluate_every=self.epoch,
                      callbacks=(recorder,), progress=progress)  # fmt: skip
        return history, recorder

    def settings(self):
        """For the record."""
        return {
            "net": f"mlp{tuple(self.net.sizes)} {self.net.activations[0]}, {self.net.layout.size} parameters",
            "data": f"MNIST, {len(self.train[0])} training and {len(self.test[0])} test images",
            "measured": f"on {self.measured} test images, after the softmax",
            "batch_size": BATCH,
            "optimizer": f"SGD, learning rate {RATE}, momentum {MOMENTUM}",
        }


def mnist_task(sizes, images, measured):
    """The Task of a relu perceptron and so many training images (None: all); as many test images at most, if few."""
    (x, t), (x_test, t_test) = mnist()
    test = (x_test[:measured], t_test[:measured]) if sizes == SMALL else (x_test, t_test)
    return Task(mlp(sizes, "relu", init=FanIn(1 / 3)), (x[:images], t[:images]), test, min(measured, len(test[0])))


def span(numbers):
    """One number, or the range of several, in words."""
    low, high = f"{min(numbers):.2g}", f"{max(numbers):.2g}"
    return low if low == high else f"{low} to {high}"


def of_seeds(seeds):
    """How many, in words."""
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
