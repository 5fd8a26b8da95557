"""Time until the first result, each in a fresh Python."""

import importlib.util
from pathlib import Path

from .contenders import require
from .frozen import CONTENDERS

HERE = str(Path(__file__).parents[1])

PREPARE = """
import sys
sys.path.insert(0, {here!r})
from benchmarks import contenders
if {cold}:
    contenders.forget_compiled()
job, call = contenders.prepare(
    {contender!r}, "sparse_softmax_cross_entropy", "4096x1000", "float32", True
)
"""


class Import:
    """On top of ``import numpy``; and NumPy itself, for comparison."""

    version = "1"
    number = 1
    param_names = ("module",)
    params = (("fastxent", "numpy", "scipy.special", "torch", "jax", "tensorflow"),)

    def setup(self, module):
        if importlib.util.find_spec(module.split(".")[0]) is None:
            raise NotImplementedError(f"{module} is not installed")

    def timeraw_import(self, module):
        return f"import {module}", "" if module == "numpy" else "import numpy"


class FirstCall:
    """The first call of sparse_softmax_cross_entropy_with_grad, 4096 x 1000, float32.

    Everything is imported and the arrays exist.  "warm": what compilers have kept on
    disk may be used; "cold": they start with an empty folder.
    """

    version = "1"
    number = 1
    repeat = 3
    timeout = 600
    param_names = ("contender", "cache")
    params = (CONTENDERS, ("warm", "cold"))

    def setup(self, contender, cache):
        require(contender)

    def timeraw_first_call(self, contender, cache):
        return "call()", PREPARE.format(here=HERE, contender=contender, cold=cache == "cold")
