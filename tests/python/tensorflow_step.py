"""One training step of a small convolutional network in TensorFlow: what tests/fixtures/tensorflow_step.json holds.

    tensorflow_step.py > tensorflow_step.json

Needs tensorflow-cpu, which the tests do not; the file was made with the version that it names. Inputs and weights
are numbers of a linear congruential generator, so that the test can make them again; tensors are written in the
layout of ONNX.
"""

import json

import numpy as np
import tensorflow as tf

STATE = 11


def numbers(*shape):
    global STATE
    values = []
    for _ in range(int(np.prod(shape))):
        STATE = (STATE * 1_664_525 + 1_013_904_223) % 2**32
        values.append((STATE >> 8) / (1 << 23) - 1.0)
    return np.array(values, np.float32).reshape(shape)


def main():
    # [channels, images, height, width], as the network takes it.
    image = numbers(4, 2, 9, 9).transpose(1, 2, 3, 0)
    shapes = [(6, 4, 3, 3), (6,), (6,), (6,), (6, 1, 3, 3), (8, 12, 1, 1), (8, 5), (5,)]
    values = [numbers(*shape) for shape in shapes]
    mean, variance = 0.1 * numbers(6), 1.0 + 0.5 * numbers(6)

    def to_tf(value):
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value

    def to_onnx(value):
        return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value

    weights = [tf.Variable(to_tf(value)) for value in values]
    w0, b0, scale, shift, depthwise, w5, w6, b7 = weights
    with tf.GradientTape() as tape:
        x = tf.nn.conv2d(image, w0, 2, "SAME") + b0
        x = tf.nn.batch_normalization(x, mean, variance, shift, scale, 1e-3)
        x = tf.nn.relu6(x)
        # TensorFlow has a depthwise kernel as [height, width, channels, 1].
        y = tf.nn.depthwise_conv2d(x, tf.transpose(depthwise, [0, 1, 3, 2]), [1, 1, 1, 1], "SAME")
        y = tf.nn.silu(y) + x
        pooled = tf.nn.avg_pool2d(y, 3, 1, "SAME")
        y = tf.concat([y, pooled], -1)
        y = tf.nn.max_pool2d(y, 2, 2, "VALID")
        y = tf.nn.relu(tf.nn.conv2d(y, w5, 1, "VALID"))
        logits = tf.reduce_mean(y, [1, 2]) @ w6 + b7
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1, 4], logits=logits))
    gradients = tape.gradient(loss, weights)
    # Keras adds epsilon before it corrects the second moment for its bias, the papers and PyTorch after.
    adam = tf.keras.optimizers.Adam(0.01, epsilon=1e-8 * np.sqrt(1 - 0.999))
    adam.apply_gradients(zip(gradients, weights))
    flat = lambda tensors: [to_onnx(np.asarray(t)).ravel().tolist() for t in tensors]
    print(
        json.dumps(
            {
                "origin": f"tests/python/tensorflow_step.py, tensorflow-cpu {tf.__version__}",
                "loss": float(loss),
                "logits": np.asarray(logits).tolist(),
                "gradients": flat(gradients),
                "after_adam": flat(weights),
            }
        )
    )


if __name__ == "__main__":
    main()
