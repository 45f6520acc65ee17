//! A layer: what it does, what it reads, what it makes.

use crate::conv::Conv;
use crate::maps::{FlatOrder, Maps};
use crate::norm::BatchNorm;
use crate::pointwise::Pointwise;
use crate::pool::Pool;
use crate::winograd;

/// What a layer does; `usize` fields are numbers of weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution.
    Conv {
        /// Its geometry.
        conv: Conv,
        /// `[output channels, input channels / groups, kernel height, kernel width]`.
        weights: usize,
        /// `[output channels]`.
        bias: Option<usize>,
    },
    /// Matrix product of vectors.
    Dense {
        /// `[inputs, outputs]`, or `[outputs, inputs]`.
        weights: usize,
        /// `[outputs]`.
        bias: Option<usize>,
        /// Whether the inputs are the rows of the weights.
        inputs_first: bool,
    },
    /// Batch normalisation with frozen statistics.
    BatchNorm {
        /// The statistics.
        norm: BatchNorm,
        /// γ, `[channels]`.
        scale: usize,
        /// β, `[channels]`.
        shift: usize,
    },
    /// Adds a weight to each channel, `[channels]`.
    ChannelBias(usize),
    /// A function of single values.
    Pointwise(Pointwise),
    /// Pooling.
    Pool(Pool),
    /// Sum of two values of one shape.
    Add,
    /// Product of two values of one shape, or of maps with a value a channel.
    Multiply,
    /// Channels of all inputs, one after another.
    Concat,
    /// Maps as one vector.
    Flatten(FlatOrder),
}

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Numbers of the values that it reads.
    pub inputs: Vec<usize>,
    /// Shape of what it makes.
    pub output: Maps,
}

impl Layer {
    /// A convolution that [`winograd`] does, and the number of its weights.
    pub(super) fn winograd(&self) -> Option<(&Conv, usize)> {
        match &self.op {
            Op::Conv { conv, weights, .. } if winograd::suits(conv) => Some((conv, *weights)),
            _ => None,
        }
    }

    pub(super) fn takes_all_shards(&self) -> bool {
        self.winograd().is_some()
    }
}

impl Op {
    /// Numbers of the weights that it reads.
    pub fn weights(&self) -> Vec<usize> {
        match self {
            Op::Conv { weights, bias, .. } | Op::Dense { weights, bias, .. } => {
                std::iter::once(*weights).chain(*bias).collect()
            }
            Op::BatchNorm { scale, shift, .. } => vec![*scale, *shift],
            Op::ChannelBias(bias) => vec![*bias],
            _ => Vec::new(),
        }
    }
}
