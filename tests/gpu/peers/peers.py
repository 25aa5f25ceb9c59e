#!/usr/bin/env python3
"""PyTorch beside `covpipe bench` on one device in one run: the same networks, batches, sizes and types; ours and theirs in alternation.
  peers.py [--covpipe PATH] [--only CASE] [--no-compile] [--json FILE]      without --covpipe: PyTorch alone
A time is the median of whole steps as the host sees them, input on the device, synchronised before and after, as covpipe bench takes it.
Every peer runs eagerly and, in bf16, by torch.compile (reduce-overhead) as far as --compile-s lasts; what fails is said below the table.
  forward    channels-last; bf16 by weights in bf16 (detectors: autocast); fp32 without TF32, as ours
  training   forward, losses, backward, fused SGD; bf16 by autocast with weights in fp32, as ours; bf16w: weights in bf16, too
The detector is torchvision's Mask R-CNN R50-FPN, untrained; its norms' statistics are those of the input:
  tv         as it comes: 91 classes, scores above 0.05, 2000 proposals and 512 regions in training. Untrained it finds next to nothing, so
             its mask branch has next to nothing to do
  tv-100     two classes, no threshold: 100 detections an image, their masks pasted into the image
  tv-same    what covpipe bench times: as tv-100, but forward ends with the box branch and with masks of the 100 regions that ours is given,
             before the last NMS and pasting; training takes 1000 proposals and 128 regions
The model `st` has no peer of its own: its bar is that detector. ratio: the peer's best (eager or compiled; for bf16 in fp32, too) to ours.
Needs torch and torchvision."""
import argparse
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from steps import MAKE, Way

ROUNDS, WARM_UP, OURS_S = 2, 5, 200  # OURS_S: the longest that one run of ours may take
BARS = {("lung-paper", "forward"): 1.2, ("maskrcnn-paper", "forward"): 2.0, ("st-paper", "forward"): 2.0, ("unet-resnet50", "training"): 1.2,
        ("maskrcnn-paper", "training"): 1.2, ("st-paper", "training"): 1.2}
FORWARD, TRAINING = [("forward", "bf16"), ("forward", "fp32")], [("training", "bf16")]
GROUPS = [  # cases of ours, and what is timed beside them: (peer, [(what, kind)], also compiled)
    (["gnunet"], [("gnunet", FORWARD, True)]),
    (["lung-paper"], [("lung-paper", FORWARD, True)]),
    (["unet-resnet50"], [("unet-resnet50", FORWARD + TRAINING + [("training", "bf16w")], True)]),
    (["maskrcnn-paper", "st-paper"], [("tv-same", FORWARD + TRAINING, True), ("tv", FORWARD + TRAINING, False), ("tv-100", FORWARD, False)]),
]


def synchronize(a):
    if a.device == "cuda":
        torch.cuda.synchronize()


def times(a, way, step, repeat):
    # Searching engines by measuring them helps where shapes stay; a detector's samples have other shapes in every step.
    torch.backends.cudnn.benchmark = not way.peer.startswith("tv") or (way.peer, way.what) == ("tv-same", "forward")
    seconds = []
    with torch.set_grad_enabled(way.what == "training"):
        for _ in range(repeat):
            torch.compiler.cudagraph_mark_step_begin()
            synchronize(a)
            start = time.perf_counter()
            found = step()
            synchronize(a)
            seconds.append(time.perf_counter() - start)
    return seconds, found


class TooSlow(BaseException):  # not an Exception: the compiler keeps those to itself
    pass


def too_slow(*_):
    raise TooSlow("no time left to compile")


def attempt(a, way, run):
    """What run() returns; None, and a note, where it fails."""
    try:
        return run()
    except (Exception, TooSlow) as e:
        how = "compiled" if way.compiled else "eager"
        a.notes.append(f"{way.peer} {way.what} {way.kind} {how}: {type(e).__name__}: {(str(e) or '-').splitlines()[0][:160]}")
        return None


def warm(a, way):
    """The step, compiled and warm."""
    start = time.perf_counter()
    if way.compiled:
        if a.compile_s < 1:
            too_slow()
        signal.setitimer(signal.ITIMER_REAL, a.compile_s)
    try:
        step = MAKE[way.peer](a, way)
        found = times(a, way, step, WARM_UP)[1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if way.compiled:
            a.compile_s -= time.perf_counter() - start
    if way.what == "forward" and way.peer.startswith("tv") and not way.compiled:
        same = way.peer == "tv-same"
        a.notes.append(f"{way.peer} {way.kind}: {len(found[0][0] if same else found[0]['scores'])} {'proposals' if same else 'detections'}")
    return step


def ours(a, case, kind, training, into):
    """One run of covpipe bench: its rows of the case, by (case, what, kind)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        command = [a.covpipe, "bench", case, "--device", a.device, "--precision", kind, "--size", str(a.size), "--repeat", str(a.repeat), "--json", path]
        try:
            subprocess.run(command + ["--training"] * training, capture_output=True, text=True, check=True, timeout=OURS_S)
        except subprocess.SubprocessError as e:
            a.notes.append(f"covpipe bench {case} {kind}: {e}: {str(e.stderr or '').strip()[:300]}")
            return
        for row in json.loads(Path(path).read_text()):
            if row["case"] == case:
                into.setdefault((case, row["what"], kind), []).append(row)


def run_group(a, cases, peers):
    ways = [Way(p, what, kind, compiled) for p, of, also in peers for what, kind in of
            for compiled in ((False, True) if also and kind == "bf16" and not a.no_compile else (False,))]
    steps = {w: s for w in ways if (s := attempt(a, w, lambda w=w: warm(a, w)))}
    theirs, mine = {w: [] for w in steps}, {}
    for _ in range(ROUNDS):
        for case in cases if a.covpipe else []:
            ours(a, case, "bf16", any(w.what == "training" for w in ways), mine)
            ours(a, case, "fp32", False, mine)
        for way, step in steps.items():
            theirs[way] += attempt(a, way, lambda w=way, s=step: times(a, w, s, a.repeat)[0]) or []
    return mine, {w: statistics.median(s) for w, s in theirs.items() if s}


def peaks(a):
    """Matrix products, FLOP/s by kind, and a copy's bytes/s, read and written."""
    size, peak = (8192 if a.device == "cuda" else 512), {}
    for kind, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        x, y = torch.rand(2, size, size, device=a.device).to(dtype)
        seconds = times(a, Way("product", "forward", kind, False), lambda: torch.mm(x, y), WARM_UP + a.repeat)[0]
        peak[kind] = 2 * size ** 3 / statistics.median(seconds[WARM_UP:])
    x = torch.rand(64 << 20, device=a.device)
    y = torch.empty_like(x)
    seconds = times(a, Way("copy", "forward", "fp32", False), lambda: y.copy_(x), WARM_UP + a.repeat)[0]
    return peak, 2 * x.numel() * 4 / statistics.median(seconds[WARM_UP:])


def compare(a, cases, peers, mine, theirs, peak):
    """The rows of a table: every case of ours with every peer."""
    rows = []
    for case, (peer, of, _) in ((c, p) for c in cases for p in peers):
        for what, kind in of:
            found = mine.get((case, what, kind[:4]), [])
            seconds = statistics.mean(r["median_s"] for r in found) if found else None
            eager, compiled = (theirs.get(Way(peer, what, kind, c)) for c in (False, True))
            more_exact = theirs.get(Way(peer, what, "fp32", False)) if kind == "bf16" else None
            best = min((t for t in (eager, compiled, more_exact) if t), default=None)
            # A frozen encoder has no backward pass, but bench counts one: no share for st's training.
            share = found[0]["gflop"] * 1e9 / seconds / peak[kind[:4]] if found and (case, what) != ("st-paper", "training") else None
            rows.append({"case": case, "peer": peer, "what": what, "type": kind, "batch": 4 if what == "training" else 1, "ours_s": seconds,
                         "torch_eager_s": eager, "torch_compile_s": compiled, "ratio": best / seconds if best and seconds else None,
                         "share_of_peak": share, "bar": BARS.get((case, what)) if kind == "bf16" else None})
            if found and what == "forward" and kind == "bf16" and abs(a.gflop.get(peer, found[0]["gflop"]) / found[0]["gflop"] - 1) > 0.01:
                a.notes.append(f"{case}: not the same work: {found[0]['gflop']:.1f} GFLOP ours, {a.gflop[peer]:.1f} theirs")
    return rows


def show(row):
    def number(value, form, width):
        return format("-" if value is None else format(value, form), f">{width}")
    bar = "" if row["bar"] is None or row["ratio"] is None else f" {row['bar']:.1f} {'met' if row['ratio'] >= row['bar'] else 'missed'}"
    print(f"{row['case']:15s} {row['peer']:14s} {row['what']:8s} {row['type']:5s} {row['batch']:5d} {number(row['ours_s'], '.6f', 10)} "
          f"{number(row['torch_eager_s'], '.6f', 13)} {number(row['torch_compile_s'], '.6f', 15)} {number(row['ratio'], '.2f', 6)} "
          f"{number(row['share_of_peak'], '.0%', 6)}{bar}", flush=True)


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--covpipe", help="the program; of a bundle: its ./covpipe")
    ap.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    ap.add_argument("--only", metavar="CASE", choices=[c for cases, _ in GROUPS for c in cases], help="this case of ours and its peers")
    ap.add_argument("--size", type=int, default=512)
    ap.add_argument("--repeat", type=int, default=30, help=f"steps a round; there are {ROUNDS} rounds")
    ap.add_argument("--no-compile", action="store_true")
    ap.add_argument("--compile-s", type=float, default=120, help="seconds for all compilation together [120]")
    ap.add_argument("--json", metavar="FILE")
    a = ap.parse_args()
    if a.covpipe and not os.access(a.covpipe, os.X_OK):
        ap.error(f"--covpipe {a.covpipe}: no program there")
    return a


def main():
    a = options()
    a.covpipe = a.covpipe and os.path.abspath(a.covpipe)
    a.notes, a.gflop, rows = [], {}, []
    signal.signal(signal.SIGALRM, too_slow)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name() if a.device == "cuda" else "CPU"
    peak, copied = peaks(a)
    print(f"on {name}, torch {torch.__version__}, torchvision {torchvision.__version__}, {a.size} x {a.size}")
    print(f"matrix product bf16 {peak['bf16'] * 1e-12:.1f}, fp32 {peak['fp32'] * 1e-12:.1f} TFLOP/s; copy {copied * 1e-9:.0f} GB/s read and written")
    print(f"{'case':15s} {'peer':14s} {'what':8s} {'type':5s} batch {'ours_s':>10s} {'torch_eager_s':>13s} torch_compile_s  ratio  share bar", flush=True)
    for cases, peers in GROUPS:
        cases = [c for c in cases if a.only in (None, c)]
        if not cases:
            continue
        found = compare(a, cases, peers, *run_group(a, cases, peers), peak)
        for row in found:
            show(row)
        rows += found
        gc.collect()
        torch.compiler.reset()
        if a.device == "cuda":
            torch.cuda.empty_cache()
    print("ratio: the peer's best to ours; share: of the matrix product above, ours. Peers tv, tv-100, tv-same: see --help")
    for note in a.notes:
        print("note:", note)
    if a.json:
        Path(a.json).write_text(json.dumps({"device": name, "torch": torch.__version__, "torchvision": torchvision.__version__, "size": a.size,
                                            "product_flops": peak, "copy_bytes_s": copied, "rows": rows, "notes": a.notes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
