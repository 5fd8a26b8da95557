from typing import Any, final

import numpy as np
from typing_extensions import disjoint_base

_Array = np.ndarray[Any, Any]

DIRECT: object
RUN: object
SMALL_CLASSES: int

@disjoint_base
class Arrays:
    def __call__(
        self, first: int, stop: int, block: int = 0, room: _Array | None = None
    ) -> None: ...
    @staticmethod
    def sweep(
        jobs: list[Any], rows: int, step: int, threads: int, room: _Array | None
    ) -> list[Any]: ...

@final
class Job(Arrays): ...

@final
class EntriesJob(Arrays): ...

def normalize(
    x: _Array,
    mask: _Array | None,
    kind: str,
    out: _Array | None,
    stats: _Array | None,
    phase: int,
    begin: int,
    end: int,
    stream: bool,
) -> Job: ...
def rows_index(
    x: _Array,
    y: _Array,
    mask: _Array | None,
    u: _Array | None,
    g: _Array | None,
    w: _Array | None,
    e: float,
    t: float,
    loss: _Array | None,
    total: _Array | None,
    grad: _Array | None,
    stats: _Array | None,
    scale: float,
    ignore: int | None,
    phase: int,
    begin: int,
    end: int,
    stream: bool,
) -> Job: ...
def rows_dense(
    x: _Array,
    q: _Array,
    mask: _Array | None,
    u: _Array | None,
    g: _Array | None,
    w: _Array | None,
    e: float,
    t: float,
    loss: _Array | None,
    total: _Array | None,
    grad: _Array | None,
    stats: _Array | None,
    scale: float,
    phase: int,
    begin: int,
    end: int,
    stream: bool,
) -> Job: ...
def elements(
    x: _Array,
    z: _Array | None,
    u: _Array | None,
    g: _Array | None,
    pw: _Array | None,
    e: float,
    kind: str,
    loss: _Array | None,
    total: _Array | None,
    grad: _Array | None,
    scale: float,
    stream: bool,
) -> EntriesJob: ...
def labels(
    y: _Array, u: _Array | None, w: _Array | None, ignore: int | None, num_classes: int
) -> tuple[bool, float, int]: ...

@final
class SampledJob(Arrays): ...

def sampled_logits(
    x: _Array,
    w: _Array,
    ids: _Array,
    turned: _Array,
    shift: _Array,
    shared: _Array,
    logits: _Array,
) -> SampledJob: ...
def sampled_gradients(
    x: _Array,
    w: _Array,
    ids: _Array,
    sampled: _Array,
    slopes: _Array,
    d_x: _Array,
    d_rows: _Array,
    sums: _Array,
    slope_sums: _Array | None,
) -> SampledJob: ...
def awaken(threads: int) -> None: ...
