//! A graph made of bytes.

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use self::onnx::{untyped, value_info};

mod onnx;
mod operators;

/// Most values of a map, and most multiply-adds of an operator, so that a run takes milliseconds.
const MOST_VALUES: i64 = 60_000;
const MOST_PRODUCTS: i64 = 4_000_000;

/// A tensor of the graph under construction: `[channels, height, width]`.
#[derive(Clone, Debug)]
pub(super) struct Made {
    name: String,
    shape: [i64; 3],
}

/// Makes a graph of bytes; where they end, of zeros.
pub(super) struct Maker<'a> {
    bytes: std::slice::Iter<'a, u8>,
    graph: pb::GraphProto,
    made: Vec<Made>,
    pub(super) input: [usize; 4],
    /// Whether numbers may be what no map is made for.
    pub(super) hostile: bool,
    /// Whether bytes are rounded on the way.
    pub(super) rounds: bool,
    /// State of Marsaglia's xorshift, for values.
    random: u32,
    count: usize,
}

impl<'a> Maker<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Maker<'a> {
        let mut maker = Maker {
            bytes: bytes.iter(),
            graph: pb::GraphProto::default(),
            made: Vec::new(),
            input: [1, 3, 8, 8],
            hostile: false,
            rounds: false,
            random: 1,
            count: 0,
        };
        maker.hostile = maker.byte() % 4 == 3;
        let sizes = [8, 1, 2, 3, 5, 9, 13, 16, 17, 24, 33];
        let (height, width) = (maker.pick(&sizes), maker.pick(&sizes));
        maker.input = [1, 3, height, width];
        maker.random = u32::from(maker.byte()) + 1;
        let made = Made {
            name: "image".into(),
            shape: [3, height as i64, width as i64],
        };
        maker.graph.input.push(value_info("image", &maker.input));
        maker.made.push(made);
        maker
    }

    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.byte() as usize % choices.len()]
    }

    /// A number of a window: one of `choices`, or what a hostile file may have in its place.
    fn number(&mut self, choices: &[i64]) -> i64 {
        let odd = [
            -1,
            0,
            40,
            255,
            4_097,
            3_000_000,
            30_000_000,
            (1 << 28) + 1,
            (1 << 31) - 1,
            1 << 31,
            (1 << 32) + 1,
            (1 << 60) + 1,
            (1 << 62) - 3,
            i64::MAX,
            i64::MIN,
            -1 << 31,
        ];
        let usual = self.pick(choices);
        match self.hostile && self.byte() % 5 == 4 {
            true => self.pick(&odd),
            false => usual,
        }
    }

    fn value(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random as f32 / u32::MAX as f32 * 2.0 - 1.0
    }

    pub(super) fn picture(&mut self) -> Vec<f32> {
        let len = self.input.iter().product();
        (0..len).map(|_| self.value()).collect()
    }

    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}{}", self.count)
    }

    fn floats(&mut self, dims: &[i64], scale: f32) -> String {
        let len: i64 = dims.iter().product();
        let values = (0..len).map(|_| self.value() * scale).collect();
        self.constant(pb::TensorProto {
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            float_data: values,
            ..Default::default()
        })
    }

    fn scalar(&mut self, value: f32) -> String {
        self.constant(pb::TensorProto {
            data_type: DataType::Float as i32,
            float_data: vec![value],
            ..Default::default()
        })
    }

    fn integers(&mut self, values: Vec<i64>) -> String {
        self.constant(pb::TensorProto {
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: values,
            ..Default::default()
        })
    }

    /// Integers of fewer bits.
    fn small(&mut self, dims: &[i64], kind: DataType, values: Vec<i32>) -> String {
        self.constant(pb::TensorProto {
            dims: dims.to_vec(),
            data_type: kind as i32,
            int32_data: values,
            ..Default::default()
        })
    }

    fn constant(&mut self, tensor: pb::TensorProto) -> String {
        let name = self.name("c");
        self.graph.initializer.push(pb::TensorProto {
            name: name.clone(),
            ..tensor
        });
        name
    }

    fn node(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        attributes: Vec<pb::AttributeProto>,
    ) -> String {
        let name = self.name("t");
        self.graph.node.push(pb::NodeProto {
            op_type: op_type.to_owned(),
            name: format!("{op_type}.{name}"),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            attribute: attributes,
            ..Default::default()
        });
        name
    }

    /// One of the tensors made so far, the last ones more often.
    fn any(&mut self) -> Made {
        let back = self
            .pick(&[0, 0, 0, 0, 1, 1, 2, 3, 5])
            .min(self.made.len() - 1);
        self.made[self.made.len() - 1 - back].clone()
    }

    fn keep(&mut self, name: String, shape: [i64; 3]) {
        self.made.push(Made { name, shape });
    }

    pub(super) fn model(mut self) -> pb::ModelProto {
        if let Some(last) = self.made.last() {
            let output = untyped(&last.name);
            self.graph.output.push(output);
        }
        if self.graph.node.is_empty() {
            let last = self.made[0].name.clone();
            let made = self.node("Relu", &[&last], vec![]);
            self.graph.output = vec![untyped(&made)];
        }
        self.graph.name = "fuzzed".to_owned();
        pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto {
                domain: String::new(),
                version: 14,
            }],
            graph: Some(self.graph),
            ..Default::default()
        }
    }
}
