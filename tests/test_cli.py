"""The command: its exit status tells whether the numbers hold."""

import subprocess
import sys

import pytest

import fastxent as fx
from fastxent import __main__ as command
from fastxent._backends import words


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-P", "-m", "fastxent", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_everything_agrees():
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    for word in words():
        assert word in done.stdout
    for source in ("S1", "S2", "S3", "S4"):
        assert source in done.stdout
    for column in ("mean loss", "perplexity", "accuracy"):
        assert column in done.stdout
    assert "WRONG" not in done.stdout
    assert "DISAGREES" not in done.stdout


def test_info():
    done = run("info")
    assert done.returncode == 0, done.stderr
    assert fx.__version__ in done.stdout
    assert fx.get_config()["backend"] in done.stdout


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert fx.__version__ in done.stdout


def test_unknown_argument():
    done = run("nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert run("--nonsense").returncode == 2


def test_a_wrong_published_number_fails(monkeypatch, capsys):
    wrong = command.NUMBERS[-1]._replace(exact=tuple(v + 1e-12 for v in command.NUMBERS[-1].exact))
    monkeypatch.setattr(command, "NUMBERS", (*command.NUMBERS[:-1], wrong))
    assert command.main([]) == 1
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["loss", "grad", "nan"])
def test_a_backend_that_disagrees_fails(monkeypatch, capsys, wrong):
    right = fx.sparse_softmax_cross_entropy_with_grad

    def bad(*args, **kwargs):
        loss, grad = right(*args, **kwargs)
        if fx.get_config()["backend"] == words()[0].split(":")[0] and loss.ndim:
            if wrong == "loss":
                loss = loss * (1 + 1e-4)
            elif wrong == "grad":
                grad = grad * 1.001
            else:
                loss[3] = float("nan")
        return loss, grad

    monkeypatch.setattr(fx, "sparse_softmax_cross_entropy_with_grad", bad)
    assert command.main([]) == 1
    assert "DISAGREES" in capsys.readouterr().out
