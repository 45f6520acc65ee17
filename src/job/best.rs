//! The recipe `best`: compares the recipes on the same folds and trains the winner.

use std::time::Instant;

use super::finetune::{self, FinetuneConfig};
use super::fit::{self, FitConfig};
use super::recipe::Recipe;
use super::train::{TrainReport, check_output};
use crate::error::{Error, Result};
use crate::progress::{Event, Progress};
use crate::train::{CrossValidation, PairedDifference};

/// Default number of folds for comparing recipes.
const FOLDS: usize = 5;

/// A cross-validated recipe.
#[derive(Debug)]
pub struct Tried {
    /// The recipe.
    pub recipe: Recipe,
    /// Its cross-validation.
    pub cross_validation: CrossValidation,
    /// How much better it is than the best recipe before it; `None` for the first.
    pub difference: Option<PairedDifference>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// Result of [`best`].
#[derive(Debug)]
pub struct BestReport {
    /// The recipes, in the order in which they were tried.
    pub tried: Vec<Tried>,
    /// The winner.
    pub chosen: Recipe,
    /// The model.
    pub trained: TrainReport,
}

/// Cross-validates the recipes on the same folds, simplest first, until `config.budget` is used up; trains the one
/// with the highest accuracy (on a tie, the simpler one) and saves it. The first recipe always runs to its end;
/// later ones that run out of time, or that the backbone does not support, are skipped.
///
/// # Errors
/// Those of [`super::fit()`] and [`super::finetune()`].
pub fn best(config: &FitConfig, progress: &Progress) -> Result<BestReport> {
    check_output(&config.output, config.force)?;
    let config = FitConfig {
        folds: if config.folds == 0 {
            FOLDS
        } else {
            config.folds
        },
        ..config.clone()
    };
    let deadline = Instant::now() + config.budget.duration();
    let mut tried: Vec<Tried> = Vec::new();
    let mut leader = 0;
    for recipe in Recipe::PLAIN {
        let started = Instant::now();
        let limited = match tried.is_empty() {
            true => progress.clone(),
            false if started >= deadline => {
                progress.info(out_of_time(recipe, &config));
                break;
            }
            false => progress.until(deadline),
        };
        progress.info(format!("recipe {}", recipe.name()));
        let found = match cross_validated(&recipe.applied_to(&config)?, &limited) {
            Err(Error::Cancelled) if !progress.cancel().is_cancelled() => {
                progress.info(out_of_time(recipe, &config));
                break;
            }
            Err(
                error @ (Error::Diverged { .. }
                | Error::Parameter {
                    name: "--unfreeze-from",
                    ..
                }),
            ) if !tried.is_empty() => {
                progress.warn(format!("skipping recipe {}: {error}", recipe.name()));
                continue;
            }
            found => found?,
        };
        let difference = tried.get(leader).map(|before| {
            let before = &before.cross_validation.fold_accuracy;
            PairedDifference::of(before, &found.fold_accuracy)
        });
        let is_best = tried
            .get(leader)
            .is_none_or(|before| found.accuracy() > before.cross_validation.accuracy());
        if is_best {
            leader = tried.len();
        }
        let seconds = started.elapsed().as_secs_f64();
        progress.emit(Event::RecipeTried {
            recipe: recipe.name().to_owned(),
            accuracy: found.accuracy(),
            standard_deviation: found.standard_deviation(),
            seconds,
            difference: difference.map(|d| d.mean),
            margin: difference.map(|d| d.margin),
            is_best,
        });
        tried.push(Tried {
            recipe,
            cross_validation: found,
            difference,
            seconds,
        });
    }
    let chosen = tried[leader].recipe;
    let known = tried[leader].cross_validation.clone();
    progress.info(format!("winner: {}", chosen.name()));
    let config = chosen.applied_to(&config)?;
    let trained = match chosen {
        Recipe::Finetune => {
            finetune::run(&FinetuneConfig::of_recipe(&config)?, Some(known), progress)?.trained
        }
        _ => fit::run(&config, Some(known), progress)?,
    };
    Ok(BestReport {
        tried,
        chosen,
        trained,
    })
}

fn cross_validated(config: &FitConfig, progress: &Progress) -> Result<CrossValidation> {
    match config.recipe {
        Recipe::Finetune => {
            finetune::cross_validated(&FinetuneConfig::of_recipe(config)?, progress)
        }
        _ => fit::cross_validated(config, progress),
    }
}

fn out_of_time(recipe: Recipe, config: &FitConfig) -> String {
    format!(
        "skipping {}: the --budget of {} is used up",
        recipe.name(),
        config.budget
    )
}
