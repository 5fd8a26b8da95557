"""Tables of the page about speed, from what ``asv_bench`` measured and kept."""

import json
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "asv_bench" / "results"
UNITS = {"read": "of read", "copy": "of copy", "peer": "x the best peer", "us": "us"}


def load(name: str) -> Any:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def line(*cells: Any) -> str:
    """One line of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def table(header: list[str], lines: list[str]) -> str:
    """A table in Markdown."""
    return "\n".join([line(*header), line(*["---"] * len(header)), *lines]) + "\n"


def ms(value: float) -> str:
    """Milliseconds, or microseconds where that reads better."""
    return f"{value:.3g} ms" if value >= 0.1 else f"{value * 1e3:.3g} µs"


def target(against: str, value: float) -> str:
    """What is asked, in words."""
    if against == "us":
        return f"{value:g} µs"
    if against in ("float32", "cython", "products"):
        return f"{value:g} x the time of {against}"
    return f"{value:g} {UNITS.get(against, 'x ' + against)}"


def reached(ratios: dict[str, float], targets: list[list[Any]]) -> str:
    """What was measured against each target."""
    return ", ".join(
        target(against, ratios[against]) for against, _, _ in targets if against in ratios
    )


def main_table() -> str:
    """Ours by the default backend, beside the best peer and the limits of memory."""
    lines = []
    for row in load("table")["rows"]:
        first = row["ours"][0]["word"]
        for ours in row["ours"]:
            if ours["word"] != first:
                continue
            name = f"{row['row']}, {ours['mode']}" if ours["mode"] else row["row"]
            peer = ours["best peer"]
            beside = f"{ms(row['peers'][peer])} ({peer})" if peer else ""
            targets = ours["targets"]
            cells = [", ".join(target(a, t[k]) for a, *t in targets) for k in (0, 1)]
            verdict = ours["verdict"] if targets else ""
            lines.append(
                line(
                    name, ms(ours["ms"]), beside, reached(ours["ratios"], targets), *cells, verdict
                )
            )
    header = ["Workload", "fastxent", "best peer", "measured", "*must*", "*aim*", "reached"]
    return table(header, lines)


def backends_table() -> str:
    """Every backend and instruction set, times as fast as two peers."""
    results = load("table")["rows"]
    words = list(dict.fromkeys(ours["word"] for row in results for ours in row["ours"]))
    lines = []
    for row in results:
        modes = {o["word"]: o for o in row["ours"][::-1]}  # the first of each: into a given array
        cells = [ms(modes[w]["ms"]) if w in modes else "" for w in words]
        peers = [ms(row["peers"][p]) if p in row["peers"] else "" for p in ("torch", "SciPy")]
        lines.append(line(row["row"], *cells, *peers))
    return table(["Workload", *(f"`{w}`" for w in words), "torch", "SciPy"], lines)


def peers_table() -> str:
    """All peers."""
    results = load("table")["rows"]
    names = list(dict.fromkeys(name for row in results for name in row["peers"]))
    lines = []
    for row in results:
        limit = row["limit"]
        bound = f"{ms(limit['ms'])} ({limit['kind']})" if limit else ""
        cells = [ms(row["peers"][name]) if name in row["peers"] else "" for name in names]
        lines.append(line(row["row"], bound, *cells))
    return table(["Workload", "limit of memory", *names], lines)


def odd_table() -> str:
    """Sizes around powers of two, and views that begin anywhere."""
    found = load("scaling")["odd"]
    offsets = sorted({m[2] for m in found})
    lines = []
    for classes in dict.fromkeys(m[1] for m in found):
        cells = []
        for offset in offsets:
            one = [m[4] for m in found if m[1:4] == [classes, offset, 1]]
            cells.append(" / ".join(f"{v:.3g}" for v in one))
        lines.append(line(classes, *cells))
    return table(["classes", *(f"offset {4 * o} bytes" for o in offsets)], lines)


def history() -> Any:
    """What asv measured of some commits; of none, where nothing was recorded."""
    if (RESULTS / "history.json").exists():
        return load("history")
    return {"machine": "", "commits": [], "times": {}}


def history_table() -> str:
    """Times over the commits, as asv kept them."""
    found = history()
    commits = found["commits"]
    if not commits:
        return "No history has been recorded on a quiet machine yet.\n"
    lines = []
    for name, times in found["times"].items():
        lines.append(line(name, *("" if t is None else ms(t * 1e3) for t in times)))
    header = ["Call", *(f"`{c['hash']}`, {c['date']}" for c in commits)]
    return f"Machine: {found['machine']}.\n\n{table(header, lines)}"


def machine() -> str:
    """Where and when."""
    found = load("table")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    noise = sorted(row["noise"] for row in found["rows"])
    busy = statistics.median(row["others"] for row in found["rows"])
    return (
        f"Machine: {found['machine']}. Date: {found['date']}. Python {found['python']}; {versions}."
        f" The same call timed as two contenders differs by {noise[len(noise) // 2]:.1%} (median "
        f"of the rows; at most {noise[-1]:.1%}). Other processes used {busy:.1f} processors "
        "meanwhile (median): where that is much, times are too long and ratios rough.\n"
    )


def growth(figure: Any, kind: str, column: int, name: str) -> None:
    """Draw nanoseconds per logit against a column of ``scaling.json``."""
    axes = figure.subplots()
    for threads, style in ((1, "-"), (2, "--")):
        found = [m for m in load("scaling")[kind] if m[3] == threads]
        for k, what in enumerate(("forward", "with gradient")):
            label = f"{what}, {threads} thread{'s' * (threads > 1)}"
            sizes, times = zip(*((m[column], m[4]) for m in found[k::2]))
            axes.loglog(sizes, times, style, color=f"C{k}", label=label)
    axes.set(xlabel=name, ylabel="nanoseconds per logit")
    axes.legend()


def tables() -> dict[str, str]:
    """File -> text, for the page."""
    return {
        "speed_table": main_table(),
        "speed_backends": backends_table(),
        "speed_peers": peers_table(),
        "speed_odd": odd_table(),
        "speed_history": history_table(),
        "speed_machine": machine(),
    }
