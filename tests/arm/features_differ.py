"""Compares two feature arrays: features_differ.py ONE.npy OTHER.npy. Ends with 1 if a value differs by more than 1e-4 of
itself and the mean of its row, or if there is nothing to compare."""

import ast
import struct
import sys


def read(path):
    """Rows of a float32 file of NumPy's format, version 1."""
    data = open(path, "rb").read()
    assert data[:8] == b"\x93NUMPY\x01\x00", path
    length = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10 : 10 + length].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"], header
    rows, width = header["shape"]
    values = struct.unpack(f"<{rows * width}f", data[10 + length :])
    return [values[row * width : (row + 1) * width] for row in range(rows)]


one, other = read(sys.argv[1]), read(sys.argv[2])
assert len(one) == len(other) >= 3 and len(one[0]) == len(other[0]) >= 1000
worst = 0.0
for a, b in zip(one, other):
    mean = sum(map(abs, b)) / len(b)
    assert mean > 0
    worst = max(worst, max(abs(x - y) / (abs(y) + mean) for x, y in zip(a, b)))
print(f"{len(one)} pictures, {len(one[0])} features: largest relative difference {worst:.1e}")
sys.exit(0 if worst <= 1e-4 else 1)
