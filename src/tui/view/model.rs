//! The layers of the backbone; the feature layer is marked, and another one can be chosen.
//!
//! ```text
//! ─ efficientnet-lite0, 224 px ──────────── 4,652,008 parameters, avg pooling ─
//!   layer (type)                      output shape    parameters    cumulative  features
//!   top_conv (Conv2D)                 7×7×1280           409,600     3,366,168     1,280
//! ▸ avgpool (GlobalAveragePooling2D)  1280                     0     3,371,288     1,280 ◆
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, rows};
use crate::report::{grouped, printable};
use crate::tui::event::Target;
use crate::tui::text::{cells, left, right};
use crate::tui::theme::Mark;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let model = &canvas.state.model;
    let backbone = printable(&canvas.state.config.backbone.model);
    let layers = match &model.layers {
        Some(Ok(layers)) => layers,
        Some(Err(problem)) => {
            let inner = canvas.panel(area, &backbone, "");
            canvas.say(
                inner,
                &format!("{problem}\n\nPress b to choose another backbone."),
            );
            return;
        }
        None => {
            let inner = canvas.panel(area, &backbone, "");
            let text = match canvas.state.attached {
                Some(_) => "The backbone is shown once the attached run names it.",
                None => "Loading the backbone…",
            };
            canvas.say(inner, text);
            return;
        }
    };
    let title = format!("{backbone}, {} px", layers.input_size);
    let facts = format!(
        "{} parameters, {} pooling",
        grouped(layers.summary.parameters()),
        layers.pool.name()
    );
    let inner = canvas.panel(area, &title, &facts);
    let [head, list, foot] = rows(inner, [1, inner.height.saturating_sub(2), 1]);
    let faint = canvas.theme.faint();
    let widths = Widths::of(usize::from(inner.width).saturating_sub(4));
    let titles = widths.line(
        "layer (type)",
        "output shape",
        "parameters",
        "cumulative",
        "features",
    );
    let head = Rect {
        x: head.x + 2,
        width: head.width.saturating_sub(2),
        ..head
    };
    canvas.line(head, 0, Span::styled(titles, faint));
    canvas.list(
        list,
        layers.summary.layers.len(),
        model.cursor,
        true,
        Target::Row,
        |canvas, number, _| {
            let layer = &layers.summary.layers[number];
            let is_cut = layers.cuts.contains(&number);
            let is_dropped = layers.cuts.iter().max().is_some_and(|cut| number > *cut);
            let shape = layer.output_shape.as_ref().map_or("?".to_owned(), |dims| {
                let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
                dims.join("×")
            });
            let features =
                layers.feature_len[number].map_or("-".to_owned(), |len| grouped(len as u64));
            let text = widths.line(
                &printable(&format!("{} ({})", layer.name, layer.kind)),
                &shape,
                &grouped(layer.parameters()),
                &grouped(layers.parameters[number]),
                &features,
            );
            let style = match (is_cut, is_dropped) {
                (true, _) => canvas.theme.accent(),
                (_, true) => canvas.theme.faint(),
                _ => Default::default(),
            };
            let mark = if is_cut {
                canvas.theme.mark(Mark::Here)
            } else {
                " "
            };
            Line::from(vec![
                Span::styled(text, style),
                Span::styled(format!(" {mark}"), canvas.theme.accent()),
            ])
        },
    );
    let mark = canvas.theme.mark(Mark::Here);
    let text = match layers.cuts.iter().max() {
        Some(&last) => {
            let names: Vec<&str> = layers
                .cuts
                .iter()
                .map(|&cut| layers.summary.layers[cut].name.as_str())
                .collect();
            let features: usize = layers
                .cuts
                .iter()
                .filter_map(|&cut| layers.feature_len[cut])
                .sum();
            let text = format!(
                "{mark} feature layer: {} ({} features per image, {} parameters)",
                printable(&names.join(" + ")),
                grouped(features as u64),
                grouped(layers.parameters[last])
            );
            let more = "; later layers are dropped";
            match cells(&text) + cells(more) <= foot.width.into() {
                true => text + more,
                false => text,
            }
        }
        None => "the feature layer is inside one of these layers".to_owned(),
    };
    canvas.line(foot, 0, Span::styled(text, canvas.theme.strong()));
}

/// Widths of the columns.
struct Widths {
    layer: usize,
    shape: usize,
    parameters: usize,
    sum: usize,
    features: usize,
}

impl Widths {
    fn of(width: usize) -> Widths {
        let (shape, parameters, sum, features) = match width {
            100.. => (18, 14, 14, 12),
            _ => (12, 11, 11, 9),
        };
        Widths {
            layer: width.saturating_sub(shape + parameters + sum + features + 1),
            shape,
            parameters,
            sum,
            features,
        }
    }

    fn line(
        &self,
        layer: &str,
        shape: &str,
        parameters: &str,
        sum: &str,
        features: &str,
    ) -> String {
        left(layer, self.layer)
            + " "
            + &left(shape, self.shape)
            + &right(parameters, self.parameters)
            + &right(sum, self.sum)
            + &right(features, self.features)
    }
}
