//! Chooses one of several outputs of a graph. No file access.

use super::onnx::DeclaredOutput;

/// Names of outputs that are one vector of features per image, the best first, as Hugging Face, timm and
/// sentence-transformers write them.
const FEATURES: [&str; 14] = [
    "pooler_output",
    "image_embeds",
    "image_embeddings",
    "image_features",
    "pooled_output",
    "sentence_embedding",
    "embeddings",
    "embedding",
    "embeds",
    "pre_logits",
    "features",
    "feature",
    "feature_vector",
    "pooled",
];

/// The name without the path and number that exporters put around it.
fn plain(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let last = last.split(':').next().unwrap_or(last);
    last.to_lowercase().replace(['-', '.'], "_")
}

fn rank_of(name: &str) -> Option<usize> {
    let name = plain(name);
    FEATURES
        .iter()
        .position(|wanted| name == *wanted || name.ends_with(&format!("_{wanted}")))
}

/// Whether an output's name says that it is a vector of features.
pub(super) fn is_called_features(name: &str) -> bool {
    rank_of(name).is_some()
}

/// Whether an output has one vector per image, as far as is known.
fn is_vector(output: &DeclaredOutput) -> bool {
    match output.dims.as_deref() {
        Some([_, _] | [_, _, Some(1), Some(1)]) => true,
        Some(_) => false,
        None => true,
    }
}

/// The place of the output to use; `None` if there is none. `has_classifier` tells for each whether a classifier makes
/// it, `places` where it is computed.
pub(super) fn choose(
    outputs: &[DeclaredOutput],
    has_classifier: &[bool],
    places: &[usize],
) -> Option<usize> {
    let all = || (0..outputs.len()).filter(|&i| outputs[i].is_float);
    let vectors = || all().filter(|&i| is_vector(&outputs[i]));
    let named = vectors().filter_map(|i| Some((rank_of(&outputs[i].name)?, i)));
    let tokens = |&i: &usize| plain(&outputs[i].name).ends_with("last_hidden_state");
    named
        .min()
        .map(|(_, i)| i)
        .or_else(|| vectors().find(|&i| has_classifier[i]))
        .or_else(|| vectors().next())
        // Labels that are integers: after them is a classifier all the same.
        .or_else(|| (0..outputs.len()).find(|&i| has_classifier[i]))
        .or_else(|| all().find(tokens))
        .or_else(|| all().max_by_key(|&i| places[i]))
        .or_else(|| (0..outputs.len()).next())
}

/// The outputs with their dimensions, for a person: `logits [10], maps [16, 32, 32]`.
pub(super) fn listed(outputs: &[DeclaredOutput]) -> String {
    const MOST: usize = 8;
    let one = |output: &DeclaredOutput| {
        let dims = output.dims.as_deref().and_then(|dims| dims.get(1..));
        let dims = dims.filter(|dims| !dims.is_empty()).map(|dims| {
            let dims = dims
                .iter()
                .map(|d| d.map_or("?".to_owned(), |n| n.to_string()));
            format!(" [{}]", dims.collect::<Vec<_>>().join(", "))
        });
        output.name.clone() + &dims.unwrap_or_default()
    };
    let mut names: Vec<String> = outputs.iter().take(MOST).map(one).collect();
    if outputs.len() > MOST {
        names.push(format!("and {} more", outputs.len() - MOST));
    }
    names.join(", ")
}
