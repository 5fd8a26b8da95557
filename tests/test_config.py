"""Settings: the environment, the context manager, the process default, what is printed."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fastxent as fx
from fastxent._backends import words

NAMES = sorted({w.split(":")[0] for w in words()})
PRINT = "import fastxent as fx; c = fx.get_config(); print(c['backend'], c['isa'], c['threads'])"


def python(code, **environment):
    """Run code in a fresh interpreter away from the source tree; None removes a variable."""
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("FASTXENT_", "OMP_NUM_THREADS"))
    }
    env.update({k: v for k, v in environment.items() if v is not None})
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def printed(code, **environment):
    done = python(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_keys():
    config = fx.get_config()
    assert set(config) == {"backend", "isa", "threads", "backends", "versions"}
    assert set(config["versions"]) >= {"fastxent", "numpy", "python"}
    assert config["versions"]["fastxent"] == fx.__version__
    assert config["versions"]["numpy"] == np.__version__
    for name, record in config["backends"].items():
        assert isinstance(record["available"], bool), name
        assert record["available"] or record["reason"], f"{name}: no reason"
    assert {n for n, r in config["backends"].items() if r["available"]} >= set(NAMES)
    assert {"cython", "numpy"} <= set(config["backends"])


def test_the_answer_is_a_copy():
    fx.get_config()["backends"].clear()
    assert fx.get_config()["backends"]


def test_show_config_prints_it(capsys):
    fx.show_config()
    text = capsys.readouterr().out
    config = fx.get_config()
    for word in (config["backend"], str(config["threads"]), fx.__version__, *config["backends"]):
        assert word in text


@pytest.mark.parametrize("word", words())
def test_config_selects(word):
    name, _, isa = word.partition(":")
    before = fx.get_config()
    with fx.config(backend=word, threads=3):
        inside = fx.get_config()
        assert (inside["backend"], inside["isa"], inside["threads"]) == (name, isa or None, 3)
        with fx.config(threads=5):
            assert (fx.get_config()["isa"], fx.get_config()["threads"]) == (isa or None, 5)
        assert fx.get_config()["threads"] == 3
    after = fx.get_config()
    assert after == before


def test_config_restores_after_an_error():
    before = fx.get_config()
    with pytest.raises(KeyError), fx.config(threads=7, backend=words()[-1]):
        raise KeyError
    assert fx.get_config() == before


@pytest.mark.parametrize("word", words())
def test_set_config(word):
    name, _, isa = word.partition(":")
    before = fx.get_config()
    fx.set_config(backend=word)
    try:
        assert (fx.get_config()["backend"], fx.get_config()["isa"]) == (name, isa or None)
        assert fx.get_config()["threads"] == before["threads"]
    finally:
        fx.set_config(
            backend=f"{before['backend']}:{before['isa']}" if before["isa"] else before["backend"]
        )


@pytest.mark.parametrize("word", NAMES)
def test_a_plain_name_takes_the_best_instruction_set(word):
    with fx.config(backend=word):
        config = fx.get_config()
    best = next(w for w in words() if w.split(":")[0] == word)
    assert config["isa"] == (best.partition(":")[2] or None)


BAD_BACKENDS = ["nonsense", "cython:v9", "numpy:v3", "", "cython:", ":v3", "Cython"]


@pytest.mark.parametrize("word", BAD_BACKENDS)
@pytest.mark.parametrize("setter", [fx.config, fx.set_config], ids=["config", "set_config"])
def test_unknown_backend_lists_the_usable_ones(setter, word):
    before = fx.get_config()
    with pytest.raises(ValueError, match="backend") as caught:
        setter(backend=word).__enter__()
    for usable in words():
        assert usable.split(":")[0] in str(caught.value)
        assert usable.partition(":")[2] in str(caught.value)
    assert repr(word) in str(caught.value)
    assert fx.get_config() == before


@pytest.mark.parametrize("threads", [0, -1, 2.0, "2", 1.5])
@pytest.mark.parametrize("setter", [fx.config, fx.set_config], ids=["config", "set_config"])
def test_bad_threads(setter, threads):
    before = fx.get_config()
    with pytest.raises((ValueError, TypeError), match="threads") as caught:
        setter(threads=threads).__enter__()
    assert repr(threads) in str(caught.value)
    assert fx.get_config() == before


@pytest.mark.parametrize("threads", [1, 4 * (os.cpu_count() or 1), np.int64(3)])
def test_any_number_of_threads(threads):
    with fx.config(threads=threads):
        assert fx.get_config()["threads"] == threads
        x = np.zeros((5000, 20))
        np.testing.assert_allclose(fx.logsumexp(x), np.log(20))


def test_settings_are_keywords():
    with pytest.raises(TypeError):
        fx.config("numpy")
    with pytest.raises(TypeError):
        fx.set_config(backends="numpy")


@pytest.mark.parametrize("word", words())
def test_environment_backend(word):
    name, _, isa = word.partition(":")
    assert printed(PRINT, FASTXENT_BACKEND=word).split()[:2] == [name, isa or "None"]


@pytest.mark.parametrize("word", [w for w in words() if ":" in w])
def test_environment_isa(word):
    name, _, isa = word.partition(":")
    assert printed(PRINT, FASTXENT_BACKEND=name, FASTXENT_ISA=isa).split()[1] == isa
    assert printed(PRINT, FASTXENT_ISA=isa).split()[1] == isa


def test_environment_threads():
    assert printed(PRINT, FASTXENT_NUM_THREADS="5").split()[2] == "5"
    assert printed(PRINT, OMP_NUM_THREADS="3").split()[2] == "3"
    assert printed(PRINT, OMP_NUM_THREADS="3", FASTXENT_NUM_THREADS="5").split()[2] == "5"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_default_threads_follow_the_affinity():
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); {PRINT}"
    assert printed(code).split()[2] == "1"
    available = len(os.sched_getaffinity(0))
    assert 1 <= int(printed(PRINT).split()[2]) <= available


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FASTXENT_BACKEND", "nonsense"),
        ("FASTXENT_ISA", "v9"),
        ("FASTXENT_NUM_THREADS", "0"),
        ("FASTXENT_NUM_THREADS", "many"),
    ],
)
def test_bad_environment_is_named(variable, value):
    """At import or at the first call, but never silently."""
    done = python(f"{PRINT}; fx.logsumexp([1.0])", **{variable: value})
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError")
    assert value in last
    assert variable in last or variable.split("_", 1)[1].lower() in last.lower()


@pytest.mark.parametrize("value", ["", "junk", "4,2", "0"])
def test_omp_num_threads_of_others_never_breaks_us(value):
    """OMP_NUM_THREADS belongs to OpenMP: nested lists are legal there, junk is not our business."""
    assert int(printed(PRINT, OMP_NUM_THREADS=value).split()[2]) >= 1


def test_warmup():
    for word in words():
        with fx.config(backend=word):
            fx.warmup()
