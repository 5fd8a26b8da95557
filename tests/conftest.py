"""Fixtures made from the registries: a new function, backend or dtype is tested by existing.

Test ids are coordinates: ``test_value[sparse_softmax_cross_entropy-cython:v4-float32-strided]``.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))

import pytest
from layouts import LAYOUTS, possible

import fastxent as fx
from fastxent._backends import words
from fastxent._spec import DTYPES, SPECS


def of(*families):
    return tuple(name for name, spec in SPECS.items() if spec.family in families)


NORMALIZERS = of("normalizer")
UNLABELLED = of("normalizer", "activation")
ROW_LOSSES = of("index", "dense", "picked")
LOSSES = (*ROW_LOSSES, *of("binary"))

#: fixture name -> its values, in the order in which they form a test's id
COORDINATES = {
    "name": UNLABELLED + LOSSES,
    "row_name": NORMALIZERS + ROW_LOSSES,
    "loss": LOSSES,
    "row_loss": ROW_LOSSES,
    "softmax_loss": of("index", "dense"),
    "unlabelled": UNLABELLED,
    "normalizer": NORMALIZERS,
    "activation": of("activation"),
    "index_loss": of("index"),
    "indexed_loss": of("index", "picked"),
    "dense_loss": of("dense"),
    "binary_loss": of("binary"),
    "backend": words(),
    "compiled": tuple(w for w in words() if w != "numpy"),
    "dtype": DTYPES,
    "layout": tuple(LAYOUTS),
}


def pytest_sessionstart():
    """Compile once, here: the tests' processes then only read the cache."""
    for name in dict.fromkeys(word.split(":")[0] for word in words()):
        with fx.config(backend=name):
            fx.warmup("float32", "float64")


def pytest_generate_tests(metafunc):
    wanted = [c for c in COORDINATES if c in metafunc.fixturenames]
    own = {
        arg.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for arg in (mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0])
    }
    wanted = [c for c in wanted if c not in own]
    if {"layout", "dtype"} <= set(wanted):
        pairs = [
            pytest.param(d, lay, id=f"{d}-{lay}")
            for d in DTYPES
            for lay in LAYOUTS
            if possible(lay, d)
        ]
        wanted = [c for c in wanted if c not in ("layout", "dtype")]
    else:
        pairs = None
    for c in wanted:
        metafunc.parametrize(c, COORDINATES[c], indirect=c in ("backend", "compiled"))
    if pairs:
        metafunc.parametrize(("dtype", "layout"), pairs)


@pytest.fixture
def backend(request):
    """A backend word; the test runs under it."""
    with fx.config(backend=request.param):
        yield request.param


@pytest.fixture
def compiled(request):
    """A backend word other than the reference's; the test runs under it."""
    with fx.config(backend=request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _same_settings():
    """No test may leave other settings behind."""
    before = fx.get_config()
    yield
    after = fx.get_config()
    fx.set_config(
        backend=f"{before['backend']}:{before['isa']}" if before["isa"] else before["backend"],
        threads=before["threads"],
    )
    keys = ("backend", "isa", "threads")
    assert {k: after[k] for k in keys} == {k: before[k] for k in keys}
