"""Older processors under emulation: offered only what they can run, with the right answers."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64"),
    pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu-x86_64"),
]

#: processor -> the words that it must be offered
PROCESSORS = {
    "Nehalem": ("cython:baseline", "numpy"),
    "SandyBridge": ("cython:baseline", "numpy"),
    "Haswell": ("cython:v3", "cython:baseline", "numpy"),
    "EPYC-Rome": ("cython:v3", "cython:baseline", "numpy"),
}

CODE = """
import numpy as np
import fastxent as fx
from fastxent._backends import words
# Numba compiles for minutes under emulation, and asks the processor by itself.
words = [word for word in words() if word != "numba"]
print(*words)
for dtype in ("float16", "float32", "float64"):
    x = np.array([[0, -20, -25], [3, 1, -3]], dtype)
    for word in words:
        with fx.config(backend=word):
            loss, grad = fx.sparse_softmax_cross_entropy_with_grad(x, np.array([0, 2]))
            assert abs(loss[0] / 2.0750415730e-09 - 1) < 3e-6, (dtype, word, loss)
            assert abs(loss[1] / 6.12910890882985 - 1) < 1e-6, (dtype, word, loss)
            p = np.exp(np.float64(x[1]) - 3.12910890882985)
            assert np.allclose(grad[1], p - [0, 0, 1], atol=1e-3), (dtype, word, grad)
            big = np.tile(x, (3000, 30)) if dtype == "float32" else np.tile(x, (3, 30))
            assert np.allclose(fx.softmax(big).astype(float).sum(1), 1, atol=3e-2)
"""


@pytest.mark.parametrize("processor", PROCESSORS)
def test_processor(processor):
    env = {k: v for k, v in os.environ.items() if not k.startswith("FASTXENT_")}
    done = subprocess.run(
        ["qemu-x86_64", "-cpu", processor, sys.executable, "-P", "-c", CODE],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(PROCESSORS[processor])
