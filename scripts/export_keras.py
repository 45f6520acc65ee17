"""Exports a network of keras.applications to ONNX, with its model card.

    export_keras.py MobileNetV2                        ImageNet weights, without the classifier
    export_keras.py MobileNetV2 --top                  with the classifier, so that `tl-batch classify` runs it
    export_keras.py Xception --weights random --out /srv/models
    export_keras.py --list                             names of the networks

Writes DIR/<name>.onnx and DIR/<name>.toml; `tl-batch --model <name>` finds them where DIR is one of its model
folders. Layers keep their names, BatchNormalization stays separate, tensors are N x C x H x W. The result is
compared with Keras in ONNX Runtime before it is written. Needs the packages of scripts/requirements-keras.txt:
scripts/venv target/keras-venv scripts/requirements-keras.txt
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402

from keras_graph import Converter  # noqa: E402
from model_card import lines, model_card  # noqa: E402

# Smallest input of networks that accept no less than 32 pixels.
MIN_SIZE = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
TOLERANCE = 1e-4


def networks():
    """Names of all networks of keras.applications, with their builders."""
    found = {}
    for name in dir(keras.applications):
        builder = getattr(keras.applications, name)
        if name[0].isupper() and callable(builder):
            found[name] = builder
    return found


def preprocessing(builder):
    """The function preprocess_input of the network's module."""
    return sys.modules[builder.__module__].preprocess_input


def build(name, weights, top, size, seed):
    """Returns the Keras model; random weights also have random BatchNormalization statistics."""
    keras.utils.set_random_seed(seed)
    builder = networks()[name]
    options = {"weights": "imagenet" if weights == "imagenet" else None, "include_top": top}
    if top:
        # Without this the graph would end in probabilities and have no logits.
        options["classifier_activation"] = None
    size = size or default_size(builder)
    model = builder(input_shape=(size, size, 3), **options)
    if weights == "random":
        randomise(model, np.random.default_rng(seed), preprocessing(builder))
    return model


def default_size(builder):
    """The input size of the network with its classifier; the usual one for networks that take any."""
    return builder(weights=None, include_top=True).input_shape[1] or 224


def noise(rng, count, size):
    """Images of coloured squares of 8 x 8 pixels, [count, size, size, 3] in 0..255."""
    coarse = rng.uniform(0, 255, (count, size // 8 + 1, size // 8 + 1, 3))
    return coarse.repeat(8, 1).repeat(8, 2)[:, :size, :size].astype(np.float32)


def randomise(model, rng, prepare):
    """Gives a network random weights with which its results depend on its input as those of a trained one do.

    Kernels are He's; BatchNormalization has the statistics of four pictures of noise, then shaken, and weights away
    from 1 and 0, so that a wrong fold shows. With Keras' own random weights the deep features of some networks
    are the same for all pictures, and a comparison of them would say nothing.
    """
    normalisations = []
    for layer in model.layers:
        kind = type(layer).__name__
        for weight in layer.weights:
            name, shape = weight.path.rsplit("/", 1)[-1], weight.shape
            if "kernel" in name:
                per_output = shape[:2] if "depthwise" in name or kind == "DepthwiseConv2D" else shape[:-1]
                deviation = (2 / np.prod(per_output)) ** 0.5
                weight.assign(rng.normal(0, deviation, shape).astype(np.float32))
            elif name == "gamma" or kind == "LayerScale":
                weight.assign(rng.uniform(0.6, 1.4, shape).astype(np.float32))
            elif name in ("beta", "bias"):
                weight.assign(rng.normal(0, 0.1, shape).astype(np.float32))
        if kind == "BatchNormalization":
            normalisations.append((layer, layer.momentum))
            layer.momentum = 0.0
    model(prepare(noise(rng, 4, model.input_shape[1])), training=True)
    for layer, momentum in normalisations:
        layer.momentum = momentum
        mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
        shift = rng.normal(0, 0.1, mean.shape) * np.sqrt(variance)
        layer.moving_mean.assign((mean + shift).astype(np.float32))
        layer.moving_variance.assign((variance * rng.uniform(0.7, 1.4, mean.shape) + 1e-3).astype(np.float32))


def preprocess_mode(model_builder):
    """Finds out what preprocess_input of the network's module does: `tf`, `caffe`, `torch` or `none`."""
    pixel = np.array([[[[10.0, 100.0, 200.0]]]], np.float32)
    found = np.asarray(preprocessing(model_builder)(pixel.copy())).reshape(3)
    expected = {
        "none": pixel.reshape(3),
        "tf": pixel.reshape(3) / 127.5 - 1,
        "caffe": pixel.reshape(3)[::-1] - [103.939, 116.779, 123.68],
        "torch": (pixel.reshape(3) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    }
    for mode, values in expected.items():
        if np.allclose(found, values, atol=1e-3):
            return mode
    raise SystemExit(f"preprocess_input gives {found} for {pixel.reshape(3)}, which no known mode does")


PREPROCESS = {
    "none": ("rgb", 1.0, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
    "tf": ("rgb", 1 / 127.5, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
    "caffe": ("bgr", 1.0, [103.939, 116.779, 123.68], [1.0, 1.0, 1.0]),
    "torch": ("rgb", 1 / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


def card_text(name, keras_name, model, weights, top, mode, data):
    """The model card, as tl reads it."""
    size = model.input_shape[1]
    if top:
        # The last layer with weights is the classifier; what it reads is the feature.
        tail = '# The feature and the logits are found in the graph.\nlabels = "imagenet-1k"\n'
    else:
        tail = lines({"cut": model.layers[-1].name, "pool": "avg"})
    is_trained = weights == "imagenet"
    origin = "ImageNet weights" if is_trained else "random weights, of no use but for tests"
    place = f"keras.applications.{keras_name}, https://keras.io/api/applications"
    facts = {
        "source": f"Keras {keras.__version__}, {place}, {origin}",
        "license": "see source" if is_trained else None,
        "parameters": model.count_params(),
        "input-size": size,
        "min-size": size if top else MIN_SIZE.get(keras_name, 32),
    }
    remark = [
        f"preprocess_input of Keras, mode {mode}. Keras' load_img takes the nearest pixel unless told otherwise,",
        "which loses detail in a reduction; antialiased bilinear keeps it.",
    ]
    order, scale, mean, std = PREPROCESS[mode]
    preprocess = {"resize": "stretch", "filter": "bilinear", "order": order, "scale": scale, "mean": mean, "std": std}
    return model_card(name, keras_name, data, facts, tail, remark, preprocess)


def compare(model, onnx_model, prepare, seed):
    """Runs both on two random images; returns the largest difference, relative to the largest value."""
    rng = np.random.default_rng(seed)
    size = model.input_shape[1]
    pictures = np.asarray(prepare(noise(rng, 2, size)))
    theirs = np.asarray(model(pictures, training=False))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(onnx_model.SerializeToString())
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        ours = session.run(None, {"image": pictures.transpose(0, 3, 1, 2)})[0]
    if ours.ndim == 4:
        ours = ours.transpose(0, 2, 3, 1)
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-6))


def export(keras_name, out, weights="imagenet", top=False, size=None, seed=0, name=None):
    """Writes <name>.onnx and <name>.toml into `out`; returns the Keras model, the name and the mode."""
    builder = networks()[keras_name]
    name = name or keras_name.lower()
    model = build(keras_name, weights, top, size, seed)
    onnx_model = Converter(model, name).convert(free_size=not top)
    onnx.checker.check_model(onnx_model, full_check=False)
    difference = compare(model, onnx_model, preprocessing(builder), seed)
    if not difference <= TOLERANCE:
        sys.exit(f"the ONNX file of {keras_name} differs from Keras by {difference:.1e} of the largest value")
    mode = preprocess_mode(builder)
    data = onnx_model.SerializeToString(deterministic=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.onnx").write_bytes(data)
    (out / f"{name}.toml").write_text(card_text(name, keras_name, model, weights, top, mode, data))
    return model, name, mode, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", help="a class of keras.applications, such as MobileNetV2")
    parser.add_argument("--list", action="store_true", help="list the networks and exit")
    parser.add_argument("--weights", choices=["imagenet", "random"], default="imagenet")
    parser.add_argument("--top", action="store_true", help="keep the ImageNet classifier; the input size is then fixed")
    parser.add_argument("--input-size", type=int, metavar="PX", help="height and width [default: the network's own]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights [default: 0]")
    parser.add_argument("--name", help="name of the backbone [default: the network's, in lower case]")
    parser.add_argument("--out", type=Path, default=Path("models"), metavar="DIR", help="[default: models]")
    args = parser.parse_args()
    if args.list:
        print("\n".join(networks()))
        return
    if args.network not in networks():
        sys.exit(f"keras.applications has no {args.network}; --list names its networks")
    model, name, mode, difference = export(
        args.network, args.out, args.weights, args.top, args.input_size, args.seed, args.name
    )
    print(
        f"{args.out / name}.onnx: {model.count_params():,} parameters, preprocessing mode {mode}, "
        f"differs from Keras by {difference:.1e} of the largest value"
    )


if __name__ == "__main__":
    main()
