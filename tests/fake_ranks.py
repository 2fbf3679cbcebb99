"""Ranks as threads of one process: what a communicator of mpi4py does, by a barrier and a shared list."""

import threading

import numpy as np

from minigrad.parallel import Ranks

PATIENCE, GRACE = 60, 1  # seconds that a rank waits for the others, and for one that has raised


class Communicator:
    """Rank `rank` of the threads that share `barrier` and `slots`; counts its messages and their bytes."""

    def __init__(self, rank, barrier, slots):
        self.rank, self.barrier, self.slots, self.sent = rank, barrier, slots, []

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return len(self.slots)

    def Allreduce(self, sent, received):
        total = 0
        for part in self._everybodys("Allreduce", sent):
            total = total + part
        received[...] = total

    def Allgather(self, sent, received):
        received[...] = self._everybodys("Allgather", sent)

    def Allgatherv(self, sent, received):
        array, counts = received
        parts = self._everybodys("Allgatherv", sent)
        assert [part.size for part in parts] == list(counts) and {part.dtype for part in parts} == {array.dtype}
        array.reshape(-1)[:] = np.concatenate([part.reshape(-1) for part in parts])

    def Bcast(self, array):
        array[...] = self._everybodys("Bcast", array)[0]

    def _everybodys(self, name, array):
        """The arrays of all ranks, which must be in the same kind of call."""
        assert array.flags.c_contiguous
        self.sent.append((name, array.nbytes))
        self.slots[self.rank] = (name, array.copy())
        self.barrier.wait()
        names, arrays = zip(*self.slots, strict=True)
        self.barrier.wait()
        assert set(names) == {name}
        return arrays


def spread(size, work):
    """[work(Ranks) of rank 0, 1, ...], each on its own thread; an exception is a result too."""
    barrier, slots, results = threading.Barrier(size, timeout=PATIENCE), [None] * size, [None] * size

    def run(rank):
        try:
            results[rank] = work(Ranks(Communicator(rank, barrier, slots)))
        except Exception as error:
            results[rank] = error
            last = threading.Timer(GRACE, barrier.abort)  # whoever still waits for this rank then, waits in vain
            last.daemon = True
            last.start()

    workers = [threading.Thread(target=run, args=[rank], name=f"rank {rank}") for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results
