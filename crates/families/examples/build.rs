//! Builds an ONNX file: `build CONFIG WEIGHTS OUT.onnx [SIZE]`; prints what is known of the network as JSON.

use std::error::Error;
use std::path::Path;

use prost::Message;
use tl_families::Head;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, weights, out, size @ ..] = args.as_slice() else {
        return Err("build CONFIG WEIGHTS OUT.onnx [SIZE]".into());
    };
    let size = size.first().map(|size| size.parse()).transpose()?;
    let base = tl_families::build(&std::fs::read_to_string(config)?, Path::new(weights), size)?;
    std::fs::write(out, base.model.encode_to_vec())?;
    let head = match &base.head {
        Some(Head::Classes { tensor, .. } | Head::Embedding { tensor, .. }) => tensor.as_str(),
        None => "",
    };
    let facts = serde_json::json!({
        "architecture": base.architecture,
        "parameters": base.parameters,
        "size": base.size,
        "is_size_free": base.is_size_free,
        "features": base.features,
        "feature_width": base.feature_width,
        "last": base.last.tensor,
        "prefix_tokens": base.last.prefix_tokens,
        "head": head,
    });
    println!("{facts}");
    Ok(())
}
