//! Window and global pooling.

use super::{Compiler, Fallible, Reading, Value};
use crate::nn::convnet::Op;
use crate::nn::maps::Maps;
use crate::nn::pool::{Pool, Reduce};

impl Compiler<'_> {
    pub(super) fn pool(&mut self, reading: &Reading) -> Fallible<Value> {
        let input = self.input(reading, 0)?;
        if input.channels_last {
            return Err("its feature maps are channels-last".into());
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
            (_, true) if upwards => {
                return Err("it includes padding in the count and rounds up".into());
            }
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

    pub(super) fn global_pool(&mut self, reading: &Reading, reduce: Reduce) -> Fallible<Value> {
        let mut input = self.input(reading, 0)?;
        let pool = Pool::global(input.shape, reduce);
        let output = pool.output;
        input.channels_last = false;
        Ok(self.push(&reading.node.name, Op::Pool(pool), &[input], output))
    }

    pub(super) fn reduce(&mut self, reading: &Reading, reduce: Reduce) -> Fallible<Value> {
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
}
