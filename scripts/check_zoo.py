"""Compares tl-batch with Keras: parameters, and features at the last layer and at three inner ones; and fine-tunes.

    check_zoo.py --program target/release/tl-batch [NETWORK...]

Exports each network of keras.applications with random weights (BatchNormalization statistics too), runs
`tl-batch summary` and `tl-batch extract` on it, and `tl-batch finetune` on datasets/tiny from the deepest layer that can
be trained; prints a table in Markdown. Exits with 1 if a parameter total differs, or a feature by more than
1e-3 + 1e-4 of its value, or if the trained model gives different results when it runs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import export_keras
import keras
import numpy as np
from PIL import Image

NETWORKS = [
    "VGG16",
    "VGG19",
    "ResNet50",
    "InceptionV3",
    "Xception",
    "MobileNet",
    "MobileNetV2",
    "EfficientNetB0",
    "DenseNet121",
    "NASNetMobile",
    "MobileNetV3Small",
    "EfficientNetV2B0",
    "ConvNeXtTiny",
]
PICTURES = 3
TINY = Path(__file__).parent.parent / "datasets" / "tiny"
# Keras counts as a parameter how many images its Normalization layer has seen; an ONNX file has no such number.
COUNTERS = {"EfficientNetB0": 1}
KINDS = ("Add", "Concatenate", "MaxPooling2D", "Activation", "ReLU", "BatchNormalization")


def write_pictures(folder, size, rng):
    """Writes images of the network's own size, so that nothing is resized; returns them as uint8 arrays."""
    folder.mkdir()
    pictures = []
    for i in range(PICTURES):
        coarse = rng.integers(0, 256, (9, 9, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i}.png")
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def inner_layers(model):
    """A layer about each quarter of the way."""

    def is_node(layer):
        is_identity = getattr(getattr(layer, "activation", None), "__name__", "") == "linear"
        return type(layer).__name__ in KINDS and len(layer.output.shape) == 4 and not is_identity

    layers = [layer for layer in model.layers[:-1] if is_node(layer)]
    return [layers[round(len(layers) * share)] for share in (0.25, 0.5, 0.75)]


def try_to_run(program, arguments, folder):
    """Runs tl-batch."""
    environment = {**os.environ, "TL_MODELS": str(folder)}
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=environment, cwd=folder)


def run(program, arguments, folder):
    """Runs tl-batch and returns its output."""
    done = try_to_run(program, arguments, folder)
    if done.returncode:
        sys.exit(f"tl-batch {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def finetune(program, name, first, folder):
    """Trains an epoch from the layer `first`, or the deepest that can be trained; returns its name, and whether the model
    gives the same results when it runs."""

    def arguments(layer):
        epochs = ["--epochs", "1", "--tune-epochs", "1", "--tune-warmup-epochs", "0", "--pool", "avg"]
        return ["finetune", name, str(TINY), "--unfreeze-from", layer, *epochs, "-o", f"{name}-tuned.onnx"]

    done = try_to_run(program, arguments(first), folder)
    if done.returncode:
        better = re.search(r"(?:first layer that can be trained|earliest layer to train from) is (\S+)", done.stderr)
        if not better:
            sys.exit(f"tl-batch {' '.join(arguments(first))}: {done.stderr.strip()}")
        first = better[1]
        return first, "same results: TRUE" in run(program, arguments(first), folder)
    return first, "same results: TRUE" in done.stdout


def check(program, network, folder):
    """Returns a row of the table, and whether everything is correct."""
    model, name, mode, _ = export_keras.export(network, folder, weights="random")
    module = sys.modules[export_keras.networks()[network].__module__]
    rng = np.random.default_rng(1)
    pictures = write_pictures(folder / f"{name}-pictures", model.input_shape[1], rng)
    layers = [*inner_layers(model), model.layers[-1]]
    inner = keras.Model(model.input, [layer.output for layer in layers])
    theirs = inner(module.preprocess_input(pictures.astype(np.float32)), training=False)

    lines = [json.loads(line) for line in run(program, ["summary", name, "--json"], folder).splitlines()]
    parameters = sum(line["trainable"] + line["non_trainable"] for line in lines)
    cuts = [word for layer in layers for word in ("--cut", layer.name)]
    out = folder / f"{name}.features"
    run(program, ["extract", f"{name}-pictures", "--model", name, *cuts, "--pool", "none", "--out", str(out)], folder)
    arrays = json.loads((out / "meta.json").read_text())["arrays"]
    worst, largest, right = 0.0, 0.0, True
    for array, layer, values in zip(arrays, layers, theirs):
        ours, values = np.load(out / array["file"]), np.asarray(values)
        if ours.shape != values.shape:
            sys.exit(f"{network} at {layer.name}: shape {ours.shape}, in Keras {values.shape}")
        difference = np.abs(ours - values)
        right &= bool(np.all(difference <= 1e-3 + 1e-4 * np.abs(values)))
        spread = float(np.abs(values - values[0]).max() / max(np.abs(values).max(), 1e-9))
        if spread < 0.01:
            sys.exit(f"{network} at {layer.name}: the same for all images, so a comparison is meaningless")
        worst = max(worst, float(difference.max()))
        largest = max(largest, float(np.abs(values).max()))
    expected = model.count_params()
    right &= parameters == expected - COUNTERS.get(network, 0)
    size = model.input_shape[1]
    with_weights = [line["name"] for line in lines if line["trainable"]]
    trained_from, same = finetune(program, name, with_weights[0], folder)
    right &= same
    cut_names = ", ".join(f"`{layer.name}`" for layer in layers)
    row = (
        f"| {network} | {size} | {mode} | {expected:,} | {parameters:,} | {worst:.1e} of {largest:.3g} "
        f"| {cut_names} | `{trained_from}` |"
    )
    return row, right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    args = parser.parse_args()
    program = args.program.resolve()
    print("| network | input | mode | parameters, Keras | parameters, tl | largest difference | feature layers | trained from |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    all_right = True
    for network in args.networks:
        with tempfile.TemporaryDirectory() as folder:
            row, right = check(program, network, Path(folder))
        print(row if right else f"{row} WRONG", flush=True)
        all_right &= right
    sys.exit(not all_right)


if __name__ == "__main__":
    main()
