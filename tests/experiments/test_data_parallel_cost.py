"""The cost model, against counts by hand, the messages of a real step, and the Inception net's printed shapes."""

import numpy as np
import pytest

from minigrad.experiments.data_parallel_cost import BLOCKS, Affine, Machine, inception, prong_needs
from minigrad.nets import mlp
from minigrad.optimizers import PRONG
from tests.fake_ranks import spread
from tests.helpers import host_only
from tests.spread_training import N, problem

MACHINE = Machine(rate=1e3, latency=0.5, bandwidth=10.0)


def test_by_hand():
    """Two layers, 3 -> 2 at 5 positions with a kernel of 4, then 2 -> 7; four ranks."""
    layers = [Affine(3, 2, 4, 5), Affine(2, 7)]
    assert [layer.parameters for layer in layers] == [26, 21]
    assert [layer.forward for layer in layers] == [120, 14]
    needs = prong_needs(layers, ranks=4, batch=9, samples=6, interval=10, machine=MACHINE, itemsize=8)
    assert needs.parameters == 47
    assert (needs.bytes_vectors, needs.bytes_activations, needs.bytes_statistics) == (1880, 8 * 2 * 17 * 3, 400)
    assert needs.bytes_summed_update == 8 * 48 and needs.bytes_summed_reparametrization == 8 * 25
    assert needs.bytes_gathered_reparametrization == 8 * 42
    messages = 6 * (0.5 + 384 / 40)
    others = 6 * (0.5 + 200 / 40) + 3 * (0.5 + 336 / 40)
    assert needs.seconds_update_messages == pytest.approx(messages)
    assert needs.seconds_reparametrization_messages == pytest.approx(others)
    update = (3 * 134 * 3 + 2 * (3 * 26 + 2 * 21)) / 1e3 + messages
    other = ((134 + 49) * 2 + 4.5 * 35) / 1e3 + others
    assert needs.seconds_update == pytest.approx(update)
    assert needs.seconds_reparametrization == pytest.approx(other)
    assert needs.seconds == pytest.approx(update + other / 10)
    more = prong_needs(layers, ranks=4, batch=9, samples=40, interval=10, machine=MACHINE, itemsize=8)
    assert more.bytes_activations == 8 * 2 * 17 * 10


def test_one_rank_sends_nothing():
    needs = prong_needs([Affine(3, 2)], 1, 5, 5, 10, MACHINE)
    assert needs.seconds_update_messages == needs.seconds_reparametrization_messages == 0
    with pytest.raises(ValueError, match="each rank needs a sample: got batch 4 and 5 samples for 5 ranks"):
        prong_needs([Affine(3, 2)], 5, 4, 5, 10, MACHINE)
    assert prong_needs([Affine(3, 2)], 5, 5, 5, 10, MACHINE).parameters == 8


@host_only
def test_bytes_are_those_of_a_step():
    """What the model counts is what PRONG sends, less the few bytes with which the ranks meet."""
    net, samples, size = mlp([6, 5, 4]), 20, 3
    layers = [Affine(6, 5), Affine(5, 4)]
    needs = prong_needs(layers, size, N, samples, 1, MACHINE, itemsize=8)
    assert needs.parameters == net.layout.size

    def step(ranks):
        objective, theta, (x, t) = problem(ranks=ranks)
        optimizer = PRONG(0.1, samples=samples)
        state = optimizer.init(objective, theta)
        optimizer.step(theta, state, objective, (x, t), lambda n: (x[:n], t[:n]), np.random.default_rng(0))
        return [message for message in ranks.comm.sent if message[0] != "Allgather"]

    found = spread(size, step)
    summed = [nbytes for name, nbytes in found[0] if name == "Allreduce"]
    assert summed == [needs.bytes_summed_reparametrization, needs.bytes_summed_update]
    gathered = [nbytes for sent in found for name, nbytes in sent if name == "Allgatherv"]
    assert sum(gathered) == needs.bytes_gathered_reparametrization and len(gathered) == size


def test_inception():
    """Widths between the blocks, and the parameters that public implementations of the table count.

    They have no biases but batch normalization's two numbers a map, 10 classes, and no 1x1 before the first 3x3.
    """
    layers = inception()
    entrances = [3, 10, 17, 22, 29, 36, 43, 50, 55, 62]
    assert len(layers) == 70 and len(BLOCKS) == len(entrances)
    assert [layers[i].inputs for i in entrances] == [192, 256, 320, 576, 576, 576, 608, 608, 1056, 1024]
    counted = [layer for i, layer in enumerate(layers[:-1]) if i != 1]
    weights = sum(layer.parameters - layer.outputs for layer in counted)
    assert weights + 2 * sum(layer.outputs for layer in counted) + 1025 * 10 == 10_266_250
    assert layers[1] == Affine(64, 64, 1, 3136) and layers[-1] == Affine(1024, 1000)
    sides = {int(layer.positions**0.5) for layer in layers}
    assert sides == {112, 56, 28, 14, 7, 1} and all(
        layer.positions == int(layer.positions**0.5) ** 2 for layer in layers
    )
    halving = [(layer.outputs, layer.positions) for layer in (layers[18], layers[21], layers[51], layers[54])]
    assert halving == [(160, 196), (96, 196), (192, 49), (256, 49)]
    assert sum(layer.forward for layer in layers) == 2_032_600_064
