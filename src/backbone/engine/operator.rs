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
use crate::backbone::attributes::Attributes;

/// Names of the operators in a graph that [`in_integers`](super::quantized::in_integers) made; no file has them.
pub(super) const CONVOLUTION: &str = "TlConvolution";
pub(super) const SUM: &str = "TlSum";
pub(super) const MAX_POOL: &str = "TlMaxPool";
pub(super) const QUANTIZE: &str = "TlQuantize";
pub(super) const DEQUANTIZE: &str = "TlDequantize";

const NAMES: [&str; 5] = [CONVOLUTION, SUM, MAX_POOL, QUANTIZE, DEQUANTIZE];

/// What tract reads graphs with that [`in_integers`](super::quantized::in_integers) made: our operators among its own.
pub(in crate::backbone) fn framework() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    for name in NAMES {
        onnx.op_register.insert(name, parse);
    }
    onnx
}

/// A node of a file that names one of our operators, in whatever domain, in the graph, in one inside of it, or in a
/// function: its operator.
pub(in crate::backbone) fn named_in(model: &pb::ModelProto) -> Option<&str> {
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
                group == 1 || depthwise && group as usize == kernel[0] && kernel[1] == 1,
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
