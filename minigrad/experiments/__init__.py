"""Experiments: one file a figure or table of the papers, run by `python -m minigrad run NAME`.

An experiment is a module of this folder with DESCRIPTION and PAPER (one line each), and two functions:

    run(options) -> record       trains; writes record.json as results come, and checkpoints, into options.out
    plot(record, folder)         draws the figures of a record into a folder; returns their paths

A module is imported when it is asked for.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

from ..backend import check_name

EXPERIMENTS = {
    "centering": "centering",
    "conditioning": "conditioning",
    "deep-autoencoder": "deep_autoencoder",
    "distance-estimator": "distance_estimator",
    "distance-ratio": "distance_ratio",
    "distance-travelled": "distance_travelled",
    "forgetting": "forgetting",
    "hcgd-mnist": "hcgd_mnist",
    "hessian-free-is-natural-gradient": "hessian_free_is_natural_gradient",
    "metric-batch": "metric_batch",
    "one-unit-autoencoder": "one_unit_autoencoder",
    "order-robustness": "order_robustness",
    "prong-sensitivity": "prong_sensitivity",
    "reparametrization": "reparametrization",
    "trajectories": "trajectories",
    "tune-deep-autoencoder": "tune_deep_autoencoder",
    "tune-metric-batch": "tune_metric_batch",
}
RECORD = "record.json"
SCALES = ("quick", "usual", "full")


@dataclass(frozen=True)
class Options:
    """What the command line asks of an experiment.

    out: folder of the record, the figures and the checkpoints. scale: "quick" (seconds; shows that it runs), "usual"
    (minutes), "full" (the paper's). seeds: how many, 0, 1, ...; None leaves it to the experiment. resume: go on from
    what `out` holds. progress: draw bars.
    """

    out: Path
    scale: str = "usual"
    seeds: int | None = None
    resume: bool = False
    progress: bool = True


def find(name):
    """The module of an experiment. Raises ValueError for an unknown name, offering the nearest."""
    check_name("experiment", name, tuple(EXPERIMENTS))
    return importlib.import_module(f"{__name__}.{EXPERIMENTS[name]}")


def committed(name):
    """Where the record of a full run lies that comes with the package. Raises FileNotFoundError if none does."""
    find(name)
    path = Path(__file__).parent / "records" / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no record of a full run of {name} comes with minigrad; make one: python -m minigrad run {name} --full"
        )
    return path
