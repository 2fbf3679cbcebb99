"""Checkpoints: exact resume, and refusals of everything that is not this run's own whole file."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minigrad.data import RandomCrops
from minigrad.optimizers import SGD, Adam, NaturalGradient, Waterfall
from minigrad.training import checkpoint, files, fit
from tests.helpers import dev, host, host_only
from tests.training import endless
from tests.training.toys import Stretched, Toy, data, objective, of_pictures, pictures

ROOT = Path(__file__).parents[2]
OPTIMIZERS = {
    "toy": Toy(),
    "coordinates of its own": Stretched(),
    "momentum, waterfall": SGD(Waterfall(0.3, patience=1), momentum=0.9),
    "Adam": Adam(0.01),
    "natural gradient": NaturalGradient(metric_batch=20),
}


def run(path=None, updates=20, optimizer=OPTIMIZERS["toy"], **options):
    """A quiet run with an evaluation every 3 updates and a checkpoint every 2."""
    given = {"batch_size": 10, "validation": data(20, seed=1), "evaluate_every": 3, "progress": False,
             "checkpoint": path, "checkpoint_every": 2}  # fmt: skip
    the, pair = options.pop("objective", objective()), options.pop("data", data())
    return fit(the, optimizer, pair, updates=updates, **{**given, **options})


def bits(history):
    """All that must not depend on interruptions."""
    state = {name: value if isinstance(value, int | float) else host(value).tobytes()
             for name, value in history.state.items()}  # fmt: skip
    return (
        host(history.point).tobytes(),
        host(history.theta).tobytes(),
        state,
        history.steps,
        history.update,
        history.gradients,
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_equals_unbroken(name, tmp_path, device):
    optimizer, path = OPTIMIZERS[name], tmp_path / "run.npz"
    unbroken = run(optimizer=optimizer)
    for stop in (2, 3, 11):  # on a checkpoint, on an evaluation, between both
        run(path, stop, optimizer=optimizer, resume=True)
    resumed = run(path, optimizer=optimizer, resume=True)
    assert bits(resumed) == bits(unbroken)
    assert resumed.stopped == "updates" and resumed.seconds > 0
    regular = [update for update in resumed.curves["update"] if update % 3 == 0]
    assert regular == [0, 3, 6, 9, 12, 15, 18]


def test_resumed_sees_the_same_crops(tmp_path):
    """Of the batches and of the further ones; and crops drawn otherwise are another run."""
    path = tmp_path / "run.npz"
    options = {"objective": of_pictures(3, 3), "data": pictures(), "validation": pictures(20, seed=1)}
    crops = RandomCrops(3, padding=1, flips=True)
    unbroken = run(**options, augment=crops)
    for stop in (2, 3, 11):
        run(path, stop, **options, augment=crops, resume=True)
    assert bits(run(path, **options, augment=crops, resume=True)) == bits(unbroken)
    assert bits(run(**options, augment=RandomCrops(3))) != bits(unbroken)
    with pytest.raises(ValueError, match=r"augment is RandomCrops\(size=3, padding=1, flips=True\) there, RandomCrops"):
        run(path, **options, augment=RandomCrops(3), resume=True)


def test_augmented_and_plain_runs_are_not_mixed_up(tmp_path):
    path = tmp_path / "run.npz"
    options = {"objective": of_pictures(4, 4), "data": pictures(), "validation": pictures(20, seed=1)}
    run(path, **options)
    with np.load(path) as file:  # a plain run's checkpoint is what it was before runs could be augmented
        assert "augment" not in json.loads(file["checkpoint.json"].tobytes())["fingerprint"]
    with pytest.raises(ValueError, match="augment is None there, RandomCrops"):
        run(path, **options, augment=RandomCrops(4, padding=1), resume=True)
    run(path, **options, augment=RandomCrops(4, padding=1))
    with pytest.raises(ValueError, match=r"augment is RandomCrops.* there, None here"):
        run(path, **options, resume=True)


def test_interrupted_then_resumed(tmp_path):
    path = tmp_path / "run.npz"
    press = lambda history: os.kill(os.getpid(), signal.SIGINT) if history.update == 5 else None
    stopped = run(path, callbacks=(press,))
    assert stopped.interrupted and stopped.update == 5
    resumed = run(path, resume=True)
    assert bits(resumed) == bits(run()) and resumed.seconds > stopped.seconds
    assert resumed.curves["loss"] == run().curves["loss"]


def test_finished_run_is_not_repeated(tmp_path):
    first = run(tmp_path / "run.npz")
    again = run(tmp_path / "run.npz", resume=True)
    assert bits(first) == bits(again) and again.curves == first.curves and again.seconds == first.seconds


def test_without_resume_starts_anew(tmp_path):
    run(tmp_path / "run.npz", updates=8)
    assert bits(run(tmp_path / "run.npz")) == bits(run())


# --- killed ----------------------------------------------------------------------------------------------

UPDATES = 250


def kill_and_resume(path, kind, moment):
    """(update at which SIGKILL left the checkpoint, theta in hex after resuming to the end)."""
    command = [sys.executable, "-m", "tests.training.endless", str(path), str(UPDATES), kind]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.002)
        assert process.poll() is None
    time.sleep(moment)
    process.kill()
    process.wait()
    with np.load(path) as file:
        left = file["steps.loss"].size if "steps.loss" in file.files else 0
    return left, endless.train(path, UPDATES, kind)


def check_kills(tmp_path, moments):
    expected = {kind: endless.train(None, UPDATES, kind) for kind in ("toy", "waterfall")}
    left = []
    for i, moment in enumerate(moments):
        kind = ("toy", "waterfall")[i % 2]
        update, theta = kill_and_resume(tmp_path / f"{i}.npz", kind, moment)
        assert theta == expected[kind], f"killed after update {update}"
        left.append(update)
    assert sum(update < UPDATES for update in left) > len(moments) / 2, "the runs are too short to be killed"


@host_only
def test_killed_four_times(tmp_path):
    check_kills(tmp_path, [0.0, 0.02, 0.05, 0.1])


@host_only
@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path):
    rng = random.Random()  # other moments each time; the message of a failure names the update
    check_kills(tmp_path, [rng.uniform(0, 0.15) for _ in range(20)])


# --- what is refused -------------------------------------------------------------------------------------


def test_foreign_runs_are_refused_by_name(tmp_path):
    path = tmp_path / "run.npz"
    run(path, updates=4)
    x, t = data()
    for part, options in [
        ("optimizer", {"optimizer": Toy(lr=0.2)}),
        ("seed", {"seed": 1}),
        ("batch_size", {"batch_size": 12}),
        ("data", {"data": (x + 1e-9, t)}),
        ("validation", {"validation": None}),
        ("evaluate_every", {"evaluate_every": 4}),
        ("theta", {"theta": dev(np.zeros(75))}),
    ]:
        with pytest.raises(ValueError, match=rf"checkpoint .*run\.npz is of another run: {part} is .* there, .* here"):
            run(path, resume=True, **options)
    with pytest.raises(ValueError, match="another run: objective is"):
        fit(objective((5, 7, 3)), Toy(), data(), updates=1, batch_size=10, checkpoint=path, resume=True, progress=False)


def damage(path, how):
    raw = path.read_bytes()
    if how == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        at = raw.index(b"theta.npy") + 300
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    elif how == "text":
        path.write_bytes(b"<html>not found</html>")
    elif how == "array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif how == "foreign":
        np.savez(path, weights=np.zeros(3))
    elif how == "pickle":
        np.savez(path, **{"checkpoint.json": np.array([{"a": 1}], dtype=object)})
    elif how == "no json":
        np.savez(path, **{"checkpoint.json": np.frombuffer(b"{", np.uint8)})
    elif how == "version":
        text = b'{"format": "minigrad checkpoint", "version": 9}'
        np.savez(path, **{"checkpoint.json": np.frombuffer(text, np.uint8)})
    elif how == "other json":
        np.savez(path, **{"checkpoint.json": np.frombuffer(b"[]", np.uint8)})


@pytest.mark.parametrize(
    "how, found",
    [
        ("truncated", "a whole .npz file, found"),
        ("empty", "a whole .npz file, found"),
        ("flipped", "a whole .npz file, found Bad CRC-32"),
        ("text", "a whole .npz file, found"),
        ("array", "a whole .npz file, found"),
        ("foreign", "a minigrad checkpoint, found a file of weights"),
        ("pickle", "a whole .npz file, found Object arrays cannot be loaded"),
        ("no json", "its description in JSON, found"),
        ("version", "minigrad checkpoint 1, found minigrad checkpoint 9"),
        ("other json", "minigrad checkpoint 1, found list"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, how, found):
    path = tmp_path / "run.npz"
    run(path, updates=2)
    damage(path, how)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"checkpoint .*run\.npz cannot be used: expected .*{found}"):
        run(path, resume=True)
    assert path.read_bytes() == before


def test_missing_array_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    run(path, updates=2)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "theta"}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"expected arrays .*theta, found"):
        run(path, resume=True)


def test_state_that_cannot_be_kept_is_refused_before_training(tmp_path):
    class Odd(Toy):
        def init(self, objective, theta):
            return super().init(objective, theta) | {"net": objective}

        def step(self, *args):
            raise AssertionError("trained")

    with pytest.raises(TypeError, match=r"'state\.net' is a Objective"):
        run(tmp_path / "run.npz", optimizer=Odd())


def test_unwritable_folder_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    called = []
    with pytest.raises(OSError, match=r"cannot write in the folder .*file"):
        run(tmp_path / "file" / "run.npz", callbacks=(called.append,))
    assert not called


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    files.write_atomic(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomic(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_round_trip_is_exact(tmp_path, rng, device):
    content = {"a": dev(rng.standard_normal((3, 4))), "x": 0.1 + 0.2, "inf": float("inf"), "n": 2**80, "s": {"k": [1]}}
    checkpoint.save(tmp_path / "c.npz", content, {"run": "1"})
    loaded = checkpoint.load(tmp_path / "c.npz", {"run": "1"})
    assert host(loaded.pop("a")).tobytes() == host(content.pop("a")).tobytes()
    assert loaded == content


def test_describe_is_the_same_in_every_process():
    assert checkpoint.describe([data, Toy()]) == "[<function data>, Toy(lr=0.1, noise=0.001)]"
    assert checkpoint.describe_array(None) == "none"
    assert checkpoint.describe_array(dev(np.zeros((2, 3), np.float32))).startswith("(2, 3) float32 ")
