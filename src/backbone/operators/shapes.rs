//! Operators that rearrange values without changing them.

use super::{Compiler, Fallible, Reading, Value};
use crate::nn::convnet::Op;
use crate::nn::maps::{FlatOrder, Maps};

impl Compiler<'_> {
    pub(super) fn concat(&mut self, reading: &Reading) -> Fallible<Value> {
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
            return Err("it concatenates along an axis other than channels".into());
        }
        let shape = Maps {
            channels: inputs.iter().map(|v| v.shape.channels).sum(),
            ..first.shape
        };
        Ok(self.push(&reading.node.name, Op::Concat, &inputs, shape))
    }

    /// Flatten, and the reshapings and squeezings that come to the same.
    pub(super) fn flatten(&mut self, reading: &Reading) -> Fallible<Value> {
        let mut input = self.input(reading, 0)?;
        if input.shape.pixels() == 1 {
            input.channels_last = false;
            return Ok(input);
        }
        let name = reading.node.outputs.first();
        let rank = name.and_then(|n| self.shapes.get(n)).map(Vec::len);
        if rank != Some(2) {
            return Err("its output is not one vector per image".into());
        }
        let order = match input.channels_last {
            true => FlatOrder::ChannelsLast,
            false => FlatOrder::ChannelsFirst,
        };
        input.channels_last = false;
        let shape = Maps::vector(input.shape.values());
        Ok(self.push(&reading.node.name, Op::Flatten(order), &[input], shape))
    }

    pub(super) fn transpose(&mut self, reading: &Reading) -> Fallible<Value> {
        let mut value = self.input(reading, 0)?;
        value.channels_last = match (&reading.node.perm[..], value.channels_last) {
            ([0, 2, 3, 1], false) => true,
            ([0, 3, 1, 2], true) => false,
            _ => return Err("it permutes axes other than those of feature maps".into()),
        };
        Ok(value)
    }

    pub(super) fn pad(&mut self, reading: &Reading) -> Fallible<Value> {
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
            return Err("it pads axes other than height and width".into());
        };
        let sides = [top, left, bottom, right];
        if !constant || !with_zeros || value.channels_last || sides.iter().any(|&s| s < 0) {
            return Err("it does not pad feature maps with zeros".into());
        }
        for (all, side) in value.pad.iter_mut().zip(sides) {
            *all += side as usize;
        }
        Ok(value)
    }
}
