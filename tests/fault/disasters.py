"""What may befall a run from outside: kills, stops and signals at random instants, a full disk, a second run, parts that are not its
own or damaged, an archive that changes. Each function tries one such thing and returns a Try; TABLE names them."""
import copy
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from bench import Try, session_members


def fresh(work):
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work / "c.h5"


def read(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def parent(pid):
    fields = read(pid, "stat").rsplit(b")", 1)[-1].split()
    return int(fields[1]) if len(fields) > 1 else 0


def find(sid, role):
    """Processes of a run: worker, reader, spawner, shell (of any rank), rank0, rank1, mpirun, all."""
    found = {pid: read(pid, "comm").strip().decode() for pid in session_members(sid)}
    if role == "all":
        return list(found)
    if role in ("worker", "reader"):
        return [p for p, c in found.items() if c == f"covpipe-{role}"]
    if role == "mpirun":
        return [p for p, c in found.items() if c in ("mpirun", "orterun")]
    ours = [p for p, c in found.items() if c == "covpipe"]
    spawners = [p for p in ours if parent(p) in ours]
    if role == "spawner":
        return spawners
    shells = [p for p in ours if p not in spawners]
    if role == "shell":
        return shells
    return [p for p in shells if f"OMPI_COMM_WORLD_RANK={role[4:]}\0".encode() in read(p, "environ")]


def readers(job):
    """Every reader at every look. They live for milliseconds, so the spawner's children are looked at all the time."""
    spawners = []
    while job.poll() is None:
        children = b" ".join(read(s, f"task/{s}/children") for s in spawners).split()
        if not children:  # not there yet, or it was the probe of the devices
            spawners = find(job.pid, "spawner")
        for pid in map(int, children):
            if read(pid, "comm") == b"covpipe-reader\n":
                yield pid
        time.sleep(0.00005)


def end(pid, how):
    """Sends the signal; true if the process was alive."""
    try:
        alive = b") Z " not in (read(pid, "stat") or b") Z ")
        os.kill(pid, how)
        return alive
    except ProcessLookupError:
        return False


def end_of(bench, name, what, out, code, text, hits, free, ranks=1):
    """free: any exit code will do, for the process that was to give one was itself ended."""
    wrong = None
    if code is None or not free:
        wrong = bench.judge(code, out, text)
    if isinstance(code, str):
        wrong = f"exit code {code}"
    after, seconds = bench.recover(out, ranks) if not wrong else (None, 0)
    if wrong or after:
        text = f"\n{text[-1500:]}"
        return Try(name, what, code, hits, (wrong or after) + text, seconds)
    return Try(name, what, code, hits, None, seconds, text.count('"event":"strike"'))


def kill(role, ranks=1, how=signal.SIGKILL):
    def one(bench, work, rng):
        out, hit = fresh(work), []
        bench = bench.larger if role == "reader" else bench

        def meanwhile(job):
            if role == "reader":
                for pid in readers(job):
                    if rng.random() < 0.3:
                        time.sleep(rng.choice([0, rng.random()]) * 0.001)
                        if end(pid, how):
                            hit.append(pid)
                            return
                return
            time.sleep(rng.random() * bench.seconds * (1.5 if ranks > 1 else 1))
            while not (victims := find(job.pid, role)) and job.poll() is None:  # one that is not there yet is waited for
                time.sleep(0.002)
            hit.extend(pid for pid in (victims if role == "all" else rng.sample(victims, min(1, len(victims)))) if end(pid, how))

        code, seconds, text = bench.run(out, ranks, meanwhile=meanwhile, more=["--log-json"], rank_lost=role.startswith("rank"))
        name = f"kill -9: {role}" + (f", {ranks} ranks" if ranks > 1 else "")
        t = end_of(bench, name, f"after {seconds:.2f} s", out, code, text, len(hit), role not in ("worker", "reader"), ranks)
        if role in ("worker", "reader") and not t.wrong:
            if code != 0:
                t.wrong = f"a {role} was killed once, and the exit code is {code}\n{text[-1500:]}"
            elif t.strikes > len(hit):
                t.wrong = f"{t.strikes} strikes, but {len(hit)} kills\n{text[-1500:]}"
        return t
    return one


def pause(role, ranks, seconds):
    """SIGSTOP, and SIGCONT after a while: nothing may come of it."""
    def one(bench, work, rng):
        out, hit = fresh(work), []

        def meanwhile(job):
            time.sleep(rng.random() * bench.seconds)
            victims = find(job.pid, role)
            hit.extend(pid for pid in (victims if role == "all" else victims[:1]) if end(pid, signal.SIGSTOP))
            time.sleep(seconds)
            for pid in hit:
                end(pid, signal.SIGCONT)

        code, _, text = bench.run(out, ranks, meanwhile=meanwhile)
        t = end_of(bench, f"{role} stopped for {seconds} s, {ranks} ranks", "", out, code, text, len(hit), False, ranks)
        if code != 0 and not t.wrong:
            t.wrong = f"exit code {code}\n{text[-1500:]}"
        return t
    return one


def stop_for_ever(bench, work, rng):
    """A rank that is stopped and stays so: the others end the job within about a minute, or, where MPI had not started, in its 300 s."""
    out, hit = fresh(work), []

    def meanwhile(job):
        while job.poll() is None and not (victims := find(job.pid, "rank1")):
            time.sleep(0.01)
        time.sleep(rng.random() * bench.seconds)
        hit.extend(pid for pid in victims if end(pid, signal.SIGSTOP))

    code, seconds, text = bench.run(out, 2, meanwhile=meanwhile, rank_lost=True)
    return end_of(bench, "rank stopped for ever, 2 ranks", f"{seconds:.0f} s", out, code, text, len(hit), True, 2)


def drain(bench, work, rng):
    out, hit = fresh(work), []

    def meanwhile(job):
        time.sleep(rng.random() * bench.seconds)
        if job.poll() is None and find(job.pid, "spawner"):  # before that, a signal is the end of any program
            job.send_signal(rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]))
            hit.append(job.pid)

    code, _, text = bench.run(out, 1, meanwhile=meanwhile)
    t = end_of(bench, "signal to stop", "", out, code, text, len(hit), True)
    if not t.wrong and code not in (0, 75, -signal.SIGTERM, -signal.SIGINT, -signal.SIGUSR1):
        t.wrong = f"exit code {code}\n{text[-1500:]}"
    return t


def full_disk(bench, work, rng):
    """A file system of a size that may or may not do; then it is made larger."""
    fresh(work)
    disk = work / "disk"
    disk.mkdir()
    size = rng.randrange(4, 800) * 1024
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], stderr=subprocess.DEVNULL).returncode:
        return None
    try:
        code, _, text = bench.run(disk / "c.h5", 1, log=work / "log")
        wrong = bench.judge(code, disk / "c.h5", text)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        after, seconds = bench.recover(disk / "c.h5", log=work / "log") if not wrong else (None, 0)
    finally:
        subprocess.run(["umount", "-l", disk])
    wrong = wrong or after
    return Try("full disk", f"{size} bytes", code, int(code != 0), wrong and f"{wrong}\n{text[-1500:]}", seconds)


def two_runs(bench, work, rng):
    out, second = fresh(work), []

    def meanwhile(job):
        lock = Path(f"{out}.parts") / "lock"
        while job.poll() is None and not (lock.exists() and lock.read_text()):
            time.sleep(0.002)
        time.sleep(rng.random() * 0.2)
        other = subprocess.run(bench.command(out), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=bench.deadline)
        if job.poll() is None:
            second.append((other.returncode, other.stderr, job.pid))

    code, _, text = bench.run(out, 1, meanwhile=meanwhile)
    t = end_of(bench, "two runs on one output", "", out, code, text, len(second), False)
    for other, said, holder in second:
        if not t.wrong and (other != 2 or f"process {holder}" not in said):
            t.wrong = f"the second run ended with {other}: {said[-500:]}"
    return t if t.wrong or code == 0 else Try(t.name, t.what, code, t.hits, f"the first run ended with {code}", 0)


def parts_of(out):
    return sorted(Path(f"{out}.parts").glob("??/*.h5"))


def foreign_parts(bench, work, rng):
    """Parts whose head says another version, other weights, other options: whole, but not for this run."""
    out = fresh(work)
    bench.run(out)
    field = rng.choice([b"covpipe_version ", b"weights_sha256 ", b"options_sha256 ", b"precision ", b"backend ", b"size "])
    for p in parts_of(out):
        data = bytearray(p.read_bytes())
        at = data.index(b"\n" + field) + 1 + len(field)
        data[at] = ord("8") if data[at] != ord("8") else ord("9")
        first = data.index(b"\n") + 1
        data[first - 65:first - 1] = hashlib.sha256(data[first:]).hexdigest().encode()
        p.write_bytes(data)
    out.unlink()
    after, seconds = bench.recover(out)
    return Try("parts of another run", field.decode(), 0, 1, after, seconds)


def damaged_part(bench, work, rng):
    out = fresh(work)
    bench.run(out)
    p = rng.choice(parts_of(out))
    data = bytearray(p.read_bytes())
    kind = rng.choice(["flip", "cut", "empty", "gone", "zeros", "longer", "link"])
    if kind == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[rng.randrange(len(data)):]
    elif kind == "empty":
        data = b""
    elif kind == "zeros":
        data[4096:] = bytes(len(data) - 4096)
    elif kind == "longer":
        data += b"x"
    p.unlink()
    if kind == "link":
        p.symlink_to("nowhere.h5")
    elif kind != "gone":
        p.write_bytes(data)
    out.unlink()
    code, _, text = bench.run(out)
    return end_of(bench, "damaged part", f"{kind}, {p.name[:8]}", out, code, text, 1, False)


def changing_archive(bench, work, rng):
    """A file is rewritten, cut, appended to, removed or moved during the run, and is as before afterwards."""
    out, hit = fresh(work), []
    mine = copy.copy(bench)
    mine.archive = work / "archive"
    shutil.copytree(bench.archive, mine.archive)
    victim = rng.choice(sorted(p for p in mine.archive.rglob("*") if p.is_file()))
    kind = rng.choice(["other", "cut", "append", "remove", "move", "folder"])
    about, data = os.stat(victim), victim.read_bytes()

    def meanwhile(job):
        time.sleep(rng.random() * bench.seconds)
        if kind == "other":
            victim.write_bytes(bytes(reversed(data)))
        elif kind == "cut":
            os.truncate(victim, len(data) // 2)
        elif kind == "append":
            with open(victim, "ab") as f:
                f.write(b"more")
        elif kind == "move":
            victim.rename(victim.with_name("moved-" + victim.name))
        else:
            victim.unlink()
            if kind == "folder":
                victim.mkdir()
        hit.append(job.poll() is None)

    code, _, text = mine.run(out, 1, meanwhile=meanwhile)
    wrong = None if code in (0, 1, 3) else f"exit code {code}\n{text[-1500:]}"
    if kind == "move":
        victim.with_name("moved-" + victim.name).unlink()
    if kind == "folder":
        victim.rmdir()
    victim.write_bytes(data)
    os.utime(victim, ns=(about.st_atime_ns, about.st_mtime_ns + rng.randrange(2)))
    after, seconds = mine.recover(out) if not wrong else (None, 0)
    return Try("archive changes", f"{victim.name}: {kind}", code, sum(hit), wrong or (after and f"{after}\n{text[-1500:]}"), seconds)


def archive_set_back(bench, work, rng):
    """Between the walk and the reading a file gets other content, at times with its old size and time; then all is as it was, to the
    nanosecond. Only its change time can tell, and the run that read the other content must not be believed by the next."""
    out, hit = fresh(work), []
    mine = copy.copy(bench)
    mine.archive = work / "archive"
    shutil.copytree(bench.archive, mine.archive)
    victim = rng.choice(sorted(p for p in mine.archive.rglob("*") if p.suffix in (".gz", ".png")))
    others = [p for p in mine.archive.rglob("*") if p.is_file() and p.suffix == victim.suffix and p.read_bytes() != victim.read_bytes()]
    about, data = os.stat(victim), victim.read_bytes()
    other = rng.choice([bytes(reversed(data)), data[:len(data) // 2]] + [p.read_bytes() for p in others])
    late, forged, back = rng.random() * rng.choice([0, 0, 0.01, 0.03]), rng.random() < 0.7, rng.random() < 0.3

    def put(content, times):
        victim.write_bytes(content)
        if times:
            os.utime(victim, ns=(about.st_atime_ns, about.st_mtime_ns))

    def meanwhile(job):
        lock = Path(f"{out}.parts") / "lock"
        while job.poll() is None and not lock.exists():  # rank 0 makes it when it has walked
            time.sleep(0.0005)
        time.sleep(late * bench.seconds)
        put(other, forged)
        hit.append(job.poll() is None)
        if back:
            time.sleep(rng.random() * 0.2 * bench.seconds)
            put(data, True)

    code, _, text = mine.run(out, 1, meanwhile=meanwhile)
    put(data, True)
    wrong = None if code in (0, 3) else f"exit code {code}\n{text[-1500:]}"
    if code == 3 and "CHANGED" not in text:
        wrong = f"exit code 3, but nothing has changed\n{text[-1500:]}"
    after, seconds = mine.recover(out) if not wrong else (None, 0)
    return Try("archive set back", f"{victim.name}, {late:.2f} of the run late{', forged' * forged}{', soon' * back}", code, sum(hit),
               wrong or (after and f"{after}\n{text[-1500:]}"), seconds)


# How often in a long run, relative to the others; the slow ones seldom.
KILLS = [(5, kill("worker")), (5, kill("reader")), (4, kill("spawner")), (6, kill("shell")), (6, kill("all")), (1, kill("rank0", 2)),
         (1, kill("rank1", 2)), (1, kill("mpirun", 2)), (1, kill("all", 2)), (1, kill("worker", 2)), (1, kill("reader", 2))]
TABLE = KILLS + [(1, pause("rank1", 2, 3)), (1, pause("all", 1, 3)), (2, drain), (2, full_disk), (1, two_runs), (1, foreign_parts),
                 (2, damaged_part), (2, changing_archive), (2, archive_set_back)]
SLOW = [stop_for_ever]
