"""How sure a classifier is against how often it is right, before and after scaling."""

from importlib.resources import files

import numpy as np

import fastxent as fx

SIZE = 5.4, 4.2
ALT = (
    "How often the classifier is right, against how sure it is, in six groups of pictures. Before "
    "the scaling the points lie above the diagonal; after it, close to it."
)
SHARPNESS = 1.8786  # 1/T, as the page finds it
GROUPS = 6


def draw(figure):
    """One point per group of pictures of like confidence."""
    data = np.load(files("fastxent") / "data" / "digits.npz")
    logits, labels = data["logits"][449:].astype(float), data["labels"][449:]
    axes = figure.subplots()
    axes.plot([0.3, 1], [0.3, 1], color="C4", linewidth=1)
    for name, factor, marker in (("before", 1.0, "o"), ("after", SHARPNESS, "s")):
        p = fx.softmax(factor * logits)
        order = np.argsort(p.max(axis=1))
        right = p.argmax(axis=1) == labels
        groups = np.array_split(order, GROUPS)
        sure = [p.max(axis=1)[group].mean() for group in groups]
        axes.plot(sure, [right[group].mean() for group in groups], marker=marker, label=name)
    axes.set(xlabel="how sure it is", ylabel="how often it is right", xlim=(0.3, 1.02))
    axes.legend()
