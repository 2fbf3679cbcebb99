"""Checkpoints: everything a run needs to go on as if it had never stopped, in one .npz file without pickles.

A checkpoint is a flat dict of arrays and of plain values (numbers, strings, lists and dicts of them). Arrays are
stored as they are, bit for bit; plain values travel as one JSON text, in which Python's floats are exact too. The
fingerprint names what the run is made of; a checkpoint of another run is refused, and the message says what differs.
"""

import json
import re
import zlib
from pathlib import Path

import numpy as np

from ..backend import asarray, is_array, to_host
from .files import write_atomic

FORMAT, VERSION = "minigrad checkpoint", 1
_META = "checkpoint.json"
_PLAIN = (int, float, str, bool, type(None), list, dict)


def save(path, content, fingerprint):
    """Write {name: array or plain value} atomically. fingerprint: {part of the run: text}.

    Raises TypeError for other values, OSError where the file cannot be written.
    """
    arrays, plain = _separate(content)
    meta = {"format": FORMAT, "version": VERSION, "fingerprint": fingerprint, "plain": plain, "arrays": sorted(arrays)}
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    write_atomic(path, lambda file: np.savez(file, **{_META: text}, **arrays))


def load(path, fingerprint):
    """The content of a checkpoint, its arrays on the active backend.

    Raises FileNotFoundError, or ValueError naming the file, what was expected and what was found, when it is
    truncated, damaged, no checkpoint, of another version, or of a run with another fingerprint.
    """
    path = Path(path)
    arrays = _read(path)
    meta = _meta(path, arrays)
    for part in fingerprint | meta["fingerprint"]:
        theirs, ours = meta["fingerprint"].get(part), fingerprint.get(part)
        if theirs != ours:
            raise ValueError(f"checkpoint {path} is of another run: {part} is {theirs} there, {ours} here")
    if sorted(arrays) != meta["arrays"]:
        raise _damaged(path, f"arrays {', '.join(meta['arrays'])}", ", ".join(sorted(arrays)) or "none")
    return meta["plain"] | {name: asarray(array) for name, array in arrays.items()}


def describe(thing):
    """repr(thing) without memory addresses: the same text in every process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(thing))


def describe_array(array):
    """Shape, dtype and a checksum of the numbers, e.g. (60000, 784) float32 1a2b3c4d."""
    if array is None:
        return "none"
    content = np.ascontiguousarray(to_host(array))
    return f"{content.shape} {content.dtype} {zlib.crc32(content):08x}"


def _separate(content):
    arrays, plain = {}, {}
    for name, value in content.items():
        if is_array(value) or isinstance(value, np.ndarray | np.generic):
            arrays[name] = to_host(value)
        elif isinstance(value, _PLAIN):
            plain[name] = value
        else:
            raise TypeError(f"a checkpoint holds arrays, numbers and strings; {name!r} is a {type(value).__name__}")
    return arrays, plain


def _read(path):
    """All arrays of the file; the zip format's checksums are verified by reading."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        if error.errno is None:  # not the system's: NumPy's own, for files it cannot interpret
            raise _damaged(path, "a whole .npz file", error) from error
        raise
    except Exception as error:  # a broken zip fails in a dozen ways; the bytes are at fault in all of them
        raise _damaged(path, "a whole .npz file", error) from error


def _meta(path, arrays):
    if _META not in arrays:
        raise _damaged(path, f"a {FORMAT}", f"a file of {', '.join(arrays) or 'nothing'}")
    try:
        meta = json.loads(arrays.pop(_META).tobytes())
    except ValueError as error:
        raise _damaged(path, "its description in JSON", error) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or meta.get("version") != VERSION:
        found = f"{meta.get('format')} {meta.get('version')}" if isinstance(meta, dict) else type(meta).__name__
        raise _damaged(path, f"{FORMAT} {VERSION}", found)
    return meta


def _damaged(path, expected, found):
    return ValueError(f"checkpoint {path} cannot be used: expected {expected}, found {found}; delete it to start anew")
