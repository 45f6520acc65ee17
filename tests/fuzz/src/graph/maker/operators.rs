//! Operators by the bytes that choose them.

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::onnx::{floats, int, ints, text, untyped};
use super::{MOST_PRODUCTS, MOST_VALUES, Made, Maker};

impl Maker<'_> {
    pub(in super::super) fn operators(&mut self) {
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
        // None is a multiple of another: else half of all values lie between two bytes.
        let scale = self.pick(&[0.0213, 0.0117, 0.0531, 0.0971]);
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
}
