//! From the operators of ONNX to the layers that can be trained through.

use std::collections::{HashMap, HashSet};

use super::onnx::{OnnxGraph, OnnxNode};
use super::trainable::TailWeight;
use crate::error::Result;
use crate::nn::ConvNet;
use crate::nn::conv::Conv;
use crate::nn::convnet::{Layer, Op};
use crate::nn::maps::{FlatOrder, Maps};
use crate::nn::norm::BatchNorm;
use crate::nn::pointwise::Pointwise;
use crate::nn::pool::{Pool, Reduce};
use crate::pixels::Layout;

type Fallible<T> = std::result::Result<T, String>;

/// Operators that [`Compiler::add`] knows; some of them only in certain forms.
pub(super) fn is_supported(op_type: &str) -> bool {
    matches!(
        op_type,
        "Conv"
            | "BatchNormalization"
            | "Relu"
            | "LeakyRelu"
            | "Clip"
            | "Sigmoid"
            | "Tanh"
            | "HardSigmoid"
            | "HardSwish"
            | "MaxPool"
            | "AveragePool"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "ReduceMean"
            | "ReduceMax"
            | "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Concat"
            | "Gemm"
            | "MatMul"
            | "Flatten"
            | "Reshape"
            | "Squeeze"
            | "Transpose"
            | "Pad"
            | "Dropout"
            | "Identity"
            | "Constant"
    )
}

/// A tensor of the graph, as a value of the network.
#[derive(Clone, Copy)]
struct Value {
    number: usize,
    shape: Maps,
    /// Whether the graph has it channels last; the network never does.
    channels_last: bool,
    /// Zeros around it that the graph has added: above, left, below, right.
    pad: [usize; 4],
}

/// Turns the operators of a graph into layers, one after another.
pub(super) struct Compiler<'a> {
    graph: &'a OnnxGraph,
    shapes: HashMap<String, Vec<usize>>,
    train_batchnorm: bool,
    values: HashMap<String, Value>,
    input: Maps,
    layers: Vec<Layer>,
    weights: Vec<TailWeight>,
    numbers: HashMap<String, usize>,
}

/// The operator that is being read.
struct Reading<'a> {
    index: usize,
    node: &'a OnnxNode,
    /// Whether its weights may be trained.
    trained: bool,
    /// Tensors that frozen layers read.
    shared: &'a HashSet<&'a str>,
}

impl<'a> Compiler<'a> {
    /// For `graph`, whose tensors have `shapes` (batch included) as far as they are known.
    pub fn new(
        graph: &'a OnnxGraph,
        shapes: HashMap<String, Vec<usize>>,
        train_batchnorm: bool,
    ) -> Compiler<'a> {
        Compiler {
            graph,
            shapes,
            train_batchnorm,
            values: HashMap::new(),
            input: Maps::vector(0),
            layers: Vec::new(),
            weights: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Begins at the tensor `cut`.
    pub fn start(&mut self, cut: &str, layout: Layout) -> Result<()> {
        let dims = self.shapes.get(cut).cloned().unwrap_or_default();
        let shape = match (dims.as_slice(), layout) {
            ([_, features], _) => Maps::vector(*features),
            ([_, channels, height, width], Layout::Nchw)
            | ([_, height, width, channels], Layout::Nhwc) => Maps {
                channels: *channels,
                height: *height,
                width: *width,
            },
            _ => {
                return Err(self.graph.fail(format!(
                    "the shape of `{cut}` cannot be found; train from another layer"
                )));
            }
        };
        self.input = shape;
        let value = Value {
            number: 0,
            shape,
            channels_last: layout == Layout::Nhwc && dims.len() == 4,
            pad: [0; 4],
        };
        self.values.insert(cut.to_owned(), value);
        Ok(())
    }

    /// Takes node `index` of the graph; `trained` tells whether its weights may be trained, unless they are
    /// `shared` with frozen layers.
    pub fn add(
        &mut self,
        index: usize,
        node: &OnnxNode,
        trained: bool,
        shared: &HashSet<&str>,
    ) -> Fallible<()> {
        if node.op_type == "Constant" {
            return Ok(());
        }
        let reading = Reading {
            index,
            node,
            trained,
            shared,
        };
        let value = match node.op_type.as_str() {
            "Dropout" | "Identity" => self.input(&reading, 0)?,
            "Conv" => self.conv(&reading)?,
            "BatchNormalization" => self.batch_norm(&reading)?,
            "MaxPool" | "AveragePool" => self.pool(&reading)?,
            "GlobalAveragePool" => self.global_pool(&reading, Reduce::Mean)?,
            "GlobalMaxPool" => self.global_pool(&reading, Reduce::Max)?,
            "ReduceMean" => self.reduce(&reading, Reduce::Mean)?,
            "ReduceMax" => self.reduce(&reading, Reduce::Max)?,
            "Gemm" | "MatMul" => self.dense(&reading)?,
            "Concat" => self.concat(&reading)?,
            "Flatten" | "Reshape" | "Squeeze" => self.flatten(&reading)?,
            "Transpose" => self.transpose(&reading)?,
            "Pad" => self.pad(&reading)?,
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(&reading)?,
            _ => self.pointwise(&reading)?,
        };
        if let Some(dims) = node.outputs.first().and_then(|name| self.shapes.get(name)) {
            let found = value.shape.values();
            let expected: usize = dims.iter().skip(1).product();
            if value.pad == [0; 4] && found != expected {
                return Err(format!("it makes {expected} values, not {found}"));
            }
        }
        if let Some(name) = node.outputs.first() {
            self.values.insert(name.clone(), value);
        }
        Ok(())
    }

    /// The network that ends in the tensor `output`, as one vector a picture, and its weights.
    pub fn finish(mut self, output: &str) -> Result<(ConvNet, Vec<TailWeight>)> {
        let Some(&value) = self.values.get(output) else {
            return Err(self
                .graph
                .fail(format!("`{output}` does not depend on the cut")));
        };
        let order = if value.channels_last {
            FlatOrder::ChannelsLast
        } else {
            FlatOrder::ChannelsFirst
        };
        // A vector is flattened too if it is not made by the last layer: the output is what that makes.
        if value.shape.pixels() > 1 || value.number != self.layers.len() {
            self.push(
                output,
                Op::Flatten(order),
                &[value],
                Maps::vector(value.shape.values()),
            );
        }
        let trained = self.weights.iter().map(|w| w.trained).collect();
        Ok((ConvNet::new(self.input, self.layers, trained), self.weights))
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[Value], shape: Maps) -> Value {
        self.layers.push(Layer {
            name: name.to_owned(),
            op,
            inputs: inputs.iter().map(|value| value.number).collect(),
            output: shape,
        });
        Value {
            number: self.layers.len(),
            shape,
            channels_last: inputs.first().is_some_and(|value| value.channels_last),
            pad: [0; 4],
        }
    }

    /// Input `place` of a node, with the zeros around it.
    fn padded_input(&self, reading: &Reading, place: usize) -> Fallible<Value> {
        let name = reading.node.inputs.get(place).cloned().unwrap_or_default();
        self.values
            .get(&name)
            .copied()
            .ok_or_else(|| format!("its input `{name}` is no feature map"))
    }

    fn input(&self, reading: &Reading, place: usize) -> Fallible<Value> {
        let value = self.padded_input(reading, place)?;
        if value.pad != [0; 4] {
            return Err("padding is supported before a convolution only".into());
        }
        Ok(value)
    }

    /// Input `place` of a node that works on maps channels first.
    fn maps_input(&self, reading: &Reading, place: usize) -> Fallible<Value> {
        let value = self.padded_input(reading, place)?;
        if value.channels_last {
            return Err("its maps have their channels last".into());
        }
        Ok(value)
    }

    /// The number of a weight of the network, read from the graph at its first use.
    fn weight(
        &mut self,
        reading: &Reading,
        place: usize,
        length: usize,
        trains: bool,
        decays: bool,
    ) -> Fallible<usize> {
        let name = reading.node.inputs.get(place).cloned().unwrap_or_default();
        let trained = trains && reading.trained && !reading.shared.contains(name.as_str());
        if let Some(&number) = self.numbers.get(&name) {
            self.weights[number].trained &= trained;
            return Ok(number);
        }
        let values = self
            .graph
            .weight_values(&name)
            .filter(|values| values.len() == length)
            .ok_or_else(|| format!("`{name}` is not a float32 weight of {length} values"))?;
        let number = self.weights.len();
        self.weights.push(TailWeight {
            name: name.clone(),
            values,
            trained,
            decays,
        });
        self.numbers.insert(name, number);
        Ok(number)
    }

    fn has_input(reading: &Reading, place: usize) -> bool {
        reading
            .node
            .inputs
            .get(place)
            .is_some_and(|n| !n.is_empty())
    }

    fn conv(&mut self, reading: &Reading) -> Fallible<Value> {
        let input = self.maps_input(reading, 0)?;
        let dims = self
            .graph
            .weight_shapes()
            .remove(&reading.node.inputs[1])
            .unwrap_or_default();
        let [outputs, _, height, width] = dims[..] else {
            return Err("its kernel is no weight of four dimensions".into());
        };
        let attributes = self.graph.attributes(reading.index);
        let pair = |name: &str| match attributes.ints(name)[..] {
            [a, b] => [a.max(1) as usize, b.max(1) as usize],
            _ => [1, 1],
        };
        let (stride, dilation) = (pair("strides"), pair("dilations"));
        let size = [input.shape.height, input.shape.width];
        let (mut before, mut after) =
            attributes.padding(size, [height, width], stride, dilation)?;
        for axis in 0..2 {
            before[axis] += input.pad[axis];
            after[axis] += input.pad[axis + 2];
        }
        let conv = Conv {
            input: input.shape,
            output_channels: outputs,
            kernel: [height, width],
            stride,
            dilation,
            pad_before: before,
            pad_after: after,
            groups: reading.node.group.max(1) as usize,
        };
        let weights = self.weight(reading, 1, conv.weights(), true, true)?;
        let bias = match Self::has_input(reading, 2) {
            true => Some(self.weight(reading, 2, outputs, true, false)?),
            false => None,
        };
        let shape = conv.output();
        let op = Op::Conv {
            conv,
            weights,
            bias,
        };
        Ok(self.push(&reading.node.name, op, &[input], shape))
    }

    fn batch_norm(&mut self, reading: &Reading) -> Fallible<Value> {
        let input = self.input(reading, 0)?;
        if input.channels_last {
            return Err("its maps have their channels last".into());
        }
        let channels = input.shape.channels;
        let statistic = |place: usize| {
            let name = reading.node.inputs.get(place).cloned().unwrap_or_default();
            let values = self.graph.weight_values(&name);
            values
                .filter(|values| values.len() == channels)
                .ok_or_else(|| format!("`{name}` is not a float32 weight of {channels} values"))
        };
        let epsilon = self
            .graph
            .attributes(reading.index)
            .float("epsilon")
            .unwrap_or(1e-5);
        let norm = BatchNorm::new(statistic(3)?, &statistic(4)?, epsilon);
        let trains = self.train_batchnorm;
        let scale = self.weight(reading, 1, channels, trains, false)?;
        let shift = self.weight(reading, 2, channels, trains, false)?;
        let op = Op::BatchNorm { norm, scale, shift };
        Ok(self.push(&reading.node.name, op, &[input], input.shape))
    }

    fn pool(&mut self, reading: &Reading) -> Fallible<Value> {
        let input = self.input(reading, 0)?;
        if input.channels_last {
            return Err("its maps have their channels last".into());
        }
        let attributes = self.graph.attributes(reading.index);
        let [height, width] = reading.node.kernel_shape[..] else {
            return Err("its window is not two-dimensional".into());
        };
        let window = [height.max(1) as usize, width.max(1) as usize];
        let stride = match attributes.ints("strides")[..] {
            [a, b] => [a.max(1) as usize, b.max(1) as usize],
            _ => [1, 1],
        };
        if attributes.ints("dilations").iter().any(|&d| d != 1) {
            return Err("its window is dilated".into());
        }
        let size = [input.shape.height, input.shape.width];
        let (before, after) = attributes.padding(size, window, stride, [1, 1])?;
        let upwards = attributes.int("ceil_mode").unwrap_or(0) != 0;
        let include = attributes.int("count_include_pad").unwrap_or(0) != 0;
        let reduce = match (reading.node.op_type.as_str(), include) {
            ("MaxPool", _) => Reduce::Max,
            (_, true) if upwards => return Err("it counts padding and rounds upwards".into()),
            (_, true) => Reduce::MeanWithPadding,
            _ => Reduce::Mean,
        };
        let places = |axis: usize| {
            let room = (size[axis] + before[axis] + after[axis]).saturating_sub(window[axis]);
            let places = match upwards {
                true => room.div_ceil(stride[axis]) + 1,
                false => room / stride[axis] + 1,
            };
            // A window must begin inside the input or its padding before.
            let last = (places - 1) * stride[axis];
            if last >= size[axis] + before[axis] {
                places - 1
            } else {
                places
            }
        };
        let output = Maps {
            channels: input.shape.channels,
            height: places(0),
            width: places(1),
        };
        let pool = Pool {
            input: input.shape,
            output,
            window,
            stride,
            pad_before: before,
            reduce,
        };
        Ok(self.push(&reading.node.name, Op::Pool(pool), &[input], output))
    }

    fn global_pool(&mut self, reading: &Reading, reduce: Reduce) -> Fallible<Value> {
        let mut input = self.input(reading, 0)?;
        let pool = Pool::global(input.shape, reduce);
        let output = pool.output;
        input.channels_last = false;
        Ok(self.push(&reading.node.name, Op::Pool(pool), &[input], output))
    }

    fn reduce(&mut self, reading: &Reading, reduce: Reduce) -> Fallible<Value> {
        let input = self.input(reading, 0)?;
        let attributes = self.graph.attributes(reading.index);
        let mut axes = attributes.ints("axes");
        if let Some(name) = reading.node.inputs.get(1) {
            axes = self.graph.integers(name).unwrap_or_default();
        }
        let mut axes: Vec<i64> = axes
            .iter()
            .map(|a| if *a < 0 { a + 4 } else { *a })
            .collect();
        axes.sort_unstable();
        let wanted = if input.channels_last { [1, 2] } else { [2, 3] };
        if axes != wanted {
            return Err(format!(
                "it reduces the axes {axes:?}, not height and width"
            ));
        }
        self.global_pool(reading, reduce)
    }

    fn dense(&mut self, reading: &Reading) -> Fallible<Value> {
        let input = self.input(reading, 0)?;
        let attributes = self.graph.attributes(reading.index);
        let plain = attributes.float("alpha").unwrap_or(1.0) == 1.0
            && attributes.float("beta").unwrap_or(1.0) == 1.0
            && attributes.int("transA").unwrap_or(0) == 0;
        let dims = self
            .graph
            .weight_shapes()
            .remove(&reading.node.inputs[1])
            .unwrap_or_default();
        let inputs_first = attributes.int("transB").unwrap_or(0) == 0;
        let (inputs, outputs) = match (<[usize; 2]>::try_from(dims), inputs_first) {
            (Ok([a, b]), true) => (a, b),
            (Ok([a, b]), false) => (b, a),
            _ => return Err("it multiplies by no weight matrix".into()),
        };
        if !plain || input.shape != Maps::vector(inputs) {
            return Err("it is no plain product of vectors with a weight matrix".into());
        }
        let weights = self.weight(reading, 1, inputs * outputs, true, true)?;
        let bias = match Self::has_input(reading, 2) {
            true => Some(self.weight(reading, 2, outputs, true, false)?),
            false => None,
        };
        let op = Op::Dense {
            weights,
            bias,
            inputs_first,
        };
        let shape = Maps::vector(outputs);
        Ok(self.push(&reading.node.name, op, &[input], shape))
    }

    fn concat(&mut self, reading: &Reading) -> Fallible<Value> {
        let count = reading.node.inputs.len();
        let inputs = (0..count)
            .map(|place| self.input(reading, place))
            .collect::<Fallible<Vec<_>>>()?;
        let first = inputs[0];
        let axis = self
            .graph
            .attributes(reading.index)
            .int("axis")
            .unwrap_or(1);
        let channel_axes = if first.channels_last {
            [3, -1]
        } else {
            [1, -3]
        };
        let same = inputs.iter().all(|v| {
            v.channels_last == first.channels_last
                && (v.shape.height, v.shape.width) == (first.shape.height, first.shape.width)
        });
        if !channel_axes.contains(&axis) || !same {
            return Err("it joins something else than channels".into());
        }
        let shape = Maps {
            channels: inputs.iter().map(|v| v.shape.channels).sum(),
            ..first.shape
        };
        Ok(self.push(&reading.node.name, Op::Concat, &inputs, shape))
    }

    /// Flatten, and the reshapings and squeezings that come to the same.
    fn flatten(&mut self, reading: &Reading) -> Fallible<Value> {
        let mut input = self.input(reading, 0)?;
        if input.shape.pixels() == 1 {
            input.channels_last = false;
            return Ok(input);
        }
        let name = reading.node.outputs.first();
        let rank = name.and_then(|n| self.shapes.get(n)).map(Vec::len);
        if rank != Some(2) {
            return Err("it makes something else than one vector a picture".into());
        }
        let order = match input.channels_last {
            true => FlatOrder::ChannelsLast,
            false => FlatOrder::ChannelsFirst,
        };
        input.channels_last = false;
        let shape = Maps::vector(input.shape.values());
        Ok(self.push(&reading.node.name, Op::Flatten(order), &[input], shape))
    }

    fn transpose(&mut self, reading: &Reading) -> Fallible<Value> {
        let mut value = self.input(reading, 0)?;
        value.channels_last = match (&reading.node.perm[..], value.channels_last) {
            ([0, 2, 3, 1], false) => true,
            ([0, 3, 1, 2], true) => false,
            _ => return Err("it permutes other axes than those of maps".into()),
        };
        Ok(value)
    }

    fn pad(&mut self, reading: &Reading) -> Fallible<Value> {
        let mut value = self.padded_input(reading, 0)?;
        let attributes = self.graph.attributes(reading.index);
        let mut pads = attributes.ints("pads");
        if let Some(name) = reading.node.inputs.get(1) {
            pads = self.graph.integers(name).unwrap_or_default();
        }
        let with_zeros = match reading.node.inputs.get(2) {
            Some(name) if !name.is_empty() => {
                self.graph.weight_values(name).is_some_and(|v| v == [0.0])
            }
            _ => attributes.float("value").unwrap_or(0.0) == 0.0,
        };
        let constant = matches!(attributes.text("mode").as_str(), "" | "constant");
        let [0, 0, top, left, 0, 0, bottom, right] = pads[..] else {
            return Err("it pads other axes than height and width".into());
        };
        let sides = [top, left, bottom, right];
        if !constant || !with_zeros || value.channels_last || sides.iter().any(|&s| s < 0) {
            return Err("it pads with something else than zeros around maps".into());
        }
        for (all, side) in value.pad.iter_mut().zip(sides) {
            *all += side as usize;
        }
        Ok(value)
    }

    fn arithmetic(&mut self, reading: &Reading) -> Fallible<Value> {
        let node = reading.node;
        let op_type = node.op_type.as_str();
        let known: Vec<bool> = node
            .inputs
            .iter()
            .map(|n| self.values.contains_key(n))
            .collect();
        if let [true, true] = known[..] {
            return self.of_two_values(reading);
        }
        let (value, constant) = match (known.as_slice(), op_type) {
            ([true, false], _) => (0, 1),
            ([false, true], "Add" | "Mul") => (1, 0),
            _ => return Err("its inputs are not a feature map and a constant".into()),
        };
        let input = self.input(reading, value)?;
        let name = &node.inputs[constant];
        let values = self
            .graph
            .weight_values(name)
            .ok_or_else(|| format!("`{name}` is no float32 constant"))?;
        let affine = |factor: f32, offset: f32| Op::Pointwise(Pointwise::Affine { factor, offset });
        if let [c] = values[..] {
            let op = match op_type {
                "Add" => affine(1.0, c),
                "Sub" => affine(1.0, -c),
                "Mul" => affine(c, 0.0),
                _ => affine(1.0 / c, 0.0),
            };
            return Ok(self.push(&node.name, op, &[input], input.shape));
        }
        if !self.is_a_channel_each(name, &input) {
            return Err(format!(
                "`{name}` is neither a number nor a number a channel"
            ));
        }
        let channels = input.shape.channels;
        let op = match op_type {
            "Add" => Op::ChannelBias(self.weight(reading, constant, channels, true, false)?),
            "Mul" => {
                let trains = self.train_batchnorm;
                let scale = self.weight(reading, constant, channels, trains, false)?;
                let shift = self.weights.len();
                self.weights.push(TailWeight {
                    name: String::new(),
                    values: vec![0.0; channels],
                    trained: false,
                    decays: false,
                });
                let norm = BatchNorm::new(vec![0.0; channels], &vec![1.0; channels], 0.0);
                Op::BatchNorm { norm, scale, shift }
            }
            _ => return Err("a constant a channel is subtracted or divided by".into()),
        };
        Ok(self.push(&node.name, op, &[input], input.shape))
    }

    /// Whether a constant's shape gives each channel of `value` a number.
    fn is_a_channel_each(&self, name: &str, value: &Value) -> bool {
        let dims = self.graph.constant_dims(name);
        let channels = value.shape.channels;
        let is_vector = value.shape.pixels() == 1 || value.channels_last;
        match dims.as_slice() {
            [n] | [1, n] => is_vector && *n == channels,
            [n, 1, 1] | [1, n, 1, 1] => !value.channels_last && *n == channels,
            [1, 1, n] | [1, 1, 1, n] => value.channels_last && *n == channels,
            _ => false,
        }
    }

    fn of_two_values(&mut self, reading: &Reading) -> Fallible<Value> {
        let (a, b) = (self.input(reading, 0)?, self.input(reading, 1)?);
        let name = &reading.node.name;
        let spatial = |v: &Value| v.shape.pixels() > 1;
        if spatial(&a) && spatial(&b) && a.channels_last != b.channels_last {
            return Err("its inputs have their channels at different places".into());
        }
        let broadcast = a.shape.channels == b.shape.channels && (!spatial(&a) || !spatial(&b));
        let long = if spatial(&b) { b } else { a };
        match reading.node.op_type.as_str() {
            "Add" if a.shape == b.shape => Ok(self.push(
                name,
                Op::Add,
                &[long, if spatial(&b) { a } else { b }],
                a.shape,
            )),
            "Mul" if a.shape == b.shape || broadcast => {
                let mut value = self.push(name, Op::Multiply, &[a, b], long.shape);
                value.channels_last = long.channels_last;
                Ok(value)
            }
            _ => Err("its inputs have different shapes".into()),
        }
    }

    fn pointwise(&mut self, reading: &Reading) -> Fallible<Value> {
        let input = self.input(reading, 0)?;
        let attributes = self.graph.attributes(reading.index);
        let limit = |place: usize, name: &str, unlimited: f32| match reading
            .node
            .inputs
            .get(place)
            .filter(|n| !n.is_empty())
        {
            Some(tensor) => match self.graph.weight_values(tensor).as_deref() {
                Some([limit]) => Ok(*limit),
                _ => Err(format!("its limit `{tensor}` is no constant")),
            },
            None => Ok(attributes.float(name).unwrap_or(unlimited)),
        };
        let function = match reading.node.op_type.as_str() {
            "Relu" => Pointwise::Relu,
            "Sigmoid" => Pointwise::Sigmoid,
            "Tanh" => Pointwise::Tanh,
            "HardSwish" => Pointwise::HardSwish,
            "LeakyRelu" => Pointwise::LeakyRelu {
                slope: attributes.float("alpha").unwrap_or(0.01),
            },
            "HardSigmoid" => Pointwise::HardSigmoid {
                slope: attributes.float("alpha").unwrap_or(0.2),
                offset: attributes.float("beta").unwrap_or(0.5),
            },
            "Clip" => Pointwise::Clip {
                low: limit(1, "min", f32::NEG_INFINITY)?,
                high: limit(2, "max", f32::INFINITY)?,
            },
            _ => return Err("it is not supported".into()),
        };
        let op = Op::Pointwise(function);
        Ok(self.push(&reading.node.name, op, &[input], input.shape))
    }
}
