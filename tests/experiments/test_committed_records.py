"""Records that lie beside the experiments: they load, are whole, and their captions can be written.

They are of full runs, or, where a full run is for a GPU, of usual ones: then the experiment gives the GPU's command,
and its caption says what is reduced.
"""

import inspect
from pathlib import Path

import pytest

from minigrad import experiments, plot
from minigrad.training import records

FILES = sorted((Path(experiments.__file__).parent / "records").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_committed_record(path, monkeypatch):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    name = path.stem.removesuffix(experiments.TUNED)
    record = records.load(path, name)
    assert experiments.committed(name, tune=name != path.stem) == path
    assert record["results"]["complete"]
    assert path.stat().st_size < 300_000
    captions, module = [], experiments.find(name)
    monkeypatch.setattr(plot, "save", lambda fig, path, caption: captions.append(caption))
    module.plot(record, Path("."))
    assert captions and "unfinished" not in " ".join(captions)
    if record["settings"]["scale"] != "full":
        assert record["settings"]["scale"] == "usual"
        command = f"MINIGRAD_BACKEND=cupy python -m minigrad run {name} --full"
        assert command in (module if inspect.ismodule(module) else inspect.getmodule(type(module))).__doc__
        assert all("reduced form" in caption or "reduced from" in caption for caption in captions)
