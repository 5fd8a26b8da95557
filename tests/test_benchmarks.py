"""The benchmarks' frozen lists against the registries that they copy."""

import ast
import importlib
import pathlib
import sys

import numpy as np
import pytest

from fastxent._backends import BACKENDS
from fastxent._spec import DTYPES, ISAS, SPECS, WORKLOADS

FOLDER = pathlib.Path(__file__).parents[1] / "asv_bench"


@pytest.fixture(scope="module")
def benchmarks():
    """Name -> module of the benchmarks, imported as asv does it."""
    sys.path.insert(0, str(FOLDER))
    try:
        names = ("frozen", "contenders", "speed", "memory", "accuracy", "start")
        yield {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    finally:
        sys.path.remove(str(FOLDER))


def test_lists_are_those_of_the_registry(benchmarks):
    frozen = benchmarks["frozen"]
    assert {name: spec.family for name, spec in SPECS.items()} == frozen.FUNCTIONS
    assert WORKLOADS == frozen.WORKLOADS
    assert set(DTYPES) == set(frozen.DTYPES)
    assert set(frozen.PEERS) <= set(benchmarks["contenders"].PEERS)


def test_backends_are_those_of_the_registry(benchmarks):
    known = {w.partition(":")[0]: set() for w in benchmarks["frozen"].BACKENDS}
    for word in benchmarks["frozen"].BACKENDS:
        name, _, isa = word.partition(":")
        known[name].add(isa)
    assert set(BACKENDS) <= set(known)
    assert known["cython"] == set(ISAS)
    assert all(known[name] == {""} for name in known if name != "cython")


def test_every_list_is_run_over(benchmarks):
    """Each function, workload and dtype is a parameter of the benchmarks."""
    frozen, speed, memory = (benchmarks[n] for n in ("frozen", "speed", "memory"))
    for cases in (frozen.CASES, frozen.FEW_CASES):
        assert {case.split()[0] for case in cases} <= set(WORKLOADS)
        assert {case.split()[1] for case in cases} == set(DTYPES)
        assert {f"{workload} float32" for workload in WORKLOADS} <= set(cases)
    losses = {name for name, spec in SPECS.items() if spec.is_loss}
    timed = [*speed.Loss.params[0], *speed.OtherLoss.params[0]]
    assert sorted(timed) == sorted(losses)
    assert speed.LossWithGrad.params == speed.Loss.params
    assert speed.OtherLossWithGrad.params == speed.OtherLoss.params
    without = {*speed.Normalizer.params[0], *speed.Activation.params[0]}
    assert without == set(SPECS) - losses
    assert set(memory.Loss.params[0]) == set(memory.LossWithGrad.params[0]) == losses
    assert set(memory.Function.params[0]) == set(SPECS) - losses
    accuracy = benchmarks["accuracy"]
    tracked = [accuracy.Normalizer, accuracy.Loss, accuracy.Other]
    assert sorted(n for c in tracked for n in c.params[0]) == sorted(SPECS)
    tracked = [accuracy.LossWithGrad, accuracy.OtherWithGrad]
    assert sorted(n for c in tracked for n in c.params[0]) == sorted(losses)


def test_every_benchmark_runs_on_every_backend(benchmarks):
    """And each kind is there: time, memory, error, share of the limit, import, first call."""
    backends = set(benchmarks["frozen"].BACKENDS)
    kinds = set()
    for module in benchmarks.values():
        for benchmark in vars(module).values():
            names = [n for n in dir(benchmark) if n.startswith(("time", "peakmem_", "track_"))]
            if not isinstance(benchmark, type) or benchmark.__name__[0] == "_" or not names:
                continue
            kinds |= {(benchmark.__name__, name) for name in names}
            if benchmark.__name__ != "Import":
                assert any(backends <= set(params) for params in benchmark.params), benchmark
    names = {name for _, name in kinds}
    assert names >= {
        "time_forward", "time_gradient", "peakmem_forward", "peakmem_gradient", "track_ulp",
        "track_ulp_gradient", "track_read_fraction", "track_copy_fraction", "timeraw_import",
        "timeraw_first_call",
    }  # fmt: skip


def test_no_entry_twice(benchmarks):
    """A literal list that repeats an entry, or a dict that repeats a key, hides one."""
    tree = ast.parse((FOLDER / "benchmarks" / "frozen.py").read_text())
    for node in ast.walk(tree):
        entries = getattr(node, "keys", None) or getattr(node, "elts", None) or []
        constants = [e.value for e in entries if isinstance(e, ast.Constant)]
        if all(isinstance(c, str) for c in constants):
            assert len(constants) == len(set(constants)), ast.unparse(node)


def _arrays(result):
    """Loss and gradients, one after the other."""
    if isinstance(result, tuple):
        return [a for part in result for a in _arrays(part)]
    return [] if result is None else [result]


@pytest.mark.parametrize("name", SPECS)
def test_ours_and_the_formula_by_hand_do_the_same(benchmarks, name):
    """Otherwise their times are not of the same thing."""
    contenders = benchmarks["contenders"]
    shape, axis = WORKLOADS["32x10"]
    for grad in (False, True)[: 1 + SPECS[name].is_loss]:
        job = contenders.make_job(name, shape, axis, "float64", grad)
        by_hand = contenders.PEERS["NumPy by hand"][1](job)
        assert by_hand is not None
        mine, theirs = contenders.ours(job)(), by_hand()
        for a, b in zip(_arrays(mine), _arrays(theirs), strict=True):
            assert np.shape(a) == np.shape(b)
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
