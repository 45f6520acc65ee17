//! The layers at which a backbone can be cut.

use crate::backbone::{
    BackboneParams, Detail, InputSize, Pool, Summary, find, find_cut, input_shape, input_size,
};
use crate::error::Result;

/// A backbone's layers, and its feature layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseLayers {
    /// Every layer of the backbone, including its classifier.
    pub summary: Summary,
    /// Indices of the layers whose outputs are the features; a cut that is not a layer's output is left out.
    pub cuts: Vec<usize>,
    /// How feature maps at the cut are pooled.
    pub pool: Pool,
    /// Height and width of the input in pixels.
    pub input_size: InputSize,
    /// For each layer, the number of features per image if the backbone is cut there; `None` where that is
    /// impossible.
    pub feature_len: Vec<Option<usize>>,
    /// For each layer, the parameters up to it.
    pub parameters: Vec<u64>,
}

/// Lists the layers of the backbone `params`.
///
/// # Errors
/// Those of [`find`], and [`crate::Error::Parameter`] for a cut that does not exist.
pub fn layers(params: &BackboneParams) -> Result<BaseLayers> {
    let found = find(&params.model, params.input_size)?;
    let layout = found.card.preprocess.layout;
    let input_size = input_size(&found.card, params.input_size)?;
    let shape = input_shape(&found.graph, layout, input_size)?;
    let summary = Summary::of(&found.graph, shape, layout, Detail::Layers)?;
    let cuts: Vec<String> = match &params.cut {
        Some(cuts) => {
            let cuts = cuts.as_slice().iter();
            cuts.map(|cut| find_cut(&found.graph, cut))
                .collect::<Result<_>>()?
        }
        None => vec![found.tail.features.clone()],
    };
    let shape_of = |cut: &String| {
        let mut layers = summary.layers.iter();
        let layer = layers.find(|layer| layer.tensor == *cut);
        layer
            .and_then(|l| l.output_shape.clone())
            .unwrap_or_default()
    };
    let shapes: Vec<Vec<usize>> = cuts.iter().map(shape_of).collect();
    let pool = found.pool(params, &cuts, &shapes);
    let feature_len = summary
        .layers
        .iter()
        .map(|layer| pool.feature_len(layer.output_shape.as_deref()?))
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
        cuts: cuts
            .iter()
            .filter_map(|cut| summary.layers.iter().position(|l| l.tensor == *cut))
            .collect(),
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
        let [cut] = found.cuts[..] else {
            panic!("{:?}", found.cuts);
        };
        assert_eq!(found.feature_len[cut], Some(1280));
        assert_eq!(found.input_size, InputSize::from(224));
        // The classifier of 1,000 classes is after the cut.
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
            found.feature_len[found.cuts[0]]
        };
        assert_eq!(cut_at(Pool::Max), Some(1280));
        assert_eq!(cut_at(Pool::None), Some(7 * 7 * 1280));
    }
}
