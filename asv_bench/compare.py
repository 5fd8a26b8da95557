"""Print the speed table: this library, its peers and the limits of memory, in one run.

    python asv_bench/compare.py
    python asv_bench/compare.py --rows gradient --backends cython:v4,cython:v3 --json table.json

Within a row the contenders take turns (A B C A B C ...).  A turn is a short pause (the
idle threads of the contender before it stop spinning), one untimed call (its data come
back into the cache), then timed calls, of which the smallest counts.  A ratio is the
median over the rounds of the ratio within a round: the memory of a shared machine was
seen to drift by a factor of 1.7 within seconds, so smallest times that come from
different rounds must not be divided.  The first backend is timed twice, as two
contenders: how far the ratio of the two is from 1 is the noise, and a verdict nearer to
its threshold than that carries a ``~``.

The read and copy limits are streaming loops in C over the very same arrays, compiled
when the script starts, on as many threads, in the same turns: the best of several
chunkings, with and without prefetch, with ordinary and with streaming stores.  For
arrays that fit in the cache they are therefore limits of the cache.  The limits stand
directly before ours in a round.

Contenders that are not installed are left out, and named.
"""

import argparse
import datetime
import functools
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import contenders
from benchmarks.contenders import PEERS, Job, ours
from benchmarks.limits import Entry, limit_entries, streamed

# ------------------------------------------------------------------------------------
# The table as data.  A later loss adds its rows and targets here, and itself and what its
# peers do to ``benchmarks/contenders.py``.


class Row(NamedTuple):
    """One workload."""

    name: str
    function: str
    shape: tuple[int, ...]
    grad: bool = False
    axis: int = -1
    dtype: str = "float32"
    threads: int | None = None  # None: as --threads says
    bound: str = "read"  # the limit that it is held against: "read", "copy", "" for neither
    beside: str = ""  # ours in this dtype too, for a ratio
    features: int = 0  # of a linear layer


SPARSE, DENSE = "sparse_softmax_cross_entropy", "softmax_cross_entropy"
NCE, SAMPLED = "nce_loss", "sampled_softmax_loss"
SIGMOID, LINEAR = "sigmoid_cross_entropy", "linear_cross_entropy"

ROWS = (
    Row("sparse 1024x30522 forward", SPARSE, (1024, 30522)),
    Row("sparse 256x128256 forward", SPARSE, (256, 128256)),
    Row("sparse 4096x1000 forward", SPARSE, (4096, 1000)),
    Row("sparse 65536x10 forward", SPARSE, (65536, 10)),
    Row("sparse 1024x30522 gradient", SPARSE, (1024, 30522), grad=True, bound="copy"),
    Row("sparse 256x128256 gradient", SPARSE, (256, 128256), grad=True, bound="copy"),
    Row("sparse 4096x1000 gradient", SPARSE, (4096, 1000), grad=True, bound="copy"),
    Row("sparse 65536x10 gradient", SPARSE, (65536, 10), grad=True, bound="copy"),
    Row("dense 4096x1000 forward", DENSE, (4096, 1000)),
    Row("dense 4096x1000 gradient", DENSE, (4096, 1000), grad=True, bound="copy"),
    Row("sigmoid 4096x1000 forward", SIGMOID, (4096, 1000)),
    Row("sigmoid 4096x1000 gradient", SIGMOID, (4096, 1000), grad=True, bound="copy"),
    Row("axis1 4x21x256x256 forward", SPARSE, (4, 21, 256, 256), axis=1),
    Row("axis1 4x21x256x256 gradient", SPARSE, (4, 21, 256, 256), True, 1, bound="copy"),
    Row("bfloat16 256x128256 forward", SPARSE, (256, 128256), dtype="bfloat16", beside="float32"),
    Row("float16 256x128256 forward", SPARSE, (256, 128256), dtype="float16", beside="float32"),
    Row("float64 4096x1000 forward", SPARSE, (4096, 1000), dtype="float64", beside="float32"),
    Row(
        "float64 4096x1000 gradient",
        SPARSE,
        (4096, 1000),
        grad=True,
        dtype="float64",
        bound="copy",
        beside="float32",
    ),
    Row("nce 1024x50000 gradient", NCE, (1024, 50000), grad=True, bound=""),
    Row("sampled softmax 1024x50000 gradient", SAMPLED, (1024, 50000), grad=True, bound=""),
    Row("logsumexp 4096x1000, 1 thread", "logsumexp", (4096, 1000), threads=1),
    Row("log_softmax 4096x1000, 1 thread", "log_softmax", (4096, 1000), threads=1, bound="copy"),
    Row("softmax 4096x1000, 1 thread", "softmax", (4096, 1000), threads=1, bound="copy"),
    Row("logsumexp 1x10000000", "logsumexp", (1, 10_000_000)),
    Row("linear 512x512x32000 forward", LINEAR, (512, 32000), bound="", features=512),
    Row("linear 512x512x32000 gradient", LINEAR, (512, 32000), True, bound="", features=512),
    Row("logsumexp 10, whole call", "logsumexp", (10,), bound=""),
    Row("sparse 32x10 forward, whole call", SPARSE, (32, 10), bound=""),
    Row("sparse 32x10 gradient, whole call", SPARSE, (32, 10), grad=True, bound=""),
)

#: (row, mode) -> what is asked: (against, must, aim).  "read" and "copy": share of that
#: limit, at least; "peer": times as fast as the best peer, at least, and a peer's name: as
#: that one; "float32": time over that of the same call in float32, at most; "cython": over
#: that of the compiled backend, at most; "products": over
#: that of the whole matrix products, at most; "us": microseconds, at most.  Modes of a
#: gradient: "given" (into an array of the caller's), "in place" (over the logits) and
#: "fresh" (a new array each call); anything else has the mode "".
TARGETS = {
    ("sparse 1024x30522 forward", ""): (("read", 0.85, 0.95), ("peer", 2.5, 2.5)),
    ("sparse 256x128256 forward", ""): (("read", 0.85, 0.95), ("peer", 2.5, 2.5)),
    ("sparse 4096x1000 forward", ""): (("peer", 2, 3),),
    ("sparse 65536x10 forward", ""): (("peer", 2.5, 4),),
    ("sparse 1024x30522 gradient", "given"): (("copy", 0.70, 0.85), ("peer", 5, 5)),
    ("sparse 1024x30522 gradient", "in place"): (("copy", 0.70, 0.85), ("peer", 5, 5)),
    ("sparse 1024x30522 gradient", "fresh"): (("peer", 1.5, 2),),
    ("sparse 256x128256 gradient", "given"): (("copy", 0.70, 0.85), ("peer", 5, 5)),
    ("sparse 256x128256 gradient", "in place"): (("copy", 0.70, 0.85), ("peer", 5, 5)),
    ("sparse 256x128256 gradient", "fresh"): (("peer", 1.5, 2),),
    ("sparse 4096x1000 gradient", "given"): (("peer", 1.8, 2.5),),
    ("sparse 65536x10 gradient", "given"): (("peer", 3.5, 5),),
    ("dense 4096x1000 forward", ""): (("peer", 2, 3),),
    ("dense 4096x1000 gradient", "given"): (("peer", 3, 4),),
    ("sigmoid 4096x1000 forward", ""): (("peer", 2.5, 4),),
    ("sigmoid 4096x1000 gradient", "given"): (("peer", 3.5, 5),),
    ("axis1 4x21x256x256 forward", ""): (("peer", 2, 3),),
    ("axis1 4x21x256x256 gradient", "given"): (("peer", 2.5, 4),),
    ("bfloat16 256x128256 forward", ""): (("float32", 1.0, 0.7), ("peer", 2, 3)),
    ("float16 256x128256 forward", ""): (("float32", 1.0, 0.7), ("peer", 2, 3)),
    ("float64 4096x1000 forward", ""): (("float32", 2.5, 2.0),),
    ("float64 4096x1000 gradient", "given"): (("float32", 2.5, 2.0),),
    ("nce 1024x50000 gradient", "fresh"): (("peer", 2, 3), ("products", 2, 2)),
    ("logsumexp 4096x1000, 1 thread", ""): (("peer", 2, 3),),
    ("log_softmax 4096x1000, 1 thread", ""): (("peer", 1.7, 2.5),),
    ("softmax 4096x1000, 1 thread", ""): (("peer", 1.4, 2),),
    ("logsumexp 1x10000000", ""): (("read", 0.7, 0.9),),
    ("linear 512x512x32000 forward", ""): (("products", 1.1, 1.05),),
    ("linear 512x512x32000 gradient", "given"): (("products", 1.4, 1.25),),
    ("logsumexp 10, whole call", ""): (("us", 4, 2),),
    ("sparse 32x10 forward, whole call", ""): (("us", 5, 3),),
    ("sparse 32x10 gradient, whole call", "given"): (("us", 6, 4),),
}

AT_MOST = ("float32", "cython", "products", "us")  # the targets that are upper bounds

#: What the instruction sets of older processors are asked instead.
OLDER = ("cython:v3", "cython:baseline")
BEYOND_CACHE = ((1024, 30522), (256, 128256))


def targets_of(row: Row, word: str, mode: str, first: bool) -> tuple[tuple[str, float, float], ...]:
    """What one of our backend words is asked in a row; the table's own if it comes first."""
    if mode in ("in place", "fresh") and not first:
        return ()
    classes = row.shape[row.axis]
    if word == "numba":
        plain = row.dtype == "float32" and row.axis == -1 and classes >= 1000
        return (("cython", 1.3 if plain else 2.0, 1.1),)
    if word in OLDER and not first:
        asked = []
        if classes >= 1000 and row.dtype in ("float32", "float64"):
            asked.append(("SciPy", 1.5, 1.5))
        if row.function == SPARSE and row.dtype == "float32" and row.shape in BEYOND_CACHE:
            asked.append(("torch", 1.5, 1.5))
        if row.function == SPARSE and row.shape == (4096, 1000) and word == "cython:v3":
            asked.append(("torch", 1.0, 1.0))
        return tuple(asked)
    return TARGETS.get((row.name, mode), ()) if first else ()


# ------------------------------------------------------------------------------------
# Contenders.


def make_job(row: Row, threads: int, dtype: str = "") -> Job:
    sizes = {"features": row.features} if row.features else {}
    return contenders.make_job(
        row.function, row.shape, row.axis, dtype or row.dtype, row.grad, threads, **sizes
    )


def entries_of_ours(job: Job, word: str) -> dict[str, Entry]:
    """Mode -> entry, for one backend word."""
    import fastxent as fx

    context = functools.partial(fx.config, backend=word, threads=job.threads)
    if not job.grad:
        return {"": Entry(word, ours(job), None, context)}
    if job.sampled is not None:  # gradients of vectors, always new
        return {"fresh": Entry(word, ours(job, "fresh"), None, context)}
    given = {"given": Entry(word, ours(job, "given"), None, context)}
    if job.weight is not None:
        return given
    work = job._replace(x=job.x.copy())
    return given | {
        "in place": Entry(
            word, ours(work, "in place"), lambda: work.x.__setitem__(..., job.x), context
        ),
        "fresh": Entry(word, ours(job, "fresh"), None, context),
    }


# ------------------------------------------------------------------------------------
# The clock.

PAUSE = 0.004  # seconds; OpenMP runtimes and Eigen pools spin for about a millisecond
TURN = 0.012  # seconds of timed calls in a turn, at least one call
SHORT = 2e-4  # calls shorter than that are timed in batches


class Timed(NamedTuple):
    minimum: float
    median: float
    rounds: list[float]  # the smallest time of each round


def measure(entries: dict[str, Entry], rounds: int) -> dict[str, Timed]:
    """Key -> times in seconds; the entries take turns."""
    clock = time.perf_counter
    plan = {}
    for key, entry in entries.items():
        with entry.context():
            best = float("inf")
            for _ in range(3):
                if entry.prepare:
                    entry.prepare()
                start = clock()
                entry.call()
                best = min(best, clock() - start)
        batch = max(1, int(SHORT / best)) if best < SHORT else 1
        plan[key] = batch, max(1, min(50, int(TURN / (best * batch))))
    samples: dict[str, list[list[float]]] = {key: [] for key in entries}
    for _ in range(rounds):
        for key, entry in entries.items():
            batch, times = plan[key]
            call, prepare, repeat = entry.call, entry.prepare, range(batch)
            with entry.context():
                time.sleep(PAUSE)
                if prepare:
                    prepare()
                call()
                turn = []
                for _ in range(times):
                    if prepare:
                        prepare()
                    start = clock()
                    for _ in repeat:
                        call()
                    turn.append((clock() - start) / batch / entry.passes)
                samples[key].append(turn)
    return {
        key: Timed(
            min(min(turn) for turn in turns),
            statistics.median(t for turn in turns for t in turn),
            [min(turn) for turn in turns],
        )
        for key, turns in samples.items()
    }


def ratio(upper: list[float], lower: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(upper, lower, strict=True))


def processor_seconds() -> tuple[float, float]:
    """Processor time of the whole machine and of this process so far (Linux)."""
    mine = sum(os.times()[:4])
    try:
        fields = [int(f) for f in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    except OSError:
        return mine, mine
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK"), mine


# ------------------------------------------------------------------------------------
# One row.


def agreement(results: dict[str, Any], grad: bool, dtype: str) -> list[str]:
    """Names of the contenders whose answer differs from that of the first."""
    import numpy as np

    def leaves(result):
        return [a for b in result for a in leaves(b)] if isinstance(result, tuple) else [result]

    def sample(result):
        parts = []
        for part in leaves(result):
            if part is None:
                continue
            if hasattr(part, "detach"):
                part = part.detach().float()
            if hasattr(part, "numpy"):
                part = part.numpy()
            flat = np.asarray(part).astype(np.float64).reshape(-1)
            parts.append(flat[:: max(1, flat.size // 1000)])
        return parts

    rtol = {"float16": 2e-2, "bfloat16": 5e-2}.get(dtype, 1e-3)
    first: list[Any] = []
    odd = []
    for name, result in results.items():
        mine = sample(result)
        first = first or mine
        for a, b in zip(first, mine, strict=True):
            if a.size != b.size or not np.allclose(a, b, rtol=rtol, atol=1e-6 * np.abs(a).max()):
                odd.append(name)
                break
    return odd


def run_row(row: Row, threads: int, words: list[str], peers: list[str], rounds: int) -> dict:
    job = make_job(row, threads)
    entries: dict[str, Entry] = {}
    notes = []
    for position, word in enumerate(words):
        modes = entries_of_ours(job, word)
        entries |= {f"{word}|{mode}": entry for mode, entry in modes.items()}
        if row.beside:
            mode = "given" if row.grad else ""
            beside = make_job(row, threads, row.beside)
            entries[f"{word}|{mode}|{row.beside}"] = entries_of_ours(beside, word)[mode]
        if position == 0:
            again = f"{word}|{next(iter(modes))}|again"
    if job.weight is not None:
        entries["products"] = Entry("products", products(job))
    results = {}
    for name in peers:
        try:
            call = PEERS[name][1](job)
            if call is not None:
                results[name] = call()
        except Exception as error:
            notes.append(f"{name} failed: {type(error).__name__}: {str(error)[:80]}")
            continue
        if call is None:
            continue
        entries[f"peer|{name}"] = Entry(name, call)
    for key in [key for key in entries if not key.startswith("peer|") and key.count("|") == 1]:
        entry = entries[key]
        with entry.context():
            if entry.prepare:
                entry.prepare()
            mine = entry.call()
            # The next entry may write into the same memory.
            results = {key: _kept(mine, row.grad), **results}
    notes += [f"{name}: another answer" for name in agreement(results, row.grad, row.dtype)]
    del results
    if row.bound:
        variants = {v.name: v for v in limit_entries(job, row.bound)}
        screened = measure(variants, 2)
        best = sorted(variants, key=lambda name: screened[name].minimum)[:2]
        entries = {f"limit|{row.bound}|{name}": variants[name] for name in best} | entries
    if words:  # last, so that the two stand at different places of a round
        entries[again] = entries[again.removesuffix("|again")]
    busy, mine = processor_seconds()
    start = time.perf_counter()
    times = measure(entries, rounds)
    wall = time.perf_counter() - start
    busy_after, mine_after = processor_seconds()
    others = max(0.0, (busy_after - busy) - (mine_after - mine)) / wall
    return {
        "row": row.name,
        "threads": threads,
        "traffic": {
            "read": sum(a.nbytes for a in streamed(job)),
            "copy": 2 * job.x.nbytes,
        },
        "times": {key: value._asdict() for key, value in times.items()},
        "others": others,
        "notes": notes,
    }


def _kept(result: Any, grad: bool) -> Any:
    import numpy as np

    if not grad or isinstance(result[1], tuple):
        return result if grad else np.array(result)
    return result[0], np.array(result[1])


def products(job: Job) -> Any:
    """The matrix products that a linear layer cannot do without, be it of sampled classes."""
    import numpy as np

    x, weight = job.x, job.weight
    if job.sampled is not None:
        weight = weight[job.sampled[0]]
    logits = np.empty((len(x), len(weight)), x.dtype)
    inputs, weights = np.empty_like(x), np.empty_like(weight)

    def forward():
        np.matmul(x, weight.T, out=logits)

    def with_grad():
        forward()
        np.matmul(logits, weight, out=inputs)
        np.matmul(logits.T, x, out=weights)

    return with_grad if job.grad else forward


def child(options: argparse.Namespace) -> None:
    """Run the rows of one thread count in this process; results go to a file."""
    try:
        importlib.import_module("fastxent")
        usable = list(importlib.import_module("fastxent._backends").words())
        words = options.backends.split(",") if options.backends else usable[:1]
        unknown = set(words) - set(usable)
        if unknown:
            sys.exit(f"not usable here: {sorted(unknown)}; usable: {usable}")
    except ImportError as error:
        words = []
        print(f"fastxent left out: {error}", file=sys.stderr)
    peers = []
    versions = {}
    for name, (module, _) in PEERS.items():
        if options.peers != "all" and name not in options.peers.split(","):
            continue
        try:
            versions[module] = getattr(importlib.import_module(module), "__version__", "?")
            peers.append(name)
        except Exception as error:  # a broken install must not end the run
            print(f"{name} left out: {type(error).__name__}: {error}", file=sys.stderr)
    rows = [row for row in ROWS if row.name in options.rows.split(";")]
    found = []
    for row in rows:
        start = time.perf_counter()
        if time.time() > options.until:
            print(f"{row.name} left out: the time is over", file=sys.stderr)
            continue
        try:
            result = run_row(row, options.threads, words, peers, options.repeats)
        except Exception as error:  # the other rows are still worth having
            print(f"{row.name} left out: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        found.append(result)
        print(f"{row.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        Path(options.child).write_text(
            json.dumps({"rows": found, "versions": versions, "words": words})
        )


# ------------------------------------------------------------------------------------
# The report.


def judge(result: dict, word: str, mode: str) -> dict:
    """Ratios and verdict of one backend word and mode of a row."""
    times = {key: timed["rounds"] for key, timed in result["times"].items()}
    key = f"{word}|{mode}"
    mine = times[key]
    ratios: dict[str, float] = {"us": min(mine) * 1e6}
    limit = limit_rounds(result)
    if limit:
        ratios[limit[0]] = ratio(limit[1], mine)
    rivals = {k.split("|")[1]: ratio(t, mine) for k, t in times.items() if k.startswith("peer|")}
    best = min(rivals, key=rivals.__getitem__) if rivals else None
    if best:
        ratios["peer"] = rivals[best]
    ratios |= rivals
    if f"{key}|float32" in times:
        ratios["float32"] = ratio(mine, times[f"{key}|float32"])
    if "products" in times:
        ratios["products"] = ratio(mine, times["products"])
    first = words_of(result)[0]
    if f"{first}|{mode}" in times and first.startswith("cython") and word != first:
        ratios["cython"] = ratio(mine, times[f"{first}|{mode}"])
    reached, near, misses = "aim", False, []
    noise = noise_of(result)
    row = next(row for row in ROWS if row.name == result["row"])
    targets = targets_of(row, word, mode, word == first)
    for against, must, aim in targets:
        if against not in ratios:
            misses.append(f"{against} not measured")
            reached = "short"
            continue
        value = ratios[against]
        sign = -1 if against in AT_MOST else 1
        if sign * value < sign * must:
            reached = "short"
            misses.append(f"{against} {value:.2f}, must {must:g}")
        elif sign * value < sign * aim and reached == "aim":
            reached = "must"
        near |= any(abs(value / bar - 1) < noise for bar in (must, aim))
    if not targets:
        reached = "-"
    return {
        "minimum": result["times"][key]["minimum"],
        "median": result["times"][key]["median"],
        "best peer": best,
        "ratios": ratios,
        "targets": targets,
        "verdict": reached + ("~" if near else ""),
        "misses": misses,
    }


def words_of(result: dict) -> list[str]:
    """Our backend words in a row, in their order."""
    keys = [k for k in result["times"] if "|" in k and not k.startswith(("peer|", "limit|"))]
    return list(dict.fromkeys(key.split("|")[0] for key in keys))


def limit_rounds(result: dict) -> tuple[str, list[float]] | None:
    """Name and best time of each round of the limit of this row."""
    variants = {k: t["rounds"] for k, t in result["times"].items() if k.startswith("limit|")}
    if not variants:
        return None
    name = next(iter(variants)).split("|")[1]
    return name, [min(times) for times in zip(*variants.values(), strict=True)]


def noise_of(result: dict) -> float:
    """How far the two timings of the same call differ, as a share."""
    for key, again in result["times"].items():
        if key.endswith("|again"):
            first = result["times"][key.removesuffix("|again")]
            return abs(ratio(again["rounds"], first["rounds"]) - 1)
    return 0.0


def summary(gathered: dict) -> dict:
    """The figures that a reader wants, few enough to be kept with the sources."""

    def short(value: float) -> float:
        return float(f"{value:.3g}")

    rows = []
    for result in gathered["rows"]:
        ours = []
        for key in result["times"]:
            if key.startswith(("peer|", "limit|")) or key.count("|") != 1:
                continue
            word, mode = key.split("|")
            judged = judge(result, word, mode)
            ours.append(
                {
                    "word": word,
                    "mode": mode,
                    "ms": short(judged["minimum"] * 1e3),
                    "ratios": {k: short(v) for k, v in judged["ratios"].items()},
                    "best peer": judged["best peer"],
                    "targets": judged["targets"],
                    "verdict": judged["verdict"],
                }
            )
        limit = limit_rounds(result)
        rows.append(
            {
                "row": result["row"],
                "threads": result["threads"],
                "limit": limit and {"kind": limit[0], "ms": short(min(limit[1]) * 1e3)},
                "peers": {
                    key.split("|")[1]: short(timed["minimum"] * 1e3)
                    for key, timed in result["times"].items()
                    if key.startswith("peer|")
                },
                "noise": short(noise_of(result)),
                "others": short(result["others"]),
                "ours": ours,
            }
        )
    kept = ("machine", "date", "python", "versions")
    return {name: gathered[name] for name in kept} | {"rows": rows}


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds >= 1e-4 else f"{seconds * 1e3:.4f}"


def report(results: list[dict]) -> str:
    lines = [
        "| workload | ours | min ms | median | of read | of copy | / best peer | / float32 "
        "| / first | / products | noise | others | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]

    def cell(ratios, kind):
        return f"{ratios[kind]:.2f}" if kind in ratios else ""

    for result in results:
        keys = [k for k in result["times"] if k.count("|") == 1 and not k.startswith("peer|")]
        for key in keys:
            word, mode = key.split("|")
            judged = judge(result, word, mode)
            ratios = judged["ratios"]
            rival = f"{ratios['peer']:.2f} ({judged['best peer']})" if "peer" in ratios else ""
            lines.append(
                f"| {result['row']} | {word} {mode} | {milliseconds(judged['minimum'])} "
                f"| {milliseconds(judged['median'])} | {cell(ratios, 'read')} "
                f"| {cell(ratios, 'copy')} | {rival} | {cell(ratios, 'float32')} "
                f"| {cell(ratios, 'cython')} | {cell(ratios, 'products')} "
                f"| {noise_of(result):.1%} | {result['others']:.2f} "
                f"| {judged['verdict']} {'; '.join(judged['misses'])} |"
            )
    names = [name for name in PEERS if any(f"peer|{name}" in result["times"] for result in results)]
    lines += [
        "",
        "Peers and limits, smallest time in ms (median).",
        "",
        "| workload | read | copy | " + " | ".join(names) + " |",
        "|---" * (len(names) + 3) + "|",
    ]
    for result in results:
        cells = ["", ""]
        limit = limit_rounds(result)
        if limit:
            kind, rounds = limit
            traffic = result["traffic"][kind] / min(rounds) / 1e9
            cells[kind == "copy"] = (
                f"{milliseconds(min(rounds))} ({milliseconds(statistics.median(rounds))}), "
                f"{traffic:.0f} GB/s"
            )
        for name in names:
            t = result["times"].get(f"peer|{name}")
            cells.append(f"{milliseconds(t['minimum'])} ({milliseconds(t['median'])})" if t else "")
        lines.append(f"| {result['row']} | " + " | ".join(cells) + " |")
    notes = [f"* {result['row']}: {note}" for result in results for note in result["notes"]]
    if notes:
        lines += ["", *notes]
    noises = [noise_of(r) for r in results if any(k.endswith("|again") for k in r["times"])]
    if noises:
        lines += [
            "",
            f"Own noise (the same call as two contenders): median {statistics.median(noises):.1%}, "
            f"worst {max(noises):.1%}.",
        ]
    lines += [
        "",
        "`others`: processors that other processes used while the row was timed; above 0.1 the "
        "row wants repeating on a quiet machine.  `~`: nearer to a threshold than the noise.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default="", help="only rows whose name holds one of these words")
    parser.add_argument("--backends", default="", help="backend words; default: the best one")
    parser.add_argument("--peers", default="all", help=f"of {', '.join(PEERS)}; or none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9, help="rounds of turns")
    parser.add_argument("--limit", type=float, default=480, help="seconds; then no row begins")
    parser.add_argument("--json", default="", help="write every figure to this file")
    parser.add_argument("--add", action="store_true", help="only rows which that file lacks")
    parser.add_argument("--summary", default="", help="write what the documentation shows")
    parser.add_argument("--machine", default="", help="what to call this machine in it")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    wanted = [w for w in options.rows.split(",") if w]
    rows = [row for row in ROWS if not wanted or any(w in row.name for w in wanted)]
    if not rows:
        sys.exit("no such row; there are: " + "; ".join(row.name for row in ROWS))
    kept: dict[str, Any] = {"rows": [], "versions": {}}
    if options.add and Path(options.json).exists():
        kept = json.loads(Path(options.json).read_text())
        found = {result["row"] for result in kept["rows"]}
        rows = [row for row in rows if row.name not in found]
    started = time.perf_counter()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    gathered: dict[str, Any] = {"rows": kept["rows"], "versions": kept["versions"]}
    counts = sorted({row.threads or options.threads for row in rows}, reverse=True)
    with tempfile.TemporaryDirectory() as folder:
        for threads in counts:
            # One process per thread count: most peers fix theirs when they start.
            target = Path(folder, f"{threads}.json")
            names = ";".join(r.name for r in rows if (r.threads or options.threads) == threads)
            command = [sys.executable, __file__, "--child", str(target), "--rows", names]
            command += ["--threads", str(threads), "--repeats", str(options.repeats)]
            command += ["--backends", options.backends, "--peers", options.peers]
            command += [
                "--until",
                str(time.time() + options.limit - (time.perf_counter() - started)),
            ]
            environment = os.environ | {
                "OMP_NUM_THREADS": str(threads),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
            }
            subprocess.run(command, env=environment, check=True, preexec_fn=_bound_to(threads))
            if target.exists():
                part = json.loads(target.read_text())
                gathered["rows"] += part["rows"]
                gathered["versions"] |= part["versions"]
    order = {row.name: position for position, row in enumerate(ROWS)}
    gathered["rows"].sort(key=lambda result: order[result["row"]])
    machine = f"{platform.machine()}, {_processor()}, {os.cpu_count()} processors"
    gathered |= {
        "machine": options.machine or machine,
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "load before": load,
    }
    print(f"{gathered['machine']}; Python {gathered['python']}; {gathered['versions']}")
    print(f"{options.threads} threads; load average before the run {load:.2f}\n")
    print(report(gathered["rows"]))
    print(f"\n{time.perf_counter() - started:.0f} s")
    if options.json:
        Path(options.json).write_text(json.dumps(gathered, indent=1))
    if options.summary:
        Path(options.summary).write_text(json.dumps(summary(gathered), indent=1) + "\n")


def _bound_to(threads: int) -> Any:
    """Keep the child on as many processors as it has threads: some peers take all they see."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    processors = sorted(os.sched_getaffinity(0))[:threads]
    return functools.partial(os.sched_setaffinity, 0, processors)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
