"""Makes covpipe's calls fail one after the other (shim.c), runs it over a tiny archive, and asks after each run: did it end
in time, by itself, with an exit code that tells the truth; and does the same command, undisturbed, then end with the same
bytes as a run that nothing happened to? What the codes may be:

  0  the cohort is there and has the bytes of an undisturbed run
  1  the job failed and said why; a cohort is not there, or has those bytes
  3  the job went on; studies may have failed for reasons that pass (IO_ERROR, TOO_LARGE, ...) and have no other difference

Each call site of covpipe (function and place in the code, from a run that only counts) is one try: the first call from
there; with --deep also the last one and some between. Then come kills and other disasters (disasters.py): with --minutes as many
as there is time for, else one of each; with --kills N nothing but kills, until N runs were hit. Prints a table; exit code 1 if anything did not hold.
"""
import argparse
import errno
import itertools
import os
import random
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import disasters
from bench import Bench, Try

# kind of call, what it fails with, from there on every how-manieth call again
FAULTS = [("malloc", "ENOMEM", 0), ("open", "EIO", 0), ("read", "EIO", 0), ("write", "ENOSPC", 0), ("stdio", "EIO", 0), ("fsync", "EIO", 0),
          ("rename", "EIO", 0), ("space", "ENOSPC", 0), ("folder", "EDQUOT", 0), ("stat", "EIO", 0), ("map", "ENOMEM", 0),
          ("fork", "EAGAIN", 0), ("message", "ENOBUFS", 0), ("hdf5", "EIO", 0), ("mpi", "EIO", 0)]
DEEP = [("open", "EMFILE", 0), ("open", "EACCES", 0), ("read", "EINTR", 0), ("read", "short", 0), ("write", "EIO", 0),
        ("write", "EDQUOT", 0), ("write", "EINTR", 0), ("write", "short", 0), ("write", "ENOSPC", 1), ("read", "EIO", 1),
        ("malloc", "ENOMEM", 1), ("rename", "ENOSPC", 0), ("fsync", "EDQUOT", 0)]
# Nothing is lost by these at all: the run must end as if undisturbed. (zlib and ROMIO give up where they are interrupted.)
HARMLESS = [("read", "short", 1), ("write", "short", 1), ("read", "EINTR", 2), ("write", "EINTR", 2), ("clock", "86400", 1),
            ("clock", "-86400", 1)]


def try_fault(bench, work, kind, how, each, at, ranks=1):
    out = work / "c.h5"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shim = {"KIND": kind, "AT": at, "EACH": each, "STATE": work / "state",
            "HOW": getattr(errno, how, how)}
    if (kind, how, each) in HARMLESS and how == "EINTR":
        shim["OWN"] = 1
    code, _, text = bench.run(out, ranks, shim)
    state = (work / "state").read_bytes()
    calls, hits = (int.from_bytes(state[k:k + 8], "little") for k in (0, 8))
    what = state[16:].split(b"\n")[0].decode(errors="replace")
    wrong = bench.judge(code, out, text)
    if not wrong and (kind, how, each) in HARMLESS and code != 0:
        wrong = f"exit code {code}, though nothing was lost: {text[-600:]}"
    if wrong:
        wrong += "\n" + text[-1500:]
    after, seconds = bench.recover(out) if not wrong else (None, 0)
    name = f"{kind} {how}{' and on' if each == 1 else ', every 2nd' if each else ''}{f', {ranks} ranks' if ranks > 1 else ''}"
    return Try(name, f"call {at}: {what}", code, hits, wrong or after, seconds)


def sites(bench, kind, ranks, deep):
    """Numbers of the calls to fail: of each site the first; deep: the last as well, and two between."""
    work = bench.scratch / f"count-{kind}-{ranks}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    code, _, text = bench.run(work / "c.h5", ranks, {"KIND": kind, "AT": 0, "STATE": work / "state", "LOG": work / "log"})
    if code != 0:
        raise SystemExit(f"counting {kind}: exit code {code}\n{text}")
    found = {}
    for line in (work / "log").read_text().splitlines():
        number, site = line.split(" ", 1)
        found.setdefault(site, []).append(int(number))
    chosen = set()
    for numbers in found.values():
        chosen.add(numbers[0])
        if deep:
            chosen.update((numbers[-1], numbers[len(numbers) // 3], numbers[2 * len(numbers) // 3]))
    return sorted(chosen)


def plan(bench, args):
    tries = []
    for ranks in args.ranks:
        for kind, how, each in FAULTS + (DEEP if args.deep else []):
            if args.kinds and kind not in args.kinds:
                continue
            numbers = sites(bench, kind, ranks, args.deep)
            tries += [(kind, how, each, at, ranks) for at in numbers[::args.stride if len(numbers) > 40 else 1]]
    return tries + [(kind, how, each, 1, 1) for kind, how, each in HARMLESS if not args.kinds or kind in args.kinds]


def table(done):
    rows = {}
    for t in done:
        rows.setdefault(t.name, []).append(t)
    print(f"{'fault':32} {'tried':>6} {'hit':>6} {'same bytes':>11} {'recovery, s':>16}   exit codes")
    for name, tries in rows.items():
        good = [t for t in tries if not t.wrong]
        seconds = [t.seconds for t in good] or [0]
        codes = sorted({str(t.code) for t in tries})
        count = {c: sum(str(t.code) == c for t in tries) for c in codes}
        print(f"{name:32} {len(tries):6} {sum(t.hits > 0 for t in tries):6} {len(good):11} "
              f"{sum(seconds) / len(seconds):7.1f} ({max(seconds):5.1f})   " + ", ".join(f"{c}: {n}" for c, n in count.items()))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--covpipe", required=True)
    p.add_argument("--shim", required=True)
    p.add_argument("--scratch", required=True)
    p.add_argument("--kinds", nargs="*", default=[], help="only these kinds of calls, and no disasters unless 'disasters' is among them")
    p.add_argument("--ranks", nargs="*", type=int, default=[1])
    p.add_argument("--deep", action="store_true", help="more calls of each site, more errors")
    p.add_argument("--stride", type=int, default=1, help="of kinds with many sites only every so-manieth")
    p.add_argument("--minutes", type=float, default=0, help="so long in all, the last two thirds of it for random disasters")
    p.add_argument("--kills", type=int, default=0, metavar="N", help="only kills, of every kind of process, until N have hit one")
    p.add_argument("--seed", type=int, default=1, help="of the disasters")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--deadline", type=float, default=120, help="seconds that a run may take")
    args = p.parse_args()
    end = time.monotonic() + 60 * args.minutes
    for name, value in (("ALLOW_RUN_AS_ROOT", "1"), ("ALLOW_RUN_AS_ROOT_CONFIRM", "1"), ("MCA_hwloc_base_binding_policy", "none")):
        os.environ.setdefault("OMPI_" + name, value)
    bench = Bench(args.covpipe, args.shim, args.scratch, args.deadline)
    tries, done, lock = [] if args.kills else plan(bench, args), [], threading.Lock()
    table_of = disasters.KILLS if args.kills else disasters.TABLE

    def note(t, work):
        with lock:
            done.append(t)
            if t.wrong:
                print(f"NOT SURVIVED: {t.name} ({t.what}): {t.wrong}", flush=True)
            elif args.verbose:
                print(f"{t.name} ({t.what}): exit code {t.code}", flush=True)
        if not t.wrong:
            shutil.rmtree(work, ignore_errors=True)

    def fault(number):
        if not args.minutes or time.monotonic() < end - 40 * args.minutes:
            work = bench.scratch / f"try-{number}"
            note(try_fault(bench, work, *tries[number]), work)

    def disaster(number):
        rng = random.Random(args.seed * 1000003 + number)
        choice = rng.choices([d for _, d in table_of], [w for w, _ in table_of])[0] if at_random else one_of_each[number]
        if args.minutes and not args.kills and number in (50, 200):
            choice = disasters.SLOW[0]
        if not at_random or more():
            work = bench.scratch / f"disaster-{number}"
            t = choice(bench, work, rng)
            if t:
                note(t, work)

    def more():
        return sum(t.hits > 0 for t in done) < args.kills if args.kills else time.monotonic() < end

    at_random = args.kills or args.minutes
    one_of_each = [d for _, d in table_of]
    if args.minutes:
        random.Random(args.seed).shuffle(tries)
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(fault, range(len(tries))))
        if not args.kinds or "disasters" in args.kinds:
            number = itertools.count()
            while at_random and more():
                list(pool.map(disaster, itertools.islice(number, args.jobs)))
            list(pool.map(disaster, range(0 if at_random else len(one_of_each))))
    table(done)
    bad = [t for t in done if t.wrong]
    kills = [t for t in done if t.name.startswith("kill")]
    print(f"{len(done)} faults, {len(bad)} not survived; {sum(t.hits > 0 for t in kills)} runs in which something was killed, "
          f"{sum(t.hits for t in kills)} processes; {sum(t.strikes for t in kills)} strikes reported")
    return 1 if bad or not done or not any(t.hits for t in done) else 0


if __name__ == "__main__":
    sys.exit(main())
