"""One peer in its own process: answers requests on stdin, a line of JSON each, and is idle in between.

`python -m benchmarks.worker PEER BACKEND THREADS`, started by `harness.Worker`.
"""

import gc
import json
import math
import os
import statistics
import sys
import time
import traceback

TURN_SECONDS = 0.1  # a turn repeats a short work until about this long
STRETCHES = 5  # of a turn
LONG = 1.0  # seconds of a repetition
FEWEST_PRODUCTS = 20  # of a turn of cached products


class Server:
    def __init__(self, name, backend):
        from . import peers

        self.backend = backend
        self.peer = peers.load(name)(backend)
        self.run = None

    def hello(self):
        try:
            from threadpoolctl import threadpool_info

            blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        except ImportError:
            blas = []
        keys = ("internal_api", "version", "architecture", "num_threads")
        return {
            "title": self.peer.title,
            "versions": self.peer.versions(),
            "blas": [{key: pool.get(key) for key in keys} for pool in blas],
        }

    def prepare(self, work):
        """Set up a work, warm up, and answer what it computes (for the comparison) and how long it takes."""
        from . import works

        self.drop()
        work = works.BY_NAME[work]
        if not self.peer.does(work):
            return {"skip": True}
        self.run = self.peer.prepare(work, works.problem(work))
        result = self.run()
        answer = self.peer.answer(result)
        del result
        self.seconds = min(self.time(1), self.time(1))
        self.inner = max(FEWEST_PRODUCTS if work.kind == "products" else 1, math.ceil(TURN_SECONDS / self.seconds))
        reply = {"seconds": self.seconds * (self.inner + (self.seconds < LONG))}  # of a turn
        if answer is not None:
            reply["loss"], reply["marks"] = answer[0], works.fingerprint(answer[1])
        return reply

    def time(self, repetitions):
        """Seconds a repetition."""
        from .peers import Amortized

        seconds = lambda run: self.time_of(run, repetitions)
        return self.run.mean(seconds) if isinstance(self.run, Amortized) else seconds(self.run)

    def time_of(self, run, repetitions):
        self.peer.sync()
        start = time.perf_counter()
        for _ in range(repetitions):
            run()
        self.peer.sync()
        return (time.perf_counter() - start) / repetitions

    def turn(self):
        """Threads and caches are woken by an untimed repetition, unless one takes so long that it cannot matter.

        Training goes from update to update, and not from one update of all peers to the next. The turn of a short work
        is the median of a few stretches: one that the system interrupts does not count.
        """
        from .peers import Amortized

        if self.seconds < LONG:
            self.time_of(self.run.usual if isinstance(self.run, Amortized) else self.run, 1)
        stretches = min(STRETCHES, self.inner)
        return {"seconds": statistics.median(self.time(self.inner // stretches) for _ in range(stretches))}

    def drop(self):
        self.run = None
        gc.collect()
        return {}

    def memory(self, work):
        """Peak bytes of one run above what was there before, parameters added. Ask a fresh worker."""
        from . import works

        work = works.BY_NAME[work]
        if not self.peer.does(work):
            return {"skip": True}
        small = works.BY_NAME["gradient-small-128" if work.kind == "gradient" else "products-small-128"]
        self.peer.prepare(small, works.problem(small))()  # BLAS buffers, thread stacks, lazy imports
        problem = works.problem(work)
        run = self.peer.prepare(work, problem)
        gc.collect()
        self.peer.sync()
        growth = self.peer.device_peak(run) if self.backend == "cupy" else host_peak(run)
        return {"bytes": growth + problem.theta.nbytes}


def host_peak(run):
    """Growth of the resident set's high-water mark during run(): Linux can reset the mark.

    Memory that was freed but kept by the allocator is given back before, or run() could use it unseen.
    """
    import ctypes
    import resource

    try:
        getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
        run()
        return status("VmHWM") - before
    except OSError:  # elsewhere: the mark only rises, and what was higher before hides what run() needs
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        return unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key + ":"))


def main(name, backend, threads):
    if hasattr(os, "sched_setaffinity"):  # before any library counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr

    def reply(message):
        print(json.dumps(message), file=replies, flush=True)

    try:
        server = Server(name, backend)
        reply(server.hello())
    except Exception as error:
        traceback.print_exc()
        return reply({"error": f"{type(error).__name__}: {error}"})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply(getattr(server, request.pop("do"))(**request))
        except Exception as error:
            traceback.print_exc()
            server.drop()
            reply({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(*sys.argv[1:])
