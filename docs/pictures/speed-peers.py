"""Times beside the peers', as ``asv_bench/compare.py`` measured them."""

import measured

SIZE = 7.2, 6.4
ALT = (
    "Times of each workload on a logarithmic scale, as points: fastxent and its peers. The table "
    "below has the numbers."
)
SHOWN = ("fastxent", "torch.compile", "torch", "JAX", "SciPy")
MARKERS = "o", "s", "^", "D", "v"


def draw(figure):
    """One line of points per workload."""
    axes = figure.subplots()
    rows = measured.load("table")["rows"]
    for k, name in enumerate(SHOWN):
        points = []
        for place, row in enumerate(rows):
            value = row["ours"][0]["ms"] if name == "fastxent" else row["peers"].get(name)
            if value is not None:
                points.append((value, place))
        if points:
            axes.semilogx(*zip(*points), MARKERS[k], color=f"C{k}", label=name)
    axes.set_yticks(range(len(rows)), [row["row"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="milliseconds")
    axes.legend(loc="upper center", bbox_to_anchor=(0.3, 1.1), ncols=5)
