"""What is asked of PyTorch, CuPy and DLPack: by stand-ins for them, in Numba's simulator."""

import contextlib
import sys
import types

import cases
import ml_dtypes
import numpy as np
import on_gpu
import pytest

import fastxent as fx

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not on_gpu.SIMULATED, reason="made for the simulator"),
]


class Dtype:
    """One of PyTorch's."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"torch.{self.name}"


def numpy_dtype(dtype):
    return np.dtype(getattr(ml_dtypes, dtype.name, None) or dtype.name)


class Tensor:
    """One of PyTorch's, of what is used of it; the memory is NumPy's."""

    def __init__(self, a, requires_grad=False, index=0):
        self.a, self.requires_grad = a, requires_grad
        self.device = types.SimpleNamespace(type="cuda", index=index)

    @property
    def dtype(self):
        return getattr(sys.modules["torch"], self.a.dtype.name)

    @property
    def __cuda_array_interface__(self):
        if self.requires_grad:
            raise RuntimeError("use detach()")
        if self.a.dtype.name == "bfloat16":
            raise KeyError("bfloat16")
        return on_gpu.Simulated(self.a).__cuda_array_interface__

    def detach(self):
        return Tensor(self.a, index=self.device.index)

    def view(self, dtype):
        return Tensor(self.a.view(numpy_dtype(dtype)), self.requires_grad, self.device.index)

    def reshape(self, shape):
        return Tensor(self.a.reshape(shape), self.requires_grad, self.device.index)

    def __getitem__(self, index):
        return Tensor(self.a[index], self.requires_grad, self.device.index)

    @property
    def T(self):
        return Tensor(self.a.T, self.requires_grad, self.device.index)

    def __matmul__(self, other):
        assert not sys.modules["torch"].autocasts, "products must not be rounded to half precision"
        return Tensor(self.a @ other.a, self.requires_grad or other.requires_grad)


@pytest.fixture
def torch(monkeypatch):
    """A stand-in for the module, where autocast is on."""
    names = ("float16", "bfloat16", "float32", "float64", "int16", "int64")
    module = types.ModuleType("torch")
    module.__dict__.update({name: Dtype(name) for name in names})
    module.autocasts = True
    module.asked = []

    def empty(shape, dtype, device):
        assert device.index == 0
        return Tensor(np.full(shape, 77, numpy_dtype(dtype)))

    def current_stream(device):
        module.asked.append(device.index)
        return types.SimpleNamespace(cuda_stream=5)

    @contextlib.contextmanager
    def autocast(kind, enabled):
        assert (kind, enabled) == ("cuda", False)
        module.autocasts = False
        yield
        module.autocasts = True

    module.empty, module.autocast = empty, autocast
    module.cuda = types.SimpleNamespace(current_stream=current_stream)
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setattr(Tensor, "__module__", "torch")
    return module


def host(a):
    return a.a.astype(np.float64)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_tensors(torch, dtype):
    """Also those that require a gradient; results are tensors that do not."""
    x, y = cases.rows(dtype, 8, 10)
    value, grad = fx.sparse_softmax_cross_entropy_with_grad(
        Tensor(x.copy(), requires_grad=True), Tensor(y.copy())
    )
    assert type(value) is type(grad) is Tensor
    assert torch.asked == [0]
    assert grad.dtype.name == dtype
    exact = cases.exact("sparse_softmax_cross_entropy", x, y)
    cases.assert_loss(value.a, "sparse_softmax_cross_entropy", dtype, exact)
    cases.assert_grad(grad.a, "sparse_softmax_cross_entropy", dtype, exact)
    h, weight = x[:, :4], np.ascontiguousarray(x[:6, 4:8])
    labels = Tensor(y % 6)
    tensors = [Tensor(a, requires_grad=True) for a in (h, weight)]
    loss, grads = fx.linear_cross_entropy_with_grad(*tensors, labels, reduction="mean")
    loss2, grads2 = fx.linear_cross_entropy_with_grad(h, weight, y % 6, reduction="mean")
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 2e-5)
    np.testing.assert_allclose(host(loss), loss2, rtol=1e-5)
    np.testing.assert_allclose(host(grads.weight), grads2.weight.astype(float), rtol=tolerance,
                               atol=tolerance)  # fmt: skip
    assert grads.weight.dtype.name == dtype
    assert grads.bias is None
    _, grads = fx.nce_loss_with_grad(*tensors, labels, num_sampled=3, rng=0)
    assert grads.ids.dtype.name == "int64"
    assert grads.weight.dtype.name == dtype


def test_tensors_of_several_devices(torch):
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    with pytest.raises(ValueError, match="labels must be on the device of logits, 0; got 1"):
        fx.sparse_softmax_cross_entropy(Tensor(x), Tensor(y, index=1))
    with pytest.raises(ValueError, match="weight must be on the device of inputs, 0; got 1"):
        fx.linear_cross_entropy(Tensor(x), Tensor(x, index=1), Tensor(y))


def test_streams(torch, monkeypatch):
    """Work goes to the caller's current stream, by the address that its library tells."""
    from fastxent._cuda import _arrays

    def stream(x):
        library = _arrays.Library("x", x)
        library.array("x", x)
        return library.stream().stream

    class Streamed(on_gpu.Simulated):
        """Says itself on which stream it is ready."""

        ready = None

        @property
        def __cuda_array_interface__(self):
            return super().__cuda_array_interface__ | {"stream": self.ready}

    class Protocol(Streamed):
        def __cuda_stream__(self):
            return 0, 9

    cupy = types.ModuleType("cupy")
    current = types.SimpleNamespace(ptr=6)
    cupy.cuda = types.SimpleNamespace(get_current_stream=lambda: current)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    array = type("ndarray", (on_gpu.Simulated,), {"__module__": "cupy"})
    x = np.zeros(3, np.float32)
    arrays = [Tensor(x), array(x), Protocol(x)]
    for ready in (None, 1, 2, 7):
        arrays.append(Streamed(x))
        arrays[-1].ready = ready
    stand_in = types.SimpleNamespace(
        external_stream=lambda pointer: pointer, per_thread_default_stream=lambda: "own"
    )
    monkeypatch.setattr(_arrays, "cuda", stand_in)
    monkeypatch.setattr(_arrays, "SIMULATED", False)
    assert [stream(a) for a in arrays] == [5, 6, 9, 0, 0, "own", 7]
    current.ptr = 0
    assert stream(arrays[1]) == 0


class DLPackOnly:
    """An array that has no other way to its memory."""

    device = "simulated"

    def __init__(self, a):
        self.a = a

    def __dlpack_device__(self):
        return 2, 0

    def __array_namespace__(self):
        return on_gpu.Namespace


class View:
    """What ``cuda.core`` makes of such an array."""

    def __init__(self, a):
        self.ptr, self.shape = a.__array_interface__["data"][0], a.shape
        self.strides = None if a.flags.c_contiguous else tuple(s // a.itemsize for s in a.strides)
        self.dtype, self.readonly = a.dtype, not a.flags.writeable

    @classmethod
    def from_dlpack(cls, x, stream_ptr):
        assert stream_ptr == -1
        return cls(x.a)


@pytest.mark.parametrize("by", ["cupy", "torch", "cuda.core", None])
def test_dlpack(monkeypatch, by):
    """Through CuPy or PyTorch if one is loaded, else through cuda.core."""
    for name in ("cupy", "torch", "cuda", "cuda.core", "cuda.core.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("cupy", "torch"):
        monkeypatch.delitem(sys.modules, name)
    if by in ("cupy", "torch"):
        module = types.ModuleType(by)
        module.from_dlpack = lambda x: on_gpu.Simulated(x.a)
        monkeypatch.setitem(sys.modules, by, module)
    elif by:
        for name in ("cuda", "cuda.core", "cuda.core.utils"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["cuda.core.utils"].StridedMemoryView = View
    x = np.arange(24, dtype=np.float32).reshape(3, 8) / 7
    if by is None:
        with pytest.raises(TypeError, match=r"^x has DLPack only, which needs CuPy or PyTorch"):
            fx.softmax(DLPackOnly(x))
        return
    for a in (x, x.T, x[:, ::2]):
        got = fx.softmax(DLPackOnly(a))
        assert type(got) is on_gpu.Simulated
        np.testing.assert_allclose(got.a, fx.softmax(a), rtol=1e-6)
