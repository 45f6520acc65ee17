"""Quantises an ONNX file with ONNX Runtime's own tool, on given input tensors.

    quantize_static.py FLOAT.onnx CALIBRATION.npy OUT.onnx [minmax|percentile|entropy]

Static, in QDQ form, int8 weights with a scale for each channel, uint8 activations. BatchNormalization is folded first, by
ONNX Runtime's basic optimisation.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static


class Tensors(CalibrationDataReader):
    def __init__(self, name, tensors):
        self.rest = iter({name: tensor[None]} for tensor in tensors)

    def get_next(self):
        return next(self.rest, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("calibration")
    parser.add_argument("out")
    parser.add_argument("method", nargs="?", default="minmax", choices=["minmax", "percentile", "entropy"])
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        folded = str(Path(folder) / "folded.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = folded
        session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
        quantize_static(
            folded,
            args.out,
            Tensors(session.get_inputs()[0].name, np.load(args.calibration)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method={
                "minmax": CalibrationMethod.MinMax,
                "percentile": CalibrationMethod.Percentile,
                "entropy": CalibrationMethod.Entropy,
            }[args.method],
        )


if __name__ == "__main__":
    main()
