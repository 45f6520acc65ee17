"""Reads the tensors of a PyTorch state dictionary without PyTorch.

Supports the file format that `torch.save` wrote before PyTorch 1.6: pickles of the magic number, the protocol
version, the system's facts, the dictionary and the storage keys, followed by each storage's length
(little-endian int64) and raw values.
"""

import collections
import pickle
from typing import NamedTuple

import numpy as np

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

STORAGE_TYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
}


class Storage(NamedTuple):
    """A run of values that follows the pickles, found by its key."""

    dtype: np.dtype
    key: str
    length: int


class TensorView(NamedTuple):
    """A tensor as part of a storage; offset and strides count values."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


def _rebuild_tensor(storage, offset, shape, strides, *_):
    return TensorView(storage, offset, tuple(shape), tuple(strides))


class StateUnpickler(pickle.Unpickler):
    """Unpickles tensors and dictionaries and refuses every other class, so that a file cannot run code."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which does not belong in a state dictionary")

    def persistent_load(self, saved_id):
        kind, dtype, key, _device, length, _view = saved_id
        if kind != "storage":
            raise pickle.UnpicklingError(f"the file contains a {kind} instead of a storage")
        return Storage(dtype, key, length)


def read_state(path):
    """Returns the tensors of the state dictionary at `path` as numpy arrays by name.

    Raises `pickle.UnpicklingError` or `ValueError` if the file is not such a dictionary.
    """
    with open(path, "rb") as file:
        if StateUnpickler(file).load() != MAGIC_NUMBER or StateUnpickler(file).load() != PROTOCOL_VERSION:
            raise ValueError(f"{path} is not in PyTorch's file format from before 1.6")
        StateUnpickler(file).load()
        views = StateUnpickler(file).load()
        keys = StateUnpickler(file).load()
        storages = {view.storage.key: view.storage for view in views.values()}
        values = {key: _read_storage(file, storages[key]) for key in keys}
    return {name: _array(view, values[view.storage.key]) for name, view in views.items()}


def _read_storage(file, storage):
    length = int.from_bytes(file.read(8), "little")
    data = file.read(length * storage.dtype.itemsize)
    if length != storage.length or len(data) != length * storage.dtype.itemsize:
        raise ValueError(f"storage {storage.key} is truncated")
    return np.frombuffer(data, storage.dtype)


def _array(view, values):
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides))
    if min(view.offset, *view.strides, 0) < 0 or last >= values.size:
        raise ValueError(f"a tensor of shape {view.shape} reaches beyond its storage {view.storage.key}")
    strides = [s * values.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(values[view.offset :], view.shape, strides).copy()
