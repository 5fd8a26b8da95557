from typing import Any, final

import numpy as np

Array = np.ndarray[Any, Any]

@final
class Job:
    def __call__(self, first: int, stop: int, block: int = 0) -> None: ...

def normalize(
    x: Array,
    mask: Array | None,
    kind: str,
    out: Array | None,
    stats: Array | None,
    phase: int,
    begin: int,
    end: int,
    stream: bool,
) -> Job: ...
def rows_index(
    x: Array,
    y: Array,
    mask: Array | None,
    u: Array | None,
    g: Array | None,
    w: Array | None,
    e: float,
    t: float,
    loss: Array | None,
    total: Array | None,
    grad: Array | None,
    stats: Array | None,
    scale: float,
    ignore: int | None,
    phase: int,
    begin: int,
    end: int,
    stream: bool,
) -> Job: ...
def rows_dense(
    x: Array,
    q: Array,
    mask: Array | None,
    u: Array | None,
    g: Array | None,
    w: Array | None,
    e: float,
    t: float,
    loss: Array | None,
    total: Array | None,
    grad: Array | None,
    stats: Array | None,
    scale: float,
    phase: int,
    begin: int,
    end: int,
    stream: bool,
) -> Job: ...
def labels(
    y: Array, u: Array | None, w: Array | None, ignore: int | None, num_classes: int
) -> tuple[bool, float, int]: ...
