"""``fastxent eval``: the numbers against plain NumPy, every kind of file, every refusal."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import data
import numpy as np
import pytest

import fastxent as fx
from fastxent import __main__ as command
from fastxent import _call, _evaluate
from fastxent._backends import words

BEST = words()[0]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")

#: Everything cut as small as can be, so that a few rows already make many blocks and chunks.
TINY = ((_evaluate, "_ELEMENTS", 64), (_evaluate, "_ROWS", 16), (_evaluate, "_RUN", 8),
        (_call, "_CHUNK", 100), (_call, "_PIECE", 16), (_call, "_LABELS", 4))  # fmt: skip


@pytest.fixture(params=["whole", "cut"])
def cut(request, monkeypatch):
    """Once in one block, once in very many."""
    if request.param == "cut":
        for module, name, value in TINY:
            monkeypatch.setattr(module, name, value)


def numpy_answer(x, y, axis=-1, ignore=None, e=0.0):
    """Mean loss, accuracy and how many rows count, in double precision, all at once."""
    x = np.moveaxis(x.astype(np.float64), axis, -1).reshape(-1, x.shape[axis])
    y = y.reshape(-1)
    x, y = (a if ignore is None else a[y != ignore] for a in (x, y))
    m = x.max(axis=1)
    lse = m + np.log(np.exp(x - m[:, None]).sum(axis=1))
    label = x[np.arange(len(y)), y.astype(np.intp)]
    losses = (1 - e) * (lse - label) + e * (lse - x.mean(axis=1))
    return losses.mean(), (label == m).mean(), len(y)


def save(path, array, version=None):
    with open(path, "wb") as file:
        np.lib.format.write_array(file, array, version=version)
    return str(path)


def evaluate(capsys, *arguments):
    """The command in this process; what it prints as JSON."""
    status = command.main(["eval", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert err == ""
    assert out.count("\n") == 1

    def constant(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(out, parse_constant=constant)


def check(found, expected, rows, rel=1e-6):
    mean, accuracy, counted = expected
    assert found["mean_loss"] == pytest.approx(mean, rel=rel)
    assert found["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    assert found["accuracy"] == accuracy
    assert found["counted"] == counted
    assert found["rows"] == rows
    assert found["hits"] == round(accuracy * counted)
    assert found["loss_sum"] == pytest.approx(mean * counted, rel=rel)


@pytest.fixture
def files(tmp_path):
    """Write logits and labels; the two paths."""

    def write(x, y, version=None):
        return save(tmp_path / "x.npy", x, version), save(tmp_path / "y.npy", y, version)

    return write


# ---- the numbers -----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"ignore": 2}, {"e": 0.1}, {"ignore": 2, "e": 1.0}],
                         ids=["plain", "ignore", "smoothed", "ignore_smoothed"])  # fmt: skip
@pytest.mark.parametrize("shape", [(64, 7), (64, 300)], ids=["few", "many"])
def test_numbers(backend, dtype, shape, options, files, capsys, cut):
    """Hits, misses and ties; the dtype of a bfloat16 file must be said."""
    x = data.logits(*shape, dtype)
    y = data.index_labels(x)
    y[::9] = 2
    paths = files(x, y)
    words = ["--backend", backend]
    words += ["--ignore-index", "2"] if "ignore" in options else []
    words += ["--label-smoothing", options["e"]] if "e" in options else []
    words += ["--dtype", dtype] if dtype == "bfloat16" else []
    found = evaluate(capsys, *paths, *words)
    check(found, numpy_answer(x, y, **options), 64)
    assert found["dtype"] == dtype
    assert found["shape"] == list(shape)
    assert ":".join(filter(None, (found["backend"], found["isa"]))) == backend
    assert found["seconds"] > 0
    assert found["gb_per_second"] == pytest.approx(
        (x.nbytes + y.nbytes) / 1e9 / found["seconds"], rel=1e-9
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("labels_order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((90,), 0), ((2, 400), 1), ((2, 400), 0), ((400, 2), 0), ((40, 30), 0), ((40, 30), -1),
     ((3, 40, 5), 0), ((3, 40, 5), 1), ((3, 40, 5), 2), ((4, 3, 5, 6), 1), ((4, 3, 5, 6), -2)],
)  # fmt: skip
def test_layouts(shape, axis, order, labels_order, files, capsys, cut):
    random = data.rng()
    x = random.standard_normal(shape).round(1).astype(np.float32)
    y = np.asarray(random.integers(0, shape[axis], np.delete(shape, axis)))
    paths = files(np.asarray(x, order=order), np.asarray(y, order=labels_order))
    moved = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    check(evaluate(capsys, *paths, "--axis", axis), numpy_answer(moved, y.ravel()), y.size)


@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", "<u2", "i4", ">u4", "<i8", "u8"])
def test_labels_of_any_integer_dtype(dtype, files, capsys, cut):
    x = data.logits(40, 100, "float32")
    y = data.index_labels(x).astype(dtype)
    expected = numpy_answer(x, y, ignore=int(y[3]))
    check(evaluate(capsys, *files(x, y), "--ignore-index", int(y[3])), expected, 40)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", "i1", ">i2", "u4", "i8", "?"])
def test_other_logits(dtype, files, capsys, cut):
    x = data.logits(40, 30, "float64").clip(0, 100).astype(dtype)
    y = data.index_labels(x)
    check(evaluate(capsys, *files(x, y)), numpy_answer(x, y), 40)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_of_the_format(version, files, capsys):
    x = data.logits(40, 30, "float32")
    y = data.index_labels(x)
    check(evaluate(capsys, *files(x, y, version)), numpy_answer(x, y), 40)


HELD = [
    *((held, name) for held in ("V2", "u2", "i2") for name in ("float16", "bfloat16")),
    *((held, "float16") for held in (">u2", "f2")),
    *((held, "float32") for held in ("V4", "u4", ">u4", "f4")),
    *((held, "float64") for held in ("V8", "i8", ">i8")),
]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("held", "dtype"), HELD)
def test_dtype_says_what_the_elements_are(held, dtype, axis, backend, files, capsys):
    x = data.logits(20, 20, dtype)
    y = data.index_labels(np.moveaxis(x, axis, -1))
    raw = (x.astype(f">f{x.itemsize}") if held[0] == ">" else x).view(held)
    found = evaluate(capsys, *files(raw, y), "--dtype", dtype, "--axis", axis, "--backend", backend)
    check(found, numpy_answer(x, y, axis), 20)


def test_bfloat16_needs_no_other_package(files):
    x = data.logits(40, 300, "bfloat16")
    y = data.index_labels(x)
    code = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "from fastxent.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    for word in words():
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, "eval", *files(x.view("u2"), y), "--json",
             "--dtype", "bfloat16", "--backend", word],
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        check(json.loads(done.stdout), numpy_answer(x, y), 40)


def test_raw_elements_are_bfloat16_to_the_bit(backend):
    x = data.logits(40, 300, "bfloat16")
    y = data.index_labels(x)
    for e in (0.0, 0.1):
        assert _evaluate.evaluate(x.view("V2"), y, label_smoothing=e) == _evaluate.evaluate(
            x, y, label_smoothing=e
        )


def test_a_tie_with_the_label_counts(backend, cut, files, capsys):
    x = np.zeros((50, 4), np.float32)
    x[:, 1] = x[:, 3] = 2
    y = np.arange(50) % 4
    assert evaluate(capsys, *files(x, y), "--backend", backend)["hits"] == 25


@pytest.mark.parametrize("classes", [3, 70, 300])
@pytest.mark.parametrize("axis", [0, 1])
def test_special_rows(backend, cut, classes, axis):
    """A row with a NaN is no hit; one with an infinite maximum at its label is; loss -inf."""
    x = np.zeros((40, classes), np.float32)
    x[:, 0] = 1
    x[3, 2] = np.nan
    x[5, 0] = np.nan
    x[7] = np.nan
    x[9, 0] = np.inf
    x[11, 1:] = -np.inf
    x = x if axis else np.ascontiguousarray(x.T)
    found = _evaluate.evaluate(x, np.zeros(40, int), axis)
    assert math.isnan(found.loss)
    assert (found.counted, found.hits, found.rows) == (40, 37, 40)
    y = np.zeros(40, int)
    y[[3, 5, 7, 9]] = -1
    found = _evaluate.evaluate(x, y, axis, ignore_index=-1)
    assert (found.counted, found.hits) == (36, 36)
    assert found.loss == pytest.approx(35 * (math.log(math.e + classes - 1) - 1), rel=1e-6)


def test_bits_are_the_same_for_any_threads(backend, files, capsys, cut):
    x = data.logits(200, 30, "float32")
    paths = files(x, data.index_labels(x))
    options = ("--backend", backend, "--label-smoothing", 0.1)
    found = [evaluate(capsys, *paths, *options, "--threads", n) for n in (1, 2, 5)]
    assert found[0]["loss_sum"] == found[1]["loss_sum"] == found[2]["loss_sum"]
    assert [f["threads"] for f in found] == [1, 2, 5]


def test_parts_add_up():
    x = data.logits(100, 30, "float64")
    y = data.index_labels(x)
    whole = _evaluate.evaluate(x, y, ignore_index=3)
    parts = _evaluate.evaluate(x[:40], y[:40], ignore_index=3) + _evaluate.evaluate(
        x[40:], y[40:], ignore_index=3
    )
    assert parts[1:] == whole[1:]
    assert parts.loss == pytest.approx(whole.loss, rel=1e-14)


def test_mean_is_that_of_the_library(backend):
    x = data.logits(500, 90, "float64")
    y = data.index_labels(x)
    found = _evaluate.evaluate(x, y)
    loss = fx.sparse_softmax_cross_entropy(x, y, reduction="mean")
    assert found.loss / found.counted == pytest.approx(loss, rel=1e-15)


@pytest.mark.parametrize("labels_order", ["C", "F"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 3])
def test_a_block_is_one_fold(axis, order, labels_order, monkeypatch):
    """Whatever the layout of the labels; many folds would be many short runs."""
    folds = []
    fold = _call._fold
    monkeypatch.setattr(_call, "_fold", lambda *given: folds.append(fold(*given)) or folds[-1])
    x = np.zeros((6, 7, 8, 6), np.float32, order=order)
    y = np.zeros((7, 8, 6) if axis == 0 else (6, 7, 8), int, order=labels_order)
    _evaluate.evaluate(x, y, axis)
    assert [len(found) for found in folds] == [1]


@pytest.mark.parametrize(
    ("shape", "axis"), [((100, 7), 1), ((100, 7), 0), ((6, 50, 4), 1), ((1, 500), 1)]
)
def test_progress(shape, axis, cut):
    told = []
    x = np.zeros(shape, np.float32)
    y = np.zeros(np.delete(shape, axis), int)
    _evaluate.evaluate(x, y, axis, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


# ---- nothing to count ------------------------------------------------------------------


@pytest.mark.parametrize("case", ["no_rows", "all_ignored", "no_inner_rows"])
def test_empty(case, files, capsys):
    x = np.zeros({"no_rows": (0, 5), "all_ignored": (3, 5), "no_inner_rows": (2, 5, 0)}[case])
    y = np.full({"no_rows": (0,), "all_ignored": (3,), "no_inner_rows": (2, 0)}[case], 9)
    paths = files(x, y)
    options = ("--ignore-index", "9", "--axis", "1")
    found = evaluate(capsys, *paths, *options)
    assert found["mean_loss"] == found["perplexity"] == found["accuracy"] == "nan"
    assert found["counted"] == 0
    assert found["rows"] == y.size
    assert command.main(["eval", *paths, *options]) == 0
    out, err = capsys.readouterr()
    lines = dict(line.split(maxsplit=1) for line in out.replace("mean loss", "mean").splitlines())
    assert lines["mean"] == lines["perplexity"] == lines["accuracy"] == "nan"
    assert err == ""


def test_infinite_numbers(files, capsys):
    x = np.zeros((2, 3))
    x[0, 1] = -np.inf
    found = evaluate(capsys, *files(x, np.array([1, 1])))
    assert float(found["mean_loss"]) == float(found["perplexity"]) == math.inf
    found = evaluate(capsys, *files(np.array([[0, 1e4]]), np.array([0])))
    assert found["mean_loss"] == 1e4
    assert found["perplexity"] == "inf"


def test_plain_output(files, capsys):
    x = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1.0, 1.0, 1.0]]))
    paths = files(x, np.array([0, 0, 7]))
    assert command.main(["eval", *paths, "--ignore-index", "7", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    mean = (math.log(2) + math.log(10)) / 2
    for line in (f"mean loss   {mean:.9g}", f"perplexity  {math.exp(mean):.9g}",
                 "accuracy    0.500000", "rows        3, 1 of them ignored",
                 "logits      (3, 3) float64"):  # fmt: skip
        assert line in out.splitlines()
    assert out.splitlines()[-1].endswith(", 1 thread")


# ---- refusals --------------------------------------------------------------------------

X = np.zeros((4, 3), np.float32)
Y = np.zeros(4, np.int64)


def _write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save(path, content)
    return str(path)


def _bytes(array):
    import io

    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _archive():
    import io

    file = io.BytesIO()
    np.savez(file, X)
    return file.getvalue()


def _header(text):
    text = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


BAD_LABEL = np.zeros(4, np.int16)
BAD_LABEL[2] = 3

#: name: (logits, labels, options, what the line must say)
REFUSED = {
    "no_file": (None, Y, [], ["x.npy", "No such file"]),
    "no_labels": (X, None, [], ["y.npy", "No such file"]),
    "archive": (_archive(), Y, [], ["x.npy", ".npz"]),
    "labels_archive": (X, _archive(), [], ["y.npy", ".npz"]),
    "empty_file": (b"", Y, [], ["x.npy", "must be a .npy file"]),
    "other_file": (b"PNG, or so", Y, [], ["x.npy", "must be a .npy file"]),
    "pickle": (b"\x80\x04\x95.", Y, [], ["x.npy", "must be a .npy file"]),
    "objects": (_bytes(np.array([[1, None]])), Y, [], ["x.npy", "Python objects"]),
    "object_labels": (X, _bytes(np.array([1, None])), [], ["y.npy", "Python objects"]),
    "cut_short": (_bytes(X)[:-1], Y, [], ["x.npy", "48 bytes", "got 47", "cut short"]),
    "cut_header": (_bytes(X)[:30], Y, [], ["x.npy", "header"]),
    "only_magic": (_bytes(X)[:6], Y, [], ["x.npy", "header"]),
    "bad_header": (_header("{'descr': '<f4', 'shape': oops}"), Y, [], ["x.npy", "header"]),
    "bad_descr": (
        _header("{'descr': 'zz', 'fortran_order': False, 'shape': (4, 3)}"), Y, [],
        ["x.npy", "header"],
    ),
    "negative_shape": (
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}"), Y, [],
        ["x.npy", "(-1, 3)"],
    ),
    "huge_shape": (
        _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**70}, 3)}}"), Y, [],
        ["x.npy", "cut short"],
    ),
    "version": (b"\x93NUMPY\x09\x00" + bytes(99), Y, [], ["x.npy", "version", "9.0"]),
    "scalar": (np.float32(3), np.array(0), [], ["logits", "axis"]),
    "no_classes": (X[:, :0], Y, [], ["at least one class"]),
    "text": (np.array([["a", "b"]]), Y, [], ["logits", "<U1"]),
    "complex": (X.astype(complex), Y, [], ["logits", "complex128"]),
    "fields": (np.zeros(4, "i2,i2"), Y, [], ["logits"]),
    "shape": (X, Y[:3], [], ["labels", "(4,)", "(3,)"]),
    "axis": (X, Y, ["--axis", "2"], ["axis", "(4, 3)", "2"]),
    "other_axis": (X, Y, ["--axis", "0"], ["labels", "(3,)", "(4,)"]),
    "float_labels": (X, Y.astype(float), [], ["labels", "integers", "float64"]),
    "bool_labels": (X, Y.astype(bool), [], ["labels", "integers", "bool"]),
    "bad_label": (X, BAD_LABEL, [], ["labels", "[0, 3)", "got 3", "position (2)"]),
    "other_ignored": (X, BAD_LABEL, ["--ignore-index", "9"], ["ignore_index=9", "got 3"]),
    "smoothing": (X, Y, ["--label-smoothing", "1.5"], ["label_smoothing", "1.5"]),
    "smoothing_nan": (X, Y, ["--label-smoothing", "nan"], ["label_smoothing", "nan"]),
    "threads": (X, Y, ["--threads", "0"], ["threads", "0"]),
    "backend": (X, Y, ["--backend", "abacus"], ["backend", "abacus", "numpy"]),
    "raw": (X.view("V4"), Y, [], ["x.npy", "4 bytes", "--dtype"]),
    "dtype_of_another_size": (X, Y, ["--dtype", "bfloat16"], ["bfloat16", "2 bytes", "float32"]),
    "dtype_of_float16": (
        X.astype("f2"), Y, ["--dtype", "bfloat16"], ["bfloat16", "float16"]
    ),
    "float32_of_int16": (X.astype("i2"), Y, ["--dtype", "float32"], ["4 bytes", "int16"]),
    "swapped_bfloat16": (X.astype(">u2"), Y, ["--dtype", "bfloat16"], ["byte order"]),
    "fields_as_bfloat16": (np.zeros((4, 3), "i1,i1"), Y, ["--dtype", "bfloat16"], ["2 bytes"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path, capsys):
    logits, labels, options, said = REFUSED[case]
    paths = _write(tmp_path / "x.npy", logits), _write(tmp_path / "y.npy", labels)
    assert command.main(["eval", *paths, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastxent eval: ")
    assert err.count("\n") == 1
    for part in said:
        assert part in err


def test_refused_folder(tmp_path, capsys):
    assert command.main(["eval", str(tmp_path), str(tmp_path)]) == 2
    assert "regular file" in capsys.readouterr().err


@posix
def test_refused_pipe(tmp_path, capsys):
    """Without waiting for a writer."""
    os.mkfifo(tmp_path / "x.npy")
    assert command.main(["eval", str(tmp_path / "x.npy"), str(tmp_path / "x.npy")]) == 2
    assert "regular file" in capsys.readouterr().err


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "axis", "place"),
    [((300, 4), 1, (299,)), ((4, 300), 0, (298,)), ((7, 4, 90), 1, (5, 77)),
     ((7, 90, 4), 2, (6, 13)), ((5, 3, 4, 60), 2, (4, 2, 59))],
)  # fmt: skip
def test_a_bad_label_is_placed_in_the_file(shape, axis, place, order, files, capsys, cut):
    x = np.zeros(shape, np.float32, order=order)
    y = np.zeros(np.delete(shape, axis), np.uint8)
    y[place] = 200
    assert command.main(["eval", *files(x, y), "--axis", str(axis)]) == 2
    err = capsys.readouterr().err
    assert f"[0, 4); got 200 at position ({', '.join(map(str, place))})" in err


@pytest.mark.parametrize("arguments", [["eval"], ["eval", "x"], ["eval", "x", "y", "--axis", "a"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert "usage: fastxent eval" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["eval", "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for word in ("mean loss", "--label-smoothing", "--dtype", "bfloat16", "130", *words()):
        assert word in out
    with pytest.raises(SystemExit):
        command.main(["--help"])
    out = capsys.readouterr().out
    assert "eval" in out
    assert "info" in out


# ---- in a process of its own -----------------------------------------------------------


def start(*arguments, **streams):
    return subprocess.Popen([sys.executable, "-P", "-m", "fastxent", "eval", *arguments], **streams)


def sparse(path, shape, dtype):
    """A file of zeros that takes no room on disk."""
    with open(path, "wb") as file:
        shape = tuple(map(int, shape))
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + math.prod(shape) * np.dtype(dtype).itemsize)
    return str(path)


@posix
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_progress_bar_on_a_terminal_only(terminal, files):
    import pty

    x = data.logits(64, 30, "float32")
    paths = files(x, data.index_labels(x))
    reader, writer = pty.openpty() if terminal else os.pipe()
    process = start(*paths, stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    shown = b""
    try:
        while part := os.read(reader, 4096):
            shown += part
    except OSError:  # the end of a terminal
        pass
    finally:
        os.close(reader)
    out = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0
    assert out.startswith("mean loss")
    if terminal:
        assert b"[####" in shown
        assert b"100%" in shown
        assert shown.endswith(b"\r" + b" " * 70 + b"\r")
    else:
        assert shown == b""


@posix
@pytest.mark.parametrize("word", sorted({BEST, "numpy"}))
@pytest.mark.parametrize("axis", ["1", "0"])
def test_ctrl_c(word, axis, tmp_path):
    """Exit status 130, no traceback, within half a second; nothing half-printed."""
    shape = (1 << 19, 1 << 17) if axis == "1" else (1 << 17, 1 << 19)  # 128 GiB of nothing
    x = sparse(tmp_path / "x.npy", shape, "float16")
    y = sparse(tmp_path / "y.npy", (1 << 19,), "int32")
    process = start(x, y, "--axis", axis, "--backend", word,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - sent < 0.5
        assert process.returncode == 130
        assert out == err == b""
    finally:
        process.kill()


MEASURE = """
import sys, threading, time
most = 0
def watch():
    global most
    while True:
        with open("/proc/self/status") as file:
            anonymous = next(line for line in file if line.startswith("RssAnon"))
        most = max(most, int(anonymous.split()[1]) // 1024)
        time.sleep(0.001)
threading.Thread(target=watch, daemon=True).start()
from fastxent.__main__ import main
status = main(sys.argv[1:])
print(most, file=sys.stderr)
sys.exit(status)
"""


def anonymous_megabytes(*arguments):
    """The largest anonymous memory of an evaluation, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURE, "eval", *arguments, "--json"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stderr), json.loads(done.stdout)


@linux
@pytest.mark.parametrize(
    ("shape", "axis", "label"),
    [((512, 1 << 18), 1, "int64"), ((1 << 18, 512), 0, "int16"), ((1 << 24, 4), 1, "int64"),
     ((4, 1 << 24), 0, "int64"), ((1, 1 << 27), 1, "int64")],
    ids=["rows", "columns", "many_rows", "many_columns", "one_row"],
)  # fmt: skip
def test_anonymous_memory(shape, axis, label, tmp_path):
    """Far less than the 256 MB of the files: only blocks of rows are ever held."""
    x = sparse(tmp_path / "x.npy", shape, "float16")
    y = sparse(tmp_path / "y.npy", tuple(np.delete(shape, axis)), label)
    megabytes, found = anonymous_megabytes(x, y, "--axis", str(axis), "--threads", "2")
    assert megabytes < 100
    assert found["mean_loss"] == pytest.approx(math.log(shape[axis]), rel=1e-6)
    assert found["hits"] == found["counted"] == found["rows"] == math.prod(shape) // shape[axis]


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "axis", "label"),
    [((16384, 131072), 1, "int32"), ((131072, 16384), 0, "int32"), ((1 << 29, 2), 1, "int64")],
    ids=["rows", "columns", "many_labels"],
)
def test_anonymous_memory_of_4_gigabytes(shape, axis, label, tmp_path):
    dtype = "float16" if math.prod(shape) == 1 << 31 else "float32"
    x = sparse(tmp_path / "x.npy", shape, dtype)
    y = sparse(tmp_path / "y.npy", tuple(np.delete(shape, axis)), label)
    megabytes, found = anonymous_megabytes(x, y, "--axis", str(axis))
    assert megabytes < 200
    assert found["mean_loss"] == pytest.approx(math.log(shape[axis]), rel=1e-6)
    assert found["counted"] == math.prod(shape) // shape[axis]
