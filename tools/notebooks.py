"""Execute the chapters and write the notebooks that readers open.

A chapter is written as `chapters/NN_slug.py` (jupytext, py:percent) and read as `chapters/NN_slug.ipynb`,
which holds its outputs. Source and outputs decide the notebook byte for byte: cells are named by their place,
and there are no times in it.

    python tools/notebooks.py                          all chapters
    python tools/notebooks.py chapters/10_*.py         some
    python tools/notebooks.py --check                  run nothing; say which notebooks are out of step
"""

import argparse
import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CHAPTERS = Path(__file__).resolve().parents[1] / "chapters"
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},  # saving either in Jupyter updates the other
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(chapter):
    """The chapter's source as a notebook without outputs."""
    notebook = jupytext.read(chapter, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5  # the first version whose cells have names
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03}"
    return notebook


def execute(chapter, timeout=600, env=None):
    """The chapter as a notebook with outputs. `timeout`: seconds a cell; `env`: adds to the environment."""
    chapter = Path(chapter)
    notebook = read(chapter)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(chapter.resolve().parent)}},
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        coalesce_streams=True,  # however the kernel happened to flush
    )
    client.execute(env={**os.environ, **(env or {})})
    notebook.metadata = nbformat.from_dict(METADATA)  # the kernel has added its version
    return notebook


def write(chapter, notebook):
    nbformat.write(notebook, Path(chapter).with_suffix(".ipynb"))


def check(chapter):
    """What is wrong with the chapter's notebook: a list of complaints, empty if it is in step."""
    path = Path(chapter).with_suffix(".ipynb")
    if not path.exists():
        return [f"{path.name} is missing"]
    source, notebook = read(chapter), nbformat.read(path, as_version=4)
    if len(source.cells) != len(notebook.cells):
        return [f"{path.name} has {len(notebook.cells)} cells, its source has {len(source.cells)}"]
    complaints = []
    for i, (want, have) in enumerate(zip(source.cells, notebook.cells, strict=True)):
        if (want.cell_type, want.source) != (have.cell_type, have.source):
            complaints.append(f"{path.name}: cell {i} differs from the source")
        elif have.cell_type == "code" and have.source.strip():
            if have.execution_count is None:
                complaints.append(f"{path.name}: cell {i} has not been executed")
            if any(output.output_type == "error" for output in have.outputs):
                complaints.append(f"{path.name}: cell {i} ended in an error")
    return complaints


def main(argv=None):
    parser = argparse.ArgumentParser(description="Execute chapters and write their notebooks.")
    parser.add_argument("chapters", nargs="*", type=Path, help="the .py files; all of them if none is named")
    parser.add_argument("--check", action="store_true", help="run nothing; say what is out of step")
    options = parser.parse_args(argv)
    chapters = options.chapters or sorted(CHAPTERS.glob("[0-9]*.py"))
    failed = False
    for chapter in chapters:
        if options.check:
            complaints = check(chapter)
            failed |= bool(complaints)
            print(*(complaints or [f"{chapter.name}: in step"]), sep="\n")
            continue
        print(f"{chapter.name} ...", flush=True)
        try:
            write(chapter, execute(chapter))
        except CellExecutionError as error:
            print(f"{error}\n{chapter.name} failed; its notebook is left as it was.", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
