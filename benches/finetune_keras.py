"""Seconds of an epoch, and of processor time where others use the machine, of fine-tuning VGG16's block 5 in Keras, from cached `block4_pool` maps at 150×150.

    finetune_keras.py [EPOCHS]

Needs tensorflow-cpu. 179 pictures (random maps: time does not depend on them), batches of 32, Adam.
"""

import sys
import time

import numpy as np
import tensorflow as tf
from tensorflow import keras

maps = np.random.default_rng(0).random((179, 9, 9, 512), np.float32)
labels = np.arange(179) % 5
layers = [keras.layers.Conv2D(512, 3, padding="same", activation="relu") for _ in range(3)]
model = keras.Sequential(
    [keras.Input((9, 9, 512)), *layers, keras.layers.MaxPooling2D(), keras.layers.GlobalAveragePooling2D()]
    + [keras.layers.Dense(5, activation="softmax")]
)
model.compile(keras.optimizers.Adam(2e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
for epoch in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
    started, worked = time.perf_counter(), time.process_time()
    model.fit(maps, labels, batch_size=32, epochs=1, verbose=0)
    wall, work = time.perf_counter() - started, time.process_time() - worked
    print(f"epoch {epoch + 1}: {wall:.2f} s, {work:.2f} s of processor time (tensorflow {tf.__version__})", flush=True)
