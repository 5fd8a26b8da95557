"""Largest errors in float32, ours and the frameworks', as ``build_tools/error_table.py`` wrote."""

import json
from pathlib import Path

import numpy as np

SIZE = 7.2, 4.2
ALT = (
    "Largest error on a logarithmic scale, for four outputs and five libraries. fastxent stays "
    "near or below one unit in the last place; for the loss of confident rows the others reach millions "
    "of units, which means that no digit is right."
)
OUTPUTS = "logsumexp", "sparse CE", "... entry of the label", "dense CE"
MARKERS = "o", "s", "^", "D", "v"


def draw(figure):
    """One line of points per output."""
    table = json.loads(Path(__file__).with_suffix(".json").read_text())["float32"]
    rivals = [name for name in table[OUTPUTS[0]] if name != "unit"]
    axes = figure.subplots()
    for k, rival in enumerate(rivals):
        places = np.arange(len(OUTPUTS)) + 0.13 * (k - 2)
        label = "fastxent" if ":" in rival else rival
        values = [table[output][rival] for output in OUTPUTS]
        axes.semilogx(values, places, MARKERS[k], color=f"C{k}", label=label)
    axes.set_yticks(range(len(OUTPUTS)), OUTPUTS)
    axes.invert_yaxis()
    axes.axvline(2**24, color="C4", linestyle="--", linewidth=1)
    axes.set(xlabel="largest error, units in the last place")
    axes.legend(loc="upper right")
