"""What a run leaves: a table on the terminal, a dated record, and the table in README.md."""

import datetime
import json
import platform
import re
from pathlib import Path

from . import harness

RECORDS = Path(__file__).resolve().parent / "records"
README = harness.ROOT / "README.md"


def machine(backend, threads, hellos):
    """Where it ran, with what."""
    versions, blas = {"python": platform.python_version()}, []
    for hello in hellos.values():
        versions |= hello["versions"]
    for pool in hellos["bare"]["blas"]:
        blas.append("{internal_api} {version}, {architecture} kernels, {num_threads} threads".format(**pool))
    facts = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "backend": backend,
        "dtype": "float32",
        "cpu": harness.cpu_field("model name") or platform.processor() or platform.machine(),
        "cores": harness.cores(),
        "threads": threads,
        "blas": "; ".join(blas),
        "versions": versions,
    }
    if backend == "cupy":
        import cupy

        facts["gpu"] = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        facts["precision"] = "FP32, TF32 off for all"
    return facts


def described(facts):
    """The machine in one sentence."""
    where = f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads"
    if "gpu" in facts:
        where = f"{facts['gpu']} ({facts['precision']}), {where}"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"{facts['date']}; {where}; BLAS of NumPy: {facts['blas'] or 'unknown'}; {facts['dtype']}; {versions}"


def rows(records, hellos):
    """(head, cells), every cell a string; the second column is the unit that the others are multiples of."""
    names = [name for name in hellos if name != "bare"]
    head = ["work", "bare products", *(hellos[name]["title"] for name in names)]
    body = []
    for record in records:
        if "seconds" in record:
            unit = f"{1e3 * record['seconds']['bare']['median']:.3g} ms"
        else:
            unit = f"{record['must_live_bytes'] / 1e6:.0f} MB must live"
        ratios = [record["ratios"].get(name) for name in names]
        body.append([record["title"], unit, *(f"{ratio['median']:.2f}" if ratio else "" for ratio in ratios)])
    return head, body


def show(records, hellos, facts):
    from rich.console import Console
    from rich.table import Table

    head, body = rows(records, hellos)
    table = Table()
    for i, title in enumerate([*head, "target"]):
        table.add_column(title, justify="right" if i else "left", no_wrap=i == 0)
    for cells, record in zip(body, records):
        table.add_row(*cells, f"{record['target']:.2f}")
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    console.print(described(facts), highlight=False)


def markdown(records, hellos, facts):
    head, body = rows(records, hellos)
    lines = [
        "Time in multiples of the bare matrix products (memory: of the arrays that must live); less is better.",
        "",
        "| " + " | ".join(head) + " |",
        "|---|" + "--:|" * (len(head) - 1),
        *("| " + " | ".join(cells) + " |" for cells in body),
        "",
        f"Medians of interleaved rounds, {described(facts)}.",
    ]
    return "\n".join(lines) + "\n"


def marked(name):
    """The place in README.md that is written by `write`: two groups, and what is between them."""
    return re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)


def check_readme(name):
    """Told before the run, not after it."""
    if not README.exists() or not marked(name).search(README.read_text()):
        raise SystemExit(f"README.md has no lines <!-- {name} --> and <!-- /{name} --> to write between")


def write(name, label, content, text, facts):
    """The record (a dict) first, as DATE-label.json, then its table (markdown) in the README; returns that path."""
    path = RECORDS / f"{facts['date']}-{label}.json"
    RECORDS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": facts, **content}, indent=1) + "\n")
    README.write_text(marked(name).sub(lambda match: f"{match[1]}{text}{match[2]}", README.read_text(), count=1))
    return path
