//! What is known of a network once its graph is built.

use tract_onnx::pb;

use crate::config::Preprocess;
use crate::error::{Error, Result};
use crate::graph::Graph;

/// How tokens or maps become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The class token, the first of all.
    Class,
    /// The mean over all patches, or over height and width.
    Mean,
    /// A learnt query that attends to the tokens.
    Attention,
}

/// The last tensor with a place for each part of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its name: tokens `[N, T, D]`, or maps `[N, C, H, W]`.
    pub tensor: String,
    /// D or C.
    pub width: usize,
    /// Number of tokens before those of the patches: class token and registers. 0 for maps.
    pub prefix_tokens: usize,
    /// How the network itself makes one vector of it.
    pub pool: Pool,
}

/// The end of a graph whose head is still to come.
#[derive(Debug)]
pub(crate) struct Network {
    pub last: Last,
    /// Vectors `[N, width]`, which the classifier reads.
    pub features: String,
    pub width: usize,
    /// The module that is the classifier, if the file has its weights.
    pub head: &'static str,
    /// Height and width of the input where the graph takes no other.
    pub fixed_size: Option<usize>,
    /// Height and width of the input in pixels that the network is made for.
    pub size: usize,
    /// Least height and width where they are free.
    pub least_size: usize,
}

/// A dense layer behind the features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Logits of so many classes.
    Classes {
        /// The tensor `[N, classes]`.
        tensor: String,
        /// Number of classes.
        classes: usize,
    },
    /// An embedding that is made to be compared with others, such as those of texts.
    Embedding {
        /// The tensor `[N, width]`.
        tensor: String,
        /// Its length.
        width: usize,
    },
}

/// A base: an ONNX model and what a model card says of it.
#[derive(Clone, Debug)]
pub struct Base {
    /// The model: input `image` `[N, 3, H, W]`, one output, `[N, classes]` or the features `[N, width]`.
    pub model: pb::ModelProto,
    /// The architecture as timm names it, or the model type of transformers.
    pub architecture: String,
    /// All parameters, those of a BatchNorm that are not trained included.
    pub parameters: u64,
    /// Height and width of the input in pixels.
    pub size: usize,
    /// Whether the graph takes other sizes, too.
    pub is_size_free: bool,
    /// Least height and width in pixels, at which the network can be built.
    pub least_size: usize,
    /// From a picture to the input, where the configuration says so.
    pub preprocess: Option<Preprocess>,
    /// The tensor `[N, feature_width]` that the head reads.
    pub features: String,
    /// Number of features.
    pub feature_width: usize,
    /// The last tensor before that with a place for each part of the picture.
    pub last: Last,
    /// What lies behind the features.
    pub head: Option<Head>,
    /// Licence of the weights, where the configuration states it.
    pub license: Option<String>,
    /// Repository of the weights, where the configuration states it.
    pub source: Option<String>,
}

/// Most bytes of an ONNX file that is one piece.
const MOST_BYTES: u64 = 2_000_000_000;

impl Network {
    /// Adds the head, checks that every weight is read, and closes the graph.
    pub fn finish(self, mut graph: Graph, is_embedding: bool) -> Result<Base> {
        let weights = graph.weights;
        let head = match weights.has_module(self.head) {
            false => None,
            true => {
                let kernel = format!("{}.weight", self.head);
                let dims = weights.dims(&kernel)?;
                let &[length, width, ..] = dims.as_slice() else {
                    return Err(weights.mismatch(format!("`{kernel}` has the shape {dims:?}")));
                };
                if width != self.width {
                    let problem = format!("`{kernel}` reads {width} features of {}", self.width);
                    return Err(weights.mismatch(problem));
                }
                let tensor = graph.dense(&self.features, self.head)?;
                Some(match is_embedding {
                    true => Head::Embedding {
                        tensor,
                        width: length,
                    },
                    false => Head::Classes {
                        tensor,
                        classes: length,
                    },
                })
            }
        };
        weights.all_used()?;
        let parameters = graph.parameters();
        if parameters * 4 > MOST_BYTES {
            return Err(Error::Unknown {
                what: format!(
                    "{} with {parameters} parameters, more than an ONNX file holds,",
                    weights.architecture()
                ),
            });
        }
        let (output, width) = match &head {
            Some(Head::Classes { tensor, classes }) => (tensor.as_str(), *classes),
            Some(Head::Embedding { tensor, width }) => (tensor.as_str(), *width),
            None => (self.features.as_str(), self.width),
        };
        Ok(Base {
            model: graph.model(self.fixed_size, output, width),
            architecture: weights.architecture().to_owned(),
            parameters,
            size: self.fixed_size.unwrap_or(self.size),
            is_size_free: self.fixed_size.is_none(),
            least_size: self.least_size,
            preprocess: None,
            features: self.features,
            feature_width: self.width,
            last: self.last,
            head,
            license: None,
            source: None,
        })
    }
}
