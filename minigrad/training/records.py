"""Records: what an experiment found, how, and on which machine, as one JSON file that outlives the code.

    {"format": "minigrad record", "version": 1, "name": ..., "date": ..., "machine": {...}, "versions": {...},
     "backend": ..., "dtype": ..., "seeds": [...], "settings": {...}, "results": {...}}

`settings` is what was asked for, `results` what came out: curves as {label: {column: [numbers]}}, and whatever else the
figure needs, so that a figure can be drawn again without training. JSON has no NaN: it is written as null.
"""

import datetime
import json
import math
from pathlib import Path

import numpy as np

from .. import backend
from .files import write_atomic
from .machine import machine, versions

FORMAT, VERSION = "minigrad record", 1
FIELDS = {"name": str, "date": str, "machine": dict, "versions": dict, "backend": str, "dtype": str, "seeds": list,
          "settings": dict, "results": dict}  # fmt: skip


def new(name, *, settings, seeds, dtype="float32"):
    """A record without results, of this machine and now (UTC)."""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "date": date,
        "machine": machine(),
        "versions": versions(),
        "backend": backend.name(),
        "dtype": str(dtype),
        "seeds": list(seeds),
        "settings": settings,
        "results": {},
    }


def save(record, path):
    """Write the record atomically; call it as results come, and an interrupted run leaves what it had.

    Raises ValueError for infinite numbers, TypeError for what JSON cannot hold, OSError where it cannot be written.
    """
    text = json.dumps(_plain(record), indent=1, allow_nan=False)
    write_atomic(path, lambda file: file.write(text.encode()))


def load(path, name=None):
    """The record in a file. Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.

    name: the experiment it must be of.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unusable(path, "JSON", error) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise _unusable(path, f"a {FORMAT}", "other JSON")
    if record.get("version") != VERSION:
        raise _unusable(path, f"version {VERSION}", f"version {record.get('version')!r}")
    for field, kind in FIELDS.items():
        if not isinstance(record.get(field), kind):
            raise _unusable(path, f"{field!r} to be a {kind.__name__}", repr(record.get(field))[:40])
    if name is not None and record["name"] != name:
        raise _unusable(path, f"a record of {name!r}", f"one of {record['name']!r}")
    return record


def numbers(column):
    """A column of a record as a float64 array, null as NaN."""
    return np.array([math.nan if value is None else value for value in column], dtype=np.float64)


def _plain(value):
    """NumPy's numbers and arrays as Python's, NaN as None."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _unusable(path, expected, found):
    return ValueError(f"record {path} cannot be used: expected {expected}, found {found}")
