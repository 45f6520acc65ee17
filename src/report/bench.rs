//! Benchmark results as text.

use std::borrow::Cow;

use serde::Serialize;

use super::{Text, printable};

/// Benchmark of a backbone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchReport {
    /// Name of the backbone.
    pub model: String,
    /// Which tensors hold its features and its classifier, in one line.
    pub uses: String,
    /// Messages about what had to be guessed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Shape of its input, batch included.
    pub input: [usize; 4],
    /// Kernels in use.
    pub kernels: &'static str,
    /// Time to load the model until it can run an image, in milliseconds.
    pub load_ms: f64,
    /// Billions of floating-point operations per image by the layers' definitions; 0 where tract runs alone.
    pub gflop: f64,
    /// What one core reaches in registers, in GFLOP/s.
    pub peak_gflops: Option<f64>,
    /// Speed by number of threads.
    pub rates: Vec<BenchRate>,
    /// Speed of one image at a time that all cores compute together; none on a single core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<BenchRate>,
    /// Speed on one thread of the same layers in float32, for a network of integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_floats: Option<BenchRate>,
    /// Bytes of buffers for each thread.
    pub session_bytes: usize,
    /// Peak memory of the process, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Temperature and clock before and after the measurement.
    pub heat: BenchHeat,
    /// Time by layer on one thread; empty unless requested.
    pub layers: Vec<BenchLayer>,
}

/// Temperature and clock of the processor, as far as the system reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BenchHeat {
    /// Warmest sensor before, in degrees Celsius.
    pub begin_celsius: Option<f64>,
    /// Warmest sensor after.
    pub end_celsius: Option<f64>,
    /// Clock of the slowest core before, in MHz.
    pub begin_megahertz: Option<f64>,
    /// Clock of the slowest core after, in MHz.
    pub end_megahertz: Option<f64>,
    /// Whether the processor was throttled by heat or under-voltage.
    pub throttled: Option<bool>,
}

/// Speed with some number of threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchRate {
    /// Number of threads, each with its own image.
    pub threads: usize,
    /// Images per second, all threads together.
    pub images_per_second: f64,
    /// Median time for one image on one thread, in milliseconds.
    pub median_ms: f64,
    /// 95th percentile of the time per image, in milliseconds.
    pub p95_ms: f64,
    /// 99th percentile of the time per image, in milliseconds.
    pub p99_ms: f64,
}

/// Speed of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchLayer {
    /// Name of the layer.
    pub name: String,
    /// What it does.
    pub kind: Cow<'static, str>,
    /// Height, width and channels of its output.
    pub shape: [usize; 3],
    /// Mean time, in milliseconds.
    pub ms: f64,
    /// Speed by its definition, in GFLOP/s.
    pub gflops: f64,
    /// Bytes of its weights as they are kept.
    pub weight_bytes: usize,
}

/// The report for people. A layer can be faster than the peak where its algorithm needs fewer operations
/// than its definition.
pub fn bench_text(report: &BenchReport) -> Text {
    let [_, a, b, c] = report.input;
    let mut text = Text::of(format!(
        "{}, input {a} x {b} x {c}, {} kernels",
        report.model, report.kernels
    ));
    if let Some(peak) = report.peak_gflops {
        text.line(format!(
            "{:.3} GFLOP per image; peak of one core: {peak:.0} GFLOP/s",
            report.gflop
        ));
    }
    text.gap();
    text.line(format!(
        "{:>7} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "threads", "images/s", "p50 ms", "p95 ms", "p99 ms", "GFLOP/s", "of peak"
    ));
    for rate in &report.rates {
        let gflops = rate.images_per_second * report.gflop;
        let peak = report.peak_gflops.filter(|_| report.gflop > 0.0);
        let share = peak.map_or(String::new(), |peak| {
            format!("{:.0}%", 100.0 * gflops / (peak * rate.threads as f64))
        });
        let gflops = peak.map_or(String::new(), |_| format!("{gflops:.0}"));
        text.line(format!(
            "{:>7} {:>10.1} {:>9.2} {:>9.2} {:>9.2} {gflops:>9} {share:>8}",
            rate.threads, rate.images_per_second, rate.median_ms, rate.p95_ms, rate.p99_ms
        ));
    }
    if let Some(rate) = &report.together {
        text.gap();
        text.line(format!(
            "one image at a time on {} threads: {:.2} ms (p50), {:.2} ms (p95)",
            rate.threads, rate.median_ms, rate.p95_ms
        ));
    }
    text.add(&integers_text(report));
    let megabytes = |bytes: f64| bytes / f64::from(1 << 20);
    let memory = report.peak_memory_bytes.map_or(String::new(), |bytes| {
        format!("; peak memory: {:.0} MiB", megabytes(bytes as f64))
    });
    text.gap();
    text.line(format!(
        "loaded in {:.0} ms; buffers: {:.1} MiB per thread{memory}",
        report.load_ms,
        megabytes(report.session_bytes as f64)
    ));
    text.add(&heat_text(&report.heat));
    if !report.layers.is_empty() {
        text.gap();
        text.add(&layers_text(report));
    }
    text
}

/// Temperature and throttling, if the system reports them.
fn heat_text(heat: &BenchHeat) -> Text {
    let mut parts = Vec::new();
    if let (Some(begin), Some(end)) = (heat.begin_celsius, heat.end_celsius) {
        parts.push(format!("{begin:.0} °C before, {end:.0} °C after"));
    }
    if let (Some(begin), Some(end)) = (heat.begin_megahertz, heat.end_megahertz) {
        parts.push(format!("{begin:.0} MHz before, {end:.0} MHz after"));
    }
    match heat.throttled {
        Some(true) => {
            parts.push("throttled by heat or under-voltage: slower than it could be".to_owned())
        }
        Some(false) => parts.push("not throttled".to_owned()),
        None => {}
    }
    match parts.is_empty() {
        true => Text::default(),
        false => Text::of(format!("processor: {}", parts.join("; "))),
    }
}

/// Whether int8 is faster than float32 here, for a quantised model.
fn integers_text(report: &BenchReport) -> Text {
    let mut text = Text::default();
    let single = report.rates.iter().find(|rate| rate.threads == 1);
    let (Some(float), Some(single)) = (&report.in_floats, single) else {
        return text;
    };
    let gain = single.images_per_second / float.images_per_second;
    let verdict = match gain {
        gain if gain < 1.05 => "int8 does not pay off on this machine",
        _ => "int8 pays off on this machine",
    };
    text.gap();
    text.line(format!(
        "{verdict}: {gain:.2}x the speed of the same layers in float32 ({:.1} images/s, 1 thread)",
        float.images_per_second
    ));
    text
}

/// Maximum number of letters that the column of names is wide; text can be padded to 65,535 at most.
const MAX_NAME_WIDTH: usize = 200;

fn layers_text(report: &BenchReport) -> Text {
    let names: Vec<String> = report.layers.iter().map(|l| printable(&l.name)).collect();
    // A longer name shifts the columns of its line: a file may name its layers as it likes.
    let longest = names.iter().map(|n| n.chars().count()).max();
    let width = longest.unwrap_or(0).min(MAX_NAME_WIDTH);
    let total: f64 = report.layers.iter().map(|l| l.ms).sum();
    let mut text = Text::of(format!(
        "{:<width$} {:<12} {:>16} {:>9} {:>6} {:>8}",
        "layer", "kind", "output", "ms", "share", "GFLOP/s"
    ));
    for (name, layer) in names.iter().zip(&report.layers) {
        let [h, w, c] = layer.shape;
        let gflops = if layer.gflops > 0.0 {
            format!("{:.0}", layer.gflops)
        } else {
            String::new()
        };
        text.line(format!(
            "{name:<width$} {:<12} {:>16} {:>9.3} {:>5.1}% {gflops:>8}",
            layer.kind,
            format!("{h} x {w} x {c}"),
            layer.ms,
            100.0 * layer.ms / total.max(f64::MIN_POSITIVE),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_whether_integers_are_worth_it() {
        let rate = |images_per_second| BenchRate {
            threads: 1,
            images_per_second,
            median_ms: 1.0,
            p95_ms: 1.0,
            p99_ms: 1.0,
        };
        let report = |integers, floats| BenchReport {
            model: "net".into(),
            uses: String::new(),
            warnings: Vec::new(),
            input: [1, 3, 8, 8],
            kernels: "avx2",
            load_ms: 1.0,
            heat: BenchHeat::default(),
            gflop: 0.5,
            peak_gflops: None,
            rates: vec![rate(integers)],
            together: None,
            in_floats: Some(rate(floats)),
            session_bytes: 0,
            peak_memory_bytes: None,
            layers: Vec::new(),
        };
        let said = bench_text(&report(300.0, 150.0)).to_string();
        assert!(
            said.contains("int8 pays off on this machine: 2.00x the speed"),
            "{said}"
        );
        let said = bench_text(&report(100.0, 120.0)).to_string();
        assert!(said.contains("int8 does not pay off"), "{said}");
    }

    #[test]
    fn shares_are_those_of_the_threads_peak() {
        let report = BenchReport {
            model: "net".into(),
            uses: String::new(),
            warnings: Vec::new(),
            input: [1, 3, 8, 8],
            kernels: "avx2",
            load_ms: 41.7,
            gflop: 0.5,
            peak_gflops: Some(100.0),
            rates: vec![BenchRate {
                threads: 2,
                images_per_second: 300.0,
                median_ms: 6.6,
                p95_ms: 7.25,
                p99_ms: 10.0,
            }],
            heat: BenchHeat {
                begin_celsius: Some(48.3),
                end_celsius: Some(81.0),
                throttled: Some(true),
                ..BenchHeat::default()
            },
            together: None,
            in_floats: None,
            session_bytes: 3 << 19,
            peak_memory_bytes: Some(64 << 20),
            layers: vec![BenchLayer {
                name: "conv1".into(),
                kind: "winograd".into(),
                shape: [8, 8, 16],
                ms: 2.0,
                gflops: 150.0,
                weight_bytes: 9,
            }],
        };
        let text = bench_text(&report).to_string();
        for expected in [
            "net, input 3 x 8 x 8, avx2 kernels",
            "      2      300.0      6.60      7.25     10.00       150      75%",
            "processor: 48 °C before, 81 °C after; throttled by heat",
            "loaded in 42 ms; buffers: 1.5 MiB per thread; peak memory: 64 MiB",
            "conv1 winograd           8 x 8 x 16     2.000 100.0%      150",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}
