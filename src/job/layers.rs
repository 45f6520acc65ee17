//! The layers at which a base can be cut.

use crate::backbone::{BackboneParams, Pool, Summary, find, find_cut, input_shape, input_size};
use crate::error::Result;

/// A base's layers, and where it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseLayers {
    /// Every layer of the base, its classifier included.
    pub summary: Summary,
    /// Index of the layer whose output is the feature, if the cut is the output of a layer.
    pub cut: Option<usize>,
    /// How feature maps at the cut are pooled.
    pub pool: Pool,
    /// Height and width of the input in pixels.
    pub input_size: u32,
    /// For each layer, the number of features of a picture if the base is cut there; none where it cannot
    /// be.
    pub feature_len: Vec<Option<usize>>,
    /// For each layer, the parameters up to it.
    pub parameters: Vec<u64>,
}

/// Lists the layers of the base `params`.
///
/// # Errors
/// Those of [`find`], and [`crate::Error::Parameter`] for a cut that is not there.
pub fn layers(params: &BackboneParams) -> Result<BaseLayers> {
    let found = find(&params.model)?;
    let layout = found.card.preprocess.layout;
    let input_size = input_size(&found.card, params.input_size)?;
    let shape = input_shape(&found.graph, layout, input_size)?;
    let summary = Summary::of(&found.graph, shape, layout)?;
    let (cut, default_pool) = match &params.cut {
        Some(cut) => (find_cut(&found.graph, cut)?, Pool::Avg),
        None => (found.card.cut.clone(), found.card.pool),
    };
    let pool = params.pool.unwrap_or(default_pool);
    let feature_len = summary
        .layers
        .iter()
        .map(|layer| match (layer.output_shape.as_deref(), pool) {
            (Some([features]), _) => Some(*features),
            (Some([_, _, channels]), Pool::Avg | Pool::Max) => Some(*channels),
            (Some([h, w, channels]), Pool::None | Pool::Flatten) => Some(h * w * channels),
            _ => None,
        })
        .collect();
    let mut sum = 0;
    let parameters = summary
        .layers
        .iter()
        .map(|layer| {
            sum += layer.parameters();
            sum
        })
        .collect();
    Ok(BaseLayers {
        cut: summary.layers.iter().position(|l| l.tensor == cut),
        summary,
        pool,
        input_size,
        feature_len,
        parameters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_base_is_cut_at_its_1280_features() {
        let found = layers(&BackboneParams::default()).unwrap();
        let cut = found.cut.unwrap();
        assert_eq!(found.feature_len[cut], Some(1280));
        assert_eq!(found.input_size, 224);
        // The classifier of 1,000 classes is behind the cut.
        let classifier = (1280 + 1) * 1000;
        assert_eq!(
            found.summary.parameters() - found.parameters[cut],
            classifier
        );
    }

    #[test]
    fn pooling_decides_the_number_of_features_of_maps() {
        let cut_at = |pool| {
            let params = BackboneParams {
                cut: Some("top_relu6".into()),
                pool: Some(pool),
                ..BackboneParams::default()
            };
            let found = layers(&params).unwrap();
            found.feature_len[found.cut.unwrap()]
        };
        assert_eq!(cut_at(Pool::Max), Some(1280));
        assert_eq!(cut_at(Pool::None), Some(7 * 7 * 1280));
    }
}
