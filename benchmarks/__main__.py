"""`python -m benchmarks`: time minigrad beside its peers."""

import argparse
import importlib.util

from . import harness, peers, table, works

BUSY = 0.5  # load average above which the user is warned


def arguments():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split(": ", 1)[1])
    others = [name for name in peers.PEERS if name != "bare"]
    parser.add_argument("--backend", choices=["numpy", "cupy"], default="numpy")
    parser.add_argument("--quick", action="store_true", help="three rounds, no work with N = 5000")
    parser.add_argument("--only", default="", metavar="WORK", help="works whose names contain this (or one of a,b,c)")
    parser.add_argument("--peers", default=",".join(others), help=f"of {','.join(others)} (default: all)")
    parser.add_argument("--rounds", type=int, help=f"default: {harness.FEWEST_ROUNDS} to {harness.ROUNDS} by time")
    parser.add_argument("--threads", type=int, default=harness.cores(), help="default: one a core")
    parser.add_argument("--write", action="store_true", help="keep a record, and put the table into README.md")
    parser.add_argument("--list", action="store_true", help="name the works and stop")
    args = parser.parse_args()
    args.peers = [name for name in args.peers.split(",") if name and name != "bare"]
    for name in args.peers:
        if name not in others:
            parser.error(f"unknown peer {name!r}; known are {', '.join(others)}")
    wanted = [part for part in args.only.split(",") if part]
    args.works = [
        work
        for work in works.WORKS
        if (not wanted or any(part in work.name for part in wanted))
        and not (args.quick and work.n >= 5000)
        and args.backend in work.backends
    ]
    if not args.works:
        parser.error(f"no work matches {args.only!r}; known are {', '.join(works.BY_NAME)}")
    if args.rounds is not None and args.rounds < 2:
        parser.error("--rounds must be at least 2: quartiles need them")
    if not 1 <= args.threads <= harness.cores():
        parser.error(f"--threads must be between 1 and {harness.cores()}, the cores at hand")
    if args.write and (args.quick or args.only or args.rounds):
        parser.error("--write is for a full run: leave out --quick, --only and --rounds")
    if args.backend == "cupy" and importlib.util.find_spec("cupy") is None:
        parser.error("--backend cupy needs CuPy: pip install cupy-cuda13x (or cupy-cuda12x)")
    return args


def main():
    args = arguments()
    if args.list:
        print("\n".join(f"{work.name:26} {work.title}" for work in args.works))
        return
    if args.write:
        table.check_readme("benchmarks")
    say = lambda line: print(line, flush=True)
    load = harness.load()
    if load > BUSY:
        say(f"the machine is busy (load {load:.1f}): BLAS threads wait for each other, do not trust the ratios")
    rounds = 3 if args.quick and args.rounds is None else args.rounds
    try:
        records, hellos = harness.measure(args.works, args.peers, args.backend, args.threads, rounds, say)
    except (harness.Disagreement, harness.WorkerError) as error:
        raise SystemExit(f"no table: {error}") from None
    facts = table.machine(args.backend, args.threads, hellos) | {"load_before": load}
    table.show(records, hellos, facts)
    if args.write:
        text = table.markdown(records, hellos, facts)
        path = table.write("benchmarks", args.backend, {"works": records}, text, facts)
        print(f"wrote {path.relative_to(harness.ROOT)} and README.md")


if __name__ == "__main__":
    main()
