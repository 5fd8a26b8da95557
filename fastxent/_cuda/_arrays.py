"""Arrays on a GPU, whoever made them: what they are, where they are, more of their kind.

An array is seen through ``__cuda_array_interface__`` (or DLPack) as a NumPy array that
describes the same memory. NumPy's views and checks work on it; nothing may read it but
kernels. PyTorch and CuPy are never imported here: whoever hands in their arrays has done so.
"""

import importlib
import sys
import threading
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda

from .. import _check
from .._check import is_on_gpu
from . import _launch, _simulated
from ._language import SIMULATED
from ._launch import Address

Array = np.ndarray[Any, Any]

_local = threading.local()


class _Interface:
    """Some elements of a device, for Numba to copy."""

    def __init__(self, pointer: int, dtype: np.dtype[Any], count: int = 1) -> None:
        self.__cuda_array_interface__ = {
            "data": (pointer, False), "shape": (count,), "typestr": dtype.str, "strides": None,
            "version": 3, "stream": None,
        }  # fmt: skip


@dataclass(frozen=True)
class Matrix:
    """An array as NumPy sees it, and as its library multiplies it."""

    view: Array
    made: Any

    def __getitem__(self, index: Any) -> "Matrix":
        return Matrix(self.view[index], self.made[index])

    @property
    def T(self) -> "Matrix":
        return Matrix(self.view.T, self.made.T)


def _describe(name: str, x: Any) -> tuple[Array, Any]:
    """The memory of an array as NumPy sees it, and the stream that it is ready on."""
    root = type(x).__module__.partition(".")[0]
    raw = False
    if root == "torch":
        x = x.detach()
        torch = sys.modules["torch"]
        if x.dtype == torch.bfloat16:
            x, raw = x.view(torch.int16), True
    if not hasattr(x, "__cuda_array_interface__"):
        return _describe(name, _from_dlpack(name, x))
    found = x.__cuda_array_interface__
    pointer, read_only = found["data"]
    try:
        dtype = np.dtype(found["typestr"])
    except TypeError:
        raise TypeError(
            f"{name} must be real numbers; got elements of type {found['typestr']}"
        ) from None
    if found.get("mask") is not None:
        raise TypeError(f"{name} must have no mask; got a masked array")
    if not dtype.isnative:
        raise TypeError(f"{name} on a GPU must be in native byte order; got {dtype.str}")
    shape = tuple(found["shape"])
    if 0 in shape:  # there may be no address
        return np.empty(shape, "V2" if raw else dtype), found.get("stream")
    a = np.asarray(Address(pointer, shape, dtype.str, found.get("strides")))
    if pointer % dtype.itemsize or any(s % dtype.itemsize for s in a.strides):
        raise ValueError(f"{name} on a GPU must be aligned to its elements; got {pointer:#x}")
    if raw or dtype.name == "bfloat16":
        a = a.view("V2")
    if read_only:
        a.flags.writeable = False
    return a, found.get("stream")


def _from_dlpack(name: str, x: Any) -> Any:
    """An object with ``__cuda_array_interface__`` for one that has only DLPack."""
    for library in ("cupy", "torch"):
        if library in sys.modules:
            return sys.modules[library].from_dlpack(x)
    try:
        utils = importlib.import_module("cuda.core.utils")
    except ImportError:
        raise TypeError(
            f"{name} has DLPack only, which needs CuPy or PyTorch; got {type(x).__name__}"
        ) from None
    view = utils.StridedMemoryView.from_dlpack(x, stream_ptr=-1)
    dtype = np.dtype(view.dtype)
    strides = None if view.strides is None else tuple(s * dtype.itemsize for s in view.strides)
    kept = _Interface(view.ptr, dtype)
    kept.__cuda_array_interface__.update(
        shape=tuple(view.shape), strides=strides, data=(view.ptr, view.readonly)
    )
    kept.view = view  # type: ignore[attr-defined]
    return kept


class Library:
    """The arrays of one call: all on the device of the first, outputs made as it was made."""

    def __init__(self, name: str, x: Any) -> None:
        self._name, self._first = name, x
        self._root = self._root_of(x)
        self._device = self._device_of(x)
        self._alive: list[Any] = []
        self._stack = ExitStack()

    @staticmethod
    def _device_of(x: Any) -> int | None:
        """The number of its device, if the array tells."""
        device = getattr(x, "device", None)
        number = getattr(device, "index", getattr(device, "id", None))
        return number if isinstance(number, int) else None

    def __enter__(self) -> "Library":
        self._outside = len(_simulated.memory)  # of a call around this one
        if not SIMULATED and self._device is not None:
            self._stack.enter_context(cuda.gpus[self._device])
        if self._root == "cupy" and self._device is not None:
            self._stack.enter_context(self._first.device)
        return self

    def __exit__(self, *error: Any) -> None:
        if SIMULATED:
            del _simulated.memory[self._outside :]
        self._stack.close()

    def array(self, name: str, a: Any) -> Any:
        """An argument that must be on the GPU; None stays None."""
        if a is None:
            return None
        if not is_on_gpu(a):
            raise TypeError(
                f"{name} must be on the GPU, like {self._name}; got {type(a).__name__} "
                "in the host's memory"
            )
        device = self._device_of(a)
        if device is not None and self._device is not None and device != self._device:
            raise ValueError(
                f"{name} must be on the device of {self._name}, {self._device}; got {device}"
            )
        found, ready = _describe(name, a)
        self._alive.append(a)
        if a is self._first:
            self._ready = ready
        return self._known(found)

    def weight(self, name: str, a: Any) -> Any:
        """An argument that may also be a single number of the host's."""
        if a is None or is_on_gpu(a) or np.ndim(a) > 0:
            return self.array(name, a)
        return self.give(_check.real(name, a).astype(np.float64))

    def must_multiply(self) -> None:
        """Raise unless the library of the first array multiplies matrices that it makes."""
        a = self._first
        makes = self._root in ("torch", "cupy") or hasattr(a, "__array_namespace__")
        if not (makes and hasattr(type(a), "__matmul__")):
            raise TypeError(
                f"{self._name} must be an array of a library that makes and multiplies matrices on "
                "the GPU: CuPy, PyTorch, or another that follows the array API; got "
                f"{type(a).__name__}"
            )

    def matrix(self, name: str, a: Any) -> Matrix:
        """An argument that must be on the GPU, for products."""
        view = self.array(name, a)
        return Matrix(view, a.detach() if self._root_of(a) == "torch" else a)

    def multiplies(self, a: Any) -> bool:
        """Tell whether an array can be multiplied by those that are made here."""
        return self._root_of(a) == self._root

    @staticmethod
    def _root_of(a: Any) -> str:
        return type(a).__module__.partition(".")[0]

    def product(self, a: Matrix, b: Matrix) -> Matrix:
        """The product of two matrices of one dtype, by their library."""
        dtype = a.view.dtype
        if not (a.view.shape[1] and a.view.shape[0] and b.view.shape[1]):
            made = Matrix(*self.make((a.view.shape[0], b.view.shape[1]), dtype))
            _launch.move(self.on, made.view, None)
            return made
        with self._as_they_are():
            result = a.made @ b.made
        view = self._known(_describe("the product", result)[0])
        assert view.dtype == dtype, (view.dtype, dtype)
        return Matrix(view, result)

    def _as_they_are(self) -> Any:
        """A context in which a library multiplies in the dtype of the arrays."""
        if self._root != "torch":
            return nullcontext()
        return sys.modules["torch"].autocast("cuda", enabled=False)

    def line(self, name: str, a: Any, seen: Array) -> Array:
        """An argument along one axis; its library copies it where it must."""
        if seen.flags.c_contiguous:
            return seen.reshape(-1)
        return self.matrix(name, self.matrix(name, a).made.reshape((seen.size,))).view

    def _known(self, a: Array) -> Array:
        if SIMULATED and a.size:
            first, end = np.lib.array_utils.byte_bounds(a)
            _simulated.memory.append((first, end, a.flags.writeable))
        return a

    def stream(self) -> _launch.Stream:
        """The caller's current stream."""
        pointer = 0
        if self._root == "torch":
            torch = sys.modules["torch"]
            pointer = torch.cuda.current_stream(self._first.device).cuda_stream
        elif self._root == "cupy":
            pointer = sys.modules["cupy"].cuda.get_current_stream().ptr
        elif hasattr(self._first, "__cuda_stream__"):
            pointer = self._first.__cuda_stream__()[1]
        else:
            pointer = getattr(self, "_ready", None) or 0
        if pointer == 1:  # the interface's word for the legacy default stream
            pointer = 0
        stream = 0
        if pointer and not SIMULATED:
            stream = cuda.per_thread_default_stream() if pointer == 2 else (
                cuda.external_stream(pointer)
            )  # fmt: skip
        self.on = _launch.Stream(stream, self.make)
        return self.on

    def make(self, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Any]:
        """A new array of the caller's kind: as NumPy sees it, and itself."""
        dtype = np.dtype(dtype)
        if self._root == "torch":
            torch = sys.modules["torch"]
            name = "bfloat16" if dtype.kind == "V" else dtype.name
            made = torch.empty(shape, dtype=getattr(torch, name), device=self._first.device)
        elif self._root == "cupy":
            made = sys.modules["cupy"].empty(shape, dtype)
        elif hasattr(self._first, "__array_namespace__"):
            library = self._first.__array_namespace__()
            name = "bfloat16" if dtype.kind == "V" else dtype.name
            made = library.empty(shape, dtype=getattr(library, name), device=self._first.device)
        else:
            made = cuda.device_array(shape, dtype)
        return self._known(_describe("the result", made)[0]), made

    def scratch(self, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Any]:
        """Memory for as long as the launches of this call take."""
        view, made = self.make(shape, dtype)
        self._alive.append(made)
        return view, made

    def give(self, a: Array) -> Array:
        """A copy of a host's array, in the order of the stream."""
        view, made = self.scratch(a.shape, a.dtype)
        self.put(view, a)
        return view

    def put(self, view: Array, a: Array) -> None:
        """Copy a host's array to contiguous memory, in the order of the stream."""
        if SIMULATED:
            view[...] = a
        elif a.size:
            a = np.ascontiguousarray(a).reshape(-1)
            self._alive.append(a)
            place = _Interface(_launch.address(view), a.dtype, a.size)
            cuda.as_cuda_array(place, sync=False).copy_to_device(a, stream=self.on.stream)

    def fetch(self, a: Array) -> Array:
        """A copy of an array on the host; waits for it."""
        if SIMULATED or not a.size:
            return a.copy()
        first, end = np.lib.array_utils.byte_bounds(a)
        place = _Interface(first, np.dtype(np.uint8), end - first)
        stream = self.on.stream
        host = cuda.as_cuda_array(place, sync=False).copy_to_host(stream=stream)
        if stream:
            stream.synchronize()
        return np.ndarray(a.shape, a.dtype, host, _launch.address(a) - first, a.strides)

    def found(self, blocks: int) -> tuple[Array, Any]:
        """Room for what a pass over labels finds, and how to read it; the thread's own."""
        if SIMULATED:
            host = np.empty((blocks, 3))
            self._alive.append(host)
            return self._known(host), lambda stream: host
        rooms = _local.__dict__.setdefault("rooms", {})
        device = cuda.get_current_device().id
        if device not in rooms:
            rooms[device] = cuda.device_array((256, 3), np.float64)
        room = rooms[device][:blocks]
        place = Address(rooms[device].device_ctypes_pointer.value, (blocks, 3), "<f8")

        def read(stream: Any) -> Array:
            host = room.copy_to_host(stream=stream)
            if stream:
                stream.synchronize()
            return host

        return np.asarray(place), read
