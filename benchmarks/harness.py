"""The controller: a worker process for every peer, asked in turn, one repetition each, while all others idle.

BLAS thread pools in one process fight; in processes of their own they only have to sleep while another works.
They are left as their users run them (a passive wait policy would slow them: threads woken for every product),
and the controller waits between turns until spinning threads have gone to sleep.
"""

import json
import math
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import bare, peers, works

ROOT = Path(__file__).resolve().parent.parent
SETTLE = 0.05  # seconds between turns; OpenBLAS threads spin for 2**26 cycles, others for less
PATIENCE = 600  # seconds for one answer
ROUNDS = 15
FEWEST_ROUNDS = 5
WORK_SECONDS = 90  # of turns for one work, where ROUNDS rounds would take longer


class WorkerError(RuntimeError):
    """A peer cannot do what it was asked."""


class Disagreement(RuntimeError):
    """Peers that should compute the same do not."""


def cores():
    """Cores that this process may use; SMT siblings count, as they do for BLAS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def load():
    """Processes that compete for the cores, averaged over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def cpu_field(key):
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


def fast_mkl(folder):
    """MKL asks one function whether the processor is Intel's and else takes a slow path; a library that answers yes.

    Returns its path, or None without a C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return None
    source, library = Path(folder) / "intel.c", Path(folder) / "intel.so"
    source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
    done = subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], capture_output=True)
    return library if done.returncode == 0 else None


def environment(threads, backend):
    """Threads as many as cores, no kernels forced on OpenBLAS, no graphics card in a CPU run."""
    env = dict(os.environ)
    env.pop("OPENBLAS_CORETYPE", None)
    for name in ("OMP", "OPENBLAS", "MKL", "MINIGRAD"):
        env[f"{name}_NUM_THREADS" if name != "MINIGRAD" else "MINIGRAD_THREADS"] = str(threads)
    if backend == "numpy":
        env |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    else:
        env |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "CUPY_TF32": "0", "NVIDIA_TF32_OVERRIDE": "0"}
    return env


class Worker:
    """A peer's process. Leaving the `with` block ends it."""

    def __init__(self, name, backend, threads):
        self.name = name
        env = environment(threads, backend)
        self.folder = tempfile.TemporaryDirectory()
        if name == "torch*":
            library = fast_mkl(self.folder.name)
            if library is None:
                raise WorkerError("needs a C compiler to work around MKL's slow path")
            env["LD_PRELOAD"] = str(library)
        self.errors = open(Path(self.folder.name) / "stderr", "w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", name, backend, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=ROOT,
            env=env,
            text=True,
        )
        try:
            self.hello = self.answer()
        except WorkerError:
            self.close()
            raise

    def ask(self, do, **request):
        if self.process.poll() is None:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.errors.seek(0)
            last = (self.errors.read().strip() or "no message").splitlines()[-1]
            raise WorkerError(f"no answer within {PATIENCE} s" if not ready else f"the worker ended: {last}")
        message = json.loads(line)
        if "error" in message:
            raise WorkerError(message["error"])
        return message

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def start(names, backend, threads, say):
    """The workers that can be started, bare products first; one line for each that cannot."""
    workers = {}
    for name in ["bare", *names]:
        module, backends = peers.PEERS[name][1:]
        if backend not in backends:
            say(f"{name}: not on {backend}, left out")
        elif name == "torch*" and cpu_field("vendor_id") != "AuthenticAMD":
            continue
        elif not peers.installed(name):
            say(f"{name}: {module} is not installed, left out")
        else:
            try:
                workers[name] = Worker(name, backend, threads)
            except WorkerError as error:
                if name == "bare":
                    raise
                say(f"{name}: left out: {error}")
    return workers


def distance(a, b):
    """Relative distance of two fingerprints."""
    norm = math.sqrt(max(sum(x * x for x in a), sum(y * y for y in b)))
    return math.dist(a, b) / norm if norm else 0.0


def compare(work, answers):
    """Every peer's loss and result against the first one's; refuse to go on when they disagree."""
    answers = {name: a for name, a in answers.items() if "marks" in a}
    if not answers:
        return
    first = next(iter(answers))
    lines, wrong = [], False
    for name, a in answers.items():
        apart = distance(a["marks"], answers[first]["marks"])
        loss, reference = a["loss"], answers[first]["loss"]
        if loss is not None and reference is not None:
            apart = max(apart, abs(loss - reference) / abs(reference))
        wrong |= not apart <= work.tolerance  # so that nan is wrong too
        norm = math.sqrt(sum(mark * mark for mark in a["marks"]))
        shown = "" if loss is None else f"loss {loss:.6g}, "
        lines.append(f"  {name}: {shown}norm of the fingerprint {norm:.6g}, {apart:.1e} from {first}")
    if wrong:
        says = f"{work.name}: the peers' answers differ by more than {work.tolerance}:"
        raise Disagreement("\n".join([says, *lines]))


def quantiles(samples):
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return {"min": min(samples), "q1": low, "median": median, "q3": high, "samples": samples}


def time_work(work, workers, rounds, say):
    """The record of one work: seconds of every peer, and its ratio to the bare products of the same round."""
    answers = {}
    for name, worker in workers.items():
        try:
            answer = worker.ask("prepare", work=work.name)
            if "skip" not in answer:
                answers[name] = answer
        except WorkerError as error:
            if name == "bare":
                raise
            say(f"{name}, {work.name}: {error}")
    compare(work, answers)
    round_seconds = sum(answer["seconds"] + SETTLE for answer in answers.values())
    rounds = rounds or max(FEWEST_ROUNDS, min(ROUNDS, int(WORK_SECONDS / round_seconds)))
    samples = {name: [] for name in answers}
    for _ in range(rounds):
        for name in answers:
            time.sleep(SETTLE)
            samples[name].append(workers[name].ask("turn")["seconds"])
    for name in answers:
        workers[name].ask("drop")
    ratios = {
        name: quantiles([peer / base for peer, base in zip(times, samples["bare"])])
        for name, times in samples.items()
        if name != "bare"
    }
    return {
        "work": work.name,
        "title": work.title,
        "target": work.target,
        "gflop": bare.flops(work) / 1e9,
        "rounds": rounds,
        "seconds": {name: quantiles(times) for name, times in samples.items()},
        "ratios": ratios,
    }


def weigh_work(work, names, backend, threads, say):
    """The record of a memory row: peak bytes of every peer, each in a fresh worker, over `works.must_live`."""
    peaks = {}
    for name in names:
        try:
            with Worker(name, backend, threads) as worker:
                answer = worker.ask("memory", work=work.name)
        except WorkerError as error:
            say(f"{name}, {work.name}: {error}")
            continue
        if "skip" not in answer:
            peaks[name] = answer["bytes"]
    least = works.must_live(work)
    return {
        "work": work.name,
        "title": work.title,
        "target": work.target,
        "must_live_bytes": least,
        "bytes": peaks,
        "ratios": {name: {"median": peak / least} for name, peak in peaks.items()},
    }


def measure(chosen, names, backend, threads, rounds=None, say=print):
    """(records of the chosen works, what the workers said of themselves)."""
    workers = start(names, backend, threads, say)
    try:
        if len(workers) < 3:
            say("fewer than two peers: nothing to check the answers against")
        records = []
        for work in chosen:
            say(f"{work.name} ...")
            if work.memory:
                names = [name for name in workers if name != "bare"]
                records.append(weigh_work(work, names, backend, threads, say))
            else:
                records.append(time_work(work, workers, rounds, say))
        return records, {name: worker.hello for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
