"""Makes pictures of 8 x 8 and bases that give their pixels, each scaled and shifted in its own way.

    make_scaled_bases.py OUT_DIR

OUT_DIR/five and OUT_DIR/ten are class folders; OUT_DIR/NAME.onnx and NAME.toml are bases with the output `f`, [N, 192].
The shifts are 0 (`shift0`), 500 to a million deviations (`shift500`, `shift1e3`, `shift1e4`, `shift1e6`), a hundred
million, where float32 holds nothing of the picture (`shift1e8`), and mixed (`shifts`); `outliers` has six features 300 times as large as the rest, `scales` features from a millionth to a million.
Prints a JSON object with the accuracy of scikit-learn's logistic regression on standardised features of `ten`, the mean of
several shuffles.
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = 192
# The standard deviation of a feature of these pictures, about.
DEVIATION = 0.37

CARD = """\
name = "{name}"
title = "{name}"
file = "{name}.onnx"
input-size = 8
cut = "f"

[preprocess]
resize = "stretch"
filter = "nearest"
order = "rgb"
layout = "nchw"
scale = 0.00392156862745098
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
"""


def pictures(random, folder, classes, each, apart):
    centres = random.normal(0, 1, (classes, FEATURES))
    features, labels = [], []
    for label, centre in enumerate(centres):
        place = folder / f"c{label:03d}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            values = 128 + 64 * (centre * apart + 0.35 * random.normal(0, 1, FEATURES))
            pixels = values.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels.reshape(3, 8, 8).transpose(1, 2, 0)).save(place / f"{number}.png")
            features.append((pixels / 255 - 0.5) / 0.25)
            labels.append(label)
    return np.array(features), np.array(labels)


def base(folder, name, scale, shift):
    weights = [
        numpy_helper.from_array(np.broadcast_to(values, FEATURES).astype(np.float32), kind)
        for kind, values in (("scale", np.asarray(scale)), ("shift", np.asarray(shift)))
    ]
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["f"]),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", FEATURES])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    (folder / f"{name}.toml").write_text(CARD.format(name=name))


def main():
    folder = Path(sys.argv[1])
    random = np.random.default_rng(3)
    pictures(random, folder / "five", 5, 20, 0.12)
    features, labels = pictures(random, folder / "ten", 10, 30, 0.10)
    for name, deviations in (("0", 0), ("500", 500), ("1e3", 1e3), ("1e4", 1e4), ("1e6", 1e6), ("1e8", 1e8)):
        base(folder, f"shift{name}", 1.0, DEVIATION * deviations)
    shifts = random.choice([0.0, 50.0, -1e3, 1e5, 1e6], FEATURES) * DEVIATION
    base(folder, "shifts", 1.0, shifts)
    base(folder, "outliers", np.where(np.arange(FEATURES) < 6, 300.0, 1.0), 0.0)
    base(folder, "scales", np.geomspace(1e-6, 1e6, FEATURES)[random.permutation(FEATURES)], 0.0)
    best = 0.0
    for penalty in (0.01, 0.1, 1.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000))
        folds = [StratifiedKFold(5, shuffle=True, random_state=seed) for seed in range(3)]
        best = max(best, float(np.mean([cross_val_score(model, features, labels, cv=f).mean() for f in folds])))
    print(json.dumps({"accuracy": best}))


if __name__ == "__main__":
    main()
