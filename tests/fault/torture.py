"""Makes covpipe's calls fail one after the other (shim.c), runs it over a tiny archive, and asks after each run: did it end
in time, by itself, with an exit code that tells the truth; and does the same command, undisturbed, then end with the same
bytes as a run that nothing happened to? What the codes may be:

  0  the cohort is there and has the bytes of an undisturbed run
  1  the job failed and said why; a cohort is not there, or has those bytes
  3  the job went on; studies may have failed for reasons that pass (IO_ERROR, TOO_LARGE, ...) and have no other difference

Each call site of covpipe (function and place in the code, from a run that only counts) is one try: the first call from
there; with --deep also the last one and some between. Prints a table; exit code 1 if anything did not hold.
"""
import argparse
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from same_cohort import datasets, differing  # noqa: E402

PASSING = {"IO_ERROR", "CRASHED", "TIMEOUT", "CHANGED", "TOO_LARGE", "INTERNAL"}
# kind of call, what it fails with, from there on every how-manieth call again
FAULTS = [("malloc", "ENOMEM", 0), ("open", "EIO", 0), ("read", "EIO", 0), ("write", "ENOSPC", 0), ("stdio", "EIO", 0), ("fsync", "EIO", 0),
          ("rename", "EIO", 0), ("space", "ENOSPC", 0), ("folder", "EDQUOT", 0), ("stat", "EIO", 0), ("map", "ENOMEM", 0),
          ("fork", "EAGAIN", 0), ("message", "ENOBUFS", 0), ("hdf5", "EIO", 0), ("mpi", "EIO", 0)]
DEEP = [("open", "EMFILE", 0), ("open", "EACCES", 0), ("read", "EINTR", 0), ("read", "short", 0), ("write", "EIO", 0),
        ("write", "EDQUOT", 0), ("write", "EINTR", 0), ("write", "short", 0), ("write", "ENOSPC", 1), ("read", "EIO", 1),
        ("malloc", "ENOMEM", 1), ("rename", "ENOSPC", 0), ("fsync", "EDQUOT", 0)]
# Nothing is lost by these at all: the run must end as if undisturbed. (zlib and ROMIO give up where they are interrupted.)
HARMLESS = [("read", "short", 1), ("write", "short", 1), ("read", "EINTR", 2), ("write", "EINTR", 2)]


def session_members(sid):
    """Processes of a session that are not zombies."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == sid and fields[0] != "Z":
            found.append(int(entry))
    return found


def kill_session(sid):
    for pid in session_members(sid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Bench:
    """An archive, an undisturbed run of it, and how to run it again with something in the way."""

    def __init__(self, covpipe, shim, scratch, deadline):
        self.covpipe, self.shim, self.scratch, self.deadline = covpipe, shim, Path(scratch), deadline
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.archive = self.scratch / "p" / "archive"
        self.make_archive()
        code, self.seconds, text = self.run(self.scratch / "undisturbed.h5")
        if code != 0:
            raise SystemExit(f"the undisturbed run ended with {code}:\n{text}")
        self.reference = datasets(self.scratch / "undisturbed.h5")
        with h5py.File(self.scratch / "undisturbed.h5") as f:
            self.outcomes = self.outcomes_of(f)

    def make_archive(self):
        """One chest, one label map, one folder of pictures: all readers, and little to compute."""
        subprocess.run([self.covpipe, "phantom", "--out", self.scratch / "p", "--studies", "1", "--seed", "9", "--size", "32",
                        "--slices", "4", "--odd", "--quiet"], check=True, stdout=subprocess.DEVNULL)
        for name in ("garbage.nii", "truncated.nii.gz", "head.nii.gz", "copy.nii.gz"):
            (self.archive / "odd" / name).unlink()
        pictures = self.archive / "pictures"
        pictures.mkdir()
        png = Path(__file__).resolve().parent.parent / "fuzz" / "corpus" / "png" / "gray8.png"
        for name in ("a.png", "b.png"):
            shutil.copy(png, pictures / name)

    def command(self, out, ranks=1):
        words = [str(self.covpipe), "--archive", str(self.archive), "--out", str(out), "--model", "none", "--axial-only",
                 "--no-crf", "--precision", "fp32", "--threads", "1"]
        return words if ranks == 1 else ["mpirun", "-n", str(ranks), "--oversubscribe"] + words

    def run(self, out, ranks=1, shim=None):
        """Exit code (None: it had to be killed), seconds, what it printed."""
        words = self.command(out, ranks)
        if shim:
            settings = ["env", f"LD_PRELOAD={self.shim}"] + [f"SHIM_{k}={v}" for k, v in shim.items()]
            at = words.index(str(self.covpipe))
            words = words[:at] + settings + words[at:]
        start = time.monotonic()
        with open(str(out) + ".log", "wb") as log:
            job = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            try:
                code = job.wait(self.deadline)
            except subprocess.TimeoutExpired:
                code = None
        end = time.monotonic()
        while session_members(job.pid) and code is not None and time.monotonic() < end + 5:
            time.sleep(0.01)
        if session_members(job.pid):
            code = None if code is None else f"{code}, processes left behind"
            kill_session(job.pid)
            job.wait()
        return code, end - start, Path(str(out) + ".log").read_text(errors="replace")

    @staticmethod
    def outcomes_of(f):
        codes = {}
        meaning = f["study/reason"].attrs
        words = meaning["flag_meanings"].decode() if isinstance(meaning["flag_meanings"], bytes) else meaning["flag_meanings"]
        for value, word in zip(meaning["flag_values"], words.split()):
            codes[int(value)] = word
        return {bytes(p): (int(s), codes[int(r)])
                for p, s, r in zip(f["study/path"][()], f["study/status"][()], f["study/reason"][()])}

    def judge(self, code, out, text):
        """What is wrong with the end of a disturbed run; None if nothing."""
        if code not in (0, 1, 3):
            return "no end in time" if code is None else f"exit code {code}"
        if code == 1 and "(COV_" not in text:
            return "exit code 1 without a word"
        if not out.exists():
            return None if code == 1 else f"exit code {code} without a cohort"
        try:
            bad = differing(self.reference, datasets(out))
            with h5py.File(out) as f:
                now = self.outcomes_of(f)
        except (OSError, KeyError) as e:
            return f"exit code {code}, and the cohort does not open: {e}"
        if not bad:
            return None
        if code != 3:
            return f"exit code {code}, but the cohort differs: {', '.join(bad[:3])}"
        if set(now) - set(self.outcomes):
            return "studies that are not in the archive"
        wrong = [p for p, o in now.items() if o != self.outcomes[p] and o[1] not in PASSING]
        return f"{wrong[0].decode()}: {now[wrong[0]][1]} is for ever, the fault is not" if wrong else None

    def recover(self, out):
        """The same command, undisturbed: (what is wrong, seconds)."""
        code, seconds, text = self.run(out)
        if code != 0:
            return f"after it exit code {code}: {text[-600:]}", seconds
        bad = differing(self.reference, datasets(out))
        if bad:
            return f"after it the cohort differs: {', '.join(bad[:3])}", seconds
        left = [p for p in out.parent.rglob("*") if ".tmp" in p.name]
        return (f"left behind: {left[0]}" if left else None), seconds

    def try_fault(self, work, kind, how, each, at, ranks=1):
        out = work / "c.h5"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        shim = {"KIND": kind, "AT": at, "EACH": each, "STATE": work / "state",
                "HOW": how if how == "short" else getattr(errno, how)}
        if (kind, how, each) in HARMLESS and how == "EINTR":
            shim["OWN"] = 1
        code, _, text = self.run(out, ranks, shim)
        state = (work / "state").read_bytes()
        calls, hits = (int.from_bytes(state[k:k + 8], "little") for k in (0, 8))
        what = state[16:].split(b"\n")[0].decode(errors="replace")
        wrong = self.judge(code, out, text)
        if not wrong and (kind, how, each) in HARMLESS and code != 0:
            wrong = f"exit code {code}, though nothing was lost: {text[-600:]}"
        if wrong:
            wrong += "\n" + text[-1500:]
        after, seconds = self.recover(out) if not wrong else (None, 0)
        return Try(kind, how, each, at, ranks, code, hits, what, wrong or after, seconds)


class Try:
    def __init__(self, kind, how, each, at, ranks, code, hits, what, wrong, seconds):
        self.kind, self.how, self.each, self.at, self.ranks = kind, how, each, at, ranks
        self.code, self.hits, self.what, self.wrong, self.seconds = code, hits, what, wrong, seconds

    def name(self):
        return f"{self.kind} {self.how}{' and on' if self.each == 1 else ', every 2nd' if self.each else ''}" + \
            (f", {self.ranks} ranks" if self.ranks > 1 else "")


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
        rows.setdefault(t.name(), []).append(t)
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
    p.add_argument("--kinds", nargs="*", default=[], help="only these kinds of calls")
    p.add_argument("--ranks", nargs="*", type=int, default=[1])
    p.add_argument("--deep", action="store_true", help="more calls of each site, more errors")
    p.add_argument("--stride", type=int, default=1, help="of kinds with many sites only every so-manieth")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--deadline", type=float, default=120, help="seconds that a run may take")
    args = p.parse_args()
    bench = Bench(args.covpipe, args.shim, args.scratch, args.deadline)
    tries, done, lock = plan(bench, args), [], threading.Lock()

    def one(number):
        t = bench.try_fault(bench.scratch / f"try-{number}", *tries[number])
        with lock:
            done.append(t)
            if t.wrong:
                print(f"NOT SURVIVED: {t.name()} at call {t.at} ({t.what}): {t.wrong}", flush=True)
        if args.verbose:
            print(f"{t.name()} at call {t.at} ({t.what}): exit code {t.code}", flush=True)
        if not t.wrong:
            shutil.rmtree(bench.scratch / f"try-{number}", ignore_errors=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(one, range(len(tries))))
    table(done)
    bad = [t for t in done if t.wrong]
    print(f"{len(done)} faults, {len(bad)} not survived")
    return 1 if bad or not done or not any(t.hits for t in done) else 0


if __name__ == "__main__":
    sys.exit(main())
