"""Runs a whole ONNX file in ONNX Runtime on a given input tensor.

    run_model.py MODEL.onnx INPUT.npy OUT_DIR

Writes each output as OUT_DIR/<name>.npy, `/` and `:` in names becoming `_`, and prints a JSON object:
the model's inputs and metadata, and file, shape and dtype of each output.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from onnx_session import open_session


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()

    session = open_session(args.model)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    first_input = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]
    outputs = {}
    for name, values in zip(names, session.run(names, {first_input: np.load(args.input)})):
        file = args.out_dir / (name.replace("/", "_").replace(":", "_") + ".npy")
        np.save(file, values)
        outputs[name] = {"file": str(file), "shape": values.shape, "dtype": str(values.dtype)}
    facts = {
        "inputs": {tensor.name: tensor.shape for tensor in session.get_inputs()},
        "metadata": session.get_modelmeta().custom_metadata_map,
        "outputs": outputs,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
