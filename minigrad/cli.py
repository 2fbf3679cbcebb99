"""python -m minigrad list | run NAME | plot NAME | info: the experiments, and what this machine makes of them.

What a user can get wrong ends in one line and exit code 1; `--debug` before the command shows the traceback. Ctrl-C
ends a run in order (exit code 130): its figure and record hold what there was, and `--resume` goes on.
"""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import __version__, backend
from . import experiments as experiments_
from .training import machine, records
from .training.files import writable_folder

HELP = "Natural-gradient training: the experiments of the book."
app = typer.Typer(add_completion=False, no_args_is_help=True, help=HELP, pretty_exceptions_enable=False)
out_console, error_console = Console(highlight=False), Console(stderr=True, highlight=False)
settings = {"debug": False}

Name = Annotated[str, typer.Argument(help="an experiment's name; `list` shows them", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="folder of record, figure, checkpoints  [default: runs/NAME]")]


def main():
    """Run the command line; errors that a user can mend are one line on stderr."""
    try:
        sys.exit(app(standalone_mode=False) or 0)  # the code of a typer.Exit comes back as a value
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        if settings["debug"]:
            raise
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        error_console.print(f"minigrad: {text or type(error).__name__}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)


@app.callback()
def _options(debug: Annotated[bool, typer.Option(help="show the traceback of an error")] = False):
    """Natural-gradient training: the experiments of the book."""
    settings["debug"] = debug


@app.command("list")
def list_():
    """The experiments, and the figure of which paper each one makes."""
    table = Table(box=None, pad_edge=False)
    for column in ("name", "what it does", "paper"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for name in experiments_.EXPERIMENTS:
        module = experiments_.find(name)
        table.add_row(name, module.DESCRIPTION, module.PAPER)
    out_console.print(table)


@app.command()
def run(
    name: Name,
    full: Annotated[bool, typer.Option("--full", help="the paper's scale; may take hours")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="a few seconds: shows that it runs")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="how many seeds: 0, 1, ...")] = None,
    backend_: Annotated[str | None, typer.Option("--backend", help="numpy or cupy")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where an interrupted run stopped")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="first search the hyper-parameters, by biased search")] = False,
    out: Out = None,
):
    """Run an experiment; leaves its record (JSON) and its figures in a folder."""
    if full and quick:
        raise ValueError("--full and --quick exclude each other")
    module = experiments_.find(name)
    if tune and not hasattr(module, "tune"):
        raise ValueError(f"--tune: {name} has no search of hyper-parameters")
    if backend_ is not None:
        backend.use(backend_)
    folder = writable_folder(out or Path("runs") / name)
    for line in machine.advice():
        error_console.print(f"note: {line}", style="yellow", markup=False, soft_wrap=True)

    begin = time.monotonic()
    scale = "full" if full else "quick" if quick else "usual"
    record = module.run(experiments_.Options(folder, scale, seeds, resume, tune=tune))
    paths = module.plot(record, folder)
    for path in (folder / experiments_.RECORD, *paths):
        out_console.print(f"wrote {path}", markup=False, soft_wrap=True)
    out_console.print(f"{time.monotonic() - begin:.0f} s in all")
    if not record["results"].get("complete", True):
        error_console.print("interrupted; go on with the same command and --resume", style="yellow")
        raise typer.Exit(130)


@app.command()
def plot(
    name: Name,
    record: Annotated[Path | None, typer.Option(help="a record  [default: record.json in --out]")] = None,
    full: Annotated[bool, typer.Option("--full", help="the record that comes with minigrad")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="with --full: that of a run with --tune")] = False,
    out: Out = None,
):
    """Draw the figures of a record, without training."""
    if full and record:
        raise ValueError("--full and --record exclude each other")
    if tune and not full:
        raise ValueError("--tune goes with --full: other records say themselves how they were tuned")
    module = experiments_.find(name)
    folder = out or Path("runs") / name
    path = experiments_.committed(name, tune) if full else record or folder / experiments_.RECORD
    if not path.is_file():
        raise FileNotFoundError(f"no record {path}; make one: python -m minigrad run {name}")
    content = records.load(path, name)
    for figure in module.plot(content, writable_folder(folder)):
        out_console.print(f"wrote {figure}", markup=False, soft_wrap=True)


@app.command()
def info():
    """Versions, backend, BLAS and its kernel, threads, data; and what slows this machine down."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in facts().items():
        table.add_row(key, str(value))
    out_console.print(table)
    for line in machine.advice() or ["nothing found that would slow minigrad down here"]:
        out_console.print(f"- {line}", markup=False, soft_wrap=True)


def facts():
    """{what: value} of `info`."""
    versions = machine.versions()
    found = machine.machine()
    return {
        "minigrad": __version__,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if "minigrad" not in name),
        "backend": backend.name(),
        "CPU": f"{found['cpu']}, {found['cores']} cores for this process",
        "BLAS": f"{found['blas']}, {found['kernel']} kernels, {found['threads']} threads",
        "slices": f"{backend.threads()} threads of one BLAS thread each",
        "freed memory": "left to the C library (MINIGRAD_MALLOC=0)" if os.environ.get("MINIGRAD_MALLOC") == "0"
        else "kept for the next array" if sys.platform.startswith("linux") else "left to the system",
        "GPU": gpu(),
        "data": data_folders(),
    }  # fmt: skip


def gpu():
    """The GPU that CuPy finds, or why there is none."""
    before = backend.name()
    try:
        backend.use("cupy")
        return machine.gpu()
    except (ImportError, RuntimeError) as error:
        return f"none: {error}"
    finally:
        backend.use(before)


def data_folders():
    """Where each data set lies, as far as it is on this machine."""
    from .data import datasets, sources

    found = []
    for source in (datasets.MNIST, datasets.FASHION_MNIST, datasets.CIFAR10):
        try:
            where = next((folder for folder, _ in sources.folders(source) if _reads(source, folder)), None)
            found.append(f"{source.title}: {where or 'not here, downloaded when asked for'}")
        except (OSError, ValueError) as error:
            found.append(f"{source.title}: {error}")
    return "\n".join(found)


def _reads(source, folder):
    """Does the data set lie in this folder, whole?"""
    return any(read(folder) is not None for read in source.readers)
