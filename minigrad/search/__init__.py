"""Search for hyper-parameters: grid, random, and biased random search (George, section 2.3), on any executor.

    def train(trial):                                  # -> a loss; trial.seed is its own
        return final_loss(lr=trial["lr"], init=trial["init"], seed=trial.seed)

    space = Space(lr=LogUniform(1e-4, 1.0), init=Choice("Glorot", "sparse"))
    search = BiasedRandomSearch(space, seed=0, history="runs/search.jsonl")       # goes on where a killed one ended
    with ProcessPoolExecutor(2) as pool:                                          # or Dask's, or MPI's; None: here
        history = search.run(train, n_trials=64, executor=pool, workers=2, progress="search")
    print(history.best.parameters, history.best.loss)

Without `run`: trial = search.ask(); search.tell(trial, loss).

    space         Uniform, LogUniform, Integer, Choice; the unit cube
    landscape     NearestNeighbour, KNearest, Kernel: what to expect where nothing was tried
    acceptance    by_loss (the thesis'), by_rank: which proposals are kept
    methods       the three searches; core: ask and tell; engine: run
    history       finished trials, their file, merging
"""

from .acceptance import by_loss, by_rank
from .history import History, load
from .landscape import Kernel, KNearest, NearestNeighbour
from .methods import BiasedRandomSearch, GridSearch, RandomSearch
from .space import Choice, Integer, LogUniform, Space, Uniform
from .trial import Outcome, Trial

__all__ = [
    "Space",
    "Uniform",
    "LogUniform",
    "Integer",
    "Choice",
    "GridSearch",
    "RandomSearch",
    "BiasedRandomSearch",
    "NearestNeighbour",
    "KNearest",
    "Kernel",
    "by_loss",
    "by_rank",
    "Trial",
    "Outcome",
    "History",
    "load",
]
