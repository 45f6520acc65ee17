//! Reports which tensors of a backbone or model a job uses: the features and the classifier.

use crate::backbone::{Backbone, Classifier, Pool};
use crate::counts::count;
use crate::progress::Progress;
use crate::report::grouped;
use crate::saved_model::{OUTPUT, Record};

/// Emits the features of `backbone`, what files beside it say, and what had to be guessed.
pub(super) fn tell_backbone(backbone: &Backbone, progress: &Progress) {
    tell(progress, backbone.warnings(), backbone.notes());
    progress.info_once(of_backbone(backbone));
}

/// The same for a backbone used with its own classifier.
pub(super) fn tell_classifier(classifier: &Classifier, progress: &Progress) {
    tell(progress, classifier.warnings(), classifier.notes());
    progress.info_once(of_classifier(classifier));
}

fn tell(progress: &Progress, warnings: &[String], notes: &[String]) {
    for warning in warnings {
        progress.warn_once(warning.clone());
    }
    for note in notes {
        progress.info_once(note.clone());
    }
}

/// The features of a backbone, and its classifier, which is dropped.
pub(super) fn of_backbone(backbone: &Backbone) -> String {
    let parts = backbone.parts().iter();
    let parts: Vec<String> = parts.map(|p| one(&p.cut, &p.shape)).collect();
    let pool = pooling(backbone.id().pool);
    line(
        &format!("{}{pool}", parts.join(" + ")),
        backbone.logits().unwrap_or("none"),
    )
}

/// What is said of the tokens that become features.
fn pooling(pool: Pool) -> &'static str {
    match pool {
        Pool::Cls => ", class token",
        Pool::ClsMean => ", class token and mean",
        _ => "",
    }
}

/// The features that a backbone's classifier reads, and the classifier.
pub(super) fn of_classifier(classifier: &Classifier) -> String {
    let tail = classifier.tail();
    let features = match classifier.feature_len() {
        Some(length) => one(&tail.features, &[length]),
        None => tail.features.clone(),
    };
    line(&features, tail.logits.as_deref().unwrap_or("none"))
}

/// The features that a saved model's head reads, and the head.
pub(super) fn of_saved(record: &Record) -> String {
    let cut = &record.backbone.cut;
    let pool = pooling(record.backbone.pool);
    let classes = count(record.classes.len(), "class");
    line(
        &format!("{}{pool}", one(&cut.to_string(), &record.feature_shape)),
        &format!("{OUTPUT} ({classes})"),
    )
}

fn line(features: &str, classifier: &str) -> String {
    format!("features: {features}; classifier: {classifier}")
}

/// A tensor with its size: `features (1,280)`, `block5_pool (4 x 4 x 512)`.
fn one(name: &str, shape: &[usize]) -> String {
    let dims: Vec<String> = shape.iter().map(|&n| grouped(n as u64)).collect();
    format!("{name} ({})", dims.join(" x "))
}
