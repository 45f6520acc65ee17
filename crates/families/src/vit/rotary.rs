//! Rotary positions: pairs of features of queries and keys are turned by angles that follow from a patch's place.
//!
//! Su et al., "RoFormer", 2021; in two dimensions in EVA-02, the Perception Encoder and DINOv3.

use crate::graph::Graph;
use crate::safetensors::Tensor;

/// How angles follow from places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rotary {
    /// DINOv3: places from −1 to 1, features of the first half paired with those of the second.
    Centred {
        /// Base of the periods.
        temperature: f64,
    },
    /// EVA-02: places counted from `offset`, in patches of a picture with `reference` patches in a row; neighbouring
    /// features are pairs.
    Counted {
        /// Patches in a row when it was trained; none for those that there are.
        reference: Option<usize>,
        /// The first place.
        offset: f64,
        /// Whether the column stands before the row.
        column_first: bool,
    },
}

/// The names of a graph's constants.
#[derive(Clone, Debug)]
pub(crate) struct Turning {
    cos: String,
    sin: String,
    partners: String,
}

impl Rotary {
    /// Angles of the patch at `row` and `column` of `side`, one for each pair of `width` features.
    fn angles(self, row: usize, column: usize, side: usize, width: usize) -> Vec<f32> {
        let bands = width / 4;
        let (first, second) = match self {
            Rotary::Counted {
                column_first: true, ..
            } => (column, row),
            _ => (row, column),
        };
        let angle = |place: usize, band: usize| match self {
            Rotary::Centred { temperature } => {
                let place = 2.0 * (place as f64 + 0.5) / side as f64 - 1.0;
                let period = temperature.powf(band as f64 / bands as f64);
                2.0 * std::f64::consts::PI * place / period
            }
            Rotary::Counted {
                reference, offset, ..
            } => {
                let scale = reference.map_or(1.0, |reference| reference as f64 / side as f64);
                let place = (place as f64 + offset) * scale;
                place / 10_000f64.powf(band as f64 / bands as f64)
            }
        };
        [first, second]
            .into_iter()
            .flat_map(|place| (0..bands).map(move |band| angle(place, band) as f32))
            .collect()
    }

    /// Puts the tables for `prefix` tokens that are not turned and `side` x `side` patches into the graph; heads have
    /// `width` features, a multiple of 4.
    pub fn tables(self, graph: &mut Graph, prefix: usize, side: usize, width: usize) -> Turning {
        let is_halves = matches!(self, Rotary::Centred { .. });
        let half = width / 2;
        // Where a feature's angle stands, its partner, and the partner's sign.
        let place = |feature: usize| match is_halves {
            true => (feature % half, (feature + half) % width, feature < half),
            false => (feature / 2, feature ^ 1, feature.is_multiple_of(2)),
        };
        let mut cos = vec![1.0; prefix * width];
        let mut sin = vec![0.0; prefix * width];
        for row in 0..side {
            for column in 0..side {
                let angles = self.angles(row, column, side, width);
                for feature in 0..width {
                    let (angle, _, is_negative) = place(feature);
                    cos.push(angles[angle].cos());
                    let sine = angles[angle].sin();
                    sin.push(if is_negative { -sine } else { sine });
                }
            }
        }
        let dims = vec![prefix + side * side, width];
        let partners: Vec<i64> = (0..width).map(|feature| place(feature).1 as i64).collect();
        Turning {
            cos: graph.constant(
                "rope.cos",
                Tensor {
                    dims: dims.clone(),
                    values: cos,
                },
            ),
            sin: graph.constant("rope.sin", Tensor { dims, values: sin }),
            partners: graph.integers("rope.partners", &partners),
        }
    }
}

impl Graph<'_> {
    /// Queries or keys `[N, heads, T, D / heads]`, turned.
    pub fn turned(&mut self, x: &str, turning: &Turning, name: &str) -> String {
        use crate::graph::Attribute;
        let kept = self.node("Mul", &[x, &turning.cos], &format!("{name}.kept"), &[]);
        let axis = [("axis", Attribute::Int(-1))];
        let partners = self.node(
            "Gather",
            &[x, &turning.partners],
            &format!("{name}.partners"),
            &axis,
        );
        let moved = self.node(
            "Mul",
            &[&partners, &turning.sin],
            &format!("{name}.moved"),
            &[],
        );
        self.add(&kept, &moved, name)
    }
}
