"""A training run to be killed: python -m tests.training.endless CHECKPOINT UPDATES KIND."""

import sys

from minigrad.backend import to_host
from minigrad.optimizers import SGD, Waterfall
from minigrad.training import fit
from tests.training.toys import Toy, data, objective


def train(path, updates, kind):
    """theta's bytes in hex after so many updates, resumed if the checkpoint is there; path None: no checkpoints."""
    optimizer = {"toy": Toy(), "waterfall": SGD(Waterfall(0.3, patience=1), momentum=0.9)}[kind]
    history = fit(objective(), optimizer, data(), updates=updates, batch_size=10, validation=data(20, seed=1),
                  evaluate_every=7, checkpoint=path, checkpoint_every=3, resume=True, progress=False)  # fmt: skip
    return to_host(history.theta).tobytes().hex()


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]), sys.argv[3])
