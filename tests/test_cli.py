"""The command line: what it prints, and that what a user can get wrong is one clear line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad import backend, cli, experiments
from minigrad.training import records
from tests.helpers import host_only

pytestmark = host_only  # GPUs are for the numbers; this is about words


class Toy:
    """An experiment that trains nothing."""

    DESCRIPTION, PAPER = "a toy", "none"
    asked, complete = [], True

    @classmethod
    def run(cls, options):
        cls.asked.append(options)
        record = records.new("toy", settings={}, seeds=[0])
        record["results"]["complete"] = cls.complete
        records.save(record, options.out / "record.json")
        return record

    @staticmethod
    def plot(record, folder):
        (folder / "toy.png").write_bytes(b"")
        return [folder / "toy.png"]


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The toy as the only experiment, in an empty working folder."""
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"toy": "toy"})
    monkeypatch.setitem(sys.modules, "minigrad.experiments.toy", Toy)
    monkeypatch.setattr(Toy, "asked", [])
    monkeypatch.chdir(tmp_path)
    return Toy


@pytest.fixture
def command(monkeypatch, capsys):
    """command(*words) -> (exit code, stdout, stderr)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["minigrad", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    yield call
    cli.settings["debug"] = False
    backend.use("numpy")


def test_run_leaves_record_and_figure(toy, command):
    code, out, _ = command("run", "toy")
    assert code == 0 and "wrote runs/toy/record.json" in out and "wrote runs/toy/toy.png" in out
    assert records.load("runs/toy/record.json", "toy")
    assert toy.asked == [experiments.Options(Path("runs/toy"))]


def test_run_passes_options_on(toy, command):
    assert command("run", "toy", "--quick", "--seeds", 3, "--resume", "--backend", "numpy", "--out", "a/b")[0] == 0
    assert command("run", "toy", "--full")[0] == 0
    assert toy.asked[0] == experiments.Options(Path("a/b"), "quick", 3, True)
    assert toy.asked[1].scale == "full"


def test_interrupted_run_says_how_to_go_on(toy, command, monkeypatch):
    monkeypatch.setattr(toy, "complete", False)
    code, _, err = command("run", "toy")
    assert code == 130 and "--resume" in err


def test_plot_draws_a_record_again(toy, command):
    command("run", "toy")
    Path("runs/toy/toy.png").unlink()
    code, out, _ = command("plot", "toy")
    assert code == 0 and Path("runs/toy/toy.png").exists()
    assert command("plot", "toy", "--record", "runs/toy/record.json", "--out", "elsewhere")[0] == 0
    assert Path("elsewhere/toy.png").exists()


def test_plot_draws_the_record_that_comes_with_minigrad(command, tmp_path):
    assert command("plot", "reparametrization", "--full", "--out", tmp_path)[0] == 0
    assert (tmp_path / "reparametrization.png").exists()


def test_list_names_every_experiment(command):
    code, out, _ = command("list")
    assert code == 0 and all(name in out for name in experiments.EXPERIMENTS)


def test_info(command, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "0001")
    monkeypatch.setattr(cli.machine, "cores", lambda: 64)
    code, out, _ = command("info")
    assert code == 0
    assert all(word in out for word in ("numpy", "BLAS", "kernels", "threads", "GPU", "MNIST", "OMP_NUM_THREADS"))


WRONG = [
    (("run", "toyy"), "unknown experiment 'toyy'; did you mean 'toy'"),
    (("plot", "toyy"), "unknown experiment"),
    (("plot", "toy"), "no record runs/toy/record.json; make one: python -m minigrad run toy"),
    (("run", "toy", "--backend", "cupi"), "unknown backend 'cupi'; did you mean 'cupy'"),
    (
        ("plot", "toy", "--full"),
        "no record of toy comes with minigrad; make one: python -m minigrad run toy --full",
    ),
    (
        ("plot", "toy", "--full", "--tune"),
        "no tuned record of toy comes with minigrad; make one: python -m minigrad run toy --full --tune",
    ),
    (("plot", "toy", "--tune"), "--tune goes with --full"),
    (("plot", "toy", "--full", "--record", "other.json"), "exclude each other"),
    (("run", "toy", "--full", "--quick"), "exclude each other"),
    (("run", "toy", "--seeds", "0"), "Invalid value for '--seeds'"),
    (("run", "toy", "--seedz", "0"), "No such option"),
    (("run", "toy", "--out", "file/below"), "cannot write in the folder file/below"),
    (("plot", "toy", "--record", "broken.json"), "record broken.json cannot be used"),
    (("plot", "toy", "--record", "other.json"), "expected a record of 'toy', found one of 'other'"),
]


@pytest.mark.parametrize("words, message", WRONG)
def test_errors_are_one_line(toy, command, words, message):
    Path("file").write_bytes(b"")
    Path("broken.json").write_text('{"format": ')
    records.save(records.new("other", settings={}, seeds=[]), "other.json")
    code, out, err = command(*words)
    assert code == 1 and out == "" and message in err
    assert err.count("\n") == 1 and err.startswith("minigrad: ")
    assert not toy.asked


def test_missing_cupy(toy, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, _, err = command("run", "toy", "--backend", "cupy")
    assert code == 1 and "pip install cupy-cuda13x" in err and err.count("\n") == 1


def test_debug_shows_the_traceback(toy, command):
    with pytest.raises(ValueError, match="unknown experiment"):
        command("--debug", "run", "toyy")


def test_the_module_runs(tmp_path):
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "minigrad", "run", "nothing"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("minigrad: unknown experiment 'nothing'")
    assert "Traceback" not in done.stderr


def test_tune_is_for_experiments_that_search(command, toy, monkeypatch):
    code, _, err = command("run", "toy", "--tune")
    assert code == 1 and "--tune: toy has no search of hyper-parameters" in err and toy.asked == []
    monkeypatch.setattr(toy, "tune", None, raising=False)
    assert command("run", "toy", "--tune")[0] == 0 and toy.asked[0].tune
    assert command("run", "toy")[0] == 0 and not toy.asked[1].tune
