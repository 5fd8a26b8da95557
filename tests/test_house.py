"""House rules as programs: floors, public names, docstrings against signatures, imports."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import fastxent as fx
from fastxent._backends import words
from fastxent._spec import DTYPES, FAMILIES, ISAS, REDUCTIONS, SPECS

PACKAGE = pathlib.Path(fx.__file__).parent

#: A file imports only from floors below its own.
FLOORS = {
    "_choices": 0,
    "_config": 0,
    "_spec": 0,
    "_version": 0,
    "_check": 1,
    "_npy": 2,
    "_threads": 1,
    "_front": 2,
    "_pool": 1,
    "_numpy": 2,
    "_cython": 2,
    "_numba": 2,
    "_cuda": 2,
    "_backends": 3,
    "_call": 4,
    "samplers": 4,
    "settings": 4,
    "_evaluate": 5,
    "normalizers": 5,
    "losses": 5,
    "sampled": 5,
    "sequence": 5,
    "linear": 5,
    "compat": 6,
    "__main__": 6,
    "__init__": 7,
}

RESULTS = {"LinearGradients", "SampledGradients"}
HELPERS = {"scatter_add"}
SETTINGS = {"config", "set_config", "get_config", "show_config", "warmup"}
ALLOWED_ANYWHERE = {"numpy"}

FILES = sorted(p for p in PACKAGE.rglob("*.py"))


def _part(path):
    """The part of the house that a file belongs to: its folder's or its own name."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(path):
    """(module of ours or of others, as full names) for each import statement, lazy ones too."""
    tree = ast.parse(path.read_text())
    package = ("fastxent", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            if module == "fastxent" or (node.module is None and node.level):
                for alias in node.names:
                    yield f"{module}.{alias.name}"
            else:
                yield module


def test_every_file_has_a_floor():
    assert {_part(p) for p in FILES} <= set(FLOORS)
    assert len(FILES) > 8


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = _part(path)
    for module in _imports(path):
        if module.split(".")[0] != "fastxent":
            continue
        target = module.split(".")[1] if "." in module else "__init__"
        if own == "__main__" and (target == "__init__" or target not in FLOORS):
            continue  # the command uses the public names
        assert target in FLOORS, f"{path.name} imports {module}"
        same_part = target == own and path.parent != PACKAGE
        assert same_part or FLOORS[target] < FLOORS[own], f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_of_others(path):
    """The standard library and NumPy; an optional dependency only in its own backend."""
    own = {"_numba": {"numba", "llvmlite"}, "_cuda": {"numba", "llvmlite"}, "compat": set()}.get(
        _part(path), set()
    )
    for module in _imports(path):
        top = module.split(".")[0]
        fine = top in sys.stdlib_module_names or top in ALLOWED_ANYWHERE | own | {"fastxent"}
        assert fine, f"{path.name} imports {module}"


def test_init_only_re_exports():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in (
            "__all__",
            "__version__",
        )
        assert docstring or names or isinstance(node, ast.ImportFrom | ast.Import), ast.unparse(
            node
        )


# ---- importing -----------------------------------------------------------------------


def test_import_loads_numpy_and_nothing_else():
    code = (
        "import sys, numpy; before = set(sys.modules); import fastxent;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(*sorted(new))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    new = set(done.stdout.split())
    assert "fastxent" in new
    for heavy in ("scipy", "numba", "llvmlite", "cupy", "cuda", "torch", "ml_dtypes", "pandas"):
        assert heavy not in new
    assert new - {"fastxent"} <= set(sys.stdlib_module_names), new


def test_import_starts_no_thread():
    code = "import threading, fastxent; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


# ---- public names --------------------------------------------------------------------


def test_all_is_true():
    assert len(set(fx.__all__)) == len(fx.__all__)
    for name in fx.__all__:
        assert hasattr(fx, name), name
    public = {n for n, v in vars(fx).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert public <= set(fx.__all__), "public but not in __all__"


def test_every_public_function_is_in_the_registry():
    functions = {n for n in fx.__all__ if callable(getattr(fx, n))} - SETTINGS
    registered = set(SPECS) | {f"{n}_with_grad" for n, s in SPECS.items() if s.is_loss}
    # The source document's own signature of sequence_loss: lists over time.
    by_example = {"sequence_loss_by_example", "sequence_loss_by_example_with_grad"}
    assert functions == registered | by_example | RESULTS | HELPERS
    assert set(fx.__all__) >= SETTINGS
    assert "__version__" in vars(fx)


def test_words_are_of_the_registry():
    for word in words():
        name, _, isa = word.partition(":")
        assert name in fx.get_config()["backends"]
        assert not isa or isa in ISAS
    assert "numpy" in words()
    assert any(w.startswith("cython:") for w in words()), "the tests need the compiled extension"


#: What the functions of a family take first; where it is not "logits", its name here.
DATA = {
    "normalizer": ["x"],
    "activation": ["x"],
    "picked": ["log_probs", "labels"],
    "linear": ["inputs", "weight", "labels"],
    "sampled": ["inputs", "weight", "labels"],
    "binary_cross_entropy": ["probs", "labels"],
}


def _options(name, spec):
    """Every parameter after the data, as the registry has it."""
    own = spec.family in ("sequence", "linear", "sampled")  # no axis, no array to write into
    axis = ["axis"] if spec.has_classes and not own else []
    return axis + [*spec.options] + ["out"] * (not own)


def test_signatures_follow_the_registry():
    for name, spec in SPECS.items():
        parameters = inspect.signature(getattr(fx, name)).parameters
        first = DATA.get(name, DATA.get(spec.family, ["logits", "labels"]))
        assert list(parameters) == [*first, *_options(name, spec)], name
        positional = len(first) + (spec.family == "normalizer")
        for p in list(parameters.values())[positional:]:
            assert p.kind is p.KEYWORD_ONLY, (name, p.name)
        if "axis" in parameters:
            assert parameters["axis"].default == -1
        if "reduction" in spec.options:
            assert parameters["reduction"].default == "none"
        if spec.is_loss:
            more = inspect.signature(getattr(fx, f"{name}_with_grad")).parameters
            extra = ["upstream"] + ["grad_out"] * (spec.family != "sampled")
            extra += ["labels_grad_out"] * (spec.family in ("dense", "binary"))
            extra += ["pos_weight_grad_out"] * ("pos_weight" in spec.options)
            assert set(more) == {*parameters, *extra}
            for p in parameters.values():
                assert more[p.name].default == p.default
                assert more[p.name].kind == p.kind


def test_the_registry_is_whole():
    for name, spec in SPECS.items():
        assert spec.name == name
        assert spec.family in FAMILIES
        assert (
            {"value", "grad"} <= set(spec.budgets)
            if spec.is_loss
            else {"value"} <= set(spec.budgets)
        )
        assert spec.formula
        assert spec.domain
        assert spec.invariants
    assert {spec.family for spec in SPECS.values()} == set(FAMILIES)
    assert len(REDUCTIONS) == 5
    assert len(DTYPES) == 4


# ---- docstrings ----------------------------------------------------------------------

PUBLIC = sorted(n for n in fx.__all__ if callable(getattr(fx, n)))
SECTION = re.compile(r"^(\w[\w ]*)\n(-+)$", re.MULTILINE)


def _sections(function):
    text = inspect.getdoc(function)
    assert text, f"{function.__name__} has no docstring"
    found = list(SECTION.finditer(text))
    for m in found:
        assert len(m[1]) == len(m[2]), f"{function.__name__}: underline of {m[1]}"
    ends = [m.start() for m in found[1:]] + [len(text)]
    sections = {m[1]: text[m.end() : end].strip("\n") for m, end in zip(found, ends, strict=True)}
    return text[: found[0].start()] if found else text, sections


def _documented(section):
    names = []
    for line in section.splitlines():
        if line and not line.startswith(" ") and ":" in line:
            names += [n.strip().lstrip("*") for n in line.split(":")[0].split(",")]
        elif line and not line.startswith(" "):
            names += [n.strip().lstrip("*") for n in line.split(",")]
    return names


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_matches_the_signature(name):
    function = getattr(fx, name)
    head, sections = _sections(function)
    summary = head.split("\n\n")[0]
    assert "\n" not in summary, "the first line is one sentence"
    assert summary.endswith(".")
    parameters = list(inspect.signature(function).parameters)
    if parameters:
        assert _documented(sections["Parameters"]) == parameters
    else:
        assert "Parameters" not in sections
    if name not in {"set_config", "show_config", "warmup", "config"} | RESULTS | HELPERS:
        assert "Returns" in sections
    order = (
        "Parameters",
        "Returns",
        "Yields",
        "Raises",
        "See Also",
        "Notes",
        "References",
        "Examples",
    )
    assert [s for s in order if s in sections] == list(sections)


@pytest.mark.parametrize("name", [n for n in PUBLIC if n not in SETTINGS | RESULTS | HELPERS])
def test_docstring_of_a_function_has_every_section(name):
    _, sections = _sections(getattr(fx, name))
    assert {"Parameters", "Returns", "Raises", "Examples"} <= set(sections)
    assert ">>>" in sections["Examples"]
    spec = SPECS[name.removesuffix("_with_grad").removesuffix("_by_example")]
    if "reduction" in spec.options:
        for reduction in REDUCTIONS:
            assert reduction in sections["Parameters"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    text = ast.get_docstring(tree)
    assert text
    assert text.splitlines()[0].endswith((".", ":")), text.splitlines()[0]


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
