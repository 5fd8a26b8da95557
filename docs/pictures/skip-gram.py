"""The losses of the skip-gram page and the vectors of its pairs: of the code on the page itself."""

import doctest
from functools import cache
from pathlib import Path

import numpy as np

SIZE = 7.2, 3.6
ALT = (
    "Left, the loss of skip-gram training rises a little and then falls, ever more slowly. Right, "
    "twenty words as points in a plane, each joined to its partner by a line: the lines are short, "
    "and pairs that have to do with one another, as client, server and host, port, are close."
)


@cache
def trained():
    """Run the code of the page; its names."""
    page = Path(__file__).parents[1] / "examples" / "skip-gram.md"
    names = {}
    for example in doctest.DocTestParser().get_examples(page.read_text()):
        exec(example.source, names)
    return names


def draw(figure):
    """Losses, averaged over 100 steps, and the first two principal components."""
    found = trained()
    left, right = figure.subplots(1, 2)
    losses = np.array(found["losses"])
    losses = losses[: losses.size // 100 * 100].reshape(-1, 100).mean(axis=1)
    left.plot(100 * np.arange(1, losses.size + 1), losses)
    left.set(title="loss", xlabel="step")
    at = np.array([[found["number"][w] for w in pair] for pair in found["named"]])
    points = found["unit"][at].reshape(-1, found["unit"].shape[1])
    points = points - points.mean(axis=0)
    plane = np.linalg.svd(points, full_matrices=False)[2][:2].T
    for k, (pair, ends) in enumerate(zip(found["named"], (points @ plane).reshape(-1, 2, 2))):
        right.plot(*ends.T, marker="o", markersize=3, linewidth=1, color=f"C{k % 5}")
        place = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 7}
        right.annotate(", ".join(pair), ends.mean(axis=0), **place)
    right.margins(0.3, 0.2)
    right.set(title="word vectors", xticks=[], yticks=[])
