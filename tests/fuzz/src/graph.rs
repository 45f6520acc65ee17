//! Graphs made of a fuzzer's bytes: valid ones, odd ones, and hostile ones whose numbers no map is made for; with floats,
//! with quantised chains, with the engine's own operators. They are loaded and run, and what comes out is held against
//! tract alone.

use std::cell::{Cell, RefCell};
use std::sync::Once;

use prost::Message;
use tl::backbone::{Network, OnnxGraph};
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto;
use tract_onnx::prelude::*;

/// Largest difference of a float, relative to the largest value.
const TOLERANCE: f32 = 2e-3;

/// Largest mean difference where bytes are rounded on the way, relative to the largest value: a rounding to the other
/// neighbour is made larger by what follows.
const ROUNDED_TOLERANCE: f32 = 0.1;

/// Most values of a map, and most multiply-adds of an operator, so that a run takes milliseconds.
const MOST_VALUES: i64 = 60_000;
const MOST_PRODUCTS: i64 = 4_000_000;

thread_local! {
    /// A panic of this thread that must not be, even if the library makes an error of it.
    static FINDING: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether a panic of this thread becomes an error, or an answer.
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `call`, whose panics are seen.
fn watched<T>(call: impl FnOnce() -> T) -> std::thread::Result<T> {
    WATCHING.set(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    WATCHING.set(false);
    result
}

/// Sees panics before the library makes errors of them: in the engine none may be, and a number that overflows is none
/// in a program without checks.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The library puts its own hook in place with its first graph.
        let small = Maker::new(&[0; 8]).model();
        let _ = OnnxGraph::parse(&small.encode_to_vec(), "first")
            .and_then(|graph| Network::load(&graph, [1, 3, 8, 8]));
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !WATCHING.get() {
                return match cfg!(fuzzing) {
                    true => eprintln!("{panic}"),
                    false => usual(panic),
                };
            }
            let place = panic.location().map_or("", |place| place.file());
            let text = panic.to_string();
            let overflow = text.contains("attempt to") && text.contains("overflow");
            if place.contains("backbone/engine") || overflow {
                FINDING.set(Some(text));
            }
        }));
    });
}

/// The bytes of a fuzzer → a graph → what it gives, beside what tract gives.
pub fn graph(bytes: &[u8]) {
    watch_panics();
    let mut maker = Maker::new(bytes);
    maker.operators();
    let input = maker.picture();
    let shape = maker.input;
    let hostile = maker.hostile;
    let rounds = maker.rounds;
    let model = maker.model();
    let found = watched(|| run(&model, shape, &input));
    if let Some(panic) = FINDING.take() {
        panic!("a panic became an error: {panic}");
    }
    let found = found.unwrap_or_else(|_| panic!("a panic left the library"));
    if let Ok(found) = &found {
        let bits = |outputs: &[Vec<f32>]| -> Vec<u32> {
            outputs.iter().flatten().map(|x| x.to_bits()).collect()
        };
        for other in &found[1..] {
            assert_eq!(bits(&found[0]), bits(other), "not the same again");
        }
    }
    if hostile {
        return;
    }
    let reference = watched(|| reference(&model, shape, &input));
    FINDING.take();
    let Ok(Ok(reference)) = reference else {
        return;
    };
    let found = found.unwrap_or_else(|error| panic!("tract runs what is refused: {error}"));
    assert_eq!(found[0].len(), reference.len(), "numbers of outputs");
    for (found, reference) in found[0].iter().zip(&reference) {
        compare(found, reference, rounds);
    }
}

/// Loads the graph as a file, saves it, loads it again, and runs both twice: the outputs of each run.
fn run(
    model: &pb::ModelProto,
    shape: [usize; 4],
    input: &[f32],
) -> Result<Vec<Vec<Vec<f32>>>, tl::error::Error> {
    let graph = OnnxGraph::parse(&model.encode_to_vec(), "fuzzed")?;
    let again = OnnxGraph::parse(&graph.to_bytes(), "saved")?;
    let mut outputs = Vec::new();
    let mut results = Vec::new();
    for graph in [graph, again] {
        let network = Network::load(&graph, shape)?;
        let mut session = network.session()?;
        for _ in 0..2 {
            session.run(input, &mut outputs)?;
            results.push(outputs.clone());
        }
    }
    Ok(results)
}

/// What tract alone gives.
fn reference(
    model: &pb::ModelProto,
    shape: [usize; 4],
    input: &[f32],
) -> TractResult<Vec<Vec<f32>>> {
    let plan = tract_onnx::onnx()
        .model_for_proto_model(model)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_typed()?
        .into_decluttered()?
        .into_optimized()?
        .into_runnable()?;
    let outputs = plan.run(tvec!(Tensor::from_shape(&shape, input)?.into()))?;
    let values = outputs.iter().map(|output| {
        let output = output.cast_to::<f32>()?;
        Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    });
    values.collect()
}

fn compare(found: &[f32], reference: &[f32], rounds: bool) {
    assert_eq!(found.len(), reference.len(), "numbers of values");
    let finite = |x: &&f32| x.is_finite();
    let largest = reference
        .iter()
        .filter(finite)
        .fold(1e-2_f32, |m, x| m.max(x.abs()));
    // Where sums leave float32, so do their differences.
    if largest > 1e15 || !reference.iter().all(|x| x.is_finite()) {
        return;
    }
    let differences = found
        .iter()
        .zip(reference)
        .map(|(a, b)| (a - b).abs() / largest);
    if rounds {
        let mean = differences.sum::<f32>() / found.len().max(1) as f32;
        assert!(
            mean <= ROUNDED_TOLERANCE,
            "mean difference {mean} of {largest}"
        );
        return;
    }
    for (i, difference) in differences.enumerate() {
        assert!(
            difference <= TOLERANCE,
            "{} for {} at {i} of {}, largest {largest}",
            found[i],
            reference[i],
            found.len()
        );
    }
}

/// A tensor of the graph under construction: `[channels, height, width]`.
#[derive(Clone, Debug)]
struct Made {
    name: String,
    shape: [i64; 3],
}

/// Makes a graph of bytes; where they end, of zeros.
struct Maker<'a> {
    bytes: std::slice::Iter<'a, u8>,
    graph: pb::GraphProto,
    made: Vec<Made>,
    input: [usize; 4],
    /// Whether numbers may be what no map is made for.
    hostile: bool,
    /// Whether bytes are rounded on the way.
    rounds: bool,
    /// State of Marsaglia's xorshift, for values.
    random: u32,
    count: usize,
}

impl<'a> Maker<'a> {
    fn new(bytes: &'a [u8]) -> Maker<'a> {
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

    fn picture(&mut self) -> Vec<f32> {
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

    fn operators(&mut self) {
        let count = 1 + self.byte() % 10;
        for _ in 0..count {
            let from = self.any();
            match self.byte() % 24 {
                0..=5 => self.convolution(&from),
                6 | 7 => self.pool(&from),
                8..=11 => self.quantized(&from),
                12 => self.curve(&from),
                13 | 14 => self.pair(&from),
                15 => self.affine(&from),
                16 => self.concat(&from),
                17 => self.whole(&from),
                18 => self.part(&from),
                19 => self.pad(&from),
                20 => self.axes(&from),
                21 => self.transposed(&from),
                22 => self.product(&from),
                _ if self.hostile => self.own(&from),
                _ => self.convolution(&from),
            }
        }
    }

    /// Height and width after a window, with its attributes; none if there is no output.
    fn window(
        &mut self,
        from: &Made,
        kernel: [i64; 2],
        ceil: bool,
        dilated: bool,
    ) -> (Vec<pb::AttributeProto>, Option<[i64; 2]>) {
        let mut attributes = vec![ints("kernel_shape", &kernel)];
        let [_, height, width] = from.shape;
        let stride = [self.number(&[1, 1, 2, 3, 4]), self.number(&[1, 1, 2, 3])];
        attributes.push(ints("strides", &stride));
        let mut dilation = [1, 1];
        if dilated {
            dilation = [self.number(&[1, 1, 1, 2, 3]), self.number(&[1, 1, 2, 5])];
            attributes.push(ints("dilations", &dilation));
        }
        let mut pads = [0; 4];
        let mut same = false;
        match self.byte() % 6 {
            0 => attributes.push(text(
                "auto_pad",
                self.byte_of(&["SAME_UPPER", "SAME_LOWER"]),
            )),
            1 => attributes.push(text("auto_pad", "VALID")),
            2 => {}
            _ => {
                for (i, pad) in pads.iter_mut().enumerate() {
                    let most = kernel[i % 2].clamp(1, 12) - 1;
                    *pad = self.number(&[0, most / 2, most / 2, most, 1, 2]);
                    if ceil {
                        *pad = (*pad).min(most);
                    }
                }
                attributes.push(ints("pads", &pads));
            }
        }
        if attributes.iter().any(|a| a.s.starts_with(b"SAME")) {
            same = true;
        }
        let size = |axis: usize, input: i64| -> Option<i64> {
            let stride = i128::from(stride[axis]);
            if stride < 1 || kernel[axis] < 1 || dilation[axis] < 1 {
                return None;
            }
            let input = i128::from(input);
            if same {
                return i64::try_from((input + stride - 1) / stride).ok();
            }
            let reach = i128::from(kernel[axis] - 1) * i128::from(dilation[axis]) + 1;
            let room = input + i128::from(pads[axis]) + i128::from(pads[axis + 2]) - reach;
            let rounding = if ceil { stride - 1 } else { 0 };
            (room >= 0).then_some(())?;
            i64::try_from((room + rounding) / stride + 1).ok()
        };
        let sizes = size(0, height).zip(size(1, width)).map(|(h, w)| [h, w]);
        (attributes, sizes)
    }

    fn byte_of<'b>(&mut self, choices: &[&'b str]) -> &'b str {
        choices[self.byte() as usize % choices.len()]
    }

    fn kernel(&mut self) -> [i64; 2] {
        let sizes = [1, 3, 3, 3, 5, 2, 7, 4, 9];
        let size = self.pick(&sizes);
        match self.byte() % 3 {
            0 => [size, self.pick(&sizes)],
            _ => [size, size],
        }
    }

    /// Kernel, outputs and groups of a convolution; none if it would take long.
    fn convolving(&mut self, from: &Made) -> Option<([i64; 2], i64, i64)> {
        let kernel = self.kernel();
        let channels = from.shape[0];
        let (outputs, groups) = match self.byte() % 4 {
            0 => (channels, channels),
            1 if channels % 2 == 0 => (channels, 2),
            _ => (self.pick(&[1, 3, 4, 7, 16, 19, 32, 33, 48]), 1),
        };
        let products =
            from.shape.iter().product::<i64>() * outputs / groups * kernel[0] * kernel[1];
        (products <= MOST_PRODUCTS).then_some((kernel, outputs, groups))
    }

    fn convolution(&mut self, from: &Made) {
        let Some((kernel, outputs, groups)) = self.convolving(from) else {
            return;
        };
        let depth = from.shape[0] / groups;
        let scale = 1.7 / ((depth * kernel[0] * kernel[1]) as f32).sqrt();
        let weights = self.floats(&[outputs, depth, kernel[0], kernel[1]], scale);
        let (mut attributes, size) = self.window(from, kernel, false, true);
        let group = if self.hostile {
            self.number(&[groups])
        } else {
            groups
        };
        attributes.push(int("group", group));
        let mut inputs = vec![from.name.clone(), weights];
        if self.byte().is_multiple_of(2) {
            inputs.push(self.floats(&[outputs], 0.5));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let made = self.node("Conv", &inputs, attributes);
        self.after(made, outputs, size);
    }

    /// Keeps a result if its size is known and not large.
    fn after(&mut self, made: String, channels: i64, size: Option<[i64; 2]>) {
        let values = size.and_then(|[h, w]| h.checked_mul(w)?.checked_mul(channels));
        if let (Some([height, width]), Some(1..=MOST_VALUES)) = (size, values) {
            self.keep(made, [channels, height, width]);
        } else if !self.hostile {
            // Nothing runs it.
            self.graph.node.pop();
        } else {
            // As an output, it is what the file asks for.
            self.graph.output.push(untyped(&made));
        }
    }

    fn pool(&mut self, from: &Made) {
        let kernel = self.kernel();
        let ceil = self.byte().is_multiple_of(3);
        let (mut attributes, size) = self.window(from, kernel, ceil, false);
        attributes.push(int("ceil_mode", i64::from(ceil)));
        let kind = self.byte_of(&["MaxPool", "AveragePool"]);
        if kind == "AveragePool" {
            attributes.push(int("count_include_pad", i64::from(self.byte() % 2)));
        }
        let made = self.node(kind, &[&from.name], attributes);
        self.after(made, from.shape[0], size);
    }

    fn steps(&mut self) -> (String, String) {
        self.rounds = true;
        let scale = self.pick(&[0.02, 0.01, 0.05, 0.1]);
        let zero = self.pick(&[128, 0, 127, 255, 3]);
        (
            self.scalar(scale),
            self.small(&[], DataType::Uint8, vec![zero]),
        )
    }

    fn rounded(&mut self, name: &str, (scale, zero): &(String, String)) -> String {
        let bytes = self.node("QuantizeLinear", &[name, scale, zero], vec![]);
        self.node("DequantizeLinear", &[&bytes, scale, zero], vec![])
    }

    /// An operator between roundings, as a quantised file has it.
    fn quantized(&mut self, from: &Made) {
        let steps = self.steps();
        let input = self.rounded(&from.name, &steps);
        let channels = from.shape[0];
        let after = if self.byte().is_multiple_of(4) {
            steps.clone()
        } else {
            self.steps()
        };
        match self.byte() % 4 {
            0 => {
                let kernel = self.kernel();
                let (attributes, size) = self.window(from, kernel, false, false);
                let made = self.node("MaxPool", &[&input], attributes);
                self.between(made, channels, size, &steps);
            }
            1 => {
                let other = self.rounded(&from.name, &after);
                let made = self.node("Add", &[&input, &other], vec![]);
                let [_, height, width] = from.shape;
                self.between(made, channels, Some([height, width]), &after);
            }
            _ => {
                let Some((kernel, outputs, groups)) = self.convolving(from) else {
                    return;
                };
                let dims = [outputs, channels / groups, kernel[0], kernel[1]];
                let len: i64 = dims.iter().product();
                let weights = (0..len).map(|_| (self.value() * 127.0) as i32).collect();
                let weights = self.small(&dims, DataType::Int8, weights);
                let scale = 0.02 / ((len / outputs) as f32).sqrt();
                let scales = match self.byte() % 2 {
                    0 => self.scalar(scale),
                    _ => self.constant(pb::TensorProto {
                        dims: vec![outputs],
                        data_type: DataType::Float as i32,
                        float_data: vec![scale; outputs as usize],
                        ..Default::default()
                    }),
                };
                let axis = || vec![int("axis", 0)];
                let zero = self.small(&[], DataType::Int8, vec![0]);
                let mut read = vec![weights.as_str(), scales.as_str()];
                if self.byte().is_multiple_of(2)
                    && self
                        .graph
                        .initializer
                        .iter()
                        .any(|t| t.name == scales && t.dims.is_empty())
                {
                    read.push(&zero);
                }
                let weights = self.node("DequantizeLinear", &read, axis());
                let (mut attributes, size) = self.window(from, kernel, false, true);
                attributes.push(int("group", groups));
                let made = self.node("Conv", &[&input, &weights], attributes);
                self.between(made, outputs, size, &after);
            }
        }
    }

    fn between(
        &mut self,
        made: String,
        channels: i64,
        size: Option<[i64; 2]>,
        steps: &(String, String),
    ) {
        let made = match self.byte() % 3 {
            0 => self.node("Relu", &[&made], vec![]),
            _ => made,
        };
        let made = self.rounded(&made, steps);
        if size.is_some() || self.hostile {
            self.after(made, channels, size);
        } else {
            // Without an output there is nothing behind the convolution.
            while self
                .graph
                .node
                .last()
                .is_some_and(|n| n.op_type != "Conv" && n.op_type != "MaxPool")
            {
                self.graph.node.pop();
            }
            self.graph.node.pop();
        }
    }

    fn curve(&mut self, from: &Made) {
        let kind = self.byte_of(&[
            "Relu",
            "Sigmoid",
            "HardSwish",
            "HardSigmoid",
            "LeakyRelu",
            "Tanh",
            "Clip",
            "Elu",
        ]);
        let mut inputs = vec![from.name.clone()];
        if kind == "Clip" {
            inputs.push(self.scalar(-0.5));
            inputs.push(self.scalar(0.7));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let made = self.node(kind, &inputs, vec![]);
        self.keep(made, from.shape);
    }

    fn pair(&mut self, from: &Made) {
        let other = self.any();
        let [channels, ..] = from.shape;
        let goes = other.shape == from.shape || other.shape == [channels, 1, 1];
        let other = if goes { other } else { from.clone() };
        let kind = self.byte_of(&["Add", "Mul", "Sub", "Max"]);
        let made = self.node(kind, &[&from.name, &other.name], vec![]);
        self.keep(made, from.shape);
    }

    fn affine(&mut self, from: &Made) {
        let channels = from.shape[0];
        let made = match self.byte() % 3 {
            0 => {
                let scale = self.floats(&[channels], 1.0);
                let shift = self.floats(&[channels], 1.0);
                let variance = self.constant(pb::TensorProto {
                    dims: vec![channels],
                    data_type: DataType::Float as i32,
                    float_data: vec![0.7; channels as usize],
                    ..Default::default()
                });
                let inputs = [&*from.name, &scale, &shift, &shift, &variance];
                self.node("BatchNormalization", &inputs, vec![])
            }
            kind => {
                let dims = match self.byte() % 3 {
                    0 => vec![],
                    1 => vec![1, channels, 1, 1],
                    _ => vec![channels, 1, 1],
                };
                let values = self.floats(&dims, 1.5);
                let kind = if kind == 1 { "Mul" } else { "Add" };
                match self.byte() % 2 {
                    0 => self.node(kind, &[&from.name, &values], vec![]),
                    _ => self.node(kind, &[&values, &from.name], vec![]),
                }
            }
        };
        self.keep(made, from.shape);
    }

    fn concat(&mut self, from: &Made) {
        let other = self.any();
        let other = if other.shape[1..] == from.shape[1..] {
            other
        } else {
            from.clone()
        };
        let axis = self.number(&[1, -3]);
        let made = self.node(
            "Concat",
            &[&from.name, &other.name],
            vec![int("axis", axis)],
        );
        let [channels, height, width] = from.shape;
        let size = matches!(axis, 1 | -3).then_some([height, width]);
        self.after(made, channels + other.shape[0], size);
    }

    fn whole(&mut self, from: &Made) {
        let made = match self.byte() % 3 {
            0 => self.node("GlobalAveragePool", &[&from.name], vec![]),
            1 => self.node("GlobalMaxPool", &[&from.name], vec![]),
            _ => self.node(
                "ReduceMean",
                &[&from.name],
                vec![ints("axes", &[2, 3]), int("keepdims", 1)],
            ),
        };
        self.keep(made, [from.shape[0], 1, 1]);
    }

    fn part(&mut self, from: &Made) {
        let [channels, height, width] = from.shape;
        let half = (channels / 2).max(1);
        let (start, end) = (self.number(&[0, channels - half]), channels);
        let starts = self.integers(vec![start]);
        let ends = self.integers(vec![end]);
        let axes = self.integers(vec![1]);
        let made = self.node("Slice", &[&from.name, &starts, &ends, &axes], vec![]);
        let left = (0..channels).contains(&start).then_some([height, width]);
        self.after(made, channels - start.clamp(0, channels), left);
    }

    fn pad(&mut self, from: &Made) {
        let mut pads = [0; 8];
        for place in [2, 3, 6, 7] {
            pads[place] = self.number(&[0, 1, 2, 3]);
        }
        let widths = self.integers(pads.to_vec());
        let mode = self.byte_of(&["constant", "reflect", "edge"]);
        let made = self.node("Pad", &[&from.name, &widths], vec![text("mode", mode)]);
        let [channels, height, width] = from.shape;
        let fits = mode != "reflect" || height > 3 && width > 3;
        let size =
            |input: i64, a: i64, b: i64| input.checked_add(a)?.checked_add(b).filter(|&n| n > 0);
        let size = size(height, pads[2], pads[6]).zip(size(width, pads[3], pads[7]));
        self.after(made, channels, size.filter(|_| fits).map(|(h, w)| [h, w]));
    }

    /// Height and width change places, by a transposition or by a change of shape.
    fn axes(&mut self, from: &Made) {
        let [channels, height, width] = from.shape;
        let made = match self.byte() % 2 {
            0 => self.node(
                "Transpose",
                &[&from.name],
                vec![ints("perm", &[0, 1, 3, 2])],
            ),
            _ => {
                let dims = self.integers(vec![1, channels, width, height]);
                self.node("Reshape", &[&from.name, &dims], vec![])
            }
        };
        self.keep(made, [channels, width, height]);
    }

    fn transposed(&mut self, from: &Made) {
        let Some((kernel, outputs, 1)) = self.convolving(from) else {
            return;
        };
        let [channels, height, width] = from.shape;
        let weights = self.floats(&[channels, outputs, kernel[0], kernel[1]], 0.2);
        let stride = [self.number(&[1, 2, 3]), self.number(&[1, 2])];
        let attributes = vec![ints("kernel_shape", &kernel), ints("strides", &stride)];
        let made = self.node("ConvTranspose", &[&from.name, &weights], attributes);
        let size = |input: i64, axis: usize| {
            (input - 1)
                .checked_mul(stride[axis])?
                .checked_add(kernel[axis])
                .filter(|_| stride[axis] > 0)
        };
        self.after(
            made,
            outputs,
            size(height, 0).zip(size(width, 1)).map(|(h, w)| [h, w]),
        );
    }

    /// A dense layer on the pooled channels.
    fn product(&mut self, from: &Made) {
        let channels = from.shape[0];
        let pooled = self.node("GlobalAveragePool", &[&from.name], vec![]);
        let flat = self.node("Flatten", &[&pooled], vec![]);
        let outputs = self.pick(&[2, 5, 17, 32]);
        let weights = self.floats(&[channels, outputs], 0.5);
        let bias = self.floats(&[outputs], 0.5);
        let dense = self.node("Gemm", &[&flat, &weights, &bias], vec![]);
        let dims = self.integers(vec![1, outputs, 1, 1]);
        let made = self.node("Reshape", &[&dense, &dims], vec![]);
        self.keep(made, [outputs, 1, 1]);
    }

    /// An operator of the engine's own, which no file may have.
    fn own(&mut self, from: &Made) {
        let kind = self.byte_of(&[
            "TlQuantize",
            "TlDequantize",
            "TlSum",
            "TlMaxPool",
            "TlConvolution",
        ]);
        let kernel = [
            self.number(&[3]),
            from.shape[0],
            self.number(&[3, 1]),
            self.number(&[3, 1]),
        ];
        let steps = usize::from(self.byte() % 4);
        let taps = kernel
            .iter()
            .fold(1_i64, |n, &k| n.saturating_mul(k))
            .clamp(0, 4096);
        let attributes = vec![
            floats("step_scales", vec![0.05; steps]),
            floats("step_zeros", vec![3.0; steps]),
            ints("kernel", &kernel),
            ints("bias", &[1, 2, 3]),
            floats("scales", vec![0.1; 3]),
            pb::AttributeProto {
                name: "weights".to_owned(),
                r#type: AttributeType::String as i32,
                s: vec![1; taps as usize],
                ..Default::default()
            },
            ints("strides", &[self.number(&[1, 2]), 1]),
            ints("pads", &[self.number(&[0, 1]), 0, self.number(&[0, 1]), 0]),
        ];
        let made = self.node(kind, &[&from.name], attributes);
        self.keep(made, from.shape);
    }

    fn model(mut self) -> pb::ModelProto {
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

fn ints(name: &str, values: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..Default::default()
    }
}

fn floats(name: &str, values: Vec<f32>) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Floats as i32,
        floats: values,
        ..Default::default()
    }
}

fn int(name: &str, value: i64) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..Default::default()
    }
}

fn text(name: &str, value: &str) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::String as i32,
        s: value.as_bytes().to_vec(),
        ..Default::default()
    }
}

fn untyped(name: &str) -> pb::ValueInfoProto {
    pb::ValueInfoProto {
        name: name.to_owned(),
        ..Default::default()
    }
}

fn value_info(name: &str, shape: &[usize]) -> pb::ValueInfoProto {
    let dim = |&n: &usize| Dimension {
        value: Some(dimension::Value::DimValue(n as i64)),
        ..Default::default()
    };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: DataType::Float as i32,
                shape: Some(pb::TensorShapeProto {
                    dim: shape.iter().map(dim).collect(),
                }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}
