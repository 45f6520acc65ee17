"""From a Keras model to an ONNX graph, layer by layer.

Keras has channels last, ONNX has them first: a Keras tensor [N, H, W, C] becomes [N, C, H, W]. Each layer's last node has
the layer's name; a fused activation is a separate node after it, `<layer>/<activation>`.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8


class Call:
    """One use of a layer: the layer's attributes, and name, input, numbers beside it and output of this use."""

    def __init__(self, layer, name, inputs, numbers, outputs):
        self.layer = layer
        self.name = name
        self.input = inputs if len(inputs) > 1 else inputs[0]
        self.numbers = numbers
        self.output = outputs[0]

    def __getattr__(self, attribute):
        return getattr(self.layer, attribute)


def calls(model):
    """Yields the uses of the model's layers in an order of execution; a layer's second use gets a number."""
    uses = {}
    for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            layer = node.operation
            count = uses[layer.name] = uses.get(layer.name, 0) + 1
            name = layer.name if count == 1 else f"{layer.name}_use{count}"
            outputs = list(node.outputs)
            # `x * 0.5` is an operation on a tensor and a number.
            numbers = [value for value in node.arguments.args if isinstance(value, (int, float))]
            yield Call(layer, name, list(node.input_tensors) or outputs, numbers, outputs)


class Converter:
    """Collects the nodes and weights of one model."""

    def __init__(self, model, name):
        self.model = model
        self.name = name
        self.nodes = []
        self.weights = []
        self.constants = {}
        # Keras tensor, by identity -> name of the ONNX tensor.
        self.tensors = {}

    def convert(self, free_size):
        """Returns the ONNX model: input `image`, output the model's; `free_size` leaves height and width open."""
        self.walk(self.model, "image")
        _, height, width, channels = self.model.input_shape
        sides = ["H", "W"] if free_size else [height, width]
        output = self.tensors[id(self.model.output)]
        shape = self.model.output_shape
        if len(shape) == 4:
            shape = [None, shape[3], None if free_size else shape[1], None if free_size else shape[2]]
        dims = ["N"] + [f"d{i}" if d is None else d for i, d in enumerate(shape[1:], 1)]
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, *sides])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, dims)],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="keras")

    def walk(self, model, image):
        """Adds the layers of a model that reads the ONNX tensor `image`."""
        for call in calls(model):
            kind = type(call.layer).__name__
            if kind == "InputLayer":
                self.tensors[id(call.output)] = image
                continue
            inputs = call.input if isinstance(call.input, list) else [call.input]
            names = [self.tensors[id(tensor)] for tensor in inputs]
            if kind in ("Sequential", "Functional"):
                inner = getattr(call.layer, "_functional", call.layer)
                self.walk(inner, *names)
                self.tensors[id(call.output)] = self.tensors[id(inner.output)]
                continue
            rule = getattr(self, f"convert_{kind}", None)
            if rule is None:
                raise SystemExit(f"layer {call.name}: no rule for layers of type {kind}")
            self.tensors[id(call.output)] = rule(call, *names)

    # Pieces

    def weight(self, name, values):
        """Adds a weight, which training would change or a BatchNormalization keeps."""
        values = np.ascontiguousarray(np.asarray(values, np.float32))
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, name, values):
        """Adds a constant that is not a parameter; equal ones are shared."""
        values = np.asarray(values)
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self.constants:
            node = helper.make_node(
                "Constant", [], [name], name=name, value=numpy_helper.from_array(values, name + "/value")
            )
            self.nodes.append(node)
            self.constants[key] = name
        return self.constants[key]

    def filled(self, value, length):
        """A vector of one value, for weights that Keras leaves out."""
        name = f"filled/{value:g}/{length}"
        if name not in self.constants:
            self.constants[name] = name
            shape = self.constant(f"{name}/shape", np.array([length], np.int64))
            fill = numpy_helper.from_array(np.array([value], np.float32), "value")
            self.nodes.append(helper.make_node("ConstantOfShape", [shape], [name], name=name, value=fill))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def activation(self, function, x, name):
        """Applies a Keras activation; the result's name is `name`, or `x` for none."""
        kind = getattr(function, "__name__", str(function))
        if kind == "linear":
            return x
        simple = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
        if kind in simple:
            return self.node(simple[kind], [x], name)
        if kind == "relu6":
            return self.clip(x, 6.0, name)
        if kind == "softmax":
            return self.node("Softmax", [x], name, axis=1)
        if kind in ("silu", "swish"):
            return self.node("Mul", [x, self.node("Sigmoid", [x], name + "/sigmoid")], name)
        if kind == "hard_sigmoid":
            return self.node("HardSigmoid", [x], name, alpha=1 / 6, beta=0.5)
        if kind in ("hard_silu", "hard_swish"):
            gate = self.node("HardSigmoid", [x], name + "/hard_sigmoid", alpha=1 / 6, beta=0.5)
            return self.node("Mul", [x, gate], name)
        if kind == "gelu":
            # x/2 (1 + erf(x/√2)), Keras's default; `approximate=True` is no activation by name.
            half = self.constant("constant/0.5", np.array(0.5, np.float32))
            one = self.constant("constant/1", np.array(1, np.float32))
            root = self.constant("constant/root-half", np.array(0.5**0.5, np.float32))
            gate = self.node("Erf", [self.node("Mul", [x, root], name + "/scaled")], name + "/erf")
            gate = self.node("Mul", [self.node("Add", [gate, one], name + "/shifted"), half], name + "/gate")
            return self.node("Mul", [x, gate], name)
        raise SystemExit(f"layer {name}: no rule for the activation {kind}")

    def clip(self, x, highest, name):
        low = self.constant("constant/0", np.array(0, np.float32))
        high = self.constant(f"constant/{highest:g}", np.array(highest, np.float32))
        return self.node("Clip", [x, low, high], name)

    def fused(self, layer, emit):
        """A layer and its activation: the layer's node has the layer's name."""
        x = emit(layer.name)
        kind = getattr(layer.activation, "__name__", "linear")
        return self.activation(layer.activation, x, f"{layer.name}/{kind}")

    @staticmethod
    def window(layer, kernel):
        """Attributes of a window that moves: kernel, strides, dilations and padding."""
        strides = list(layer.strides)
        attributes = {"kernel_shape": list(kernel), "strides": strides}
        dilations = list(getattr(layer, "dilation_rate", (1, 1)))
        if dilations != [1, 1]:
            attributes["dilations"] = dilations
        if layer.padding == "same":
            if strides == [1, 1]:
                total = [(k - 1) * d for k, d in zip(kernel, dilations)]
                attributes["pads"] = [t // 2 for t in total] + [t - t // 2 for t in total]
            else:
                # TensorFlow pads by the size of the input, the odd pixel below and on the right.
                attributes["auto_pad"] = "SAME_UPPER"
        return attributes

    # Layers

    def convert_Conv2D(self, layer, x):
        kernel = self.weight(layer.name + "/kernel", np.transpose(layer.kernel, (3, 2, 0, 1)))
        inputs = [x, kernel]
        if layer.use_bias:
            inputs.append(self.weight(layer.name + "/bias", layer.bias))
        window = self.window(layer, layer.kernel_size)
        return self.fused(layer, lambda name: self.node("Conv", inputs, name, group=layer.groups, **window))

    def depthwise(self, layer, x, kernel, bias, name):
        height, width, channels, multiplier = kernel.shape
        kernel = np.transpose(kernel, (2, 3, 0, 1)).reshape(channels * multiplier, 1, height, width)
        inputs = [x, self.weight(name + "/kernel", kernel)]
        if bias is not None:
            inputs.append(self.weight(name + "/bias", bias))
        return self.node("Conv", inputs, name, group=channels, **self.window(layer, (height, width)))

    def convert_DepthwiseConv2D(self, layer, x):
        bias = layer.bias if layer.use_bias else None
        return self.fused(layer, lambda name: self.depthwise(layer, x, np.asarray(layer.kernel), bias, name))

    def convert_SeparableConv2D(self, layer, x):
        x = self.depthwise(layer, x, np.asarray(layer.depthwise_kernel), None, layer.name + "/depthwise")
        inputs = [x, self.weight(layer.name + "/kernel", np.transpose(layer.pointwise_kernel, (3, 2, 0, 1)))]
        if layer.use_bias:
            inputs.append(self.weight(layer.name + "/bias", layer.bias))
        return self.fused(layer, lambda name: self.node("Conv", inputs, name, kernel_shape=[1, 1]))

    def convert_Dense(self, layer, x):
        on_maps = len(layer.input.shape) == 4
        kernel = np.asarray(layer.kernel)
        if on_maps:
            kernel = kernel.T[:, :, None, None]
        inputs = [x, self.weight(layer.name + "/kernel", kernel)]
        if layer.use_bias:
            inputs.append(self.weight(layer.name + "/bias", layer.bias))
        if on_maps:
            return self.fused(layer, lambda name: self.node("Conv", inputs, name, kernel_shape=[1, 1]))
        return self.fused(layer, lambda name: self.node("Gemm", inputs, name))

    def convert_LayerNormalization(self, layer, x):
        """Over the channels of every pixel: (x - mean) / sqrt(variance + epsilon) * gamma + beta."""
        name = layer.name
        mean = self.node("ReduceMean", [x], name + "/mean", axes=[1])
        x = self.node("Sub", [x, mean], name + "/centred")
        square = self.node("Mul", [x, x], name + "/square")
        variance = self.node("ReduceMean", [square], name + "/variance", axes=[1])
        epsilon = self.constant(f"constant/{layer.epsilon:g}", np.array(layer.epsilon, np.float32))
        deviation = self.node("Sqrt", [self.node("Add", [variance, epsilon], name + "/shifted")], name + "/deviation")
        x = self.node("Div", [x, deviation], name + "/divided")
        along = (-1, 1, 1)[: len(layer.input.shape) - 1]
        scale = self.weight(name + "/gamma", np.asarray(layer.gamma).reshape(along))
        x = self.node("Mul", [x, scale], name + "/scaled")
        return self.node("Add", [x, self.weight(name + "/beta", np.asarray(layer.beta).reshape(along))], name)

    def convert_LayerScale(self, layer, x):
        return self.node("Mul", [x, self.weight(layer.name + "/gamma", np.asarray(layer.gamma).reshape(-1, 1, 1))], layer.name)

    def convert_StochasticDepth(self, layer, x):
        return x

    def convert_BatchNormalization(self, layer, x):
        channels = layer.moving_mean.shape[0]
        name = layer.name
        scale = self.weight(name + "/gamma", layer.gamma) if layer.scale else self.filled(1.0, channels)
        shift = self.weight(name + "/beta", layer.beta) if layer.center else self.filled(0.0, channels)
        mean = self.weight(name + "/moving_mean", layer.moving_mean)
        variance = self.weight(name + "/moving_variance", layer.moving_variance)
        return self.node("BatchNormalization", [x, scale, shift, mean, variance], name, epsilon=layer.epsilon)

    def convert_Activation(self, layer, x):
        return self.activation(layer.activation, x, layer.name)

    def convert_ReLU(self, layer, x):
        if layer.negative_slope or layer.threshold:
            raise SystemExit(f"layer {layer.name}: no rule for a ReLU with a slope or a threshold")
        if layer.max_value is not None:
            return self.clip(x, float(layer.max_value), layer.name)
        return self.node("Relu", [x], layer.name)

    def convert_Softmax(self, layer, x):
        return self.node("Softmax", [x], layer.name, axis=1)

    def convert_MaxPooling2D(self, layer, x):
        return self.node("MaxPool", [x], layer.name, **self.window(layer, layer.pool_size))

    def convert_AveragePooling2D(self, layer, x):
        window = self.window(layer, layer.pool_size)
        return self.node("AveragePool", [x], layer.name, count_include_pad=0, **window)

    def pooled(self, op, layer, x):
        if layer.keepdims:
            return self.node(op, [x], layer.name)
        return self.node("Flatten", [self.node(op, [x], layer.name + "/pool")], layer.name, axis=1)

    def convert_GlobalAveragePooling2D(self, layer, x):
        return self.pooled("GlobalAveragePool", layer, x)

    def convert_GlobalMaxPooling2D(self, layer, x):
        return self.pooled("GlobalMaxPool", layer, x)

    def convert_ZeroPadding2D(self, layer, x):
        (top, bottom), (left, right) = layer.padding
        pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
        return self.node("Pad", [x, self.constant(layer.name + "/pads", pads)], layer.name)

    def convert_Cropping2D(self, layer, x):
        (top, bottom), (left, right) = layer.cropping
        far = np.iinfo(np.int64).max
        begin = self.constant(layer.name + "/begin", np.array([top, left], np.int64))
        end = self.constant(
            layer.name + "/end", np.array([-bottom if bottom else far, -right if right else far], np.int64)
        )
        axes = self.constant("constant/height-width", np.array([2, 3], np.int64))
        return self.node("Slice", [x, begin, end, axes], layer.name)

    def chain(self, op, layer, inputs):
        """A sum or product of two or more tensors and numbers."""
        inputs = [*inputs, *(self.constant(f"constant/{v!r}", np.array(v, np.float32)) for v in layer.numbers)]
        x = inputs[0]
        for i, other in enumerate(inputs[1:], 2):
            x = self.node(op, [x, other], layer.name if i == len(inputs) else f"{layer.name}/{i}")
        return x

    def convert_Add(self, layer, *inputs):
        return self.chain("Add", layer, inputs)

    def convert_Multiply(self, layer, *inputs):
        return self.chain("Mul", layer, inputs)

    def convert_Concatenate(self, layer, *inputs):
        return self.node("Concat", list(inputs), layer.name, axis=1)

    def convert_Dropout(self, layer, x):
        return x

    def convert_Flatten(self, layer, x):
        if len(layer.input.shape) == 4:
            x = self.node("Transpose", [x], layer.name + "/channels_last", perm=[0, 2, 3, 1])
        return self.node("Flatten", [x], layer.name, axis=1)

    def convert_Reshape(self, layer, x):
        target = layer.output.shape[1:]
        if len(target) == 3:
            if tuple(target[:2]) != (1, 1):
                raise SystemExit(f"layer {layer.name}: no rule for a reshape to {target}")
            dims = [0, target[2], 1, 1]
        else:
            dims = [0, *target]
        shape = self.constant(layer.name + "/shape", np.array(dims, np.int64))
        return self.node("Reshape", [x, shape], layer.name)

    @staticmethod
    def by_channel(values):
        """A number, or one per channel as [1, C, 1, 1]."""
        values = np.asarray(values, np.float32)
        return values if values.size == 1 else values.reshape(1, -1, 1, 1)

    def convert_Rescaling(self, layer, x):
        scale = self.constant(layer.name + "/scale", self.by_channel(layer.scale))
        if not np.any(np.asarray(layer.offset)):
            return self.node("Mul", [x, scale], layer.name)
        x = self.node("Mul", [x, scale], layer.name + "/mul")
        return self.node("Add", [x, self.constant(layer.name + "/offset", self.by_channel(layer.offset))], layer.name)

    def convert_Normalization(self, layer, x):
        # As in Keras: (x - mean) / max(sqrt(variance), epsilon).
        mean, variance = np.asarray(layer.mean).reshape(-1), np.asarray(layer.variance).reshape(-1)
        deviation = np.maximum(np.sqrt(variance), 1e-7)
        # Statistics that were given, not computed from images, are not parameters.
        add = self.weight if layer.weights else self.constant
        mean = add(layer.name + "/mean", self.by_channel(mean))
        deviation = add(layer.name + "/deviation", self.by_channel(deviation))
        return self.node("Div", [self.node("Sub", [x, mean], layer.name + "/sub"), deviation], layer.name)

    def convert_CustomScaleLayer(self, layer, x, residual):
        scale = self.constant(layer.name + "/scale", np.array(layer.scale, np.float32))
        return self.node("Add", [x, self.node("Mul", [residual, scale], layer.name + "/scaled")], layer.name)
