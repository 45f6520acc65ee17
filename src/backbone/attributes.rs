//! Reads attributes and constants of a graph for training.

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::onnx::{OnnxGraph, OnnxNode};

/// Values of a float32 tensor, row-major; `None` if it is of another type.
pub(super) fn float_values(tensor: &pb::TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != DataType::Float as i32 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(tensor.float_data.clone());
    }
    let (values, _) = tensor.raw_data.as_chunks::<4>();
    Some(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// ONNX's codes of the 4-bit types.
pub(super) const UINT4: i32 = 21;
pub(super) const INT4: i32 = 22;

/// Values of a tensor of integers of 32 bits or fewer, row-major; `None` if it is of another type, or has another
/// number of values than its dimensions say.
pub(super) fn integer_values(tensor: &pb::TensorProto) -> Option<Vec<i32>> {
    let count = tensor.dims.iter().try_fold(1_usize, |count, &dim| {
        count.checked_mul(usize::try_from(dim).ok()?)
    })?;
    let raw = &tensor.raw_data;
    let four_bits = matches!(tensor.data_type, UINT4 | INT4);
    let mut values: Vec<i32> = match tensor.data_type {
        _ if raw.is_empty() => tensor.int32_data.clone(),
        kind if kind == DataType::Int8 as i32 => raw.iter().map(|&b| i32::from(b as i8)).collect(),
        kind if four_bits || kind == DataType::Uint8 as i32 => {
            raw.iter().map(|&b| i32::from(b)).collect()
        }
        kind if kind == DataType::Int16 as i32 => {
            let pairs = raw.as_chunks::<2>().0.iter();
            pairs.map(|&b| i32::from(i16::from_le_bytes(b))).collect()
        }
        kind if kind == DataType::Uint16 as i32 => {
            let pairs = raw.as_chunks::<2>().0.iter();
            pairs.map(|&b| i32::from(u16::from_le_bytes(b))).collect()
        }
        kind if kind == DataType::Int32 as i32 => {
            let fours = raw.as_chunks::<4>().0.iter();
            fours.map(|&b| i32::from_le_bytes(b)).collect()
        }
        _ => return None,
    };
    let known = [
        DataType::Int8,
        DataType::Uint8,
        DataType::Int16,
        DataType::Uint16,
        DataType::Int32,
    ];
    if four_bits {
        // Two per byte, the lower first.
        let halves = values
            .iter()
            .flat_map(|&byte| [byte & 15, (byte >> 4) & 15]);
        let signed = tensor.data_type == INT4;
        let sign = |half: i32| if signed && half > 7 { half - 16 } else { half };
        values = halves.map(sign).take(count).collect();
    } else if !known.iter().any(|&kind| kind as i32 == tensor.data_type) {
        return None;
    }
    (values.len() == count).then_some(values)
}

/// Values of a tensor of 32-bit floating-point numbers or of 32- or 64-bit integers; `None` if it is of another type.
pub(super) fn small_values(tensor: &pb::TensorProto) -> Option<Vec<f64>> {
    let raw = &tensor.raw_data;
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float => Some(float_values(tensor)?.into_iter().map(f64::from).collect()),
        DataType::Int64 if raw.is_empty() => {
            Some(tensor.int64_data.iter().map(|&i| i as f64).collect())
        }
        DataType::Int64 => {
            let (values, _) = raw.as_chunks::<8>();
            Some(
                values
                    .iter()
                    .map(|b| i64::from_le_bytes(*b) as f64)
                    .collect(),
            )
        }
        DataType::Int32 if raw.is_empty() => {
            Some(tensor.int32_data.iter().map(|&i| f64::from(i)).collect())
        }
        DataType::Int32 => {
            let (values, _) = raw.as_chunks::<4>();
            Some(
                values
                    .iter()
                    .map(|b| f64::from(i32::from_le_bytes(*b)))
                    .collect(),
            )
        }
        _ => None,
    }
}

/// The attributes of one operator; empty where the graph has none.
pub(super) struct Attributes<'a>(pub(super) &'a [pb::AttributeProto]);

impl Attributes<'_> {
    fn find(&self, name: &str) -> Option<&pb::AttributeProto> {
        self.0.iter().find(|a| a.name == name)
    }

    /// A list of integers; empty where absent.
    pub fn ints(&self, name: &str) -> Vec<i64> {
        self.find(name).map(|a| a.ints.clone()).unwrap_or_default()
    }

    /// An integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.find(name).map(|a| a.i)
    }

    /// A number.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.find(name).map(|a| a.f)
    }

    /// A list of numbers; empty where absent.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.find(name)
            .map(|a| a.floats.clone())
            .unwrap_or_default()
    }

    /// A string of bytes; empty where absent.
    pub fn bytes(&self, name: &str) -> &[u8] {
        self.find(name).map_or(&[], |a| &a.s)
    }

    /// A text; empty where absent.
    pub fn text(&self, name: &str) -> String {
        let bytes = self.find(name).map(|a| a.s.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Padding before and after height and width, for a window over maps of `size`.
    ///
    /// # Errors
    /// The problem with the attributes, in words.
    pub fn padding(
        &self,
        size: [usize; 2],
        window: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> std::result::Result<([usize; 2], [usize; 2]), String> {
        let mode = self.text("auto_pad");
        match mode.as_str() {
            "SAME_UPPER" | "SAME_LOWER" => {
                let total = |axis: usize| {
                    let last = size[axis].checked_sub(1)?.checked_div(stride[axis])? * stride[axis];
                    let reach = window[axis].checked_sub(1)?.checked_mul(dilation[axis])?;
                    let end = last.checked_add(reach)?.checked_add(1)?;
                    Some(end.saturating_sub(size[axis]))
                };
                let (Some(rows), Some(columns)) = (total(0), total(1)) else {
                    return Err("its windows are empty or too large".into());
                };
                let total = [rows, columns];
                let less = total.map(|t| t / 2);
                let more = [total[0] - less[0], total[1] - less[1]];
                Ok(match mode.as_str() {
                    "SAME_UPPER" => (less, more),
                    _ => (more, less),
                })
            }
            "VALID" => Ok(([0, 0], [0, 0])),
            "" | "NOTSET" => match self.ints("pads")[..] {
                [] => Ok(([0, 0], [0, 0])),
                [top, left, bottom, right] if top.min(left).min(bottom).min(right) >= 0 => Ok((
                    [top as usize, left as usize],
                    [bottom as usize, right as usize],
                )),
                _ => Err("its padding is not two-dimensional".into()),
            },
            other => Err(format!("its padding is {other}")),
        }
    }
}

impl<'a> Attributes<'a> {
    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<&'a pb::TensorProto> {
        let mut attributes = self.0.iter();
        attributes.find(|a| a.name == name)?.t.as_ref()
    }
}

impl OnnxGraph {
    fn node_protos(&self) -> &[pb::NodeProto] {
        self.proto().graph.as_ref().map_or(&[], |g| &g.node)
    }

    /// The attributes of the node at place `index`.
    pub(super) fn attributes(&self, index: usize) -> Attributes<'_> {
        let node = self.node_protos().get(index);
        Attributes(node.map_or(&[], |n| &n.attribute))
    }

    /// A weight, or the value of a `Constant` node.
    fn constant(&self, name: &str) -> Option<&pb::TensorProto> {
        let graph = self.proto().graph.as_ref()?;
        let weight = graph.initializer.iter().find(|t| t.name == name);
        weight.or_else(|| {
            let node = graph
                .node
                .iter()
                .find(|n| n.op_type == "Constant" && n.output.iter().any(|o| o == name))?;
            node.attribute
                .iter()
                .find(|a| a.name == "value")?
                .t
                .as_ref()
        })
    }

    /// The node at place `index`.
    pub(super) fn node_proto(&self, index: usize) -> Option<&pb::NodeProto> {
        self.node_protos().get(index)
    }

    /// Whether a tensor is a float32 constant.
    pub(super) fn is_float_constant(&self, name: &str) -> bool {
        let tensor = self.constant(name);
        tensor.is_some_and(|t| t.data_type == DataType::Float as i32)
    }

    /// Dimensions of a constant; empty for a number, and where there is none.
    pub(super) fn constant_dims(&self, name: &str) -> Vec<usize> {
        let dims = self.constant(name).map(|t| t.dims.clone());
        let dims = dims.unwrap_or_default().into_iter();
        dims.map(|d| usize::try_from(d).unwrap_or(0)).collect()
    }

    /// Number of values of a vector; 0 for a constant of other dimensions, and where there is none.
    pub(super) fn constant_length(&self, name: &str) -> usize {
        match self.constant_dims(name)[..] {
            [length] => length,
            _ => 0,
        }
    }

    /// Values of a float32 constant, row-major; `None` if it is of another type or not there.
    pub(super) fn weight_values(&self, name: &str) -> Option<Vec<f32>> {
        float_values(self.constant(name)?)
    }

    /// Whether the smallest number that a `QuantizeLinear` node can write is 0.
    pub(super) fn is_rounded_from_zero(&self, node: &OnnxNode) -> bool {
        let Some(name) = node.inputs.get(2).filter(|name| !name.is_empty()) else {
            // Without a zero point, bytes from 0 on.
            return true;
        };
        let Some(tensor) = self.constant(name) else {
            return false;
        };
        let first = match tensor.raw_data.first() {
            Some(&byte) => Some(i32::from(byte)),
            None => tensor.int32_data.first().map(|value| value & 0xff),
        };
        match first {
            Some(0) => tensor.data_type == DataType::Uint8 as i32,
            Some(0x80) => tensor.data_type == DataType::Int8 as i32,
            _ => false,
        }
    }

    /// Values of an int64 constant; `None` if it is of another type or not there.
    pub(super) fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.constant(name)?;
        if tensor.data_type != DataType::Int64 as i32 {
            return None;
        }
        if tensor.raw_data.is_empty() {
            return Some(tensor.int64_data.clone());
        }
        let (values, _) = tensor.raw_data.as_chunks::<8>();
        Some(values.iter().map(|b| i64::from_le_bytes(*b)).collect())
    }
}
