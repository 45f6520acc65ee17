//! Layers with weights: convolution, batch normalisation, dense.

use super::{Compiler, Fallible, Reading, Value};
use crate::nn::conv::Conv;
use crate::nn::convnet::Op;
use crate::nn::maps::Maps;
use crate::nn::norm::BatchNorm;

impl Compiler<'_> {
    pub(super) fn conv(&mut self, reading: &Reading) -> Fallible<Value> {
        let input = self.maps_input(reading, 0)?;
        let dims = self
            .graph
            .weight_shapes()
            .remove(&reading.node.inputs[1])
            .unwrap_or_default();
        let [outputs, _, height, width] = dims[..] else {
            return Err("its kernel is not a four-dimensional weight".into());
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

    pub(super) fn batch_norm(&mut self, reading: &Reading) -> Fallible<Value> {
        let input = self.input(reading, 0)?;
        if input.channels_last {
            return Err("its feature maps are channels-last".into());
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
        // What a node makes stands for a scale or shift that the network does not have.
        let trains = |place: usize| {
            let name = reading.node.inputs.get(place);
            self.train_batchnorm && name.is_some_and(|name| self.graph.is_weight(name))
        };
        let (trains_scale, trains_shift) = (trains(1), trains(2));
        let scale = self.weight(reading, 1, channels, trains_scale, false)?;
        let shift = self.weight(reading, 2, channels, trains_shift, false)?;
        let op = Op::BatchNorm { norm, scale, shift };
        Ok(self.push(&reading.node.name, op, &[input], input.shape))
    }

    pub(super) fn dense(&mut self, reading: &Reading) -> Fallible<Value> {
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
            _ => return Err("it does not multiply by a weight matrix".into()),
        };
        if !plain || input.shape != Maps::vector(inputs) {
            return Err("it is not a plain product of vectors and a weight matrix".into());
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
}
