"""Largest errors in float32, ours and the frameworks', as ``build_tools/error_table.py`` wrote."""

import json
from pathlib import Path

import numpy as np

SIZE = 7.2, 4.2
ALT = (
    "Largest error on a logarithmic scale, for four outputs and five libraries. fastxent stays "
    "below 1 unit in the last place for logsumexp and near 30 for losses; the others lie "
    "near 1.5 for logsumexp, and for losses at 17 million, where no digit is right."
)
OUTPUTS = {
    "logsumexp": "logsumexp",
    "sparse CE": "sparse loss",
    "... entry of the label": "its gradient\nat the label",
    "dense CE": "dense loss",
}
MARKERS = "o", "s", "^", "D", "v"


def draw(figure):
    """One line of points per output."""
    table = json.loads(Path(__file__).with_suffix(".json").read_text())["float32"]
    rivals = [name for name in table["logsumexp"] if name != "unit"]
    axes = figure.subplots()
    for k, rival in enumerate(rivals):
        places = np.arange(len(OUTPUTS)) + 0.13 * (k - 2)
        label = "fastxent" if ":" in rival else rival
        values = [table[output][rival] for output in OUTPUTS]
        axes.semilogx(values, places, MARKERS[k], color=f"C{k}", label=label)
    axes.set_yticks(range(len(OUTPUTS)), OUTPUTS.values())
    axes.invert_yaxis()
    axes.axvline(2**24, color="C4", linestyle="--", linewidth=1)
    axes.set(xlabel="largest error, units in the last place")
    axes.legend(loc=(0.58, 0.62))
