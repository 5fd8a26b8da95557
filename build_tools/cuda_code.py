"""Compile the CUDA kernels to machine code, without a GPU, and say what came out.

    python build_tools/cuda_code.py [--json | --docs] [--only WORD]... [--arch sm_90]...

Needs numba-cuda and, from wheels, libNVVM, NVRTC and ptxas (nvidia-nvvm, nvidia-cuda-nvrtc,
nvidia-cuda-nvcc), of one version. libNVVM makes PTX for sm_75, the oldest architecture, and
ptxas machine code for each. ``--docs`` writes the table into ``docs/internals/cuda.md``, which a
test compares with what comes out.
"""

import argparse
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import types

ARCHES = ("sm_75", "sm_80", "sm_90", "sm_100")
_CC = (7, 5)


def find_ptxas():
    """The ptxas of the nvidia-cuda-nvcc wheel; None without it."""
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations if spec else ():
        for path in sorted(pathlib.Path(root).rglob("ptxas*")):
            if path.is_file() and path.stem == "ptxas":
                return path
    return None


def missing():
    """Why nothing can be compiled here; empty if it can."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    if find_ptxas() is None:
        return "ptxas is not installed (nvidia-cuda-nvcc)"
    from numba.cuda.cudadrv import nvvm

    try:
        nvvm.NVVM()
    except Exception as error:
        return f"libNVVM does not load ({error})"
    return ""


def kernels():
    """Every kernel by name, with its signature and whether it computes in float32."""
    from numba import types as t

    from fastxent._cuda import _entries, _rows, _small, _vectors

    def signature(integers, reals=0, kind=t.float64):
        tuples = [t.UniTuple(t.int64, integers)]
        if reals:
            tuples.append(t.UniTuple(kind, reals))
        return t.void(*tuples)

    for name, made in _rows.KERNELS.items():
        real = t.float64 if name == "float64" else t.float32
        rows = signature(_rows.INTEGERS, _rows.REALS, real)
        yield f"rows, plain, {name}", made.plain, rows, real is t.float32
        yield f"rows, general, {name}", made.general, rows, real is t.float32
        if name in ("float32", "float64"):
            yield f"merge, {name}", made.merge, signature(_rows.INTEGERS), real is t.float32
    for (name, wide), made in _entries.KERNELS.items():
        real = t.float64 if name == "float64" else t.float32
        signed = signature(_entries.INTEGERS, _entries.REALS, real)
        title = f"entries, {name}" + ", labels in float64" * wide
        yield title, made, signed, real is t.float32 and not wide
    yield "labels", _small.labels, signature(_small.INTEGERS), False
    yield "sums", _small.sums, signature(_small.SUM_INTEGERS), False
    yield "close", _small.close, signature(_small.SUM_INTEGERS, 2), False
    yield "shares", _small.shares, signature(_small.S_INTEGERS, 1), False
    slopes = signature(_small.V_INTEGERS, 3)
    yield "slopes to pos_weight", _small.pos_weight_slopes, slopes, False
    yield "row sums", _small.row_sums, signature(_small.R_INTEGERS), False
    yield "pick", _small.pick, signature(_small.P_INTEGERS, 1), False
    for name, made in _vectors.KERNELS.items():
        single = name == "float32"
        yield f"move, {name}", made.move, signature(_vectors.M_INTEGERS), single
        yield f"dots, {name}", made.dots, signature(_vectors.D_INTEGERS), single
        yield f"scatter, {name}", made.scatter, signature(_vectors.A_INTEGERS), single
    yield "column sums", _vectors.column_sums, signature(_vectors.C_INTEGERS), False
    yield "strike", _vectors.strike, signature(_vectors.S_INTEGERS), False
    yield "live", _vectors.live, signature(_vectors.L_INTEGERS), False


def compile_all(only=(), arches=ARCHES):
    """Yield a record for each kernel and architecture."""
    # Device functions ask for the current device when they are compiled; there is none.
    import numba.cuda.dispatcher
    from numba import cuda

    numba.cuda.dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=_CC)
    ptxas = find_ptxas()
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "kernel.ptx"
        for name, kernel, signature, single in kernels():
            if only and not any(word in name for word in only):
                continue
            ptx, _ = cuda.compile(kernel.py_func, signature, device=False, abi="numba", cc=_CC)
            source.write_text(ptx)
            doubles = re.findall(r"^\s*(?:@\S+\s+)?(\S*[.]f64\S*)\s", ptx, re.M)
            running = [
                subprocess.Popen(
                    [ptxas, "-v", f"-arch={arch}", source, "-o", source.with_suffix(f".{arch}")],
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for arch in arches
            ]
            for arch, job in zip(arches, running):
                said = job.communicate()[1]
                if job.returncode:
                    raise SystemExit(f"{name}, {arch}: {said}")
                frame, stores, loads = re.search(
                    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
                    said,
                ).groups()
                yield {
                    "kernel": name,
                    "arch": arch,
                    "registers": int(re.search(r"Used (\d+) registers", said)[1]),
                    "stack": int(frame),
                    "spills": int(stores) + int(loads),
                    "atomics": len(re.findall(r"\b(?:atom|red)[.]", ptx)),
                    "local": len(re.findall(r"\b(?:ld|st)[.]local", ptx)),
                    "single": single,
                    # Loads and conversions of arguments that are float64 are no arithmetic.
                    "doubles": sorted(
                        {d for d in doubles if not re.match(r"ld[.]global|cvt[.]rn[.]f32[.]f64", d)}
                    ),
                    "vector_loads": len(re.findall(r"ld[.]global\S*[.]v[24]", ptx)),
                    "vector_stores": len(re.findall(r"st[.]global\S*[.]v[24]", ptx)),
                }


def table(records):
    """The records as a Markdown table, an architecture a column."""
    arches = list(dict.fromkeys(r["arch"] for r in records))
    yield "| kernel | " + " | ".join(arches) + " | vector loads | vector stores |"
    yield "|---" * (len(arches) + 3) + "|"
    for name in dict.fromkeys(r["kernel"] for r in records):
        own = [r for r in records if r["kernel"] == name]
        numbers = " | ".join(str(r["registers"]) for r in own)
        yield f"| {name} | {numbers} | {own[0]['vector_loads']} | {own[0]['vector_stores']} |"


PAGE = pathlib.Path(__file__).parent.parent / "docs" / "internals" / "cuda.md"


def in_page():
    """The page's table: what is before it, its lines, what is after it."""
    lines = PAGE.read_text().splitlines()
    mine = [k for k, line in enumerate(lines) if line.startswith("|")]
    return lines[: mine[0]], lines[mine[0] : mine[-1] + 1], lines[mine[-1] + 1 :]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--arch", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        sys.exit(77)
    records = list(compile_all(options.only, options.arch or ARCHES))
    if options.docs:
        before, _, after = in_page()
        PAGE.write_text("\n".join([*before, *table(records), *after, ""]))
    print(json.dumps(records) if options.json else "\n".join(table(records)))


if __name__ == "__main__":
    main()
