"""Opens a feature store with numpy and a CSV reader alone, and prints what it finds as a JSON object.

    open_store.py STORE_DIR
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np


def read_rows(path):
    """Returns the header and the rows of a CSV file; both are empty if there is no file."""
    if not path.exists():
        return [], []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        return list(reader.fieldnames or []), list(reader)


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    store = Path(sys.argv[1])
    features = np.load(store / "features.npy", mmap_mode="r")
    columns, index = read_rows(store / "index.csv")
    _, errors = read_rows(store / "errors.csv")
    meta = json.loads((store / "meta.json").read_text(encoding="utf-8"))
    facts = {
        "shape": features.shape,
        "dtype": str(features.dtype),
        "memory_mapped": isinstance(features, np.memmap),
        "c_order": bool(features.flags.c_contiguous),
        "finite": bool(np.isfinite(features).all()),
        "sum": float(features.sum(dtype=np.float64)),
        "index_columns": columns,
        "index_rows": len(index),
        "paths": [row["path"] for row in index if "path" in row],
        "rows_in_order": [row.get("row") for row in index] == [str(i) for i in range(len(index))],
        "classes": sorted({row["class"] for row in index if row.get("class")}),
        "splits": sorted({row["split"] for row in index if row.get("split")}),
        "errors": len(errors),
        "meta_keys": sorted(meta),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
