//! The saved model: backbone and head in one file, with everything needed to use it and to verify that its results have
//! not changed.
//!
//! ```text
//! Backbone + Head ─► compose ─► SavedModel (in memory) ─► write ─► file ─► open ─► verify, predict
//! ```

mod compose;
mod detached;
mod probe;
mod record;
mod verify;

use std::path::{Path, PathBuf};

pub use compose::{OUTPUT, compose, compose_tuned};
pub use detached::DetachedHead;
pub use probe::{machine_kind, probe_picture};
pub use record::{
    FinetuneRecord, Precision, QuantizationRecord, RECORD_VERSION, Record, Reference,
    ReferenceImage, TrainingRecord,
};
use verify::TOLERANCE;
pub(crate) use verify::max_abs_diff;
pub use verify::{Verification, verify, verify_bytes};

use crate::backbone::{
    LARGEST_INPUT, MAX_ONNX_BYTES, Network, OnnxGraph, PictureSession, RECORD_KEY, hex_sha256,
    picture_shape, record_json, run_batch,
};
use crate::disk::{self, write_atomic};
use crate::error::{Error, PathRole, Result};
use crate::foreign::data_fault;
use crate::pixels::Picture;

/// Key of the file's metadata that other programs may read.
const CLASSES_KEY: &str = "classes";

/// Maximum number of features of an image that a record may speak of: as many as a tensor may have values.
const MOST_FEATURES: usize = 1 << 28;

/// A saved model that is loaded and ready to run.
pub struct SavedModel {
    graph: OnnxGraph,
    record: Record,
    network: Network,
}

impl SavedModel {
    /// Makes a model of a composed graph and its record, as loading the finished file would.
    ///
    /// # Errors
    /// [`Error::Model`] if the graph cannot be run.
    pub fn new(mut graph: OnnxGraph, record: Record) -> Result<SavedModel> {
        let network = load(&graph, &record)?;
        put_record(&mut graph, &record)?;
        Ok(SavedModel {
            graph,
            record,
            network,
        })
    }

    /// Opens the file `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Model`], with what to do.
    pub fn open(path: &Path) -> Result<SavedModel> {
        SavedModel::parse(&read(path)?, path)
    }

    /// Opens the ONNX file `path` if it is a saved model; `None` for a backbone or another program's file.
    ///
    /// # Errors
    /// Like [`open`](Self::open), for a saved model; or if `path` is no ONNX file.
    pub fn open_if_saved(path: &Path) -> Result<Option<SavedModel>> {
        let bytes = read(path)?;
        match OnnxGraph::has_metadata(&bytes, &path.display().to_string(), RECORD_KEY)? {
            true => SavedModel::parse(&bytes, path).map(Some),
            false => Ok(None),
        }
    }

    /// Loads the bytes of the file `path`.
    ///
    /// # Errors
    /// [`Error::Model`], with what to do.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<SavedModel> {
        let graph = OnnxGraph::parse(bytes, &path.display().to_string())?;
        let record = read_record(&graph)?;
        let network = load(&graph, &record)?;
        Ok(SavedModel {
            graph,
            record,
            network,
        })
    }

    /// Its metadata.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its graph.
    pub fn graph(&self) -> &OnnxGraph {
        &self.graph
    }

    /// Its class names in the order of the outputs.
    pub fn classes(&self) -> &[String] {
        &self.record.classes
    }

    /// Shape of its input, batch included.
    pub fn input_shape(&self) -> [usize; 4] {
        self.network.input_shape()
    }

    /// Bytes of buffers that one worker keeps between images.
    pub fn session_bytes(&self) -> usize {
        self.network.session_bytes()
    }

    /// Like [`session`](Self::session), with the layers that run in integers in float32; `None` if there are none.
    ///
    /// # Errors
    /// [`Error::Model`] if the network cannot be set up.
    pub fn session_in_floats(&self) -> Result<Option<PictureSession>> {
        PictureSession::in_floats(
            &self.graph,
            self.input_shape(),
            &self.record.backbone.preprocess,
        )
    }

    /// Makes what one worker needs to run it; its output is one probability for each class.
    ///
    /// # Errors
    /// [`Error::Model`] if the network cannot be set up.
    pub fn session(&self) -> Result<PictureSession> {
        PictureSession::new(&self.network, &self.record.backbone.preprocess)
    }

    /// Makes what one worker needs to run it beside `other`, which takes the same input: the probabilities of both,
    /// one after another.
    ///
    /// # Errors
    /// [`Error::Model`] if a network cannot be set up.
    pub fn session_beside(&self, other: &SavedModel) -> Result<PictureSession> {
        PictureSession::side_by_side(
            &[&self.network, &other.network],
            self.input_shape(),
            &self.record.backbone.preprocess,
        )
    }

    /// Makes what one worker needs to turn images into its input tensors, which are the output.
    ///
    /// # Errors
    /// Never fails.
    pub fn preparation(&self) -> Result<PictureSession> {
        PictureSession::side_by_side(&[], self.input_shape(), &self.record.backbone.preprocess)
    }

    /// Largest difference of a probability between two images at once and each alone, with floats instead of
    /// integers; `None` if the file states that it takes one image at a time.
    ///
    /// # Errors
    /// [`Error::Model`] or [`Error::Engine`] if it cannot be run on two images.
    pub fn batch_difference(&self) -> Result<Option<f32>> {
        if self.graph.batch().is_some() {
            return Ok(None);
        }
        let mut session = match self.session_in_floats()? {
            Some(session) => session,
            None => self.session()?,
        };
        let probe = probe_picture();
        let negative = Picture {
            rgb: probe.rgb.iter().map(|v| 255 - v).collect(),
            ..probe.clone()
        };
        let (mut alone, mut tensors) = (Vec::new(), Vec::new());
        for picture in [&probe, &negative] {
            alone.extend_from_slice(session.run(picture)?);
            tensors.extend_from_slice(session.tensor());
        }
        let [_, a, b, c] = self.input_shape();
        let both = run_batch(&self.graph, [2, a, b, c], &tensors)?;
        Ok(Some(max_abs_diff(&both, &alone)))
    }

    /// Makes the file state that it takes one image at a time, if two at once do not give what each gives alone.
    /// Returns whether it had to.
    ///
    /// # Errors
    /// [`Error::Model`] if the graph has not one image input.
    pub fn state_batch(&mut self) -> Result<bool> {
        match self.batch_difference() {
            Ok(None) => Ok(false),
            Ok(Some(difference)) if difference <= TOLERANCE => Ok(false),
            _ => self.graph.fix_batch().map(|()| true),
        }
    }

    /// Records the model's outputs for the reference input and for `images`, and the kind of machine.
    ///
    /// # Errors
    /// [`Error::Model`] if it cannot be run.
    pub fn set_reference(&mut self, images: Vec<ReferenceImage>) -> Result<()> {
        let probe = self.session()?.run(&probe_picture())?.to_vec();
        self.record.reference = Reference {
            machine: machine_kind(),
            probe,
            images,
            tolerance: self.record.reference.tolerance,
        };
        put_record(&mut self.graph, &self.record)
    }

    /// Records how the model was quantised.
    ///
    /// # Errors
    /// [`Error::Model`] if the record cannot be written.
    pub fn set_quantization(&mut self, quantization: QuantizationRecord) -> Result<()> {
        self.record.quantization = Some(quantization);
        put_record(&mut self.graph, &self.record)
    }

    /// Writes the model to `path`: atomically: either the complete file appears, or nothing changes. Returns its size in
    /// bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<u64> {
        let bytes = self.graph.to_bytes();
        write_atomic(path, &bytes)?;
        Ok(bytes.len() as u64)
    }
}

/// The metadata of the saved model `path`, which is not made ready to run.
///
/// # Errors
/// Like [`SavedModel::open`].
pub fn record_in(path: &Path) -> Result<Record> {
    read_record(&OnnxGraph::parse(
        &read(path)?,
        &path.display().to_string(),
    )?)
}

/// Reads a saved model's bytes.
fn read(path: &Path) -> Result<Vec<u8>> {
    if !path.exists() {
        return Err(Error::NotFound {
            what: PathRole::Model,
            path: PathBuf::from(path),
        });
    }
    if path.is_dir() {
        return Err(Error::Model {
            model: path.display().to_string(),
            problem: "this is a folder; give the ONNX file".into(),
        });
    }
    disk::read(path, MAX_ONNX_BYTES)
}

fn put_record(graph: &mut OnnxGraph, record: &Record) -> Result<()> {
    let json = |value: serde_json::Result<String>| value.map_err(|e| graph_fail(record, &e));
    let text = json(serde_json::to_string(record))?;
    let classes = json(serde_json::to_string(&record.classes))?;
    graph.set_metadata(CLASSES_KEY, classes);
    graph.set_metadata(RECORD_KEY, text);
    Ok(())
}

fn graph_fail(record: &Record, error: &serde_json::Error) -> Error {
    Error::Model {
        model: record.backbone.model.clone(),
        problem: format!("its record cannot be written: {}", data_fault(error)),
    }
}

fn read_record(graph: &OnnxGraph) -> Result<Record> {
    let value = record_json(graph)?.ok_or_else(|| {
        graph.fail("this ONNX file was not saved by `tl-batch fit` or `train`: it has no record of classes and preprocessing")
    })?;
    let damaged =
        |e: serde_json::Error| graph.fail(format!("its record is damaged: {}", data_fault(&e)));
    let record: Record = serde_json::from_value(value).map_err(damaged)?;
    if let Some(problem) = record.damage() {
        return Err(graph.fail(format!("its record is damaged: {problem}")));
    }
    let size = record.backbone.input_size;
    if size.least() < 1 || size.most() > LARGEST_INPUT {
        return Err(graph.fail(format!(
            "its record has an input size of {} pixels; this program accepts 1 to {LARGEST_INPUT}",
            size.sides()
        )));
    }
    let features = record.feature_shape.iter();
    let features = features
        .clone()
        .try_fold(1_usize, |n, &dim| n.checked_mul(dim));
    if features.is_none_or(|features| features > MOST_FEATURES) {
        return Err(graph.fail(format!(
            "its record has features of shape {:?}, which are too many",
            record.feature_shape
        )));
    }
    Ok(record)
}

fn load(graph: &OnnxGraph, record: &Record) -> Result<Network> {
    let shape = picture_shape(
        record.backbone.preprocess.layout,
        record.backbone.input_size,
    );
    let network = Network::load(graph, shape)?;
    // The shapes of a network that was loaded are bounded.
    let classes = network
        .output_shapes()
        .first()
        .map_or(0, |s| s.iter().product());
    if classes != record.classes.len() {
        return Err(graph.fail(format!(
            "it has {classes} outputs but {} class names",
            record.classes.len()
        )));
    }
    Ok(network)
}

/// SHA-256 and size of a saved model's file.
///
/// # Errors
/// [`Error::NotFound`] or [`Error::Io`].
pub fn fingerprint(path: &Path) -> Result<(String, u64)> {
    let bytes = read(path)?;
    Ok((hex_sha256(&bytes), bytes.len() as u64))
}
