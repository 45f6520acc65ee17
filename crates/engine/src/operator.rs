//! Operators on bytes, for tract's graph. tract finds their shapes; a region computes them.

use tract_onnx::model::{Onnx, ParsingContext};
use tract_onnx::pb;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::{
    Expansion, InferenceOp, InferenceResult, Solver, TensorProxy, check_input_arity,
    check_output_arity, expand,
};

use super::geometry::{Sliding, Window, product};
use super::integer::{IntegerWeights, Steps};
use crate::proto::Attributes;

/// Names of the operators in a graph that [`in_integers`](crate::in_integers) made; no file has them.
pub(super) const CONVOLUTION: &str = "TlConvolution";
pub(super) const SUM: &str = "TlSum";
pub(super) const MAX_POOL: &str = "TlMaxPool";
pub(super) const QUANTIZE: &str = "TlQuantize";
pub(super) const DEQUANTIZE: &str = "TlDequantize";

const NAMES: [&str; 5] = [CONVOLUTION, SUM, MAX_POOL, QUANTIZE, DEQUANTIZE];

/// What tract reads graphs with that [`in_integers`](crate::in_integers) made: our operators among its own.
pub fn framework() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    for name in NAMES {
        onnx.op_register.insert(name, parse);
    }
    onnx
}

/// A node of a file that names one of our operators, in whatever domain, in the graph, in one inside of it, or in a
/// function: its operator.
pub fn named_in(model: &pb::ModelProto) -> Option<&str> {
    let functions = model.functions.iter().flat_map(|function| &function.node);
    let graph = model.graph.iter().flat_map(|graph| &graph.node);
    let mut waiting: Vec<&pb::NodeProto> = graph.chain(functions).collect();
    while let Some(node) = waiting.pop() {
        if NAMES.contains(&node.op_type.as_str()) {
            return Some(&node.op_type);
        }
        for attribute in &node.attribute {
            let inside = attribute.g.iter().chain(&attribute.graphs);
            waiting.extend(inside.flat_map(|graph| &graph.node));
        }
    }
    None
}

/// An operator that makes bytes, takes them, or both.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IntegerOp {
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Quantize(Steps),
    Dequantize(Steps),
    Convolution {
        weights: IntegerWeights,
        depthwise: bool,
        geometry: Geometry,
    },
    /// The steps of both maps and of their sum.
    Sum([Steps; 3]),
    MaxPool(Geometry),
}

/// How a window goes over maps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Geometry {
    attributes: Vec<pb::AttributeProto>,
    kernel: [usize; 2],
}

impl Geometry {
    /// The windows over rows and columns of a map of `size`.
    pub(super) fn windows(&self, size: [usize; 2]) -> TractResult<[Window; 2]> {
        let attributes = Attributes(&self.attributes);
        let pair = |name: &str| match attributes.ints(name)[..] {
            [a, b] => match (usize::try_from(a), usize::try_from(b)) {
                (Ok(a), Ok(b)) if a > 0 && b > 0 => Ok([a, b]),
                _ => bail!("{name} is not positive"),
            },
            [] => Ok([1, 1]),
            _ => bail!("{name} is not that of two dimensions"),
        };
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        let padding = attributes.padding(size, self.kernel, stride, dilation);
        let (before, after) = padding.map_err(|problem| format_err!("{problem}"))?;
        let window = |axis: usize| {
            Window::new(Sliding {
                size: self.kernel[axis],
                stride: stride[axis],
                dilation: dilation[axis],
                before: before[axis],
                input: size[axis],
                output: Window::outputs(
                    size[axis]
                        .checked_add(before[axis])?
                        .checked_add(after[axis])?,
                    [self.kernel[axis], stride[axis], dilation[axis]],
                )?,
            })
        };
        match (window(0), window(1)) {
            (Some(rows), Some(columns)) => Ok([rows, columns]),
            _ => bail!(
                "its windows do not go with maps of {} x {}",
                size[0],
                size[1]
            ),
        }
    }
}

fn parse(
    _: &ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let attributes = Attributes(&node.attribute);
    let (scales, zeros) = (
        attributes.floats("step_scales"),
        attributes.floats("step_zeros"),
    );
    ensure!(scales.len() == zeros.len(), "a scale has no byte for 0");
    let is_scale = |scale: &f32| scale.is_finite() && *scale > 0.0;
    let steps = scales.iter().zip(zeros).map(|(&scale, zero)| {
        ensure!(is_scale(&scale), "a scale is {scale}");
        ensure!(
            (0.0..=255.0).contains(&zero) && zero.fract() == 0.0,
            "the byte for 0 is {zero}"
        );
        Ok(Steps {
            scale,
            zero: zero as u8,
        })
    });
    let steps: Vec<Steps> = steps.collect::<TractResult<_>>()?;
    let kernel: Vec<usize> = attributes
        .ints("kernel")
        .iter()
        .map(|&n| Ok(usize::try_from(n)?))
        .collect::<TractResult<_>>()?;
    let geometry = || -> TractResult<Geometry> {
        ensure!(
            kernel.len() == 4 && product(&kernel).is_some_and(|taps| taps > 0),
            "a kernel has four dimensions, of which none is 0"
        );
        Ok(Geometry {
            attributes: node
                .attribute
                .iter()
                .filter(|a| {
                    matches!(
                        a.name.as_str(),
                        "auto_pad" | "pads" | "strides" | "dilations"
                    )
                })
                .cloned()
                .collect(),
            kernel: [kernel[2], kernel[3]],
        })
    };
    let kind = match (node.op_type.as_str(), &steps[..]) {
        (QUANTIZE, &[steps]) => Kind::Quantize(steps),
        (DEQUANTIZE, &[steps]) => Kind::Dequantize(steps),
        (SUM, &[a, b, sum]) => Kind::Sum([a, b, sum]),
        (MAX_POOL, _) => Kind::MaxPool(geometry()?),
        (CONVOLUTION, &[input, output]) => {
            let geometry = geometry()?;
            let group = attributes.int("group").unwrap_or(1);
            let bias = attributes.ints("bias");
            let weights = IntegerWeights {
                values: attributes
                    .bytes("weights")
                    .iter()
                    .map(|&b| b as i8)
                    .collect(),
                bias: bias
                    .iter()
                    .map(|&b| Ok(i32::try_from(b)?))
                    .collect::<TractResult<_>>()?,
                scales: attributes.floats("scales"),
                input,
                output: Some(output),
            };
            ensure!(
                weights.bias.len() == kernel[0]
                    && weights.scales.len() == kernel[0]
                    && weights.scales.iter().all(|scale| scale.is_finite())
                    && Some(weights.values.len()) == product(&kernel),
                "weights, scales and bias are not those of its kernel"
            );
            let depthwise = group > 1;
            ensure!(
                group == 1
                    || depthwise && usize::try_from(group) == Ok(kernel[0]) && kernel[1] == 1,
                "it has {group} groups"
            );
            Kind::Convolution {
                depthwise,
                geometry,
                weights,
            }
        }
        (other, _) => bail!("{other} has other steps than it should"),
    };
    Ok((expand(IntegerOp { kind }), Vec::new()))
}

impl IntegerOp {
    fn datum_type(&self) -> DatumType {
        match self.kind {
            Kind::Dequantize(_) => f32::datum_type(),
            _ => u8::datum_type(),
        }
    }

    fn input_type(&self) -> DatumType {
        match self.kind {
            Kind::Quantize(_) => f32::datum_type(),
            _ => u8::datum_type(),
        }
    }

    /// Number of inputs.
    fn arity(&self) -> usize {
        match self.kind {
            Kind::Sum(_) => 2,
            _ => 1,
        }
    }

    /// The shape of the output for an input of shape `input`.
    fn output_shape(&self, input: &[usize]) -> TractResult<TVec<usize>> {
        let (geometry, outputs) = match &self.kind {
            Kind::Convolution {
                geometry, weights, ..
            } => (geometry, Some(weights.bias.len())),
            Kind::MaxPool(geometry) => (geometry, None),
            _ => return Ok(input.into()),
        };
        let &[batch, channels, height, width] = input else {
            bail!("maps have four dimensions, not {input:?}");
        };
        if let Kind::Convolution {
            weights, depthwise, ..
        } = &self.kind
        {
            let depth = if *depthwise { 1 } else { channels };
            let outputs = weights.bias.len();
            let [height, width] = geometry.kernel;
            let taps = product(&[outputs, depth, height, width]);
            ensure!(taps == Some(weights.values.len()) && (!depthwise || outputs == channels));
        }
        let [rows, columns] = geometry.windows([height, width])?;
        Ok(tvec!(
            batch,
            outputs.unwrap_or(channels),
            rows.output,
            columns.output
        ))
    }
}

impl Expansion for IntegerOp {
    fn name(&self) -> StaticName {
        "Integer".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.arity())?;
        check_output_arity(outputs, 1)?;
        for input in inputs {
            solver.equals(&input.datum_type, self.input_type())?;
            solver.equals(&input.shape, &inputs[0].shape)?;
        }
        solver.equals(&outputs[0].datum_type, self.datum_type())?;
        solver.given(&inputs[0].shape, move |solver, shape| {
            let concrete: TractResult<TVec<usize>> =
                shape.iter().map(|d| Ok(d.to_usize()?)).collect();
            let shape = self.output_shape(&concrete?)?;
            let shape: TVec<TDim> = shape.iter().map(|&d| d.to_dim()).collect();
            solver.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for IntegerOp {
    fn name(&self) -> StaticName {
        "Integer".into()
    }

    op_as_typed_op!();
}

impl Eq for IntegerOp {}

impl EvalOp for IntegerOp {
    not_out_of_plan!();
}

impl TypedOp for IntegerOp {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let alike = |fact: &&TypedFact| {
            fact.datum_type == self.input_type() && fact.shape == inputs[0].shape
        };
        ensure!(inputs.len() == self.arity() && inputs.iter().all(alike));
        let shape = inputs[0]
            .shape
            .as_concrete()
            .context("a shape is not fixed")?;
        Ok(tvec!(self.datum_type().fact(self.output_shape(shape)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, domain: &str) -> pb::NodeProto {
        pb::NodeProto {
            op_type: op_type.to_owned(),
            domain: domain.to_owned(),
            ..Default::default()
        }
    }

    fn graph(nodes: Vec<pb::NodeProto>) -> pb::GraphProto {
        pb::GraphProto {
            node: nodes,
            ..Default::default()
        }
    }

    fn model(nodes: Vec<pb::NodeProto>) -> pb::ModelProto {
        pb::ModelProto {
            graph: Some(graph(nodes)),
            ..Default::default()
        }
    }

    #[test]
    fn our_operators_are_found_wherever_a_file_names_them() {
        let usual = model(vec![node("Conv", ""), node("Relu", "com.example")]);
        assert_eq!(named_in(&usual), None);
        for name in NAMES {
            let mut function = model(vec![node("Conv", "")]);
            function.functions.push(pb::FunctionProto {
                node: vec![node(name, "local")],
                ..Default::default()
            });
            let inside = |depth: usize| {
                (0..depth).fold(node(name, "com.example"), |inner, _| pb::NodeProto {
                    attribute: vec![pb::AttributeProto {
                        g: Some(graph(vec![inner])),
                        ..Default::default()
                    }],
                    ..node("If", "")
                })
            };
            for model in [
                model(vec![node(name, "")]),
                model(vec![inside(1)]),
                model(vec![node("Conv", ""), inside(3)]),
                function,
            ] {
                assert_eq!(named_in(&model), Some(name));
            }
        }
    }

    /// What [`parse`] makes of a node with these integers; the rest is sound.
    fn parsed(op_type: &str, change: impl Fn(&mut pb::NodeProto)) -> TractResult<()> {
        use tract_onnx::pb::attribute_proto::AttributeType;
        use tract_onnx::tract_hir::infer::InferenceModelExt;
        let ints = |name: &str, ints: Vec<i64>| pb::AttributeProto {
            name: name.to_owned(),
            r#type: AttributeType::Ints as i32,
            ints,
            ..Default::default()
        };
        let floats = |name: &str, floats: Vec<f32>| pb::AttributeProto {
            name: name.to_owned(),
            r#type: AttributeType::Floats as i32,
            floats,
            ..Default::default()
        };
        let mut made = node(op_type, "");
        made.input = vec!["x".to_owned()];
        made.output = vec!["y".to_owned()];
        made.attribute = vec![
            floats("step_scales", vec![0.1, 0.2]),
            floats("step_zeros", vec![3.0, 0.0]),
            floats("scales", vec![0.5, 0.5]),
            ints("kernel", vec![2, 3, 3, 1]),
            ints("bias", vec![1, -1]),
            pb::AttributeProto {
                name: "weights".to_owned(),
                r#type: AttributeType::String as i32,
                s: vec![1; 18],
                ..Default::default()
            },
        ];
        change(&mut made);
        let input = pb::ValueInfoProto {
            name: "x".to_owned(),
            r#type: Some(pb::TypeProto {
                value: Some(pb::type_proto::Value::TensorType(pb::type_proto::Tensor {
                    elem_type: pb::tensor_proto::DataType::Uint8 as i32,
                    shape: None,
                })),
                ..Default::default()
            }),
            ..Default::default()
        };
        let output = pb::ValueInfoProto {
            name: "y".to_owned(),
            ..Default::default()
        };
        let mut model = model(vec![made]);
        let graph = model.graph.get_or_insert_default();
        graph.input = vec![input];
        graph.output = vec![output];
        let mut model = framework().model_for_proto_model(&model)?;
        model.set_input_fact(0, u8::fact([1, 3, 8, 8]).into())?;
        model.into_typed().map(|_| ())
    }

    #[test]
    fn attributes_are_checked_where_they_are_read() {
        let ints = |name: &'static str, ints: &'static [i64]| {
            move |node: &mut pb::NodeProto| {
                node.attribute.retain(|a| a.name != name);
                node.attribute.push(pb::AttributeProto {
                    name: name.to_owned(),
                    ints: ints.to_vec(),
                    ..Default::default()
                });
            }
        };
        let floats = |name: &'static str, floats: &'static [f32]| {
            move |node: &mut pb::NodeProto| {
                node.attribute.retain(|a| a.name != name);
                node.attribute.push(pb::AttributeProto {
                    name: name.to_owned(),
                    floats: floats.to_vec(),
                    ..Default::default()
                });
            }
        };
        let sound = parsed(CONVOLUTION, |_| {});
        assert!(sound.is_ok(), "{sound:?}");
        for change in [
            ints("kernel", &[2, 3, 0, 0]),
            ints("kernel", &[2, 3, -1, -1]),
            ints("kernel", &[2, 3, 17, 1]),
            ints("kernel", &[1 << 62, 1 << 62, 1, 1]),
            ints("kernel", &[2, 3]),
            ints("strides", &[(1 << 62) - 3, 1]),
            ints("strides", &[0, 1]),
            ints("dilations", &[(1 << 60) + 1, 1]),
            ints("dilations", &[-1, 1]),
            ints("pads", &[0, 0, i64::MAX, 0]),
            ints("pads", &[1 << 40, 0, 0, 0]),
            ints("bias", &[1]),
            ints("bias", &[1 << 40, 0]),
        ] {
            assert!(parsed(CONVOLUTION, change).is_err());
        }
        for change in [
            floats("scales", &[0.5]),
            floats("scales", &[0.5, f32::NAN]),
            floats("step_scales", &[0.0, 1.0]),
            floats("step_scales", &[1.0]),
            floats("step_zeros", &[256.0, 0.0]),
            floats("step_zeros", &[0.5, 0.0]),
        ] {
            assert!(parsed(CONVOLUTION, change).is_err());
        }
        // A rounding takes floats, not bytes.
        let rounding = |node: &mut pb::NodeProto| {
            floats("step_scales", &[0.1])(node);
            floats("step_zeros", &[0.0])(node);
        };
        assert!(parsed(QUANTIZE, rounding).is_err());
        assert!(parsed(DEQUANTIZE, rounding).is_ok());
    }
}
