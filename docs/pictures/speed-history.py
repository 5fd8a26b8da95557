"""Times of a few calls over the commits, as ``asv_bench/history.py`` condensed them."""

import measured

SIZE = 7.2, 3.6
ALT = (
    "Lines of a few calls over the commits that were measured, oldest first: how many times as "
    "long as in the last one each took. The table below has the numbers."
)
SHOWN = {
    "sparse_softmax_cross_entropy 1024x30522 float32": "1024 x 30522",
    "sparse_softmax_cross_entropy 4096x1000 float32, gradient": "4096 x 1000, gradient",
    "sparse_softmax_cross_entropy 65536x10 float32": "65536 x 10",
    "sparse_softmax_cross_entropy 4x21x256x256 float32, gradient": "class axis 1, gradient",
    "sparse_softmax_cross_entropy 32x10 float32": "32 x 10, the whole call",
}


def draw(figure):
    """One line per call."""
    axes = figure.subplots()
    found = measured.history()
    commits = [commit["hash"] for commit in found["commits"]]
    for k, (name, label) in enumerate(SHOWN.items()):
        times = found["times"].get(name, [])
        points = [(c, t / times[-1]) for c, t in zip(commits, times) if t and times[-1]]
        if points:
            axes.semilogy(*zip(*points), "o-", color=f"C{k}", label=label)
    axes.set(xlabel="commit", ylabel="time, in that of the last commit")
    if commits:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "nothing recorded yet", ha="center", transform=axes.transAxes)
