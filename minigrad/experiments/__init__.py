"""Experiments: one file a figure or table of the papers, run by `python -m minigrad run NAME`.

An experiment is a module of this folder with DESCRIPTION and PAPER (one line each), and two functions:

    run(options) -> record       trains; writes record.json as results come, and checkpoints, into options.out
    plot(record, folder)         draws the figures of a record into a folder; returns their paths

and, where a paper's claims can be judged by numbers,

    findings(record)             [{"claim": ..., "numbers": ..., "held": True or False}, ...]

A module is imported when it is asked for. One that holds several has a table
EXPERIMENTS = {name: an object with all of these}.
"""

import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..backend import check_name
from ..training import records
from .parts import form, of_seeds

EXPERIMENTS = {
    "centering": "centering",
    "conditioning": "conditioning",
    "deep-autoencoder": "deep_autoencoder",
    "distance-estimator": "distance_estimator",
    "distance-estimator-cnn": "with_convnets",
    "distance-estimator-cnn-mnist": "with_convnets",
    "distance-ratio": "distance_ratio",
    "distance-ratio-cnn": "with_convnets",
    "distance-ratio-cnn-mnist": "with_convnets",
    "distance-ratio-cnn-plain": "with_convnets",
    "distance-travelled": "distance_travelled",
    "forgetting": "forgetting",
    "hcgd-cifar": "hcgd_cifar",
    "hcgd-mnist": "hcgd_mnist",
    "hcgd-mnist-cnn": "hcgd_mnist_cnn",
    "hessian-free-is-natural-gradient": "hessian_free_is_natural_gradient",
    "metric-batch": "metric_batch",
    "mnist-convnet": "mnist_convnet",
    "one-unit-autoencoder": "one_unit_autoencoder",
    "order-robustness": "order_robustness",
    "prong-cifar": "prong_cifar",
    "prong-sensitivity": "prong_sensitivity",
    "reparametrization": "reparametrization",
    "search-comparison": "search_comparison",
    "sequential-mnist": "sequential_mnist",
    "trajectories": "trajectories",
    "trajectories-cnn": "with_convnets",
    "tune-deep-autoencoder": "tune_deep_autoencoder",
    "tune-metric-batch": "tune_metric_batch",
    "unlabeled-convnet": "unlabeled_convnet",
}
RECORD = "record.json"
TUNED = "-tuned"  # in the name of a committed record's file
SCALES = ("quick", "usual", "full")


@dataclass(frozen=True)
class Options:
    """What the command line asks of an experiment.

    out: folder of the record, the figures and the checkpoints. scale: "quick" (seconds; shows that it runs), "usual"
    (minutes), "full" (the paper's). seeds: how many, 0, 1, ...; None leaves it to the experiment. resume: go on from
    what `out` holds. progress: draw bars. tune: search the hyper-parameters first.
    """

    out: Path
    scale: str = "usual"
    seeds: int | None = None
    resume: bool = False
    progress: bool = True
    tune: bool = False


def find(name):
    """The module of an experiment, or the object among its EXPERIMENTS. ValueError for an unknown name."""
    check_name("experiment", name, tuple(EXPERIMENTS))
    module = importlib.import_module(f"{__name__}.{EXPERIMENTS[name]}")
    return getattr(module, "EXPERIMENTS", {}).get(name, module)


def committed(name, tune=False):
    """Where the record lies that comes with the package. Raises FileNotFoundError if none does.

    It is of a full run, or, where a full run is for GPUs, of a usual one; its settings["scale"] says which. tune: the
    one of a run that searched its hyper-parameters first.
    """
    find(name)
    path = Path(__file__).parent / "records" / f"{name}{TUNED if tune else ''}.json"
    if not path.is_file():
        kind, option = ("tuned record", " --tune") if tune else ("record", "")
        raise FileNotFoundError(
            f"no {kind} of {name} comes with minigrad; make one: python -m minigrad run {name} --full{option}"
        )
    return path


def recorded(name, tune=False):
    """The record that comes with the package (see `committed`); where none does, of a quick run, made in seconds."""
    try:
        return records.load(committed(name, tune), name)
    except FileNotFoundError:
        with tempfile.TemporaryDirectory() as folder:
            return find(name).run(Options(Path(folder), "quick", progress=False, tune=tune))


def show(name, tune=False):
    """For a notebook: the claims of a paper that `recorded` has numbers for, and its figures. Returns the record."""
    module, record = find(name), recorded(name, tune)
    print(f"{name}, {form(record['settings'])}, {of_seeds(len(record['seeds']))}, {record['machine']['cpu']}")
    for finding in module.findings(record):
        print(f"  {'held' if finding['held'] else 'NOT HELD':8}  {finding['claim']}\n{'':12}{finding['numbers']}")
    with tempfile.TemporaryDirectory() as folder:
        module.plot(record, Path(folder))
    return record
