"""Make the pages and tables that follow from the package: run by ``conf.py``.

``reference/api/NAME.rst``  one page for each public name
``reference/api/index.md``  the list of them, in the groups of their modules
``generated/*.md``          tables of the registry, included by pages in ``reference/``
``generated/pictures/``     what the scripts in ``pictures/`` draw, for light and for dark pages
``generated/static/``       what is copied into the site as it is: MathJax

Every cell is either a datum of the package or the outcome of a call made here.
"""

import ast
import importlib
import importlib.metadata
import inspect
import io
import itertools
import re
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import fastxent as fx
from fastxent import _backends
from fastxent._spec import DTYPES, SPECS

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "fastxent"
sys.path.insert(0, str(HERE))
import measured  # noqa: E402 - beside this file

sys.path.insert(0, str(HERE.parent / "tests"))
from layouts import LAYOUTS, possible  # noqa: E402 - the layouts are data of the tests
from test_house import FLOORS  # noqa: E402 - and so are the floors

#: Titles of the groups of public names, by module; another module's title is its name.
GROUPS = {
    "losses": "Losses",
    "sequence": "Losses of sequences",
    "sampled": "Sampled losses",
    "linear": "Linear cross entropy",
    "normalizers": "Normalisers",
    "settings": "Configuration",
}

PLACE, TILES, BUFFER = "in place", "in place, 64 rows at a time", "through a buffer of 8 KB"

#: Memory layout -> in words, and how the compiled kernels read it.  A layout that the tests
#: know and this table does not ends the build.
WORDS = {
    "contiguous": ("C order, classes last", PLACE),
    "one_row": ("one row", PLACE),
    "axis0": ("classes first", TILES),
    "middle": ("classes in the middle", TILES),
    "middle4": ("classes second of four axes", TILES),
    "fortran": ("Fortran order", TILES),
    "strided": ("every second class of a larger array", BUFFER),
    "strided_rows": ("every second row of a larger array", PLACE),
    "strided_inner": ("classes in the middle, every second element after them", BUFFER),
    "negative": ("all axes reversed", BUFFER),
    "negative_axis0": ("classes first, both axes reversed", BUFFER),
    "gapped": ("a block cut out of a larger array", PLACE),
    "swapped_outer": ("row axes exchanged", PLACE),
    "inner_gapped": ("classes first, rows cut out of a larger array", TILES),
    "read_only": ("read-only", PLACE),
    "byte_swapped": ("byte-swapped", BUFFER),
    "byte_swapped_axis0": ("byte-swapped, classes first", BUFFER),
    "unaligned": ("unaligned", BUFFER),
    "memory_mapped": ("memory-mapped, read-only", PLACE),
    "broadcast": ("one row broadcast to many", PLACE),
    "stride_zero": ("one value broadcast to all classes", BUFFER),
}


def table(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Markdown for a table that scrolls inside the page where it is too wide."""
    header = list(header)
    body = ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *lines)]
    return "\n".join(body) + "\n"


# ---- the public names ----------------------------------------------------------------


def public() -> dict[str, Any]:
    """Dotted name, without ``fastxent.`` -> what it is: all that may be imported."""
    found: dict[str, Any] = {}
    queue = [("", fx)]
    while queue:
        prefix, module = queue.pop(0)
        for name in module.__all__:
            thing = getattr(module, name)
            found[prefix + name] = thing
            if inspect.ismodule(thing):
                queue.append((f"{prefix}{name}.", thing))
    return found


PUBLIC = public()


def summary(name: str) -> str:
    """First line of a public name's docstring."""
    if name == "__version__":
        return "The version, a string."
    return inspect.getdoc(PUBLIC[name]).splitlines()[0]


def page(name: str) -> str:
    """The page of one public name."""
    module, _, short = f"fastxent.{name}".rpartition(".")
    head = f"{name}\n{'=' * len(name)}\n\n.. py:currentmodule:: {module}\n\n"
    thing = PUBLIC[name]
    if name == "__version__":
        return head + f".. py:data:: {name}\n   :type: str\n\n   {summary(name)}\n"
    if inspect.ismodule(thing):
        return head + f".. automodule:: {module}.{short}\n"
    kind = "autoclass" if inspect.isclass(thing) else "autofunction"
    members = "   :members:\n   :inherited-members:\n" if hasattr(thing, "sample") else ""
    return head + f".. {kind}:: {short}\n{members}"


def group(name: str) -> str:
    """The title under which a public name is listed: a module of ours by its words."""
    if inspect.ismodule(PUBLIC[name]):
        return "Modules"
    module = getattr(PUBLIC[name], "__module__", "fastxent.settings").removeprefix("fastxent.")
    return name.rpartition(".")[0] or GROUPS.get(module, module.capitalize())


def groups() -> dict[str, list[str]]:
    """Title -> public names, in the order of ``__all__``."""
    found: dict[str, list[str]] = {title: [] for title in GROUPS.values()}
    for name in PUBLIC:
        found.setdefault(group(name), []).append(name)
    return {title: names for title, names in found.items() if names}


def api_index() -> str:
    """The list of the public names."""
    parts = ["# Functions\n"]
    for title, names in groups().items():
        lines = ([reference(name, name.removeprefix(f"{title}.")), summary(name)] for name in names)
        parts.append(f"## {title}\n\n{table(['Name', 'What it is'], lines)}")
    toc = "\n".join(itertools.chain.from_iterable(groups().values()))
    parts.append(f"```{{toctree}}\n:hidden:\n\n{toc}\n```\n")
    return "\n".join(parts)


# ---- support: every combination is called once ---------------------------------------


def dtype(name: str) -> np.dtype:
    """The dtype of a registered name."""
    if name == "bfloat16":
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    return np.dtype(name)


def outcome(name: str, x: np.ndarray, axis: int) -> np.ndarray:
    """What a function gives for ``x``: values, then gradients, as one row of float64."""
    spec, parameters = SPECS[name], list(inspect.signature(getattr(fx, name)).parameters)
    if spec.family == "sequence":  # always over batch, time and classes
        x, axis = np.moveaxis(x, axis, -1), -1
        x = x[(None,) * (3 - x.ndim)] if x.ndim < 3 else x[(0,) * (x.ndim - 3)]
    options = {"axis": axis} if "axis" in parameters else {}
    if spec.family == "sampled":  # vectors along the axis; as many classes as entries
        x = np.moveaxis(x, axis, -1)
        x = x[(0,) * (x.ndim - 2)] if x.ndim > 1 else x[None]
        candidates = np.arange(x.shape[1]), np.ones(len(x)), np.ones(x.shape[1])
        loss, grad = getattr(fx, f"{name}_with_grad")(
            x, np.eye(x.shape[1], dtype=x.dtype), np.arange(len(x)) % 2, sampled=candidates
        )
        results = loss, grad.inputs, grad.weight
    elif spec.family == "linear":  # the features are the last axis; as many classes as features
        x = np.moveaxis(x, axis, -1)
        weight = np.eye(x.shape[-1], dtype=x.dtype)
        labels = np.arange(x.size // x.shape[-1]).reshape(x.shape[:-1]) % 2
        loss, grad = fx.linear_cross_entropy_with_grad(x, weight, labels)
        results = loss, grad.inputs, grad.weight
    elif "labels" not in parameters:
        results = [getattr(fx, name)(x, **options)]
    else:
        shape = x.shape
        if spec.has_classes and spec.family != "dense":  # one class per row
            shape = tuple(np.delete(shape, axis))
        labels = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2
        results = getattr(fx, f"{name}_with_grad")(x, labels, **options)
    return np.concatenate([np.asarray(r).astype(np.float64).ravel() for r in results])


def support() -> tuple[dict[tuple[str, str], list[str]], dict[str, list[str]], int]:
    """Call every function on every backend, dtype and layout.

    Returns the dtypes of (function, backend) and of each layout, and the number of calls.
    A combination that raises or gives another answer than the reference ends the build;
    those that NumPy cannot make are left out.
    """
    of_function: dict[tuple[str, str], list[str]] = {}
    of_layout: dict[str, list[str]] = {name: [] for name in LAYOUTS}
    calls = 0
    # Eighths between 0 and 1 are exact in every dtype, and fit every domain.
    start = (np.arange(2 * 3 * 5) * 5 % 7 + 1).reshape(2, 3, 5) / 8
    with tempfile.TemporaryDirectory() as folder:
        for kind in DTYPES:
            epsilon = 2.0 ** -{"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[kind]
            for layout in LAYOUTS:
                if not possible(layout, kind):
                    continue
                of_layout[layout].append(kind)
                x, axis = LAYOUTS[layout](start.astype(dtype(kind)), folder)
                for name in SPECS:
                    with fx.config(backend="numpy"):
                        exact = outcome(name, np.asarray(x).astype(np.float64), axis)
                    for word in _backends.words():
                        with fx.config(backend=word):
                            got = outcome(name, x, axis)
                        np.testing.assert_allclose(
                            got, exact, rtol=8 * epsilon, atol=8 * epsilon,
                            err_msg=f"{name}-{word}-{kind}-{layout}",
                        )  # fmt: skip
                        found = of_function.setdefault((name, word), [])
                        if kind not in found:
                            found.append(kind)
                        calls += 1
    return of_function, of_layout, calls


def support_tables() -> dict[str, str]:
    """Functions x backends, layouts x dtypes, and the backends of this machine."""
    of_function, of_layout, calls = support()
    words = _backends.words()

    def dtypes(found: list[str]) -> str:
        return "all" if found == list(DTYPES) else ", ".join(found) or "none"

    functions = table(
        ["Function", *(f"`{word}`" for word in words)],
        [[reference(name), *(dtypes(of_function[name, word]) for word in words)] for name in SPECS],
    )
    layouts = table(
        ["Layout of the logits", "dtypes", "how it is read"],
        [[WORDS[name][0], dtypes(found), WORDS[name][1]] for name, found in of_layout.items()],
    )
    backends = table(
        ["Backend", "Here", "Why"],
        [
            [f"`{name}`", ", ".join(isas) or "yes" if isas else "no", reason]
            for name in _backends.BACKENDS
            for isas, reason in [_backends.probe(name)]
        ],
    )
    count = (
        f"The table was made by {calls} calls: {len(SPECS)} functions, {len(words)} backends, "
        f"{len(DTYPES)} dtypes and {len(LAYOUTS)} layouts, without what NumPy cannot make.\n"
    )
    return {"functions": functions, "layouts": layouts, "backends": backends, "calls": count}


# ---- the registry --------------------------------------------------------------------


def reference(name: str, text: str = "") -> str:
    """A link to a public name."""
    return f"{{py:obj}}`{text or name} <fastxent.{name}>`"


def bars(text: str) -> str:
    """Text for a cell: a bar would end it."""
    return text.replace("|", "\\|")


def formulas() -> str:
    """The formula and domain of each function."""
    lines = ([reference(s.name), f"`{bars(s.formula)}`", bars(s.domain)] for s in SPECS.values())
    return table(["Function", "Formula", "Domain"], lines)


def options() -> str:
    """The options of each function."""
    return table(
        ["Function", "Options"],
        [[reference(s.name), ", ".join(f"`{o}`" for o in s.options)] for s in SPECS.values()],
    )


OUTPUTS = {"value": "value", "grad": "gradient", "label_entry": "gradient, entry of the label"}


def budget(b: Any) -> str:
    """A budget in words."""
    text = f"{b.ulp:g}" + (" + *d*" if b.per_gap else "") + " ulp"
    if b.floor32 or b.floor64:
        floors = f"{b.floor32:g} ({b.floor64:g})".replace("e-0", "e-")
        return f"{text}, or {floors} x {bars(b.floor_of)}"
    return text + (f" ({bars(b.floor_of)})" if b.floor_of else "")


def budgets() -> str:
    """The error budget of each output."""
    return table(
        ["Function", "Output", "Largest error allowed: float32 (float64)"],
        [
            [reference(spec.name), OUTPUTS.get(output, output), budget(b)]
            for spec in SPECS.values()
            for output, b in spec.budgets.items()
        ],
    )


def floors() -> str:
    """The floors and the first sentences of the modules on them, from the top."""
    lines = []
    for part, floor in sorted(FLOORS.items(), key=lambda item: (-item[1], item[0])):
        names = (f"{part}.py", f"{part}.pyx", f"{part}/__init__.py")
        for file in (name for name in names if (PACKAGE / name).exists()):
            # The text between the first three quotes: Cython's modules have it too.
            what = (PACKAGE / file).read_text().split('"""')[1].splitlines()[0]
            file = file.removesuffix("__init__.py") if "/" in file else file
            lines.append([str(floor), f"`{file}`", what.replace("``", "`")])
    return table(["Floor", "File", "What lives there"], lines)


# ---- errors: the sentences as they stand in the source --------------------------------

ERRORS = {"IndexError", "TypeError", "ValueError"}


def words_of(node: ast.expr) -> str:
    """The text of a sentence; what is filled in stands in italics."""
    match node:
        case ast.Constant(value=str(text)):
            return bars(text)
        case ast.JoinedStr(values=parts):
            return re.sub(r"(\.\.\.)+\.?", "...", "".join(map(words_of, parts)))
        case ast.FormattedValue(value=ast.Name(id=name)):
            return f"*{name.replace('_', ' ')}*"
        case ast.FormattedValue(value=ast.Attribute(value=ast.Name(id=of), attr=name)):
            return f"*{name if of == 'self' else f'{of}.{name}'}*"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return words_of(left) + words_of(right)
        case ast.IfExp(body=body):
            return words_of(body)
    return "..."


def sentences() -> str:
    """Every sentence of the package that says what is wrong with a call."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=kind), args=[sentence]) if kind in ERRORS:
                    text = words_of(sentence).replace("**", "* *")
                    if "; got" in text or " must " in text:
                        found[text] = kind
    lines = sorted(([f"`{kind}`", text] for text, kind in found.items()), key=lambda x: x[::-1])
    return table(["Error", "Sentence"], lines)


# ---- special values: each cell is the outcome of a call ------------------------------

INF, NAN = np.inf, np.nan

#: (case, logits, options); the label is class 0 unless the options give another.
SPECIAL = (
    ("finite", (1.0, 0.0, 2.0), {}),
    ("`-inf` on another class", (1.0, -INF, 2.0), {}),
    ("`-inf` on the label", (-INF, 0.0, 2.0), {}),
    ("`-inf` on another class, smoothing", (1.0, -INF, 2.0), {"label_smoothing": 0.3}),
    ("`+inf` anywhere", (1.0, INF, 2.0), {}),
    ("`-inf` everywhere", (-INF, -INF, -INF), {}),
    ("NaN anywhere", (1.0, NAN, 2.0), {}),
    ("NaN in an ignored row", (1.0, NAN, 2.0), {"ignore_index": 0}),
    ("NaN in a row of weight 0", (1.0, NAN, 2.0), {"sample_weight": 0.0}),
    ("NaN, upstream gradient 0", (1.0, NAN, 2.0), {"upstream": 0.0}),
    ("NaN on a masked class", (1.0, NAN, 2.0), {"where": (True, False, True)}),
    ("label masked", (1.0, 0.0, 2.0), {"where": (False, True, True)}),
    ("every class masked", (1.0, 0.0, 2.0), {"where": (False, False, False)}),
    ("label far below", (-1000.0, 0.0, 1000.0), {}),
    ("label far above", (1000.0, 0.0, -1000.0), {}),
)


def number(value: float) -> str:
    """Three digits, or the special value's name."""
    return f"{value:.0f}" if value == np.rint(value) else f"{value:.3g}"


def cell(values: Any) -> str:
    """One value, or those of a row."""
    return "`" + ",\N{NO-BREAK SPACE}".join(number(v) for v in np.ravel(values)) + "`"


def special_entries() -> str:
    """What the sigmoid family gives for each special logit and label."""
    lines = []
    for x, z in itertools.product((INF, -INF, NAN, 1000.0, -1000.0), (0.0, 1.0)):
        loss, grad = fx.sigmoid_cross_entropy_with_grad(x, z)
        lines.append(map(cell, (x, z, fx.sigmoid(x), fx.log_sigmoid(x), loss, grad)))
    return table(["$x$", "$z$", "$p$", "$\\log p$", "loss", "gradient"], lines)


def special() -> str:
    """What the softmax family gives for each special case."""
    lines = []
    for case, x, chosen in SPECIAL:
        mask = {k: v for k, v in chosen.items() if k == "where"}
        loss, grad = fx.sparse_softmax_cross_entropy_with_grad(x, 0, **chosen)
        said = ", ".join(f"{k}={v}" for k, v in chosen.items())
        lines.append(
            [
                case + (f" (`{said}`)" if said else ""),
                *map(cell, (x, fx.logsumexp(x, **mask), fx.softmax(x, **mask), loss, grad)),
            ]
        )
    return table(["Case", "$x$", "$\\lse$", "$p$", "loss, $y = 0$", "gradient"], lines)


# ---- pictures: each script draws one --------------------------------------------------

#: Page -> colours: of the text and lines, then of the curves, in order.
MODES = {
    "light": ("#333c44", ["#0a66c2", "#b3400a", "#16794b", "#7d3fb0", "#6a6a6a"]),
    "dark": ("#c9d3dc", ["#6cb6ff", "#ffa657", "#6fdc8c", "#d2a8ff", "#a8a8a8"]),
}

STYLE = {
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "mathtext.fontset": "cm",
    "savefig.transparent": True,
    "svg.hashsalt": "fastxent",  # the same names inside the file in every build
}


def draw(found: dict[str, Any], mode: str, **style: Any) -> str:
    """One picture as SVG, from what its script defines."""
    import matplotlib
    from matplotlib.figure import Figure

    ink, colours = MODES[mode]
    parts = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    inks = dict.fromkeys(parts, ink)
    cycle = {"axes.prop_cycle": matplotlib.cycler(color=colours)}
    with matplotlib.rc_context({**STYLE, **inks, **cycle, **style}):
        figure = Figure(figsize=found["SIZE"])
        found["draw"](figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def pictures(target: Path) -> dict[str, str]:
    """Draw every picture in every mode; return its text for those who do not see it."""
    texts = {}
    for script in sorted((HERE / "pictures").glob("*.py")):
        found = runpy.run_path(str(script))
        texts[script.stem] = found["ALT"]
        for mode in MODES:
            write(target / f"{script.stem}-{mode}.svg", draw(found, mode))
    return texts


def speed() -> str:
    """The recorded speed table: ours, the limit of memory, and the fastest of the others."""
    script = runpy.run_path(str(HERE / "pictures" / "speed.py"))
    cells: dict[str, list[str]] = {}
    for shape, _, times in sorted(script["record"](), key=lambda row: row[1]):
        ours = [times[name] for name in ("fastxent", "fastxent, in place") if name in times]
        peer = min(set(script["PEERS"]) & set(times), key=times.__getitem__)
        cells.setdefault(shape, []).extend(
            [
                " / ".join(f"{t:.3g}" for t in ours),
                f"{times['limit']:.3g}" if "limit" in times else "",
                f"{times[peer]:.3g} {peer}",
            ]
        )
    header = ["Logits", "Loss", "Limit", "Best other", "With gradient", "Limit", "Best other"]
    return table(header, [[shape, *line] for shape, line in cells.items()])


def readme() -> None:
    """Renew the table and the picture of the README: run by hand after a new recording."""
    path = HERE.parent / "README.md"
    mark = "<!-- speed: python docs/generate.py -->\n"
    before, _, after = path.read_text().split(mark)
    path.write_text(f"{before}{mark}\n{speed()}\n{mark}{after}")
    found = runpy.run_path(str(HERE / "pictures" / "speed.py"))
    (HERE / "_static" / "speed.svg").write_text(
        draw(found, "light", **{"savefig.transparent": False})
    )


# ---- what is copied into the site ----------------------------------------------------


def mathjax(target: Path) -> None:
    """Copy the parts of MathJax that the pages need: one script and its fonts, 1.5 MB of 24."""
    files = importlib.metadata.files("sphinx-mathjax-offline") or []
    for file in files:
        _, found, inside = str(file).partition("static/mathjax/")
        if found and (inside == "tex-chtml.js" or inside.endswith(".woff")):
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target / inside)


def write(path: Path, text: str) -> None:
    """Write a file unless it is the same: an unchanged page is not built again."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> dict[str, str]:
    """Make everything; return the pictures' texts."""
    api, generated = HERE / "reference" / "api", HERE / "generated"
    for old in api.glob("*.rst"):
        if old.stem not in PUBLIC:
            old.unlink()
    for name in PUBLIC:
        write(api / f"{name}.rst", page(name))
    write(api / "index.md", api_index())
    tables = {
        "formulas": formulas(),
        "options": options(),
        "budgets": budgets(),
        "floors": floors(),
        "sentences": sentences(),
        "speed": speed(),
        "special": special(),
        "special_entries": special_entries(),
        **support_tables(),
        **measured.tables(),
    }
    for name, text in tables.items():
        write(generated / f"{name}.md", text)
    mathjax(generated / "static" / "mathjax")
    return pictures(generated / "pictures")


if __name__ == "__main__":
    readme()
