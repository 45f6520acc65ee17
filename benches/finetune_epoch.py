"""Seconds per epoch of fine-tuning VGG16 from block5_conv1 at 150×150, here and in Keras, in turn.

    finetune_epoch.py DATASET ROUNDS

Both train on all images of DATASET from stored feature maps of block4_pool, with averaged features, a dense softmax layer,
Adam and batches of 32, on one thread per core; Keras gets random feature maps, since time does not depend on them. Prints
a line per round, and the medians of wall time and CPU time, since the machine may be shared. Then the time of the usual
way in Keras, the whole network in each epoch with the layers before block5_conv1 frozen, and of running those layers
once, here.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from tensorflow import keras

EPOCHS = 4  # of which the first of each round does not count


def processor_seconds(pid):
    """User and system time used by a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ours(dataset, folder):
    """Wall and CPU time of each epoch, the number of images, and the wall time of the frozen layers; their feature maps are
    stored in `folder`, and take no time if they are there already."""
    command = [os.environ["TL_BATCH"], "--json", "finetune", "vgg16", dataset, "--unfreeze-from", "block5_conv1"]
    command += ["--pool", "avg", "--validation-split", "0", "--epochs", "1", "--tune-epochs", str(EPOCHS)]
    command += ["-o", f"{folder}/tuned.onnx", "--force"]
    marks, pictures, tuning, frozen = [], 0, False, {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "scanned":
                pictures = event["images"]
            if event["event"] == "phase":
                tuning = event["phase"] == "tune"
                if "began" in frozen:
                    frozen.setdefault("ended", time.perf_counter())
                if event["phase"] == "extract":
                    frozen["began"] = time.perf_counter()
            if tuning and event["event"] in ("phase", "epoch"):
                marks.append((time.perf_counter(), processor_seconds(process.pid)))
    if process.returncode != 0:
        sys.exit(f"failed: {' '.join(command)}")
    epochs = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(marks, marks[1:])]
    return epochs, pictures, frozen["ended"] - frozen["began"]


def keras_model():
    layers = [keras.layers.Conv2D(512, 3, padding="same", activation="relu") for _ in range(3)]
    end = [keras.layers.MaxPooling2D(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5, "softmax")]
    model = keras.Sequential([keras.Input((9, 9, 512)), *layers, *end])
    model.compile(keras.optimizers.Adam(2e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def whole_keras_model():
    base = keras.applications.VGG16(weights=None, include_top=False, pooling="avg", input_shape=(150, 150, 3))
    for layer in base.layers:
        layer.trainable = layer.name.startswith("block5")
    model = keras.Sequential([base, keras.layers.Dense(5, "softmax")])
    model.compile(keras.optimizers.Adam(2e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def theirs(model, maps, labels, epochs=EPOCHS):
    times = []
    for _ in range(epochs):
        started, worked = time.perf_counter(), time.process_time()
        model.fit(maps, labels, batch_size=32, epochs=1, verbose=0)
        times.append((time.perf_counter() - started, time.process_time() - worked))
    return times


def main():
    dataset, rounds = sys.argv[1], int(sys.argv[2])
    model, all_ours, all_theirs = keras_model(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            found, pictures, seconds = ours(dataset, folder)
            frozen = seconds if number == 0 else frozen
            maps = np.random.default_rng(0).random((pictures, 9, 9, 512), np.float32)
            expected = theirs(model, maps, np.arange(pictures) % 5)
            all_ours += found[1:]
            all_theirs += expected[1:]
            for name, times in (("tl-batch", found), (f"Keras, tensorflow {tf.__version__}", expected)):
                print(f"round {number + 1}, {name}:", *(f"{wall:.2f} s ({work:.2f})" for wall, work in times), flush=True)
    images = np.random.default_rng(0).random((pictures, 150, 150, 3), np.float32)
    whole = theirs(whole_keras_model(), images, np.arange(pictures) % 5, epochs=2)[1]
    print(f"\n| {pictures} images | wall time | CPU time |\n| --- | ---: | ---: |")
    for name, times in (("tl-batch", all_ours), (f"Keras, tensorflow-cpu {tf.__version__}", all_theirs)):
        walls, works = zip(*times)
        print(f"| {name} | {statistics.median(walls):.2f} s | {statistics.median(works):.2f} s |")
    print(f"| tl-batch, frozen layers, once | {frozen:.2f} s | |")
    print(f"| Keras, the whole network | {whole[0]:.2f} s | {whole[1]:.2f} s |")


main()
