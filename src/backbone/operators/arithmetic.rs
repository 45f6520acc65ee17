//! Sums and products of feature maps, and element-wise functions.

use super::{Compiler, Fallible, Reading, TailWeight, Value};
use crate::nn::convnet::Op;
use crate::nn::norm::BatchNorm;
use crate::nn::pointwise::Pointwise;

impl Compiler<'_> {
    pub(super) fn arithmetic(&mut self, reading: &Reading) -> Fallible<Value> {
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
            .ok_or_else(|| format!("`{name}` is not a float32 constant"))?;
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
                "`{name}` is neither a scalar nor one value per channel"
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
            _ => return Err("it subtracts from, or divides, a per-channel constant".into()),
        };
        Ok(self.push(&node.name, op, &[input], input.shape))
    }

    /// Whether a constant's shape gives each channel of `value` a number.
    pub(super) fn is_a_channel_each(&self, name: &str, value: &Value) -> bool {
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

    pub(super) fn of_two_values(&mut self, reading: &Reading) -> Fallible<Value> {
        let (a, b) = (self.input(reading, 0)?, self.input(reading, 1)?);
        let name = &reading.node.name;
        let spatial = |v: &Value| v.shape.pixels() > 1;
        if spatial(&a) && spatial(&b) && a.channels_last != b.channels_last {
            return Err("its inputs have different channel layouts".into());
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

    pub(super) fn pointwise(&mut self, reading: &Reading) -> Fallible<Value> {
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
                _ => Err(format!("its limit `{tensor}` is not a constant")),
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
