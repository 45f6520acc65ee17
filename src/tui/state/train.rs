//! Progress of the training. Pure.

use crate::progress::{EpochStats, Event, Phase};
use crate::tui::keys::Action;

/// A confusion matrix and its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    /// The split: `training`, `validation`, `test` or `all`.
    pub split: String,
    /// Number of images in it.
    pub images: usize,
    /// Accuracy, 0 to 1.
    pub accuracy: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// Class names.
    pub classes: Vec<String>,
    /// `counts[truth][prediction]`.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Fraction of the images of the class that were predicted correctly; none without images.
    pub fn recall(&self, class: usize) -> Option<f64> {
        let row = self.counts.get(class)?;
        let all: u64 = row.iter().sum();
        (all > 0).then(|| row[class] as f64 / all as f64)
    }
}

/// State of the training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Train {
    /// The measurements of each epoch of the current fit.
    pub epochs: Vec<EpochStats>,
    /// For each class, its validation accuracy after each epoch.
    pub class_history: Vec<Vec<f32>>,
    /// The current fold of a cross-validation, 0-based; none for the fit itself.
    pub fold: Option<usize>,
    /// Accuracies of the finished folds.
    pub folds: Vec<f32>,
    /// Total number of folds.
    pub fold_count: usize,
    /// Whether training is running.
    pub running: bool,
    /// Confusion matrices, one per split, in the order of arrival.
    pub confusions: Vec<Confusion>,
    /// Index of the current matrix.
    pub shown: usize,
    /// The selected cell: true class, predicted class.
    pub cell: (usize, usize),
    /// Whether the loss is on a logarithmic scale.
    pub log_scale: bool,
    /// Class names.
    pub classes: Vec<String>,
}

impl Train {
    /// Handles an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Started { job, .. } if matches!(job.as_str(), "fit" | "train" | "finetune") => {
                *self = Train {
                    log_scale: self.log_scale,
                    ..Train::default()
                };
            }
            Event::Scanned { classes, .. } if !classes.is_empty() => {
                self.classes = classes.iter().map(|(name, _)| name.clone()).collect();
            }
            Event::Phase { phase, .. } => {
                self.running = *phase == Phase::Train;
                if self.running {
                    self.begin(None);
                }
            }
            Event::Epoch {
                fold,
                stats,
                class_accuracy,
            } => {
                if *fold != self.fold || stats.epoch == 1 {
                    self.begin(*fold);
                }
                self.epochs.push(*stats);
                self.class_history.resize(class_accuracy.len(), Vec::new());
                for (history, share) in self.class_history.iter_mut().zip(class_accuracy) {
                    history.push(*share);
                }
            }
            Event::FoldDone {
                folds, accuracy, ..
            } => {
                self.folds.push(*accuracy);
                self.fold_count = *folds;
            }
            Event::RecipeTried { .. } => self.folds.clear(),
            Event::Evaluated {
                split,
                images,
                accuracy,
                loss,
                classes,
                confusion,
            } => {
                self.confusions.retain(|c| c.split != *split);
                self.confusions.push(Confusion {
                    split: split.clone(),
                    images: *images,
                    accuracy: *accuracy,
                    loss: *loss,
                    classes: classes.clone(),
                    counts: confusion.clone(),
                });
                self.shown = self.confusions.len() - 1;
                self.classes.clone_from(classes);
                self.cell = self.first_mistake();
            }
            Event::Finished { .. } | Event::Failed { .. } | Event::Cancelled { .. } => {
                self.running = false;
            }
            _ => {}
        }
    }

    fn begin(&mut self, fold: Option<usize>) {
        self.epochs.clear();
        self.class_history.clear();
        self.fold = fold;
    }

    /// The current matrix.
    pub fn confusion(&self) -> Option<&Confusion> {
        self.confusions.get(self.shown)
    }

    /// The cell off the diagonal with the most images; the first cell if there are no mistakes.
    fn first_mistake(&self) -> (usize, usize) {
        let Some(confusion) = self.confusion() else {
            return (0, 0);
        };
        let cells = confusion
            .counts
            .iter()
            .enumerate()
            .flat_map(|(truth, row)| {
                row.iter()
                    .enumerate()
                    .filter(move |(prediction, _)| *prediction != truth)
                    .map(move |(prediction, &count)| (count, (truth, prediction)))
            });
        cells
            .fold(
                (0, (0, 0)),
                |most, next| if next.0 > most.0 { next } else { most },
            )
            .1
    }

    /// Moves in the matrix or changes what is shown; returns whether the action was handled.
    pub fn act(&mut self, action: Action) -> bool {
        let classes = self.confusion().map_or(0, |c| c.counts.len());
        let last = classes.saturating_sub(1);
        let (truth, prediction) = &mut self.cell;
        match action {
            Action::Up => *truth = truth.saturating_sub(1),
            Action::Down => *truth = (*truth + 1).min(last),
            Action::Left => *prediction = prediction.saturating_sub(1),
            Action::Right => *prediction = (*prediction + 1).min(last),
            Action::LogScale => self.log_scale = !self.log_scale,
            Action::NextSplit if !self.confusions.is_empty() => {
                self.shown = (self.shown + 1) % self.confusions.len();
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(split: &str, confusion: Vec<Vec<u64>>) -> Event {
        Event::Evaluated {
            split: split.into(),
            images: 10,
            accuracy: 0.5,
            loss: 1.0,
            classes: vec!["a".into(), "b".into()],
            confusion,
        }
    }

    #[test]
    fn the_cursor_begins_at_the_worst_mistake_and_stays_in_the_matrix() {
        let mut train = Train::default();
        train.event(&evaluated("training", vec![vec![5, 0], vec![0, 5]]));
        assert_eq!(train.cell, (0, 0));
        train.event(&evaluated("validation", vec![vec![3, 1], vec![4, 2]]));
        assert_eq!(train.cell, (1, 0));
        train.act(Action::Down);
        train.act(Action::Right);
        train.act(Action::Right);
        assert_eq!(train.cell, (1, 1));
        train.act(Action::NextSplit);
        assert_eq!(train.confusion().unwrap().split, "training");
    }

    #[test]
    fn each_fold_has_its_own_curves() {
        let epoch = |fold, epoch| Event::Epoch {
            fold,
            stats: EpochStats {
                epoch,
                ..EpochStats::default()
            },
            class_accuracy: vec![0.5, 1.0],
        };
        let mut train = Train::default();
        for event in [epoch(Some(0), 1), epoch(Some(0), 2), epoch(Some(1), 1)] {
            train.event(&event);
        }
        assert_eq!((train.fold, train.epochs.len()), (Some(1), 1));
        train.event(&epoch(None, 1));
        train.event(&epoch(None, 2));
        assert_eq!(train.class_history, [vec![0.5, 0.5], vec![1.0, 1.0]]);
    }
}
