"""Bad calls: the type, a sentence that names the argument, what was given and what is allowed.

Every output is filled before the call and must be untouched after it, the logits too.
"""

import inspect
import re

import cases
import numpy as np
import pytest
from conftest import LOSSES, UNLABELLED, of

import fastxent as fx
from fastxent._spec import REDUCTIONS, SPECS

N, C = 6, 4


def _x():
    return np.random.default_rng(0).standard_normal((N, C)).astype(np.float32)


def _labels(name):
    if SPECS[name].family in ("dense", "binary"):
        return np.full((N, C), 0.25, np.float32)
    return np.array([0, 1, 2, 3, 0, 1])


def _read_only(shape, dtype=np.float32):
    a = np.full(shape, 7, dtype)
    a.flags.writeable = False
    return a


def _self_overlapping(shape, dtype=np.float32):
    return np.lib.stride_tricks.as_strided(
        np.full(shape[-1:], 7, dtype), shape, (0, 4) if len(shape) == 2 else (0,)
    )


def _with(index, value, dtype=np.int64):
    y = np.array([0, 1, 2, 3, 0, 1]).astype(dtype)
    y[index] = value
    return y


# id -> (the arguments that are wrong, exception, what the sentence must contain)
OF_LOSSES = {
    "logits-complex": (lambda: {"logits": _x() + 1j}, TypeError, ["logits", "complex64"]),
    "logits-object": (lambda: {"logits": _x().astype(object)}, TypeError, ["logits", "object"]),
    "logits-text": (lambda: {"logits": np.full((N, C), "a")}, TypeError, ["logits", "<U1"]),
    "logits-dates": (
        lambda: {"logits": np.zeros((N, C), "M8[s]")},
        TypeError,
        ["logits", r"datetime64\[s\]"],
    ),
    "logits-scalar": (lambda: {"logits": np.float32(1)}, ValueError, ["logits", r"\(\)|scalar"]),
    "logits-no_classes": (
        lambda: {"logits": np.zeros((N, 0), np.float32)},
        ValueError,
        ["logits", r"\(6, 0\)"],
    ),
    "axis-2": (lambda: {"axis": 2}, ValueError, ["axis", "2", r"\[-2, 2\)|-2.*1"]),
    "axis--3": (lambda: {"axis": -3}, ValueError, ["axis", "-3"]),
    "axis-float": (lambda: {"axis": 1.0}, TypeError, ["axis", r"1\.0|float"]),
    "axis-tuple": (lambda: {"axis": (0, 1)}, TypeError, ["axis", r"\(0, 1\)|tuple"]),
    "reduction-unknown": (
        lambda: {"reduction": "avg"},
        ValueError,
        ["reduction", "avg", *REDUCTIONS],
    ),
    "reduction-none": (lambda: {"reduction": None}, ValueError, ["reduction", "None", *REDUCTIONS]),
    "reduction-list": (
        lambda: {"reduction": ["sum"]},
        (ValueError, TypeError),
        ["reduction", "sum", *REDUCTIONS],
    ),
    "label_smoothing-negative": (
        lambda: {"label_smoothing": -0.25},
        ValueError,
        ["label_smoothing", r"-0\.25", r"\[0, 1\]|0.*1"],
    ),
    "label_smoothing-above_1": (
        lambda: {"label_smoothing": 1.5},
        ValueError,
        ["label_smoothing", r"1\.5"],
    ),
    "label_smoothing-nan": (
        lambda: {"label_smoothing": np.nan},
        ValueError,
        ["label_smoothing", "nan"],
    ),
    "label_smoothing-text": (
        lambda: {"label_smoothing": "a"},
        TypeError,
        ["label_smoothing", "'a'|str"],
    ),
    "z_loss-text": (lambda: {"z_loss": "a"}, TypeError, ["z_loss", "'a'|str"]),
    "sample_weight-shape": (
        lambda: {"sample_weight": np.ones(5)},
        ValueError,
        ["sample_weight", r"\(5,\)", r"\(6,\)"],
    ),
    "sample_weight-enlarges": (
        lambda: {"sample_weight": np.ones((2, 6))},
        ValueError,
        ["sample_weight", r"\(2, 6\)", r"\(6,\)"],
    ),
    "sample_weight-of_logits": (
        lambda: {"sample_weight": np.ones((N, C))},
        ValueError,
        ["sample_weight", r"\(6, 4\)", r"\(6,\)"],
    ),
    "sample_weight-complex": (
        lambda: {"sample_weight": np.ones(N, complex)},
        TypeError,
        ["sample_weight", "complex128"],
    ),
    "sample_weight-text": (lambda: {"sample_weight": "a"}, TypeError, ["sample_weight", "U1|str"]),
    "class_weight-shape": (
        lambda: {"class_weight": np.ones(5)},
        ValueError,
        ["class_weight", r"\(5,\)", r"\(4,\)"],
    ),
    "class_weight-scalar": (
        lambda: {"class_weight": 2.0},
        ValueError,
        ["class_weight", r"\(\)", r"\(4,\)"],
    ),
    "class_weight-2d": (
        lambda: {"class_weight": np.ones((4, 1))},
        ValueError,
        ["class_weight", r"\(4, 1\)", r"\(4,\)"],
    ),
    "class_weight-complex": (
        lambda: {"class_weight": np.ones(C, complex)},
        TypeError,
        ["class_weight", "complex128"],
    ),
    "where-shape": (
        lambda: {"where": np.ones((5, 4), bool)},
        ValueError,
        ["where", r"\(5, 4\)", r"\(6, 4\)"],
    ),
    "where-enlarges": (
        lambda: {"where": np.ones((2, 6, 4), bool)},
        ValueError,
        ["where", r"\(2, 6, 4\)", r"\(6, 4\)"],
    ),
    "where-float": (lambda: {"where": np.ones((6, 4))}, TypeError, ["where", "float64", "bool"]),
    "out-shape": (
        lambda: {"out": np.full(5, 7, np.float32)},
        ValueError,
        ["out", r"\(5,\)", r"\(6,\)"],
    ),
    "out-dtype": (
        lambda: {"out": np.full(6, 7.0)},
        (TypeError, ValueError),
        ["out", "float64", "float32"],
    ),
    "out-list": (lambda: {"out": [7.0] * 6}, TypeError, ["out", "list"]),
    "out-read_only": (lambda: {"out": _read_only(6)}, ValueError, ["out", "read-only|writ"]),
    "out-itself": (lambda: {"out": _self_overlapping((6,))}, ValueError, ["out", "overlap"]),
}

OF_GRADIENTS = {
    "upstream-shape": (
        lambda: {"upstream": np.ones(5)},
        ValueError,
        ["upstream", r"\(5,\)", r"\(6,\)"],
    ),
    "upstream-of_a_sum": (
        lambda: {"upstream": np.ones(6), "reduction": "sum"},
        ValueError,
        ["upstream", r"\(6,\)", r"\(\)"],
    ),
    "upstream-complex": (
        lambda: {"upstream": np.ones(6, complex)},
        TypeError,
        ["upstream", "complex128"],
    ),
    "grad_out-shape": (
        lambda: {"grad_out": np.full((5, 4), 7, np.float32)},
        ValueError,
        ["grad_out", r"\(5, 4\)", r"\(6, 4\)"],
    ),
    "grad_out-dtype": (
        lambda: {"grad_out": np.full((6, 4), 7.0)},
        (TypeError, ValueError),
        ["grad_out", "float64", "float32"],
    ),
    "grad_out-list": (lambda: {"grad_out": [[7.0] * 4] * 6}, TypeError, ["grad_out", "list"]),
    "grad_out-read_only": (
        lambda: {"grad_out": _read_only((6, 4))},
        ValueError,
        ["grad_out", "read-only|writ"],
    ),
    "grad_out-itself": (
        lambda: {"grad_out": _self_overlapping((6, 4))},
        ValueError,
        ["grad_out", "overlap"],
    ),
}


def _overlap_of_the_logits():
    base = np.random.default_rng(0).standard_normal((N + 1, C)).astype(np.float32)
    return {"logits": base[:-1], "grad_out": base[1:]}


def _overlap_reversed():
    x = _x()
    return {"logits": x, "grad_out": x[::-1]}


def _overlap_of_out_and_grad():
    grad = np.full((N, C), 7, np.float32)
    return {"grad_out": grad, "out": grad[:, 0]}


def _overlap_of_out_and_logits():
    x = _x()
    return {"logits": x, "out": x[:, 1]}


def _overlap_of_weights():
    grad = np.ones((N, C), np.float32)
    return {"grad_out": grad, "sample_weight": grad[:, 2]}


def _overlap_of_class_weights():
    grad = np.ones((N, C), np.float32)
    return {"grad_out": grad, "class_weight": grad[2]}


def _overlap_of_upstream():
    grad = np.ones((N, C), np.float32)
    return {"grad_out": grad, "upstream": grad[:, 2]}


def _overlap_of_index_labels():
    memory = np.zeros(N * C, np.int64)
    return {"labels": memory[:N], "grad_out": memory.view(np.float32)[: N * C].reshape(N, C)}


OVERLAPS = {
    "logits_shifted": (_overlap_of_the_logits, ["grad_out", "logits", "overlap"]),
    "logits_reversed": (_overlap_reversed, ["grad_out", "logits", "overlap"]),
    "out_and_grad_out": (_overlap_of_out_and_grad, ["out", "grad_out", "overlap"]),
    "out_and_logits": (_overlap_of_out_and_logits, ["out", "logits", "overlap"]),
    "sample_weight": (_overlap_of_weights, ["grad_out", "sample_weight", "overlap"]),
    "class_weight": (_overlap_of_class_weights, ["grad_out", "class_weight", "overlap"]),
    "upstream": (_overlap_of_upstream, ["grad_out", "upstream", "overlap"]),
}

OF_INDEX_LABELS = {
    "labels-high": (
        lambda: {"labels": _with(3, 12)},
        IndexError,
        ["labels", "12", "3", r"\[0, 4\)"],
    ),
    "labels-just_above": (
        lambda: {"labels": _with(5, 4)},
        IndexError,
        ["labels", "4", "5", r"\[0, 4\)"],
    ),
    "labels-negative": (
        lambda: {"labels": _with(0, -1)},
        IndexError,
        ["labels", "-1", "0", r"\[0, 4\)"],
    ),
    "labels-not_ignored": (
        lambda: {"labels": _with(2, -7), "ignore_index": -100},
        IndexError,
        ["labels", "-7", "2", r"\[0, 4\)", "-100"],
    ),
    "labels-class_weight_0": (
        lambda: {"labels": _with(2, 9), "class_weight": np.zeros(C)},
        IndexError,
        ["labels", "9", "2"],
    ),
    "labels-int8": (
        lambda: {"labels": _with(1, -128, np.int8)},
        IndexError,
        ["labels", "-128", "1"],
    ),
    "labels-uint8": (
        lambda: {"labels": _with(1, 255, np.uint8)},
        IndexError,
        ["labels", "255", "1"],
    ),
    "labels-uint64": (
        lambda: {"labels": _with(1, 2**64 - 1, np.uint64)},
        IndexError,
        ["labels", str(2**64 - 1), "1"],
    ),
    "labels-int64": (
        lambda: {"labels": _with(1, -(2**63))},
        IndexError,
        ["labels", str(-(2**63)), "1"],
    ),
    "labels-wraps_to_a_class": (
        lambda: {"labels": _with(1, 2**32)},
        IndexError,
        ["labels", str(2**32)],
    ),
    "labels-float": (lambda: {"labels": np.zeros(N)}, TypeError, ["labels", "float64", "integer"]),
    "labels-shape": (
        lambda: {"labels": np.zeros(5, int)},
        ValueError,
        ["labels", r"\(5,\)", r"\(6,\)"],
    ),
    "labels-broadcast": (
        lambda: {"labels": np.zeros(1, int)},
        ValueError,
        ["labels", r"\(1,\)", r"\(6,\)"],
    ),
    "labels-one_hot": (
        lambda: {"labels": np.zeros((N, C), int)},
        ValueError,
        ["labels", r"\(6, 4\)", r"\(6,\)"],
    ),
    "ignore_index-float": (
        lambda: {"ignore_index": 1.0},
        TypeError,
        ["ignore_index", r"1\.0|float"],
    ),
    "ignore_index-text": (lambda: {"ignore_index": "a"}, TypeError, ["ignore_index", "'a'|str"]),
}

OF_DENSE_LABELS = {
    "labels-shape": (
        lambda: {"labels": np.ones((N, 5))},
        ValueError,
        ["labels", r"\(6, 5\)", r"\(6, 4\)"],
    ),
    "labels-broadcast": (
        lambda: {"labels": np.ones((1, C))},
        ValueError,
        ["labels", r"\(1, 4\)", r"\(6, 4\)"],
    ),
    "labels-classes": (
        lambda: {"labels": np.zeros(N, int)},
        ValueError,
        ["labels", r"\(6,\)", r"\(6, 4\)"],
    ),
    "labels-complex": (
        lambda: {"labels": np.ones((N, C), complex)},
        TypeError,
        ["labels", "complex128"],
    ),
}

OF_LABELS_GRAD = {
    "labels_grad_out-shape": (
        lambda: {"labels_grad_out": np.full((5, 4), 7, np.float32)},
        ValueError,
        ["labels_grad_out", r"\(5, 4\)", r"\(6, 4\)"],
    ),
    "labels_grad_out-dtype": (
        lambda: {"labels_grad_out": np.full((6, 4), 7.0)},
        (TypeError, ValueError),
        ["labels_grad_out", "float64", "float32"],
    ),
    "labels_grad_out-read_only": (
        lambda: {"labels_grad_out": _read_only((6, 4))},
        ValueError,
        ["labels_grad_out", "read-only|writ"],
    ),
    "labels_grad_out-list": (
        lambda: {"labels_grad_out": [7]},
        TypeError,
        ["labels_grad_out", "list"],
    ),
}

#: Entries by themselves: weights and outputs have the shape of the scores.
OF_BINARY = {
    **{
        k: v
        for k, v in (OF_LOSSES | OF_GRADIENTS).items()
        if k.split("-")[0] in ("reduction", "label_smoothing", "grad_out")
        or k.endswith(("-complex", "-object", "-text", "-dates", "-list", "-upstream"))
    },
    "sample_weight-shape": (
        lambda: {"sample_weight": np.ones(5)},
        ValueError,
        ["sample_weight", r"\(5,\)", r"\(6, 4\)"],
    ),
    "sample_weight-enlarges": (
        lambda: {"sample_weight": np.ones((2, 6, 4))},
        ValueError,
        ["sample_weight", r"\(2, 6, 4\)", r"\(6, 4\)"],
    ),
    "pos_weight-shape": (
        lambda: {"pos_weight": np.ones(6)},
        ValueError,
        ["pos_weight", r"\(6,\)", r"\(6, 4\)"],
    ),
    "pos_weight-enlarges": (
        lambda: {"pos_weight": np.ones((1, 6, 4))},
        ValueError,
        ["pos_weight", r"\(1, 6, 4\)", r"\(6, 4\)"],
    ),
    "pos_weight-complex": (
        lambda: {"pos_weight": np.ones(C, complex)},
        TypeError,
        ["pos_weight", "complex128"],
    ),
    "out-shape": (
        lambda: {"out": np.full(6, 7, np.float32)},
        ValueError,
        ["out", r"\(6,\)", r"\(6, 4\)"],
    ),
    "out-of_a_sum": (
        lambda: {"out": np.full((6, 4), 7, np.float32), "reduction": "sum"},
        ValueError,
        ["out", r"\(6, 4\)", r"\(\)"],
    ),
    "out-dtype": (
        lambda: {"out": np.full((6, 4), 7.0)},
        (TypeError, ValueError),
        ["out", "float64", "float32"],
    ),
    "out-read_only": (lambda: {"out": _read_only((6, 4))}, ValueError, ["out", "read-only|writ"]),
    "out-itself": (lambda: {"out": _self_overlapping((6, 4))}, ValueError, ["out", "overlap"]),
    "upstream-shape": (
        lambda: {"upstream": np.ones(4)},
        ValueError,
        ["upstream", r"\(4,\)", r"\(6, 4\)"],
    ),
    "upstream-of_a_sum": (
        lambda: {"upstream": np.ones((6, 4)), "reduction": "sum"},
        ValueError,
        ["upstream", r"\(6, 4\)", r"\(\)"],
    ),
    "pos_weight_grad_out-shape": (
        lambda: {"pos_weight": np.ones(C), "pos_weight_grad_out": np.full((1, C), 7, np.float32)},
        ValueError,
        ["pos_weight_grad_out", r"\(1, 4\)", r"\(4,\)"],
    ),
    "pos_weight_grad_out-dtype": (
        lambda: {"pos_weight_grad_out": np.full(C, 7.0)},
        (TypeError, ValueError),
        ["pos_weight_grad_out", "float64", "float32"],
    ),
    "pos_weight_grad_out-read_only": (
        lambda: {"pos_weight_grad_out": _read_only((C,))},
        ValueError,
        ["pos_weight_grad_out", "read-only|writ"],
    ),
    "pos_weight_grad_out-list": (
        lambda: {"pos_weight_grad_out": [7] * C},
        TypeError,
        ["pos_weight_grad_out", "list"],
    ),
    "pos_weight_grad_out-needs_a_weight": (
        lambda: {"pos_weight": None, "pos_weight_grad_out": np.full((), 7, np.float32)},
        ValueError,
        ["pos_weight_grad_out", "pos_weight=None"],
    ),
}

OF_NORMALIZERS = {
    "x-complex": (lambda: {"x": _x() + 1j}, TypeError, ["x", "complex64"]),
    "x-object": (lambda: {"x": _x().astype(object)}, TypeError, ["x", "object"]),
    "x-scalar": (lambda: {"x": 1.0}, ValueError, ["x", r"\(\)|scalar"]),
    "x-no_classes": (lambda: {"x": np.zeros((N, 0))}, ValueError, ["x", r"\(6, 0\)"]),
    **{k: v for k, v in OF_LOSSES.items() if k.startswith(("axis", "where"))},
    "out-list": (lambda: {"out": [7.0] * 6}, TypeError, ["out", "list"]),
    "out-shape": (
        lambda: {"out": np.full((5, 4), 7, np.float32)},
        ValueError,
        ["out", r"\(5, 4\)"],
    ),
}


def _sentence(error, fragments):
    text = str(error)
    assert re.search(rf"\b{fragments[0]}\b", text), f"does not name {fragments[0]!r}: {text}"
    for fragment in fragments[1:]:
        assert re.search(fragment, text), f"does not say {fragment!r}: {text}"
    assert "\n" not in text
    assert len(text) < 400


def _refused(function, arguments, exception, fragments):
    """The call raises, and no array given to it has changed."""
    arrays = {k: v for k, v in arguments.items() if isinstance(v, np.ndarray)}
    before = {k: v.tobytes() for k, v in arrays.items()}
    with pytest.raises(exception) as caught:
        function(**arguments)
    _sentence(caught.value, fragments)
    for k, v in arrays.items():
        assert v.tobytes() == before[k], f"{k} was written"


def _parameters(function):
    return set(inspect.signature(function).parameters)


def _loss_arguments(name, wrong, gradient):
    """The arguments; what the tables call logits, under the name the loss has for them."""
    scores = cases.scores_argument(name)
    given = {"logits": _x(), "labels": _labels(name), **wrong}
    if isinstance(given["logits"], np.ndarray) and given["logits"].shape == (N, C):
        given.setdefault("out", np.full(cases.losses_shape(name, given["logits"]), 7, np.float32))
        if "out" not in wrong and wrong.get("reduction", "none") != "none":
            given.pop("out", None)
        if gradient:
            given.setdefault("grad_out", np.full((N, C), 7, np.float32))
            if SPECS[name].family in ("dense", "binary"):
                given.setdefault("labels_grad_out", np.full((N, C), 7, np.float32))
            if "pos_weight" in SPECS[name].options:
                given.setdefault("pos_weight", np.ones(C))
                if np.shape(given["pos_weight"]) == (C,):
                    given.setdefault("pos_weight_grad_out", np.full(C, 7, np.float32))
    return {scores: given.pop("logits"), **given}


def _own(name, case):
    """The case in the words of this loss; None where it has no such argument."""
    wrong, exception, fragments = case
    if not set(wrong()) <= {"logits"} | _parameters(cases.with_grad(name)):
        return None
    scores = cases.scores_argument(name)
    return wrong, exception, [re.sub(r"\blogits\b", scores, f) for f in fragments]


def _table(name):
    """The cases that a loss shares with others of its shapes."""
    of_family = {
        "index": [OF_LOSSES, OF_GRADIENTS, OF_INDEX_LABELS],
        "picked": [OF_LOSSES, OF_GRADIENTS, OF_INDEX_LABELS],
        "dense": [OF_LOSSES, OF_GRADIENTS, OF_DENSE_LABELS, OF_LABELS_GRAD],
        "binary": [OF_BINARY, OF_DENSE_LABELS, OF_LABELS_GRAD],
    }[SPECS[name].family]
    return {key: case for table in of_family for key, case in table.items() if _own(name, case)}


@pytest.mark.parametrize(
    ("loss", "case"), [(loss, case) for loss in LOSSES for case in _table(loss)]
)
def test_loss(loss, backend, case):
    wrong, exception, fragments = _own(loss, _table(loss)[case])
    if set(_loss_arguments(loss, wrong(), False)) <= _parameters(cases.function(loss)):
        _refused(cases.function(loss), _loss_arguments(loss, wrong(), False), exception, fragments)
    _refused(cases.with_grad(loss), _loss_arguments(loss, wrong(), True), exception, fragments)


@pytest.mark.parametrize("case", OVERLAPS)
def test_overlap(row_loss, backend, case):
    wrong, fragments = OVERLAPS[case]
    given = _loss_arguments(row_loss, wrong(), True)
    with pytest.raises(ValueError, match="overlap") as caught:
        cases.with_grad(row_loss)(**given)
    for fragment in fragments:
        assert fragment.replace("logits", cases.scores_argument(row_loss)) in str(caught.value)


def test_overlap_with_index_labels(indexed_loss, backend):
    given = _loss_arguments(indexed_loss, _overlap_of_index_labels(), True)
    _refused(cases.with_grad(indexed_loss), given, ValueError, ["grad_out", "labels", "overlap"])


@pytest.mark.parametrize("loss", of("dense", "binary"))
@pytest.mark.parametrize("other", ["logits", "grad_out"])
def test_overlap_of_the_labels_gradient(loss, backend, other):
    memory = np.zeros((N + 1, C), np.float32)
    given = _loss_arguments(loss, {other: memory[1:], "labels_grad_out": memory[:-1]}, True)
    other = cases.scores_argument(loss) if other == "logits" else other
    _refused(cases.with_grad(loss), given, ValueError, ["labels_grad_out", other, "overlap"])


#: (output, the other array, how the other one lies in the output's memory)
OVERLAPS_OF_ENTRIES = {
    f"{output}-{other}": (output, other, take)
    for output in ("out", "grad_out", "labels_grad_out", "pos_weight_grad_out")
    for other, take in {
        "logits": lambda a: a[::-1],
        "labels": lambda a: a,
        "sample_weight": lambda a: a[:, 2:3] if a.ndim > 1 else a,
        "pos_weight": lambda a: a[1] if a.ndim > 1 else a,
        "upstream": lambda a: a,
        "out": lambda a: a,
    }.items()
    if output != other and (output != "pos_weight_grad_out" or "weight" in other)
}


@pytest.mark.parametrize("case", OVERLAPS_OF_ENTRIES)
def test_overlap_of_entries(binary_loss, backend, case):
    """Every output beside every other array: refused, and nothing is written."""
    output, other, take = OVERLAPS_OF_ENTRIES[case]
    if not {output, other} <= {"logits"} | _parameters(cases.with_grad(binary_loss)):
        return
    memory = np.full(C if output.startswith("pos_weight") else (N, C), 0.5, np.float32)
    given = _loss_arguments(binary_loss, {output: memory, other: take(memory)}, True)
    other = cases.scores_argument(binary_loss) if other == "logits" else other
    words = [output, other] if output != "out" and other != "out" else ["out"]
    _refused(cases.with_grad(binary_loss), given, ValueError, [*words, "overlap"])


@pytest.mark.parametrize("name", [n for n in UNLABELLED if n != "logsumexp"])
def test_overlap_of_normalizers(name, backend):
    base = np.zeros((N + 1, C), np.float32)
    _refused(
        cases.function(name), {"x": base[1:], "out": base[:-1]}, ValueError, ["out", "x", "overlap"]
    )


@pytest.mark.parametrize("case", OF_NORMALIZERS)
def test_normalizer(unlabelled, backend, case):
    normalizer = unlabelled
    wrong, exception, fragments = OF_NORMALIZERS[case]
    if not SPECS[normalizer].has_classes and not case.startswith(("x-c", "x-o", "out")):
        return  # it has no axis and no mask, and takes scalars
    given = {"x": _x(), **wrong()}
    if isinstance(given["x"], np.ndarray) and given["x"].dtype == np.float32:
        given.setdefault("out", np.full(N if normalizer == "logsumexp" else (N, C), 7, np.float32))
    _refused(cases.function(normalizer), given, exception, fragments)


def test_position_in_many_dimensions(indexed_loss, backend):
    """The label is named by its index in the labels as given, whatever the axis."""
    x = np.zeros((2, 5, 3), np.float32)
    y = np.zeros((2, 3), np.int32)
    y[1, 2] = 5
    with pytest.raises(
        IndexError,
        match=r"\b5\b.*\(1, 2\).*\[0, 5\)|\b5\b.*\[0, 5\).*\(1, 2\)|\[0, 5\).*\b5\b.*\(1, 2\)",
    ):
        cases.function(indexed_loss)(x, y, axis=1)


def test_the_first_bad_label_is_named(indexed_loss, backend):
    x = np.zeros((100_000, 2), np.float32)
    y = np.zeros(100_000, np.int64)
    y[[70_001, 90_000]] = 55, 66
    for threads in (1, 7):
        with fx.config(threads=threads), pytest.raises(IndexError, match=r"55.*70001|70001.*55"):
            cases.function(indexed_loss)(x, y)


def test_nothing_is_written_before_the_last_label_is_checked(indexed_loss, backend):
    """One bad label at the very end of a large call: outputs and in-place logits untouched."""
    x = np.random.default_rng(0).standard_normal((20_000, 50)).astype(np.float32)
    y = np.zeros(20_000, np.int64)
    y[-1] = 50
    mine = x.copy()
    out = np.full(20_000, 7, np.float32)
    with pytest.raises(IndexError):
        cases.with_grad(indexed_loss)(mine, y, out=out, grad_out=mine)
    np.testing.assert_array_equal(mine, x)
    assert (out == 7).all()


def test_options_are_keyword_only(name):
    x = _x()
    args = (x, _labels(name), -1) if SPECS[name].is_loss else (x, -1)
    with pytest.raises(TypeError, match="positional"):
        cases.function(name)(*args, None)
    parameters = inspect.signature(cases.function(name)).parameters
    assert ("axis" in parameters) == SPECS[name].has_classes


def test_unknown_option(name):
    args = (_x(), _labels(name)) if SPECS[name].is_loss else (_x(),)
    with pytest.raises(TypeError, match="weights"):
        cases.function(name)(*args, weights=1)


def test_every_parameter_has_an_error_case(name):
    """Each parameter of each signature is the subject of at least one case above."""
    is_loss = SPECS[name].is_loss
    function = cases.with_grad(name) if is_loss else cases.function(name)
    table = _table(name) if is_loss else OF_NORMALIZERS
    covered = {case.split("-")[0] for case in table} - {"logits"} | {cases.scores_argument(name)}
    anything_goes = {"keepdims"}  # its truth is taken
    assert set(inspect.signature(function).parameters) <= covered | anything_goes
