"""Experiments made of named parts: each is computed once, saved at once, and skipped when the run is resumed."""

from ..training import records
from ..training.progress import interruptible
from .deep_autoencoder import earlier


def run_parts(name, options, settings, seeds, parts, dtype="float64"):
    """The record of an experiment whose results are {part: parts[part]()}; after Ctrl-C as far as it went.

    name: the experiment's. parts: {part: function of the results so far}, run in order, each a dict that JSON can hold.
    With options.resume, parts that the record in options.out holds are kept; ValueError if it is of other settings.
    """
    path = options.out / "record.json"
    settings = {"scale": options.scale} | settings
    record = earlier(path, name, settings, seeds) if options.resume else None
    if record is None:
        record = records.new(name, settings=settings, seeds=seeds, dtype=dtype)
        record["results"] = {"complete": False}
    results = record["results"]
    with interruptible() as pressed:
        for part, compute in parts.items():
            if part in results:
                continue
            if pressed.is_set():
                return record
            if options.progress:
                print(f"{name}: {part}", flush=True)
            results[part] = compute(results)
            results["complete"] = part == list(parts)[-1]
            records.save(record, path)
    return record
