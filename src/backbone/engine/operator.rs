//! Operators on bytes, for tract's graph. tract finds their shapes; a region computes them.

use tract_onnx::model::{Onnx, ParsingContext};
use tract_onnx::pb;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::{
    Expansion, InferenceOp, InferenceResult, Solver, TensorProxy, expand,
};

use super::integer::{IntegerWeights, Steps};
use super::map::Window;
use crate::backbone::attributes::Attributes;

/// Names of the operators in a graph that [`in_integers`](super::quantized::in_integers) made; no file has them.
pub(super) const CONVOLUTION: &str = "TlConvolution";
pub(super) const SUM: &str = "TlSum";
pub(super) const MAX_POOL: &str = "TlMaxPool";
pub(super) const QUANTIZE: &str = "TlQuantize";
pub(super) const DEQUANTIZE: &str = "TlDequantize";

/// What tract reads graphs with, our operators among its own.
pub(in crate::backbone) fn framework() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    for name in [CONVOLUTION, SUM, MAX_POOL, QUANTIZE, DEQUANTIZE] {
        onnx.op_register.insert(name, parse);
    }
    onnx
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
            [a, b] if a > 0 && b > 0 => Ok([a as usize, b as usize]),
            [] => Ok([1, 1]),
            _ => bail!("{name} is not that of two dimensions"),
        };
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        let padding = attributes.padding(size, self.kernel, stride, dilation);
        let (before, after) = padding.map_err(|problem| format_err!("{problem}"))?;
        let window = |axis: usize| -> TractResult<Window> {
            let reach = (self.kernel[axis].max(1) - 1) * dilation[axis] + 1;
            let room = (size[axis] + before[axis] + after[axis]).checked_sub(reach);
            Ok(Window {
                size: self.kernel[axis],
                stride: stride[axis],
                dilation: dilation[axis],
                before: before[axis],
                input: size[axis],
                output: room.context("a window is larger than its map")? / stride[axis] + 1,
            })
        };
        Ok([window(0)?, window(1)?])
    }
}

fn parse(
    _: &ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let attributes = Attributes(&node.attribute);
    let scales = attributes.floats("step_scales");
    let steps = scales.iter().zip(attributes.floats("step_zeros"));
    let steps: Vec<Steps> = steps
        .map(|(&scale, zero)| Steps {
            scale,
            zero: zero as u8,
        })
        .collect();
    let kernel: Vec<usize> = attributes
        .ints("kernel")
        .iter()
        .map(|&n| n as usize)
        .collect();
    let geometry = || -> TractResult<Geometry> {
        ensure!(kernel.len() == 4, "a kernel has four dimensions");
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
        (CONVOLUTION, &[input, output]) => Kind::Convolution {
            depthwise: attributes.int("group").is_some_and(|group| group > 1),
            geometry: geometry()?,
            weights: IntegerWeights {
                values: attributes
                    .bytes("weights")
                    .iter()
                    .map(|&b| b as i8)
                    .collect(),
                bias: attributes.ints("bias").iter().map(|&b| b as i32).collect(),
                scales: attributes.floats("scales"),
                input,
                output: Some(output),
            },
        },
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
            let taps = geometry.kernel[0] * geometry.kernel[1];
            let outputs = weights.bias.len();
            ensure!(weights.values.len() == outputs * depth * taps);
            ensure!(weights.scales.len() == outputs && (!depthwise || outputs == channels));
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
        let shape = inputs[0]
            .shape
            .as_concrete()
            .context("a shape is not fixed")?;
        Ok(tvec!(self.datum_type().fact(self.output_shape(shape)?)))
    }
}
