"""What PRONG needs on several ranks: memory, traffic, and time by a stated model.

Desjardins et al. (2015, section 4.3) split batches of 256 over eight GPUs to train the Inception net of Ioffe & Szegedy
(2015) on ImageNet: gradients and statistics in parallel, eigendecompositions not. Theirs are these numbers, 1000
classes, and the rule that pixels count as samples, so that U has the size of the number of feature maps.

The paper does not print: parameters and widths (here: the table in Ioffe & Szegedy, figure 5, as public implementations
read it, without auxiliary classifiers), the reparametrization interval T, N_s, times. Those that `prong_needs` takes
are therefore assumptions of whoever calls it. Assumed by the model itself:

    compute     multiply-adds over a rate. A gradient is three forward passes. An eigendecomposition of n x n is 9 n^3
                operations, 4.5 n^3 multiply-adds (symmetric QR with vectors, Golub & Van Loan); each rank does all
    messages    a ring: summing b bytes over R ranks takes 2 (R - 1) steps of latency + b / (R bandwidth), gathering b
                bytes R - 1 such steps (Patarasuk & Yuan 2009; Thakur et al. 2005). Nothing overlaps with computing
    memory      two numbers a unit and position are kept for the backward pass: output and slope of the activation
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Affine:
    """An affine layer: `inputs` and `outputs` (feature maps), `kernel` input positions an output, `positions` outputs.

    A convolution of 3 x 3 to a map of 28 x 28 has kernel 9, positions 784; a fully connected layer 1 and 1.
    """

    inputs: int
    outputs: int
    kernel: int = 1
    positions: int = 1

    @property
    def parameters(self):
        """Weights and biases."""
        return (self.kernel * self.inputs + 1) * self.outputs

    @property
    def forward(self):
        """Multiply-adds of a sample's forward pass."""
        return self.kernel * self.inputs * self.outputs * self.positions

    @property
    def moments(self):
        """Numbers in E[(h 1)'(h 1)]."""
        return (self.inputs + 1) ** 2


@dataclass(frozen=True)
class Machine:
    """rate: multiply-adds a second of one rank; latency: seconds a message; bandwidth: bytes a second between two."""

    rate: float
    latency: float
    bandwidth: float

    def total(self, size, ranks):
        """Seconds to sum `size` bytes over ranks, and have the sum on all."""
        return 2 * (ranks - 1) * (self.latency + size / ranks / self.bandwidth)

    def gathered(self, size, ranks):
        """Seconds until all ranks have `size` bytes, of which each had its share."""
        return (ranks - 1) * (self.latency + size / ranks / self.bandwidth)


@dataclass(frozen=True)
class Needs:
    """Of one rank; bytes_... in bytes, seconds_... in seconds, `update` without the reparametrizations."""

    parameters: int
    bytes_vectors: int
    bytes_activations: int
    bytes_statistics: int
    bytes_summed_update: int
    bytes_summed_reparametrization: int
    bytes_gathered_reparametrization: int
    seconds_update: float
    seconds_update_messages: float
    seconds_reparametrization: float
    seconds_reparametrization_messages: float
    seconds: float  # an update, with its share of a reparametrization


def prong_needs(layers, ranks, batch, samples, interval, machine, itemsize=4):
    """The Needs of PRONG with momentum as it runs here: `Objective(..., ranks=...)`, whitening coefficients in theta.

    layers: Affine ones, the last one's outputs being the net's. batch: samples an update. samples, interval: N_s and T.
    itemsize: bytes a number. seconds_... contain the messages. Raises ValueError for fewer samples than ranks.
    """
    if min(batch, samples) < ranks:
        raise ValueError(f"each rank needs a sample: got batch {batch} and {samples} samples for {ranks} ranks")
    n, moments = sum(layer.parameters for layer in layers), sum(layer.moments for layer in layers)
    own, own_samples = math.ceil(batch / ranks), math.ceil(samples / ranks)
    units = sum(layer.outputs * layer.positions for layer in layers)
    outputs = samples * layers[-1].outputs * layers[-1].positions

    forward = sum(layer.forward for layer in layers)
    there_and_back = 2 * sum(layer.inputs * layer.parameters for layer in layers)  # theta = B Omega; B' g
    second = sum(layer.inputs**2 * layer.positions for layer in layers)  # pixels count as samples
    eigen = sum(4.5 * layer.inputs**3 for layer in layers)
    update_messages = machine.total(itemsize * (n + 1), ranks)
    other_messages = machine.total(itemsize * moments, ranks) + machine.gathered(itemsize * outputs, ranks)
    update = (3 * forward * own + there_and_back) / machine.rate + update_messages
    other = ((forward + second) * own_samples + eigen) / machine.rate + other_messages
    return Needs(
        parameters=n,
        bytes_vectors=itemsize * 5 * n,  # Omega, velocity, gradient; a message sent and received
        bytes_activations=itemsize * 2 * units * max(own, own_samples),
        bytes_statistics=itemsize * 2 * moments,  # E[(h 1)'(h 1)]; U and c
        bytes_summed_update=itemsize * (n + 1),
        bytes_summed_reparametrization=itemsize * moments,
        bytes_gathered_reparametrization=itemsize * outputs,
        seconds_update=update,
        seconds_update_messages=update_messages,
        seconds_reparametrization=other,
        seconds_reparametrization_messages=other_messages,
        seconds=update + other / interval,
    )


# Inception blocks: side of the map; widths of 1x1; 3x3 after its reduction; two 3x3 after theirs; pool's projection.
# The two that halve the map have neither 1x1 nor projection, and pass their input through.
BLOCKS = {
    "3a": (28, 64, (64, 64), (64, 96), 32),
    "3b": (28, 64, (64, 96), (64, 96), 64),
    "3c": (28, 0, (128, 160), (64, 96), 0),
    "4a": (14, 224, (64, 96), (96, 128), 128),
    "4b": (14, 192, (96, 128), (96, 128), 128),
    "4c": (14, 160, (128, 160), (128, 160), 128),
    "4d": (14, 96, (128, 192), (160, 192), 128),
    "4e": (14, 0, (128, 192), (192, 256), 0),
    "5a": (7, 352, (192, 320), (160, 224), 128),
    "5b": (7, 352, (192, 320), (192, 224), 128),
}


def inception():
    """The affine layers of the Inception net with batch normalization, for images of 224 x 224 x 3 and 1000 classes."""
    layers = [Affine(3, 64, 49, 112**2), Affine(64, 64, 1, 56**2), Affine(64, 192, 9, 56**2)]
    maps = 192
    for side, one, (reduced, three), (reduced_2, double), projection in BLOCKS.values():
        halves = one == 0
        here, there = side**2, (side // 2 if halves else side) ** 2
        layers += [Affine(maps, reduced, 1, here), Affine(reduced, three, 9, there)]
        layers += [Affine(maps, reduced_2, 1, here), Affine(reduced_2, double, 9, here)]
        layers += [Affine(double, double, 9, there)]
        if not halves:
            layers += [Affine(maps, one, 1, here), Affine(maps, projection, 1, here)]
        maps = three + double + (maps if halves else one + projection)
    return [*layers, Affine(maps, 1000)]
