//! Quantisation: weights and activations as 8-bit integers, or weights as float16.
//!
//! ```text
//! float graph ─► fold ─► observe ─► range ─► graph
//!                BatchNorm  values     one per   QuantizeLinear and
//!                in weights on some    tensor    DequantizeLinear
//!                           images               around the layers
//! ```

mod constants;
mod float16;
mod fold;
mod graph;
mod observe;
mod opset;
mod range;
mod unrounded;
mod varying;

use std::collections::{HashMap, HashSet};

pub use float16::with_float16_weights;
pub use range::Calibration;
pub(super) use unrounded::unrounded;

use self::graph::Analysis;
use self::range::Range;
use super::network::Network;
use super::onnx::OnnxGraph;
use crate::error::{Error, Result};

/// A float network with the ranges of its tensors; builds quantised versions.
pub struct Quantizer {
    analysis: Analysis,
    input_shape: [usize; 4],
    ranges: HashMap<String, Range>,
    weight_bits: u32,
}

impl Quantizer {
    /// Observes `graph` on the input tensors `pictures`, each row-major of the shape `input_shape`, batch of one
    /// included, on `threads` threads. Weights will have `weight_bits` bits, 7 or 8.
    ///
    /// # Errors
    /// [`Error::Model`] if the graph cannot be run, is quantised already, has no layer that can be quantised, or
    /// is of an operator set that cannot be raised to 13; [`Error::Parameter`] without images.
    pub fn new(
        graph: &OnnxGraph,
        input_shape: [usize; 4],
        pictures: &[Vec<f32>],
        calibration: Calibration,
        weight_bits: u32,
        threads: usize,
    ) -> Result<Quantizer> {
        if pictures.is_empty() {
            return Err(Error::Parameter {
                name: "--calibration-images",
                value: "0".into(),
                problem: "calibration needs at least 1 image".into(),
            });
        }
        let analysis = Analysis::of(graph, input_shape)?;
        if analysis.layers().is_empty() {
            return Err(graph.fail("it has no convolution or dense layer with constant weights"));
        }
        let ranges = observe::ranges(
            analysis.graph(),
            input_shape,
            &analysis.tensors(&HashSet::new()),
            pictures,
            calibration,
            threads,
        )?;
        Ok(Quantizer {
            analysis,
            input_shape,
            ranges,
            weight_bits,
        })
    }

    /// Names of the quantisable layers, in execution order.
    pub fn layers(&self) -> Vec<&str> {
        self.analysis.layers()
    }

    /// The quantised network, except for the layers named in `float`.
    pub fn quantized(&self, float: &[&str]) -> OnnxGraph {
        let float: HashSet<&str> = float.iter().copied().collect();
        self.analysis
            .quantized(&self.ranges, &float, self.weight_bits)
    }

    /// The network's outputs for each of `pictures` with the layers named in `float` kept in floats; all of them
    /// for the float network.
    ///
    /// # Errors
    /// [`Error::Model`] if it cannot be run.
    pub fn outputs(&self, float: &[&str], pictures: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let network = if float.len() == self.layers().len() {
            Network::load(self.analysis.graph(), self.input_shape)?
        } else {
            Network::load(&self.quantized(float), self.input_shape)?
        };
        observe::outputs(&mut network.session()?, pictures)
    }

    /// The layers in the order in which keeping each in floats, alone, brings the outputs for `pictures` closest
    /// to `expected`; `float` are kept anyway, and not listed.
    ///
    /// # Errors
    /// [`Error::Model`] if a network cannot be run; those of `checkpoint`, which is called before each layer.
    pub fn most_sensitive(
        &self,
        float: &[&str],
        pictures: &[Vec<f32>],
        expected: &[Vec<f32>],
        mut checkpoint: impl FnMut() -> Result<()>,
    ) -> Result<Vec<String>> {
        let mut layers = Vec::new();
        for layer in self.layers() {
            if float.contains(&layer) {
                continue;
            }
            checkpoint()?;
            let mut kept = float.to_vec();
            kept.push(layer);
            let found = self.outputs(&kept, pictures)?;
            layers.push((squared_error(&found, expected), layer.to_owned()));
        }
        layers.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }
}

fn squared_error(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
}
