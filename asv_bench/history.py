"""Measure some commits by asv, and condense its results to what the documentation shows.

    python asv_bench/history.py asv_bench/results/history.json "2-core Granite Rapids" [COMMIT ...]

asv builds each COMMIT in an environment of its own (some minutes, once) and runs the calls
below (a minute); what it has measured before stays.  For each commit that was measured,
the file has the median of the samples of each call.
"""

import datetime
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

#: Benchmark -> what its calls are called.
SHOWN = {
    "speed.Loss.time_forward": "",
    "speed.LossWithGrad.time_gradient": ", gradient",
    "speed.OtherLoss.time_forward": "",
    "speed.OtherLossWithGrad.time_gradient": ", gradient",
}
CONTENDER = "cython:v4"

#: What is measured of a commit, as regular expressions of asv.
MEASURED = (
    r"speed\.Loss(WithGrad)?\..*'sparse_softmax_cross_entropy', 'cython:v4', '.* float32'",
    r"speed\.OtherLoss(WithGrad)?\..*'(sigmoid_cross_entropy|nce_loss)', 'cython:v4', "
    r"'(32x10|4096x1000) float32'",
)


def times(result):
    """Name -> seconds, of one file of results."""
    found = {}
    columns = result["result_columns"]
    for benchmark, ending in SHOWN.items():
        record = dict(zip(columns, result["results"].get(benchmark, []), strict=False))
        for values, parameters in zip(
            record.get("result") or [], itertools.product(*record.get("params", [])), strict=False
        ):
            function, contender, case = (p.strip("'") for p in parameters)
            if contender == CONTENDER and values is not None and not math.isnan(values):
                found[f"{function} {case}{ending}"] = float(f"{values:.3g}")
    return found


def main(target, machine, *commits):
    asked = [word for text in MEASURED for word in ("-b", text)]
    for commit in commits:
        command = [sys.executable, "-m", "asv", "run", *asked, f"{commit}^!"]
        done = subprocess.run(command, cwd=HERE, stdout=subprocess.DEVNULL)
        if done.returncode not in (0, 2):  # 2: an old commit lacks some of it
            sys.exit(f"asv could not measure {commit}")
    runs = {}
    for path in HERE.glob(".asv/results/*/*.json"):
        result = json.loads(path.read_text())
        if "commit_hash" in result:
            runs.setdefault(result["commit_hash"], {}).update(times(result))
    runs = {commit: found for commit, found in runs.items() if found}
    command = ["git", "log", "--format=%H %ct", "--all"]
    log = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout
    dates = dict(line.split() for line in log.splitlines())
    order = sorted(runs, key=lambda commit: int(dates[commit]))
    names = dict.fromkeys(name for commit in order for name in runs[commit])
    day = datetime.date.fromtimestamp
    history = {
        "machine": machine,
        "commits": [{"hash": c[:8], "date": day(int(dates[c])).isoformat()} for c in order],
        "times": {name: [runs[c].get(name) for c in order] for name in names},
    }
    Path(target).write_text(json.dumps(history, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
