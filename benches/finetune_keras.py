"""Five-fold accuracy of fine-tuning VGG16's last block, here and in Keras, on the folds of examples/shuffles.rs.

    finetune_keras.py DATASET FOLDER

FOLDER has `maps`, a store of block4_pool; `block5.npz`, the weights of the last block; standard input has a line for each
shuffle. Keras trains the textbook's dense head on averaged features (256 units, half of them dropped, softmax; Adam 1e-3,
30 epochs), then block 5 with it for ten epochs (Adam 2e-5), both in batches of 32 without augmentation. tl runs its recipes
`linear` and `finetune` on the same backbone.
"""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from tensorflow import keras

WARMUP_EPOCHS, JOINT_EPOCHS = 30, 10


def ours(dataset, folder, seed, recipe):
    """The accuracy that `fit --recipe` prints."""
    command = [os.environ["TL_BATCH"], "-q", "fit", dataset, "--model", "vgg16", "--pool", "avg"]
    command += ["--recipe", recipe, "--folds", "5", "--seed", str(seed), "-o", str(folder / "tuned.onnx"), "--force"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"5-fold cross-validation: accuracy ([0-9.]+)", said)[1])


def block5(weights):
    layers = []
    for number in (1, 2, 3):
        name = f"block5_conv{number}"
        layer = keras.layers.Conv2D(512, 3, padding="same", activation="relu", name=name)
        layer.build((None, 9, 9, 512))
        layer.set_weights([weights[name + "/kernel"].transpose(2, 3, 1, 0), weights[name + "/bias"]])
        layers.append(layer)
    return keras.Sequential([keras.Input((9, 9, 512)), *layers, keras.layers.MaxPooling2D()])


def compiled(model, rate):
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fold(maps, labels, held_out, weights, seed):
    """How many held-out images are right with the head alone, and after joint training."""
    keras.utils.set_random_seed(seed)
    base = block5(weights)
    pooled = keras.layers.GlobalAveragePooling2D()
    features = np.asarray(pooled(base.predict(maps, verbose=0)))
    layers = [keras.layers.Dense(256, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(int(labels.max()) + 1, "softmax")]
    head = keras.Sequential([keras.Input((512,)), *layers])
    compiled(head, 1e-3).fit(features[~held_out], labels[~held_out], batch_size=32, epochs=WARMUP_EPOCHS, verbose=0)
    frozen = head.evaluate(features[held_out], labels[held_out], verbose=0)[1]
    whole = compiled(keras.Sequential([base, pooled, head]), 2e-5)
    whole.fit(maps[~held_out], labels[~held_out], batch_size=32, epochs=JOINT_EPOCHS, verbose=0)
    tuned = whole.evaluate(maps[held_out], labels[held_out], verbose=0)[1]
    return np.round(np.array([frozen, tuned]) * held_out.sum())


def main():
    dataset, folder = sys.argv[1], Path(sys.argv[2])
    maps = np.load(folder / "maps" / "features.npy").astype(np.float32)
    with open(folder / "maps" / "index.csv", newline="") as file:
        classes = [row["class"] for row in csv.DictReader(file)]
    labels = np.array([sorted(set(classes)).index(name) for name in classes])
    weights = np.load(folder / "block5.npz")

    rows = []
    print("| shuffle | tl, linear | tl, finetune | Keras, dense head | Keras, block 5 tuned |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    for line in sys.stdin:
        shuffle = json.loads(line)
        seed, fold_of = shuffle["seed"], np.array(shuffle["fold_of"])
        right = sum(fold(maps, labels, fold_of == number, weights, seed) for number in np.unique(fold_of))
        own = [ours(dataset, folder, seed, recipe) for recipe in ("linear", "finetune")]
        rows.append([*own, *(right / len(labels))])
        print(f"| {seed} |" + "".join(f" {accuracy:.4f} |" for accuracy in rows[-1]), flush=True)
    rows = np.array(rows)
    print("| mean |" + "".join(f" {accuracy:.4f} |" for accuracy in rows.mean(axis=0)))
    print("| ± over shuffles |" + "".join(f" {spread:.4f} |" for spread in rows.std(axis=0, ddof=1)))


main()
