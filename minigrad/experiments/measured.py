"""What the experiments on function space share: a net with its data, and a run of it that a `Recorder` measures.

One net is the perceptron of section 3.1.1 of Benjamin et al. 2019, two hidden layers of 400 relu units, on MNIST. Those
of the experiments named "...-cnn" are section 2's: four convolutions with batch normalization (appendix A also without)
and two dense layers, on CIFAR-10 (appendix B: on MNIST); `nets/zoo.py` has what is chosen of them. SGD is theirs: lr
0.1, momentum 0.9, weight decay 1e-4. They say neither batch size nor initialization: here 128, and PyTorch's default,
uniform of variance 1 / (3 n_in), since their code was PyTorch (biases are 0). Nor do they say how many epochs, whether
pixels are centred or images augmented: here pixels are in [0, 1] and images as they are. Functions are compared on test
images, after the softmax.

Without batch normalization the paper names no other rate, but at 0.1 a net of 8, 8, 16, 16 maps and 64 units (seed 0)
stayed at the loss of guessing: 2.31 after 500 updates from PyTorch's initial weights, 2.32 after 60 from He's. From
He's at 0.02 it was at 1.93 after 80. So these are what nets without batch normalization have here.
"""

from dataclasses import dataclass, field

import numpy as np

from ..backend import asarray
from ..data import cifar10, images, mnist
from ..function_space import Recorder
from ..losses import Categorical
from ..nets import BatchNorm, FanIn, He, mlp, six_layer_convnet
from ..objective import Objective
from ..optimizers import SGD
from ..training import fit
from .parts import form

SIZES, SMALL = (784, 400, 400, 10), (784, 30, 30, 10)
BATCH, RATE, MOMENTUM, DECAY = 128, 0.1, 0.9, 1e-4
RATE_UNNORMALIZED = 0.02


@dataclass(frozen=True)
class Convolutional:
    """The six-layer convolutional net on "CIFAR-10" or "MNIST"; widths: two convolutions' maps, two's, hidden units."""

    data: str
    widths: tuple = (32, 64, 256)
    normalized: bool = True

    @property
    def rate(self):
        """SGD's learning rate."""
        return RATE if self.normalized else RATE_UNNORMALIZED

    @property
    def reduced(self):
        """Is it narrower than the whole net?"""
        return self.widths != type(self).widths

    def load(self):
        """((x, t), (x_test, t_test)), x (N, side, side, channels), and the set's name."""
        pairs, channels, whole = (cifar10(), 3, 50_000) if self.data == "CIFAR-10" else (mnist(), 1, 60_000)
        name = self.data if len(pairs[0][0]) == whole else f"an excerpt of {self.data}"
        return *((images(x, channels), t) for x, t in pairs), name

    def make(self, image):
        """The net for images of this shape."""
        init, normalization = (FanIn(1 / 3), BatchNorm()) if self.normalized else (He(), None)
        return six_layer_convnet("relu", init, normalization, image=image, widths=self.widths)

    def describe(self, net):
        """In a caption's words."""
        widths = ", ".join(str(out) for _, out in net.matrices.values())
        kind = "with" if self.normalized else "without"
        return f"convnet({widths}) relu, {kind} batch normalization, {net.layout.size} parameters"

    def paper(self):
        """What the paper has instead, in a caption's words."""
        if self.data == "MNIST":
            return "a convolutional net with batch normalization, not described further"
        rate = "" if self.normalized else f", learning rate {RATE}"
        return f"four convolutional and two dense layers of unstated widths{rate}"


@dataclass(frozen=True)
class Task:
    """A net with its data: train and test are pairs (x, t) on the host; the first `measured` test images compare.

    data: the set's name. rate: SGD's. words: further settings, such as the "net" in words.
    """

    net: object
    train: tuple = field(repr=False)
    test: tuple = field(repr=False)
    measured: int
    data: str = "MNIST"
    rate: float = RATE
    words: dict = field(default_factory=dict)

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
        history = fit(
            objective,
            SGD(self.rate, momentum=MOMENTUM),
            self.train,
            theta=theta,
            updates=epochs * self.epoch,
            batch_size=BATCH,
            seed=seed,
            validation=self.test,
            evaluate_every=self.epoch,
            callbacks=(recorder,),
            progress=progress,
        )
        return history, recorder

    def settings(self):
        """For the record."""
        return self.words | {
            "data": f"{self.data}, {len(self.train[0])} training and {len(self.test[0])} test images",
            "measured": f"on {self.measured} test images, after the softmax",
            "batch_size": BATCH,
            "optimizer": f"SGD, learning rate {self.rate}, momentum {MOMENTUM}",
        }


def task_of(net, count, measured):
    """The Task of a net and `count` training images (None: all); if the net is a small one, `measured` test images.

    net: sizes of a relu perceptron, on MNIST, or Convolutional.
    """
    convolutional = isinstance(net, Convolutional)
    (x, t), (x_test, t_test), name = net.load() if convolutional else (*mnist(), "MNIST")
    if net.reduced if convolutional else net == SMALL:
        x_test, t_test = x_test[:measured], t_test[:measured]
    data = (x[:count], t[:count]), (x_test, t_test), min(measured, len(x_test))
    if convolutional:
        made = net.make(x.shape[1:])
        return Task(made, *data, name, net.rate, {"net": net.describe(made), "paper": net.paper()})
    made = mlp(net, "relu", init=FanIn(1 / 3))
    return Task(made, *data, words={"net": f"mlp{net} relu, {made.layout.size} parameters"})


def instead(settings):
    """Of which scale the record is, and what the paper has, in a caption's words."""
    return f"{form(settings)}; the paper: {settings.get('paper', 'a convolutional net on CIFAR-10')}"


def span(numbers):
    """One number, or the range of several, in words."""
    low, high = f"{min(numbers):.2g}", f"{max(numbers):.2g}"
    return low if low == high else f"{low} to {high}"
