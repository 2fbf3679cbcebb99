"""mpiexec -n 3 python -m mpi4py.futures mpi_search.py HISTORY FUNCTION: a search on two ranks, the third one leads."""

import sys

from mpi4py.futures import MPIPoolExecutor

from minigrad.search import BiasedRandomSearch
from tests.search import toys

if __name__ == "__main__":
    path, fn = sys.argv[1:]
    search = BiasedRandomSearch(toys.SPACE, seed=1, history=path)
    with MPIPoolExecutor() as ranks:
        search.run(getattr(toys, fn), 16, ranks, batch=4)
