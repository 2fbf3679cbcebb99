"""Records of full runs that lie beside the experiments: they load, are whole, and their captions can be written."""

from pathlib import Path

import pytest

from minigrad import experiments, plot
from minigrad.training import records

FILES = sorted((Path(experiments.__file__).parent / "records").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_committed_record(path, monkeypatch):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    record = records.load(path, path.stem)
    assert record["results"]["complete"] and record["settings"]["scale"] == "full"
    assert path.stat().st_size < 300_000
    captions = []
    monkeypatch.setattr(plot, "save", lambda fig, path, caption: captions.append(caption))
    experiments.find(path.stem).plot(record, Path("."))
    assert captions and "unfinished" not in " ".join(captions)
