#!/usr/bin/env python3
"""Print the version for the build, without importing the package."""

import re
from pathlib import Path

source = Path(__file__).parents[1] / "fastxent" / "_version.py"
print(re.search(r'^__version__ = "(.+)"$', source.read_text(encoding="utf-8"), re.M)[1])
