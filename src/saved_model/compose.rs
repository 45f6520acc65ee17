//! Composes backbone and head into one ONNX graph.

use crate::backbone::{Attribute, Backbone, OnnxGraph, flattened};
use crate::error::{Error, Result};
use crate::train::{Head, Standardization};

/// Name of the output tensor of a saved model.
pub const OUTPUT: &str = "probabilities";

/// Appends `head` and a softmax to `backbone`.
///
/// The result takes what the backbone takes, with a free batch `N`, and gives `probabilities`,
/// f32 `[N, classes]`, each row with the sum 1.
///
/// # Errors
/// [`Error::Mismatch`] if the head was trained on features of another length.
pub fn compose(backbone: &Backbone, head: &Head) -> Result<OnnxGraph> {
    compose_tuned(backbone, &[], head)
}

/// Like [`compose`], with new values for the named weights of the backbone.
///
/// # Errors
/// [`Error::Mismatch`] if the head was trained on features of another length.
pub fn compose_tuned(
    backbone: &Backbone,
    weights: &[(&str, &[f32])],
    head: &Head,
) -> Result<OnnxGraph> {
    if head.inputs() != backbone.feature_len() {
        return Err(Error::Mismatch {
            what: format!("features of the head for {}", backbone.id().model),
            expected: backbone.feature_len().to_string(),
            found: head.inputs().to_string(),
            hint: "train the head on features of this backbone, feature layer and input size"
                .into(),
        });
    }
    let (features, output) = backbone.graph();
    let mut graph = features.clone();
    for (name, values) in weights {
        graph.set_weight(name, values);
    }
    let mut tensor = output.to_owned();
    if backbone.feature_shape().len() > 1 {
        tensor = flattened(&mut graph, &tensor);
    }
    if let Some(standardization) = head.standardization() {
        tensor = standardized(&mut graph, &tensor, standardization);
    }
    let last = head.layers().len().saturating_sub(1);
    for (i, layer) in head.layers().iter().enumerate() {
        let dense = graph.fresh_name("dense");
        let (kernel, bias) = (format!("{dense}/kernel"), format!("{dense}/bias"));
        let (inputs, outputs) = layer.weights.dim();
        graph.add_weight(&kernel, &[inputs, outputs], layer.weights.iter().copied());
        graph.add_weight(&bias, &[outputs], layer.bias.iter().copied());
        graph.add_node("Gemm", &dense, &[&tensor, &kernel, &bias], &[]);
        tensor = dense;
        if i < last {
            let relu = format!("{tensor}_relu");
            graph.add_node("Relu", &relu, &[&tensor], &[]);
            tensor = relu;
        }
    }
    let output = graph.fresh_name(OUTPUT);
    graph.add_node(
        "Softmax",
        &output,
        &[&tensor],
        &[("axis", Attribute::Int(1))],
    );
    graph.set_output(&output, &[head.classes()]);
    graph.sign(&format!("{}-transfer", backbone.id().model));
    Ok(graph)
}

/// The end of the name of the constant that marks a `Max` of [`standardized`].
pub(super) const LEAST: &str = "/least";

/// Puts (x − mean) · factor after `features`: a `Sub` and a `Mul`, each after a `Max`.
///
/// A `Max` with float32's least number changes nothing. It keeps engines from making one operator of those on its two
/// sides, whose result in between has to be rounded: as the features were when the head was trained on them, and
/// before the digits that a large mean costs are multiplied.
fn standardized(graph: &mut OnnxGraph, features: &str, apart: &Standardization) -> String {
    let names = ["as_stored", "centred", "rounded", "standardised"];
    let names = names.map(|name| graph.fresh_name(&format!("features_{name}")));
    let [stored, centred, _, scaled] = &names;
    let least = format!("{stored}{LEAST}");
    let (mean, factor) = (format!("{centred}/mean"), format!("{scaled}/factor"));
    graph.add_weight(&mean, &[apart.mean.len()], apart.mean.iter().copied());
    graph.add_weight(&factor, &[apart.factor.len()], apart.factor.iter().copied());
    // Older ones compare tensors of one shape alone.
    let compares = graph.operator_set() >= 8;
    if compares {
        graph.add_weight(&least, &[], std::iter::once(f32::MIN));
    }
    let steps = [
        ("Max", &least),
        ("Sub", &mean),
        ("Max", &least),
        ("Mul", &factor),
    ];
    let mut tensor = features;
    for ((op_type, constant), name) in steps.into_iter().zip(&names) {
        if compares || op_type != "Max" {
            graph.add_node(op_type, name, &[tensor, constant], &[]);
            tensor = name;
        }
    }
    scaled.clone()
}
