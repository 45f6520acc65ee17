//! Measures how fast a backbone runs on this machine.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::heat::Heat;
use super::uses;
use crate::backbone::{
    Backbone, BackboneParams, PictureSession, free_bytes, gigabytes, kernels, peak_flops,
};
use crate::counts::fraction;
use crate::error::{Error, Result, in_range};
use crate::features::{MOST_WORKERS, peak_memory_bytes};
use crate::report::{BenchHeat, BenchLayer, BenchRate, BenchReport};
use crate::saved_model::SavedModel;

/// Maximum number of thread counts measured in one run.
const MOST_MEASURED: usize = 64;

/// Configuration of [`bench()`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BenchConfig {
    /// The backbone and its feature layer.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// Thread counts to measure, each 1 to 1,024; if empty, 1 and the number of cores.
    #[serde(default)]
    pub threads: Vec<usize>,
    /// How long each thread count is measured, in seconds.
    #[serde(default = "default_seconds")]
    pub seconds: f64,
    /// Whether the report lists every layer.
    #[serde(default)]
    pub profile: bool,
}

fn default_seconds() -> f64 {
    3.0
}

/// Runs the backbone or saved model repeatedly on a synthetic image: with each thread count for
/// [`seconds`](BenchConfig::seconds), then layer by layer on one thread.
///
/// # Errors
/// [`Error::Parameter`] for zero threads or zero time; those of [`Backbone::open`] and [`SavedModel::open`].
pub fn bench(config: &BenchConfig) -> Result<BenchReport> {
    let most = thread::available_parallelism().map_or(1, usize::from);
    let mut threads = config.threads.clone();
    if threads.is_empty() {
        threads = vec![1, most];
        threads.dedup();
    }
    let wrong = |name, value: String, problem: &str| Error::Parameter {
        name,
        value,
        problem: problem.into(),
    };
    if threads.len() > MOST_MEASURED {
        let value = format!("{} numbers", threads.len());
        return Err(wrong("threads", value, "at most 64 are allowed"));
    }
    for &number in &threads {
        in_range("--threads", number, 1..=MOST_WORKERS)?;
    }
    if !(config.seconds > 0.0 && config.seconds <= 3600.0) {
        let value = fraction(config.seconds);
        return Err(wrong("seconds", value, "must be above 0 and at most 3600"));
    }
    let (model, load) = Measured::open(&config.backbone)?;
    let time = Duration::from_secs_f64(config.seconds);
    let mut rates = Vec::new();
    let begin = Heat::now();
    for &threads in &threads {
        check_memory(&model, threads)?;
        let mut sessions = Vec::new();
        for _ in 0..threads {
            sessions.push(warm(model.session()?)?);
        }
        rates.push(rate(&model, sessions, time)?);
    }
    let together = match most {
        1 => None,
        most => {
            let mut session = model.session()?;
            session.set_threads(most)?;
            let rate = rate(&model, vec![warm(session)?], time)?;
            Some(BenchRate {
                threads: most,
                ..rate
            })
        }
    };
    let end = Heat::now();
    let in_floats = match model.session_in_floats()? {
        Some(session) => Some(rate(&model, vec![warm(session)?], time)?),
        None => None,
    };
    let layers = layers(&model, time)?;
    let gflop = layers.iter().map(|l| l.ms * l.gflops).sum::<f64>() / 1e3;
    Ok(BenchReport {
        model: model.name(),
        uses: model.uses(),
        warnings: model.warnings(),
        input: model.input_shape(),
        kernels: kernels(),
        load_ms: load.as_secs_f64() * 1e3,
        gflop,
        peak_gflops: peak_flops().map(|flops| flops / 1e9),
        rates,
        together,
        in_floats,
        session_bytes: model.session_bytes(),
        peak_memory_bytes: peak_memory_bytes(),
        heat: BenchHeat {
            begin_celsius: begin.celsius,
            end_celsius: end.celsius,
            begin_megahertz: begin.megahertz,
            end_megahertz: end.megahertz,
            throttled: end.throttled,
        },
        layers: if config.profile { layers } else { Vec::new() },
    })
}

/// Refuses more threads than there is memory for.
fn check_memory(model: &Measured, threads: usize) -> Result<()> {
    let each = model.session()?.run_bytes();
    let needed = each.saturating_mul(threads as u64);
    match free_bytes() {
        Some(free) if needed > free => Err(Error::Parameter {
            name: "--threads",
            value: threads.to_string(),
            problem: format!(
                "each thread needs {} for this model, and {} are free",
                gigabytes(each),
                gigabytes(free)
            ),
        }),
        _ => Ok(()),
    }
}

/// What is measured: a backbone up to its features, or a saved model with its head.
enum Measured {
    Base(Box<Backbone>),
    Saved(Box<SavedModel>),
}

impl Measured {
    /// Opens the model; also returns the time until a first image could be run.
    fn open(params: &BackboneParams) -> Result<(Measured, Duration)> {
        let start = Instant::now();
        let path = Path::new(&params.model);
        let saved = match path.is_file() {
            true => SavedModel::open_if_saved(path)?,
            false => None,
        };
        let model = match saved {
            Some(model) => Measured::Saved(Box::new(model)),
            None => Measured::Base(Box::new(Backbone::open(params)?)),
        };
        model.session()?;
        Ok((model, start.elapsed()))
    }

    fn name(&self) -> String {
        match self {
            Measured::Base(base) => base.id().model.clone(),
            Measured::Saved(model) => model.graph().name().to_owned(),
        }
    }

    fn uses(&self) -> String {
        match self {
            Measured::Base(base) => uses::of_backbone(base),
            Measured::Saved(model) => uses::of_saved(model.record()),
        }
    }

    fn warnings(&self) -> Vec<String> {
        match self {
            Measured::Base(base) => base.warnings().to_vec(),
            Measured::Saved(_) => Vec::new(),
        }
    }

    fn input_shape(&self) -> [usize; 4] {
        match self {
            Measured::Base(base) => base.input_shape(),
            Measured::Saved(model) => model.input_shape(),
        }
    }

    fn session_bytes(&self) -> usize {
        match self {
            Measured::Base(base) => base.session_bytes(),
            Measured::Saved(model) => model.session_bytes(),
        }
    }

    fn session_in_floats(&self) -> Result<Option<PictureSession>> {
        match self {
            Measured::Base(base) => base.session_in_floats(),
            Measured::Saved(model) => model.session_in_floats(),
        }
    }

    fn session(&self) -> Result<PictureSession> {
        match self {
            Measured::Base(base) => base.session(),
            Measured::Saved(model) => model.session(),
        }
    }
}

/// A warmed-up session with an image as its input.
fn warm(mut session: PictureSession) -> Result<PictureSession> {
    let len = session.tensor().len();
    // Values between -1 and 1 without a pattern.
    let values: Vec<f32> = (0..len)
        .map(|i| (i * 7919 % 1999) as f32 / 999.0 - 1.0)
        .collect();
    session.set_tensor(&values)?;
    for _ in 0..2 {
        session.infer()?;
    }
    Ok(session)
}

/// The speed of several sessions of `backbone`, each on its own thread.
fn rate(backbone: &Measured, sessions: Vec<PictureSession>, time: Duration) -> Result<BenchRate> {
    let threads = sessions.len();
    let start = Instant::now();
    let runs = thread::scope(|scope| {
        let workers: Vec<_> = sessions
            .into_iter()
            .map(|mut session| {
                scope.spawn(move || -> Result<Vec<Duration>> {
                    let mut times = Vec::new();
                    while start.elapsed() < time {
                        let before = Instant::now();
                        session.infer()?;
                        times.push(before.elapsed());
                    }
                    Ok(times)
                })
            })
            .collect();
        let lost = || Error::Model {
            model: backbone.name(),
            problem: "benchmark failed: a thread ended early".into(),
        };
        let runs = workers.into_iter().map(|w| w.join().map_err(|_| lost())?);
        runs.collect::<Result<Vec<_>>>()
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    let mut times: Vec<Duration> = runs.into_iter().flatten().collect();
    times.sort_unstable();
    Ok(BenchRate {
        threads,
        images_per_second: times.len() as f64 / elapsed,
        median_ms: percentile_ms(&times, 50),
        p95_ms: percentile_ms(&times, 95),
        p99_ms: percentile_ms(&times, 99),
    })
}

/// The time that `percent` of the sorted `times` do not exceed (nearest rank), in milliseconds; 0 without times.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    let time = times.get(rank - 1).copied().unwrap_or_default();
    time.as_secs_f64() * 1e3
}

/// Every layer with its mean time.
fn layers(backbone: &Measured, time: Duration) -> Result<Vec<BenchLayer>> {
    let mut session = warm(backbone.session()?)?;
    session.start_profile();
    let start = Instant::now();
    let mut runs = 0;
    while runs == 0 || start.elapsed() < time {
        session.infer()?;
        runs += 1;
    }
    let layers = session.profile().into_iter().map(|layer| {
        let seconds = layer.time.as_secs_f64() / f64::from(runs);
        BenchLayer {
            name: layer.name,
            kind: layer.kind,
            shape: layer.shape,
            ms: seconds * 1e3,
            gflops: 2e-9 * layer.multiply_adds as f64 / seconds.max(1e-9),
            weight_bytes: layer.weight_bytes,
        }
    });
    Ok(layers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let found = [50, 95, 99].map(|percent| percentile_ms(&times, percent));
        assert_eq!(found, [100.0, 190.0, 198.0]);
        assert_eq!(percentile_ms(&times[..1], 99), 1.0);
        assert_eq!(percentile_ms(&[], 50), 0.0);
    }
}
