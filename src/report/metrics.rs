//! Scores as tables.

use super::table::Table;
use super::{Text, grouped, printable};
use crate::dataset::Split;
use crate::train::{ClassScores, ConfusionMatrix, Score};

/// Maximum width of a class name in a column header.
const HEAD_CHARS: usize = 12;

/// One line per split: images, loss, accuracy.
pub fn scores_table(scores: &[(Split, Score)]) -> Text {
    let mut table = Table::new(&["split", "images", "loss", "accuracy"]);
    for (split, score) in scores {
        table.row([
            split.name().to_owned(),
            grouped(score.rows as u64),
            format!("{:.4}", score.loss),
            format!("{:.4}", score.accuracy),
        ]);
    }
    table.text()
}

/// Precision, recall, F1 and support of each class, then accuracy and the averages, as scikit-learn's
/// `classification_report` defines and orders them.
pub fn metrics_table(classes: &[String], confusion: &ConfusionMatrix) -> Text {
    let mut table = Table::new(&["class", "precision", "recall", "f1-score", "support"]);
    let row = |name: &str, scores: &ClassScores| {
        [
            name.to_owned(),
            format!("{:.3}", scores.precision),
            format!("{:.3}", scores.recall),
            format!("{:.3}", scores.f1),
            scores.support.to_string(),
        ]
    };
    for (name, scores) in classes.iter().zip(confusion.class_scores()) {
        table.row(row(name, &scores));
    }
    let accuracy = format!("{:.3}", confusion.accuracy());
    table.row([
        "accuracy",
        "",
        "",
        &accuracy,
        &confusion.total().to_string(),
    ]);
    table.row(row("macro avg", &confusion.macro_average()));
    table.row(row("weighted avg", &confusion.weighted_average()));
    table.text()
}

/// The confusion matrix: a line per true class, a column per predicted class.
pub fn confusion_table(classes: &[String], confusion: &ConfusionMatrix) -> Text {
    let heads: Vec<String> = classes.iter().map(|name| short(name)).collect();
    let mut columns = vec!["true \\ predicted"];
    columns.extend(heads.iter().map(String::as_str));
    let mut table = Table::new(&columns);
    for (name, counts) in classes.iter().zip(confusion.to_rows()) {
        let counts = counts.iter().map(|&n| {
            if n == 0 {
                "·".to_owned()
            } else {
                n.to_string()
            }
        });
        table.row(std::iter::once(name.clone()).chain(counts));
    }
    table.text()
}

fn short(name: &str) -> String {
    let name = printable(name);
    match name.char_indices().nth(HEAD_CHARS) {
        Some((i, _)) => format!("{}…", &name[..i]),
        None => name,
    }
}
