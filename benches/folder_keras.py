"""End-to-end extraction, from a folder of images to features on disk, by tl-batch and by Keras: VGG16's base at 150 x 150.

    folder_keras.py FOLDER [ROUNDS]

Needs tensorflow-cpu. Keras reads the folder with `image_dataset_from_directory` and runs `predict`, in batches of 32,
with its default number of threads; its weights are random, since time does not depend on them. Starting Python and
TensorFlow and building the network are not counted; tl-batch is timed as a whole process. Each round runs both; prints the medians
and the median of the rounds' ratios.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("TL_BATCH", ROOT / "target/release/tl-batch"))
SIDE = 150
MODEL = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))


def keras_seconds(folder, out):
    start = time.perf_counter()
    pictures = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), batch_size=32, shuffle=False, labels=None, verbose=False
    )
    pictures = pictures.map(keras.applications.vgg16.preprocess_input)
    np.save(out / "features.npy", MODEL.predict(pictures, verbose=0))
    return time.perf_counter() - start


def program_seconds(folder, out):
    command = [PROGRAM, "-q", "extract", folder, "--out", out / "features", "--model", "vgg16", "--pool", "none"]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main():
    folder = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    results = {"tl-batch extract": [], f"Keras {keras.__version__}": []}
    # The first prediction builds the graph.
    with tempfile.TemporaryDirectory() as out:
        keras_seconds(folder, Path(out))
    for _ in range(rounds):
        for (name, seconds), measure in zip(results.items(), (program_seconds, keras_seconds)):
            with tempfile.TemporaryDirectory() as out:
                seconds.append(measure(folder, Path(out)))
    reference = list(results.values())[-1]
    print("| engine | seconds | speed, Keras = 1 |\n| --- | ---: | ---: |")
    for name, seconds in results.items():
        ratio = statistics.median(theirs / ours for ours, theirs in zip(seconds, reference))
        print(f"| {name} | {statistics.median(seconds):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
