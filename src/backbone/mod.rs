//! Pretrained networks: model cards, layers, cutting at the feature layer, inference. The only module that uses tract and
//! the ONNX format.
//!
//! ```text
//! name or path ─► zoo::find ─► card + OnnxGraph ─► cut::cut_at ─► Network (tract) ─► Session, one per worker
//! ```

mod attributes;
mod candidates;
mod card;
mod check;
mod classifier;
mod cut;
mod cuts;
mod doubts;
mod faults;
mod flow;
mod guess;
mod import;
mod input_size;
mod layers;
mod memory;
mod network;
mod onnx;
mod operators;
mod outputs;
mod processor;
mod quantize;
mod repository;
mod saved_base;
mod summary;
mod tail;
mod tokens;
mod trainable;
mod zoo;

use serde::{Deserialize, Serialize};

pub use candidates::candidate_layers;
pub(crate) use card::is_plain_name;
pub use card::{ModelCard, Pool};
pub use classifier::{Classifier, Prediction, top_k};
pub use cnn_engine::LayerTime;
pub(crate) use cnn_engine::{kernels, peak_flops};
pub use cut::find_cut;
pub(crate) use cut::flattened;
pub use cuts::Cuts;
pub use guess::Preparation;
pub use import::read_base;
pub use input_size::InputSize;
pub(crate) use input_size::{LARGEST_INPUT, input_shape, input_size, picture_shape};
pub use layers::Detail;
pub(crate) use memory::{free_bytes, gigabytes};
pub(crate) use network::run_batch;
pub use network::{Network, Session};
pub(crate) use onnx::Attribute;
pub use onnx::{DeclaredOutput, OnnxGraph, OnnxNode};
pub use operators::TailWeight;
pub use quantize::{Calibration, Quantizer, with_float16_weights};
pub use repository::{CONFIG_FILE, ONNX_FILES, Repository, WEIGHTS_FILE, check_architecture};
pub use saved_base::RECORD_VERSION;
pub(crate) use saved_base::{RECORD_KEY, record_json};
pub use summary::{Layer, Summary};
pub use tail::{Tail, find_tail};
pub use trainable::TrainableTail;
pub use zoo::{
    DEFAULT_MODEL, FoundModel, KnownModel, Weights, find, find_file, hex_sha256, imagenet_labels,
    is_path, known_model, known_models, label_list, models_home,
};
pub(crate) use zoo::{MAX_CARD_BYTES, MAX_ONNX_BYTES};

use self::cut::Layouts;
use self::doubts::Doubt;
use crate::error::{Error, Result};
use crate::pixels::{Augment, DecodeOptions, Layout, Picture, Preprocess, Preprocessor};

/// The backbone and its feature layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackboneParams {
    /// Name of a backbone, or path of an ONNX file.
    #[serde(default = "default_model")]
    pub model: String,
    /// Height and width of the input in pixels; by default what the model card says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,
    /// The layers whose outputs are the features; by default the last before the classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cuts>,
    /// How feature maps or tokens are pooled; by default what the model card says, else tokens that have a class token
    /// by it and everything else by the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Number of tokens before those of patches, class token and registers; by default what the model card says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_tokens: Option<u32>,
}

fn default_model() -> String {
    DEFAULT_MODEL.to_owned()
}

impl Default for BackboneParams {
    fn default() -> Self {
        BackboneParams {
            model: default_model(),
            input_size: None,
            cut: None,
            pool: None,
            prefix_tokens: None,
        }
    }
}

/// Everything that determines the features of an image: two stores with the same identity are comparable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackboneId {
    /// Name of the backbone.
    pub model: String,
    /// SHA-256 of its ONNX file.
    pub sha256: String,
    /// The tensors at which it is cut.
    pub cut: Cuts,
    /// Its pooling.
    pub pool: Pool,
    /// Number of tokens that are left out where those of patches are pooled, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_tokens: Option<u32>,
    /// Height and width of its input in pixels.
    pub input_size: InputSize,
    /// Preprocessing.
    pub preprocess: Preprocess,
}

/// The output of a backbone at one of its cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutFeatures {
    /// The tensor.
    pub cut: String,
    /// Its shape without the batch after pooling: `[D]`, or `[H, W, C]` for unpooled maps.
    pub shape: Vec<usize>,
}

impl CutFeatures {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values, which no network gives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A backbone, cut at its feature layer: an image goes in, its features come out. Its weights are frozen.
pub struct Backbone {
    id: BackboneId,
    source: String,
    graph: OnnxGraph,
    output: String,
    parts: Vec<CutFeatures>,
    feature_shape: Vec<usize>,
    network: Network,
    logits: Option<String>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Backbone {
    /// Finds the backbone, cuts it, and makes it ready to run.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Model`] or [`Error::Parameter`], with what to do.
    pub fn open(params: &BackboneParams) -> Result<Backbone> {
        Backbone::from_found(find(&params.model, params.input_size)?, params)
    }

    /// Like [`open`](Self::open), with a backbone that was found already.
    ///
    /// # Errors
    /// [`Error::Model`] or [`Error::Parameter`], with what to do.
    pub fn from_found(mut found: FoundModel, params: &BackboneParams) -> Result<Backbone> {
        let layout = found.card.preprocess.layout;
        let size = input_size(&found.card, params.input_size)?;
        let input_shape = input_shape(&found.graph, layout, size)?;
        let mut warnings = std::mem::take(&mut found.warnings);
        if let Some(stated) = guess::stated_size(&found.graph, layout)?
            && params.input_size.is_none()
            && stated != size
        {
            warnings.push(format!(
                "{} has an input of {} pixels, its card says {}; using the card; correct `input-size` in the card, or give --input-size",
                found.graph.name(),
                stated.sides(),
                size.sides()
            ));
        }
        let is_guess = found.size_is_guess && params.input_size.is_none();
        let explained = |error| match is_guess {
            true => with_size_advice(error, size),
            false => error,
        };
        let cuts = match &params.cut {
            Some(cuts) => cuts.resolve(&found.graph)?,
            None => {
                warnings.append(&mut found.tail.notes);
                // What the network pools itself can be pooled in another way before that.
                let tensor = match (&found.unpooled, params.pool) {
                    (Some(unpooled), Some(_)) => unpooled,
                    _ => &found.tail.features,
                };
                Cuts::from(tensor.as_str())
            }
        };
        let doubts: Vec<Option<Doubt>> = cuts
            .as_slice()
            .iter()
            .map(|cut| Doubt::of(&found.graph, cut, &found.tail))
            .collect();
        found.graph.keep(cuts.as_slice())?;
        import::settle(&mut found.graph, input_shape).map_err(explained)?;
        let is_free = import::free_batch(&mut found.graph, input_shape)?;
        let shapes = cut_shapes(&found.graph, &cuts, input_shape).map_err(explained)?;
        let pool = found.pool(params, cuts.as_slice(), &shapes);
        let FoundModel {
            card, mut graph, ..
        } = found;
        let prefix_tokens = params.prefix_tokens.or(card.prefix_tokens);
        let pooling = (pool, prefix_tokens.map(|count| count as usize));
        let features = pooled_features(&mut graph, &cuts, &shapes, layout, pooling)?;
        // Of vectors and maps, nothing is left out.
        let prefix_tokens = prefix_tokens.filter(|_| shapes.iter().any(|shape| shape.len() == 2));
        for (doubt, (_, shape)) in doubts.iter().zip(&features) {
            let values = shape.iter().product();
            warnings.extend(doubt.as_ref().and_then(|doubt| doubt.sentence(values)));
        }
        let parts: Vec<CutFeatures> = cuts
            .as_slice()
            .iter()
            .zip(&features)
            .map(|(cut, (_, shape))| CutFeatures {
                cut: cut.clone(),
                shape: shape.clone(),
            })
            .collect();
        let (output, feature_shape) = match &features[..] {
            [(output, shape)] => (output.clone(), shape.clone()),
            several => {
                let (output, length) = cut::side_by_side(&mut graph, several);
                (output, vec![length])
            }
        };
        let [_, a, b, c] = input_shape;
        let batch = (!is_free).then_some(1);
        graph.set_input_dims(batch, [a, b, c])?;
        graph.set_output(&output, &feature_shape);
        let network = Network::load(&graph, input_shape).map_err(explained)?;
        if !is_free {
            warnings.push(format!(
                "the graph of {} has a batch size of 1; so will models saved from it",
                graph.name()
            ));
        }
        Ok(Backbone {
            id: BackboneId {
                model: card.name,
                sha256: found.sha256,
                cut: cuts,
                pool,
                prefix_tokens,
                input_size: size,
                preprocess: card.preprocess,
            },
            source: params.model.clone(),
            graph,
            output,
            parts,
            feature_shape,
            network,
            logits: found.tail.logits,
            notes: found.notes,
            warnings,
        })
    }

    /// Identity of this backbone's features.
    pub fn id(&self) -> &BackboneId {
        &self.id
    }

    /// The name or path by which it was found.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its layers up to the features.
    ///
    /// # Errors
    /// [`Error::Model`] if the shapes cannot be found.
    pub fn summary(&self, detail: Detail) -> Result<Summary> {
        Summary::of(
            &self.graph,
            self.network.input_shape(),
            self.id.preprocess.layout,
            detail,
        )
    }

    /// Its output at each cut, in the order of the cuts.
    pub fn parts(&self) -> &[CutFeatures] {
        &self.parts
    }

    /// Shape of one image's features, row-major: `[D]`, or `[H, W, C]` for unpooled maps. Several cuts
    /// give one vector, side by side in their order.
    pub fn feature_shape(&self) -> &[usize] {
        &self.feature_shape
    }

    /// Number of values in one image's features.
    pub fn feature_len(&self) -> usize {
        self.feature_shape.iter().product()
    }

    /// Messages about what had to be guessed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The tensor with the logits of the classifier, which is dropped; `None` if the backbone has no classifier.
    pub fn logits(&self) -> Option<&str> {
        self.logits.as_deref()
    }

    /// Messages about files beside the backbone.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The graph that ends in the features, and the name of its output tensor.
    pub(crate) fn graph(&self) -> (&OnnxGraph, &str) {
        (&self.graph, &self.output)
    }

    /// Shape of the input tensor, batch included.
    pub fn input_shape(&self) -> [usize; 4] {
        self.network.input_shape()
    }

    /// Bytes of buffers that one worker keeps between images.
    pub fn session_bytes(&self) -> usize {
        self.network.session_bytes()
    }

    /// Shapes of the tensors of its graph, batch included, as far as they are known.
    fn tensor_shapes(&self) -> Result<std::collections::HashMap<String, Vec<usize>>> {
        network::tensor_shapes(&self.graph, self.network.input_shape())
    }

    /// Whether the tensor `tensor` has its channels second or last.
    fn layout_at(&self, tensor: &str) -> Layout {
        Layouts::of(&self.graph, self.id.preprocess.layout).at(tensor)
    }

    /// Like [`session`](Self::session), of the same layers with floats instead of integers; `None` if it has no
    /// integers.
    ///
    /// # Errors
    /// [`Error::Model`] if the network cannot be set up.
    pub fn session_in_floats(&self) -> Result<Option<PictureSession>> {
        PictureSession::in_floats(&self.graph, self.input_shape(), &self.id.preprocess)
    }

    /// Makes the state that one worker needs to compute features.
    ///
    /// # Errors
    /// [`Error::Model`] if the network cannot be set up.
    pub fn session(&self) -> Result<PictureSession> {
        PictureSession::new(&self.network, &self.id.preprocess)
    }
}

/// Shapes of the tensors `cuts`, without the batch.
fn cut_shapes(graph: &OnnxGraph, cuts: &Cuts, input_shape: [usize; 4]) -> Result<Vec<Vec<usize>>> {
    let shapes = network::tensor_shapes(graph, input_shape)?;
    let shape_of = |cut: &String| {
        match shapes.get(cut).map(Vec::as_slice) {
        Some([batch, shape @ ..]) if *batch == input_shape[0] => Ok(shape.to_vec()),
        // Of several, all but the first would be lost.
        Some([rows, ..]) => Err(graph.fail(format!(
            "the tensor `{cut}` has {rows} rows for an image, not one; choose another --feature-layer"
        ))),
        _ => Err(network::shape_problem(graph, input_shape, cut)),
    }
    };
    cuts.as_slice().iter().map(shape_of).collect()
}

/// Appends `pool` to each of `cuts`, whose shapes without the batch are `shapes`; returns the results with theirs.
fn pooled_features(
    graph: &mut OnnxGraph,
    cuts: &Cuts,
    shapes: &[Vec<usize>],
    layout: Layout,
    (pool, prefix): (Pool, Option<usize>),
) -> Result<Vec<(String, Vec<usize>)>> {
    let layouts = Layouts::of(graph, layout);
    let cuts = cuts.as_slice().iter().zip(shapes);
    cuts.map(|(cut, shape)| cut::pooled(graph, cut, shape, layouts.at(cut), pool, prefix))
        .collect()
}

/// Adds to an error of the engine that the size of the images was a guess.
fn with_size_advice(error: Error, size: InputSize) -> Error {
    match error {
        Error::Engine {
            model,
            problem,
            detail,
        } => {
            // The advice that follows is for other causes.
            let problem = problem.split("; ").next().unwrap_or_default();
            Error::Engine {
                model,
                problem: format!(
                    "the file does not say its input size, and with the default of {} pixels {problem}; give the right size with --input-size",
                    size.sides()
                ),
                detail,
            }
        }
        other => other,
    }
}

/// One worker's state for computing the first output of one or several networks for an image.
pub struct PictureSession {
    preprocessor: Preprocessor,
    decode_options: DecodeOptions,
    sessions: Vec<Session>,
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
    /// Outputs of several networks, one after another.
    values: Vec<f32>,
    /// Bytes that a run takes at most.
    run_bytes: u64,
}

impl PictureSession {
    pub(crate) fn new(network: &Network, preprocess: &Preprocess) -> Result<PictureSession> {
        PictureSession::side_by_side(&[network], network.input_shape(), preprocess)
    }

    /// A session of `graph` with floats instead of integers; `None` if it has no integers.
    pub(crate) fn in_floats(
        graph: &OnnxGraph,
        input_shape: [usize; 4],
        preprocess: &Preprocess,
    ) -> Result<Option<PictureSession>> {
        if !graph.is_quantized() {
            return Ok(None);
        }
        let network = Network::load(&quantize::unrounded(graph), input_shape)?;
        PictureSession::new(&network, preprocess).map(Some)
    }

    /// A session of several networks that take the same tensor of shape `input_shape`: their values come one after
    /// another. Without any network, the tensor itself is the result.
    pub(crate) fn side_by_side(
        networks: &[&Network],
        input_shape: [usize; 4],
        preprocess: &Preprocess,
    ) -> Result<PictureSession> {
        let [_, a, b, c] = input_shape;
        let (height, width) = match preprocess.layout {
            Layout::Nchw => (b, c),
            Layout::Nhwc => (a, b),
        };
        Ok(PictureSession {
            preprocessor: Preprocessor::new(preprocess, width as u32, height as u32),
            decode_options: preprocess.decode_options(width as u32, height as u32),
            sessions: networks
                .iter()
                .map(|n| n.session())
                .collect::<Result<_>>()?,
            input: vec![0.0; a * b * c],
            outputs: Vec::new(),
            values: Vec::new(),
            run_bytes: networks
                .iter()
                .map(|n| n.run_bytes())
                .fold(4 * (a * b * c) as u64, u64::saturating_add),
        })
    }

    /// Bytes that it takes at most when it runs, as they are known before it does.
    pub(crate) fn run_bytes(&self) -> u64 {
        self.run_bytes
    }

    /// Lets so many threads compute each image together; results are the same to the bit.
    ///
    /// # Errors
    /// [`Error::Engine`] if there is not enough memory.
    pub fn set_threads(&mut self, threads: usize) -> Result<()> {
        let mut sessions = self.sessions.iter_mut();
        sessions.try_for_each(|session| session.set_threads(threads))
    }

    /// Starts to measure the time of each layer.
    pub fn start_profile(&mut self) {
        self.sessions.iter_mut().for_each(Session::start_profile);
    }

    /// What the layers took since [`start_profile`](Self::start_profile), in the order in which they run.
    pub fn profile(&mut self) -> Vec<LayerTime> {
        self.sessions
            .iter_mut()
            .flat_map(Session::profile)
            .collect()
    }

    /// Resizes and normalises `picture` into the input tensor.
    ///
    /// # Errors
    /// [`Error::Image`] if it cannot be resized.
    pub fn prepare(&mut self, picture: &Picture) -> Result<()> {
        self.preprocessor.tensor(picture, &mut self.input)
    }

    /// The resized pixels, before normalisation.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the image's pixels do not fit its size.
    pub fn resized(&mut self, picture: &Picture) -> Result<Picture> {
        self.preprocessor.resize(picture)
    }

    /// Like [`prepare`](Self::prepare), for the view of `picture` that belongs to `seed`.
    ///
    /// # Errors
    /// [`Error::Image`] if it cannot be resized.
    pub fn prepare_view(&mut self, picture: &Picture, augment: &Augment, seed: u64) -> Result<()> {
        let resized = self.resized(picture)?;
        self.prepare(&augment.view(&resized, seed))
    }

    /// How images are to be decoded for [`prepare`](Self::prepare).
    pub fn decode_options(&self) -> DecodeOptions {
        self.decode_options
    }

    /// Takes `tensor` as the input, as [`prepare`](Self::prepare) would have made it.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if its length is not the input's.
    pub fn set_tensor(&mut self, tensor: &[f32]) -> Result<()> {
        if tensor.len() != self.input.len() {
            return Err(Error::Mismatch {
                what: "input tensor".into(),
                expected: format!("{} values", self.input.len()),
                found: format!("{}", tensor.len()),
                hint: "give a tensor of the network's input shape".into(),
            });
        }
        self.input.copy_from_slice(tensor);
        Ok(())
    }

    /// The input tensor, row-major in the network's layout.
    pub fn tensor(&self) -> &[f32] {
        &self.input
    }

    /// Runs the network on what [`prepare`](Self::prepare) made; returns the first output, row-major; of several
    /// networks one after another, of none the input tensor.
    ///
    /// # Errors
    /// [`Error::Model`] if an operator fails.
    pub fn infer(&mut self) -> Result<&[f32]> {
        match &mut self.sessions[..] {
            [] => return Ok(&self.input),
            [session] => {
                session.run(&self.input, &mut self.outputs)?;
                return Ok(self.outputs.first().map_or(&[], Vec::as_slice));
            }
            _ => self.values.clear(),
        }
        for session in &mut self.sessions {
            session.run(&self.input, &mut self.outputs)?;
            self.values
                .extend(self.outputs.first().into_iter().flatten());
        }
        Ok(&self.values)
    }

    /// [`prepare`](Self::prepare) and [`infer`](Self::infer).
    ///
    /// # Errors
    /// Those of both.
    pub fn run(&mut self, picture: &Picture) -> Result<&[f32]> {
        self.prepare(picture)?;
        self.infer()
    }
}
