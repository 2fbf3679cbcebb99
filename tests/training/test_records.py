"""Records: written whole, read with care; and what they say of the machine."""

import json
import math
import re

import numpy as np
import pytest

from minigrad.training import machine, records


def example():
    """A record with curves."""
    record = records.new("toy", settings={"lr": 0.1}, seeds=(0, 1))
    record["results"]["curves"] = {"Adam": {"update": np.arange(3), "loss": [np.float32(0.5), math.nan, 0.1]}}
    return record


def test_round_trip(tmp_path):
    path = tmp_path / "record.json"
    records.save(example(), path)
    loaded = records.load(path, "toy")
    assert loaded["results"]["curves"]["Adam"] == {"update": [0, 1, 2], "loss": [0.5, None, 0.1]}
    np.testing.assert_equal(records.numbers([0.5, None, 0.1]), [0.5, math.nan, 0.1])
    assert loaded["seeds"] == [0, 1] and loaded["settings"] == {"lr": 0.1}
    assert loaded["machine"]["cores"] >= 1 and loaded["versions"]["numpy"] == np.__version__
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("results, error", [({"x": math.inf}, ValueError), ({"x": object()}, TypeError)])
def test_what_json_cannot_hold_leaves_the_old_record(tmp_path, results, error):
    path = tmp_path / "record.json"
    records.save(example(), path)
    before = path.read_bytes()
    with pytest.raises(error):
        records.save(example() | {"results": results}, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "expected JSON"),
        ("\x00\x01", "expected JSON"),
        ("[]", "expected a minigrad record, found other JSON"),
        ('{"a": 1}', "expected a minigrad record"),
        (json.dumps({"format": "minigrad record", "version": 7}), "expected version 1, found version 7"),
        (json.dumps({"format": "minigrad record", "version": 1, "name": 3}), "'name' to be a str, found 3"),
    ],
)
def test_refuses_other_files_by_name(tmp_path, text, message):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"record .*record\.json cannot be used: .*{message}"):
        records.load(path)


def test_refuses_a_record_of_another_experiment(tmp_path):
    records.save(example(), tmp_path / "record.json")
    with pytest.raises(ValueError, match="expected a record of 'other', found one of 'toy'"):
        records.load(tmp_path / "record.json", "other")


def test_machine_knows_itself():
    found = machine.machine()
    assert set(found) >= {"cpu", "cores", "system", "blas", "kernel", "threads"}
    assert all(found.values())


@pytest.mark.parametrize(
    "kernel, environment, expected",
    [
        ("SkylakeX", {}, []),
        ("Haswell", {"OPENBLAS_CORETYPE": "Haswell"}, ["OPENBLAS_CORETYPE=Haswell is set: .*are SkylakeX"]),
        ("SkylakeX", {"OPENBLAS_CORETYPE": "SkylakeX"}, []),
        ("Haswell", {}, ["AVX-512, but the BLAS runs its Haswell kernels"]),
        ("SkylakeX", {"OMP_NUM_THREADS": "1"}, ["OMP_NUM_THREADS=1 is set: this process may use 4 cores"]),
        ("SkylakeX", {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "a"}, []),
        ("SkylakeX", {"MINIGRAD_MALLOC": "0"}, ["MINIGRAD_MALLOC=0"]),
    ],
)
def test_advice(monkeypatch, kernel, environment, expected):
    monkeypatch.setattr(machine, "blas", lambda: {"blas": "openblas", "kernel": kernel, "threads": 4})
    monkeypatch.setattr(machine, "own_kernel", lambda: "SkylakeX")
    monkeypatch.setattr(machine, "has_avx512", lambda: True)
    monkeypatch.setattr(machine, "cores", lambda: 4)
    lines = machine.advice(environment)
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected):
        assert re.search(pattern, line)


def test_own_kernel_ignores_the_preset(monkeypatch):
    free = machine.own_kernel()
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert machine.own_kernel() == free
