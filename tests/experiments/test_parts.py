"""Jobs on cores of their own."""

import os
import signal
import time

from minigrad import backend
from minigrad.experiments import parts


def means(job):
    """What a job has to work with."""
    return job, backend.threads(), os.environ["OPENBLAS_NUM_THREADS"], os.getpid()


def test_every_job_has_one_core_in_a_process_of_its_own():
    before = dict(os.environ)
    found = dict(parts.on_cores(means, [3, 1, 2], cores=2))
    assert {job: (number, threads, blas) for job, (number, threads, blas, _) in found.items()} == {
        job: (job, 1, "1") for job in (3, 1, 2)
    }
    assert os.getpid() not in {pid for *_, pid in found.values()}
    assert dict(os.environ) == before


def interrupted(job):
    """The first job presses Ctrl-C, the others take their time."""
    if job == 0:
        os.kill(os.getppid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    return "ended in order"


def test_no_job_begins_after_an_interrupt():
    assert list(parts.on_cores(interrupted, [0, 1, 2], cores=1)) == [(0, "ended in order")]
