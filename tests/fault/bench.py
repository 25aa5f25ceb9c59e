"""A tiny archive, an undisturbed run over it, and how to run it again with something in the way: what torture.py and disasters.py share."""
import copy
import gzip
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from same_cohort import datasets, differing  # noqa: E402

MPI_START = 300  # seconds, mpi/world.h
PASSING = {"IO_ERROR", "CRASHED", "TIMEOUT", "CHANGED", "TOO_LARGE", "INTERNAL"}


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
        self.measure("undisturbed.h5")

    def measure(self, name):
        code, self.seconds, text = self.run(self.scratch / name)
        if code != 0:
            raise SystemExit(f"the undisturbed run ended with {code}:\n{text}")
        self.reference = datasets(self.scratch / name)
        with h5py.File(self.scratch / name) as f:
            self.outcomes = self.outcomes_of(f)

    @cached_property
    def larger(self):
        """The same with one file more, that takes a reader tens of milliseconds and is no CT: nothing more to compute."""
        mine = copy.copy(self)
        mine.archive = self.scratch / "larger" / "archive"
        shutil.copytree(self.archive, mine.archive)
        head = bytearray(352)
        struct.pack_into("<i", head, 0, 348)
        struct.pack_into("<8h", head, 40, 3, 256, 256, 160, 1, 1, 1, 1)
        struct.pack_into("<hh", head, 70, 4, 16)
        struct.pack_into("<4f", head, 76, 1, 1, 1, 1)
        struct.pack_into("<ff", head, 108, 352, 1)
        head[344:348] = b"n+1\0"
        (mine.archive / "large.nii.gz").write_bytes(gzip.compress(bytes(head) + bytes(range(256)) * 512 * 160, 1))
        mine.measure("larger.h5")
        return mine

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

    def run(self, out, ranks=1, shim=None, meanwhile=None, more=(), log=None, rank_lost=False):
        """Exit code (None: it had to be killed), seconds, what it printed. meanwhile(job) is called when it has been started.
        rank_lost: it takes a rank away, which the others wait for as long as MPI's start may take."""
        words = self.command(out, ranks) + list(more)
        if shim:
            settings = ["env", f"LD_PRELOAD={self.shim}"] + [f"SHIM_{k}={v}" for k, v in shim.items()]
            at = words.index(str(self.covpipe))
            words = words[:at] + settings + words[at:]
        start = time.monotonic()
        log = log or Path(str(out) + ".log")
        with open(log, "wb") as said:
            job = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
            try:
                if meanwhile:
                    meanwhile(job)
                code = job.wait(self.deadline + (MPI_START if rank_lost else 0))
            except subprocess.TimeoutExpired:
                code = None
        end = time.monotonic()
        while session_members(job.pid) and code is not None and time.monotonic() < end + 5:
            time.sleep(0.01)
        if session_members(job.pid):
            code = None if code is None else f"{code}, processes left behind"
            kill_session(job.pid)
            job.wait()
        return code, end - start, log.read_text(errors="replace")

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

    def recover(self, out, ranks=1, log=None):
        """The same command, undisturbed: (what is wrong, seconds)."""
        code, seconds, text = self.run(out, ranks, log=log)
        if code != 0:
            return f"after it exit code {code}: {text[-600:]}", seconds
        bad = differing(self.reference, datasets(out))
        if bad:
            return f"after it the cohort differs: {', '.join(bad[:3])}", seconds
        left = [p for p in out.parent.rglob("*") if ".tmp" in p.name]
        return (f"left behind: {left[0]}" if left else None), seconds


@dataclass
class Try:
    name: str
    what: str
    code: object  # of the disturbed run; None: it had to be ended
    hits: int  # how often the fault came to be
    wrong: str  # None: survived with the same bytes
    seconds: float  # of the undisturbed run after it
    strikes: int = 0  # that covpipe reported
