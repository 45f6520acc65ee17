"""Computes reference features with Pillow and ONNX Runtime.

    features.py MODEL.onnx TENSOR OUT.npy --card CARD.toml [--size N] [--pool P] PICTURE...
    features.py MODEL.onnx TENSOR OUT.npy --preprocess '{"resize": "stretch", ...}' --size N PICTURE...
    features.py MODEL.onnx TENSOR OUT.npy --input TENSORS.npy [--pool P]

OUT.npy holds float32, one row a picture. Rows are computed one by one, with a batch of one.
"""

import argparse
import json
import tomllib

import numpy as np

from onnx_session import open_session
from preprocess import input_tensor

POOLS = ["raw", "none", "avg", "max", "flatten"]


def pool(values, how, layout):
    """Pools feature maps [1, C, H, W] or [1, H, W, C]; `raw` leaves every tensor as the model gives it.

    `none` gives [1, H, W, C], `flatten` [1, H * W * C], `avg` and `max` [1, C]. Vectors stay as they are.
    """
    if how == "raw" or values.ndim != 4:
        return values
    maps = values.transpose(0, 2, 3, 1) if layout == "nchw" else values
    if how == "avg":
        return maps.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    if how == "max":
        return maps.max(axis=(1, 2))
    if how == "flatten":
        return maps.reshape(1, -1)
    return maps


def inputs(args, preprocess, size):
    """Yields the input tensors one by one, with a batch axis of one."""
    if args.input:
        for values in np.load(args.input):
            yield values[np.newaxis].astype(np.float32)
    for path in args.pictures:
        yield input_tensor(path, preprocess, size, size)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tensor")
    parser.add_argument("out")
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--card", help="model card, TOML")
    parser.add_argument("--preprocess", type=json.loads, help="the [preprocess] table as JSON, in place of a card")
    parser.add_argument("--size", type=int, help="height and width of the input (default: the card's)")
    parser.add_argument("--input", help="run these input tensors, [N, ...], in place of pictures")
    parser.add_argument("--layout", choices=["nchw", "nhwc"], help="layout of the maps (default: the card's, or nchw)")
    parser.add_argument("--pool", choices=POOLS, default="raw")
    args = parser.parse_intermixed_args()

    card = {}
    if args.card:
        with open(args.card, "rb") as file:
            card = tomllib.load(file)
    preprocess = args.preprocess or card.get("preprocess", {})
    size = args.size or card.get("input-size")
    if bool(args.input) == bool(args.pictures):
        parser.error("give pictures or --input")
    if args.pictures and not (preprocess and size):
        parser.error("pictures need --card, or --preprocess and --size")

    session = open_session(args.model, [args.tensor])
    input_name = session.get_inputs()[0].name
    layout = args.layout or preprocess.get("layout", "nchw")
    rows = []
    for tensor in inputs(args, preprocess, size):
        (values,) = session.run([args.tensor], {input_name: tensor})
        rows.append(pool(values, args.pool, layout))
    np.save(args.out, np.ascontiguousarray(np.concatenate(rows)))


if __name__ == "__main__":
    main()
