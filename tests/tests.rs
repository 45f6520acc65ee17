//! Tests of the library through its public surface and of the programs, in one binary.

/// Augmented views and recipes.
mod augment;

/// The direction of imports between modules.
mod architecture;

/// A head that goes to where its base is.
mod board;

/// Killed runs, full disks, hung-up terminals.
#[cfg(unix)]
mod campaign;

/// Data sets as people have them.
mod datasets;
/// Pictures made by chance against Pillow.
mod differential;

/// The dashboard in a pseudo-terminal.
mod dashboard;

/// Fine-tuning: what is trained, killed runs, other programs.
mod finetune;

/// The fuzzers' targets, in short.
mod fuzzed;

/// Bases in the forms in which programs export them.
mod import;

/// The forms in which ONNX files come.
mod formats;

/// Derivatives of the convolutional layers against finite differences and TensorFlow.
mod gradients;

/// The head against scikit-learn.
mod head;

/// Backbones from a server that speaks as the Hugging Face Hub does.
mod hub;

/// Bad pictures and odd names.
mod hostile;

/// Layers: summaries, several cuts, the best layer, broken graphs.
mod layers;

/// Running the headless program as its user does.
mod program;

/// Models whose numbers no map is made for.
mod odd_models;

/// What operators compute, against ONNX Runtime.
mod operators;

/// Decoding and resizing against Pillow.
mod pixels;

/// Finding the Python with the references.
mod python;

/// Quantised layers of other programs, in random forms.
mod qdq;

/// Models of smaller numbers.
mod quantize;

/// Quantising networks with parts that do not depend on the picture.
mod quantize_forms;

/// Features, saved models and summaries against ONNX Runtime, Pillow and Keras.
mod reference;

/// Tokens as features.
mod tokens;

/// Tests that cannot run here.
mod skipped;

/// The whole pipeline through the headless program, and its errors.
mod pipeline;

/// Saved models as bases.
mod saved_base;

/// Features of any scale and mean.
mod scales;

/// Shared folders, and files that came from elsewhere.
#[cfg(unix)]
mod shared;

/// A small HTTP server with bad manners.
mod server;

/// The ends of networks: classifier, features, outputs, tokens, preparation.
mod tails;

/// The feature store: killed runs, resumed runs, other readers.
mod store;

/// The zoo: fetching, adding, listing.
mod zoo;

/// Pictures as they arrive in a folder.
#[cfg(target_os = "linux")]
mod watch;
