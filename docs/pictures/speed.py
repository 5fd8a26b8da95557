"""Times of the recorded speed table: this library, the frameworks and the limit of memory.

The record holds the rows of sparse cross entropy from what ``asv_bench/compare.py --json`` writes.
"""

import json
from pathlib import Path

SIZE = 7.2, 3.8
ALT = (
    "Bars of milliseconds in six panels, forward and with gradient for three shapes. In each, "
    "fastxent is nearest to the limit of memory; the best of the others takes 1.8 to 5.6 times as "
    "long without and 3 to 7 times as long with gradient."
)
PEERS = "JAX", "torch.compile", "torch"


def record():
    """Yield (shape, gradient?, {name: milliseconds}) of each recorded row, best rounds."""
    for row in json.loads(Path(__file__).with_suffix(".json").read_text())["rows"]:
        _, shape, what = row["row"].split()
        times = {}
        for key, timed in row["times"].items():
            kind, _, rest = key.partition("|")
            name = {"limit": "limit", "peer": rest.removesuffix(" func")}.get(
                kind, "fastxent, in place" if rest == "in place" else "fastxent"
            )
            if rest != "fresh" and not rest.endswith("again"):
                times[name] = min(timed["minimum"] * 1e3, times.get(name, 1e9))
        yield shape.replace("x", " x "), what == "gradient", times


def draw(figure):
    """One panel per shape and direction."""
    rows = sorted(record(), key=lambda row: row[1])
    shapes = list(dict.fromkeys(shape for shape, _, _ in rows))
    panels = figure.subplots(2, len(shapes), sharey=True)
    present = {name for _, _, times in rows for name in times}
    names = [name for name in ("limit", "fastxent", *PEERS) if name in present]
    for shape, grad, times in rows:
        axes = panels[int(grad), shapes.index(shape)]
        shown = [name for name in names if name in times]
        bars = axes.barh(
            [names.index(name) for name in shown],
            [times[name] for name in shown],
            color=[{"limit": "C4", "fastxent": "C0"}.get(name, "C1") for name in shown],
        )
        axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=8)
        axes.set_title(f"{shape}{', with gradient' if grad else ''}", fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.margins(x=0.2)
        axes.grid(axis="y", visible=False)
    panels[0, 0].invert_yaxis()
    figure.supxlabel("milliseconds", fontsize=10)
