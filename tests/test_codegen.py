"""The machine code of each instruction set's build: flags that silently do nothing show here."""

import importlib.util
import platform
import re
import shutil
import subprocess

import pytest

from fastxent._spec import ISAS

pytestmark = [
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs x86-64"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump"),
]


def _code(module):
    spec = importlib.util.find_spec(f"fastxent._cython.{module}")
    assert spec is not None, f"{module} was not built"
    done = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", spec.origin],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def code():
    return {isa: _code(f"_isa_{isa}") for isa in ISAS}


def _count(pattern, text):
    return len(re.findall(pattern, text))


def test_v4_uses_512_bits(code):
    assert _count(r"%zmm\d+", code["v4"]) > 200
    packed = _count(r"vfn?m(?:add|sub)\d+p[sd].*%zmm", code["v4"])
    assert packed > _count(r"vfn?m(?:add|sub)\d+s[sd]", code["v4"])
    assert packed > 100


def test_v3_uses_256_bits_and_no_more(code):
    assert _count(r"%ymm\d+", code["v3"]) > 200
    assert _count(r"%zmm\d+", code["v3"]) == 0
    assert _count(r"%k[0-7]\b", code["v3"]) == 0
    # Without -fno-trapping-math there are three scalar ones to each packed one.
    packed = _count(r"vfn?m(?:add|sub)\d+p[sd].*%ymm", code["v3"])
    assert packed > _count(r"vfn?m(?:add|sub)\d+s[sd]", code["v3"])
    assert packed > 100


def test_baseline_uses_128_bits_and_no_more(code):
    assert _count(r"%[yz]mm\d+", code["baseline"]) == 0
    assert _count(r"\sv[a-z]+[0-9a-z]*\s.*%xmm", code["baseline"]) == 0, "AVX encodings"
    packed = _count(r"\s(?:mul|add|sub)p[sd]\s", code["baseline"])
    assert packed > _count(r"\s(?:mul|add|sub)s[sd]\s", code["baseline"]), "not vectorised"
    assert packed > 100


def _loops(text, most):
    """The code of each backward jump over at most so many instructions."""
    lines = re.findall(r"^ *([0-9a-f]+):\t(.*)$", text, re.MULTILINE)
    at = {int(address, 16): number for number, (address, _) in enumerate(lines)}
    for number, (_, code) in enumerate(lines):
        jump = re.match(r"j\w+ +([0-9a-f]+)", code)
        start = at.get(int(jump[1], 16)) if jump else None
        if start is not None and number - most < start < number:
            yield "\n".join(code for _, code in lines[start : number + 1])


def test_the_scan_keeps_its_sums_in_registers(code):
    scans = [c for c in _loops(code["v4"], 130) if "prefetcht1" in c and "vscalefps" in c]
    assert len(scans) > 10
    for scan in scans:
        assert _count(r"%zmm\d+,(?:-?0x[0-9a-f]+)?\(%r[bs]p\)", scan) == 0, scan


def test_the_cpu_module_runs_anywhere():
    """It is imported before anything is known about the CPU."""
    assert _count(r"%[yz]mm\d+", _code("_cpu")) == 0
    assert _count(r"\sv[a-z]+[0-9a-z]*\s.*%xmm", _code("_cpu")) == 0


def test_no_openmp():
    for module in ("_cpu", *(f"_isa_{isa}" for isa in ISAS)):
        origin = importlib.util.find_spec(f"fastxent._cython.{module}").origin
        done = subprocess.run(["objdump", "-p", origin], capture_output=True, text=True, check=True)
        needed = re.findall(r"NEEDED\s+(\S+)", done.stdout)
        assert not [n for n in needed if "omp" in n]
