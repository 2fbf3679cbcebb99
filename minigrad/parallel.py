"""Ranks: processes that share the work on each batch (data parallel training over MPI).

    # train.py: K-FAC on four ranks, by        mpiexec -n 4 python -m mpi4py train.py
    from mpi4py import MPI
    from minigrad import Objective, data, fit
    from minigrad.losses import Categorical
    from minigrad.nets import mlp
    from minigrad.optimizers import KFAC
    from minigrad.parallel import Ranks

    train, test = data.mnist()
    objective = Objective(mlp([784, 256, 10]), Categorical(), ranks=Ranks(MPI.COMM_WORLD))
    history = fit(objective, KFAC(), train, updates=500, batch_size=2000, validation=test, checkpoint="run.npz")

Every rank runs this same program with the same seed, so all know the same theta and the same batch (x, t). Of a batch a
rank sends its own share of rows through the net, forwards and backwards. A batch is a sum, so what the ranks find is
added up by three kinds of messages:

    total       the sum over ranks: value, gradient, products J'M J v, raw moments (E[hh'], E[h], E[delta delta'])
    gathered    the rows of all ranks: outputs r, which every rank then knows (and draws the same targets from)
    largest     the elementwise maximum

All else (the algebra of theta, inverses, decisions) each rank does for itself, from the same bits: MPI demands of
Allreduce that all processes receive identical results, and gathered rows are copies. So theta is the same on all ranks,
bit for bit, if these compute alike: the same NumPy on the same kind of processor, with the same number of threads
(MINIGRAD_THREADS). Against one process, results differ by rounding, for the sums have another order.

    only a shard    x may hold anything finite in rows of other ranks: only x[ranks.share(len(x))] is read. Targets must
                    be whole: t = ranks.gathered(own, n)
    what is alike   with each forward pass all send a few bytes: which method, theta (all of it the first time, then a
                    sample of its numbers), a sample of the targets, shapes, threads. Where these differ, all ranks
                    raise ValueError
    normalization   of a batch-normalized net is by the statistics of all ranks' rows, which are added up layer by layer
    a rank fails    inside a forward pass: it raises its error, the others RuntimeError. Elsewhere (no memory left, a
                    callback that raises) the others wait: `python -m mpi4py` then ends all ranks, by MPI_Abort
    on a GPU        messages go through the host

mpi4py is not imported here: a communicator is whatever has its Get_rank, Get_size and the buffer methods Allreduce,
Allgather, Allgatherv and Bcast.
"""

import contextlib
import json
import zlib

import numpy as np

from .backend import asarray, evenly, is_array, threads, to_host, xp

DONE, FAILED, ADDING = range(3)  # how far a rank is inside of `together`
WORD = 64  # bytes that `agreed` sends
SAMPLE = 1024  # numbers of theta, and of the targets, that are compared at a forward pass


class Alone:
    """One process, which has all of each batch: what `Ranks` is for many."""

    size, rank, leads = 1, 0, True

    def share(self, n):
        """This rank's rows of n, a slice."""
        return slice(0, n)

    def total(self, arrays):
        """The sums over ranks of arrays, which are equally many and equally large on all."""
        return arrays

    def gathered(self, rows, n):
        """All n rows, of which each rank gives its share."""
        return rows

    def largest(self, array):
        """The elementwise maximum over ranks."""
        return array

    def agreed(self, word):
        """The leading rank's word: None, a bool, a number or a short text."""
        return word

    def together(self, what, theta=None, data=None):
        """A context: what runs inside, each rank does for itself; behind it all have managed, or all raise."""
        return contextlib.nullcontext()


ALONE = Alone()


class Ranks:
    """The ranks of a communicator, equal partners; rank 0 leads, where one must speak for all."""

    def __init__(self, comm):
        self.comm, self.size, self.rank = comm, comm.Get_size(), comm.Get_rank()
        self.leads = self.rank == 0
        self.met = False  # has all of theta been compared?
        self.doing = None  # inside of `together`: what

    def share(self, n):
        """This rank's rows of n: runs of equal length, or one apart. Raises ValueError for fewer rows than ranks."""
        if n < self.size:
            raise ValueError(f"a batch of {n} cannot be spread over {self.size} ranks: each needs a sample")
        return evenly(0, n, self.size)[self.rank]

    def total(self, arrays):
        """The sums over ranks, all in one message; new arrays, in the dtype that all of them have together.

        Inside of `together`, where a rank may have failed since, all ask each other first.
        """
        if self.doing:
            self._alike(self.doing, ADDING)
        sent = to_host(xp.concatenate([array.reshape(-1) for array in arrays]))
        received = np.empty_like(sent)
        self.comm.Allreduce(np.ascontiguousarray(sent), received)
        flat, sums, start = asarray(received), [], 0
        for array in arrays:
            sums.append(flat[start : start + array.size].reshape(array.shape))
            start += array.size
        return sums

    def gathered(self, rows, n):
        """All n rows, in the order of the ranks."""
        sent = np.ascontiguousarray(to_host(rows))
        received = np.empty((n, *sent.shape[1:]), sent.dtype)
        width = received[:1].size
        self.comm.Allgatherv(sent, [received, [width * (each.stop - each.start) for each in evenly(0, n, self.size)]])
        return asarray(received)

    def largest(self, array):
        """The elementwise maximum over ranks."""
        return self.gathered(array[None], self.size).max(axis=0)

    def agreed(self, word):
        """Rank 0's word on all ranks."""
        text = json.dumps(word).encode()
        if len(text) > WORD:
            raise ValueError(f"ranks: {word!r} is longer than {WORD} bytes")
        letter = np.frombuffer(text.ljust(WORD), np.uint8).copy()
        self.comm.Bcast(letter)
        return json.loads(letter.tobytes())

    @contextlib.contextmanager
    def together(self, what, theta=None, data=None):
        """Raises, on all ranks, where they do different things or one fails; on the one that fails, its own error."""
        doing = what
        if theta is not None:
            x, *t = data if isinstance(data, tuple) else (data,)
            seen = ", ".join([_kind(x), *map(_known, t)])
            doing = f"{what} at theta {_known(theta, not self.met)} on {seen}, {threads()} threads"
        self.doing = doing
        try:
            yield
        except BaseException:
            if self.doing:  # else this is what the others' failure led to
                self._tell(doing, FAILED)
            raise
        finally:
            self.doing = None
        self._alike(doing, DONE)
        self.met = self.met or theta is not None

    def _alike(self, doing, how_far):
        """Raise, on all ranks, where one does something else, has failed, or is not as far as this one."""
        what, far = self._tell(doing, how_far).T
        here = f"this is rank {self.rank} of {self.size}, {doing}"
        others, failed = what != what[self.rank], far == FAILED
        if not failed.any():
            others |= far != how_far
        if others.any() or failed.any():
            self.doing = None
        if others.any():
            raise ValueError(f"the ranks are not alike: ranks {_listed(others)} do something else; {here}")
        if failed.any():
            raise RuntimeError(f"ranks {_listed(failed)} failed, their errors say why; {here}")

    def _tell(self, doing, how_far):
        """(what it does, how far it is) of each rank, as numbers."""
        found = np.empty((self.size, 2), np.int64)
        self.comm.Allgather(np.array([zlib.crc32(doing.encode()), how_far]), found)
        return found


def _listed(ranks):
    return np.flatnonzero(ranks).tolist()


def _kind(thing):
    """Shape and dtype."""
    return f"{thing.shape} {thing.dtype}" if is_array(thing) else type(thing).__name__


def _known(thing, whole=False):
    """Shape, dtype, and a checksum of all numbers, or of about SAMPLE of them."""
    if not is_array(thing):
        return _kind(thing)
    step = 1 if whole else max(1, thing.size // SAMPLE)
    return f"{_kind(thing)} {zlib.crc32(np.ascontiguousarray(to_host(thing.reshape(-1)[::step]))):08x}"
