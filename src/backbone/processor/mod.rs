//! Reads preprocessing from files of other programs beside an ONNX file: Hugging Face's `preprocessor_config.json`, and
//! `config.json` with timm's `pretrained_cfg`.

mod hugging_face;
mod timm;
mod values;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use self::hugging_face::hugging_face;
use self::timm::timm;
use self::values::side;
use crate::disk::{self, parent};
use crate::foreign::data_fault;
use crate::pixels::{Preprocess, ResizeRule};

/// Larger files than this are not read: real ones have some hundred bytes, a `config.json` with 21,000 labels 1 MB.
const MOST_BYTES: u64 = 8 << 20;

/// Preprocessing from such a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Processor {
    /// The file.
    pub path: PathBuf,
    /// From an image to the input tensor, channels first.
    pub preprocess: Preprocess,
    /// Height and width of the input in pixels, where it says so.
    pub input_size: Option<u32>,
    /// Differences from the file's settings, in words.
    pub remark: Option<String>,
}

impl Processor {
    /// One sentence about the preprocessing and its source.
    pub fn sentence(&self) -> String {
        let Preprocess {
            resize,
            crop_pct,
            filter,
            order,
            scale,
            mean,
            std,
            ..
        } = &self.preprocess;
        let way = match resize {
            ResizeRule::Stretch => "stretched",
            ResizeRule::Crop => "centre crop",
            ResizeRule::Pad => "padded",
        };
        let share = crop_pct.map_or(String::new(), |share| format!(" of {:.1} %", share * 100.0));
        let numbers = match (mean, std) {
            ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]) => format!("{order:?} x {scale}"),
            _ => format!("({order:?} x {scale} - {mean:?}) / {std:?}"),
        };
        let remark = self.remark.as_ref();
        let remark = remark.map_or(String::new(), |remark| format!("; {remark}"));
        let size = self
            .input_size
            .map_or(String::new(), |n| format!("{n} px, "));
        format!(
            "preprocessing from {}: {size}{way}{share}, {filter:?}, {numbers}{remark}",
            self.path.display()
        )
        .replace("Rgb", "RGB")
        .replace("Bgr", "BGR")
    }
}

/// Preprocessing from files beside the ONNX file `model`; `None` if there are no usable ones. Each unusable file is reported
/// in `warnings`. Where the file lies in a folder `onnx`, as in Hugging Face's repositories, the folder
/// above it counts, too.
pub(super) fn beside(model: &Path, warnings: &mut Vec<String>) -> Option<Processor> {
    let own = parent(model).to_owned();
    let mut folders = vec![own.clone()];
    let whole = own.canonicalize().unwrap_or(own);
    if whole.file_name().is_some_and(|name| name == "onnx") {
        folders.extend(whole.parent().map(Path::to_owned));
    }
    for folder in folders {
        let config = read(&folder.join("config.json"), warnings);
        let processor = folder.join("preprocessor_config.json");
        let hugging_face = read(&processor, warnings).map(|map| (processor, hugging_face(&map)));
        let timm = config.as_ref().and_then(|map| {
            let inner = map.get("pretrained_cfg")?;
            let path = folder.join("config.json");
            Some((path, inner.as_object().map_or(Err(not_an_object()), timm)))
        });
        for (path, said) in hugging_face.into_iter().chain(timm) {
            match said {
                Ok(said) => {
                    let image_size = || {
                        let size = config.as_ref()?.get("image_size")?;
                        side(size, "image_size").ok()
                    };
                    return Some(Processor {
                        input_size: said.input_size.or_else(image_size),
                        path,
                        ..said
                    });
                }
                Err(problem) => warnings.push(format!(
                    "ignoring {}: {problem}; state the preprocessing in a model card",
                    path.display()
                )),
            }
        }
    }
    None
}

fn not_an_object() -> String {
    "`pretrained_cfg` is not an object".to_owned()
}

/// The object in the JSON file `path`; `None` if there is no such file.
fn read(path: &Path, warnings: &mut Vec<String>) -> Option<Map<String, Value>> {
    if !path.exists() {
        return None;
    }
    let bytes = disk::read(path, MOST_BYTES).map_err(|e| e.to_string());
    let value = bytes.and_then(|bytes| {
        serde_json::from_slice::<Value>(&bytes)
            .map_err(|e| format!("it is not valid JSON ({})", data_fault(&e)))
    });
    match value {
        Ok(Value::Object(map)) => Some(map),
        Ok(_) => {
            warnings.push(format!(
                "ignoring {}: it is not a JSON object",
                path.display()
            ));
            None
        }
        Err(problem) => {
            warnings.push(format!("ignoring {}: {problem}", path.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pixels::{ChannelOrder, Filter};

    fn said(name: &str, text: &str) -> (Option<Processor>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), text).unwrap();
        let mut warnings = Vec::new();
        let found = beside(&folder.path().join("m.onnx"), &mut warnings);
        (found, warnings)
    }

    fn processor(text: &str) -> Processor {
        let (found, warnings) = said("preprocessor_config.json", text);
        assert_eq!(warnings, Vec::<String>::new(), "{text}");
        found.unwrap()
    }

    #[test]
    fn the_processors_of_known_networks_are_understood() {
        // google/vit-base-patch16-224
        let vit = processor(
            r#"{"do_normalize": true, "do_rescale": true, "do_resize": true,
                "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "ViTFeatureExtractor",
                "image_std": [0.5, 0.5, 0.5], "resample": 2, "rescale_factor": 0.00392156862745098,
                "size": {"height": 224, "width": 224}}"#,
        );
        assert_eq!(vit.input_size, Some(224));
        assert_eq!(vit.remark, None);
        let expected = Preprocess {
            mean: [0.5; 3],
            std: [0.5; 3],
            ..Preprocess::torch()
        };
        assert_eq!(vit.preprocess, expected);
        // facebook/dinov2-base
        let dino = processor(
            r#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true,
                "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225], "resample": 3, "rescale_factor": 0.00392156862745098,
                "size": {"shortest_edge": 256}}"#,
        );
        assert_eq!(dino.input_size, Some(224));
        let expected = Preprocess {
            resize: ResizeRule::Crop,
            crop_pct: Some(0.875),
            filter: Filter::Bicubic,
            ..Preprocess::torch()
        };
        assert_eq!(dino.preprocess, expected);
        assert_eq!(dino.remark, None);
        // apple/mobilevit-small: BGR, 0 to 1, not normalised.
        let mobilevit = processor(
            r#"{"crop_size": {"height": 256, "width": 256}, "do_center_crop": true,
                "do_flip_channel_order": true, "do_rescale": true, "resample": 2,
                "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 288}}"#,
        );
        assert_eq!(mobilevit.preprocess.order, ChannelOrder::Bgr);
        assert_eq!(mobilevit.preprocess.mean, [0.0; 3]);
        assert_eq!(mobilevit.preprocess.std, [1.0; 3]);
        // facebook/convnext-tiny-224, in the older form with a number for a size.
        let convnext = processor(
            r#"{"crop_pct": 0.875, "do_normalize": true, "do_resize": true,
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": 224}"#,
        );
        assert_eq!(convnext.preprocess.resize, ResizeRule::Crop);
        assert_eq!(convnext.preprocess.crop_pct, Some(0.875));
        assert_eq!(convnext.input_size, Some(224));
        // facebook/convnext-tiny-384-224: not cropped.
        let large = processor(
            r#"{"crop_pct": 0.875, "do_resize": true, "do_normalize": false, "size": 384}"#,
        );
        assert_eq!(large.preprocess.resize, ResizeRule::Stretch);
        // A network that does its own preprocessing.
        let raw = processor(r#"{"do_rescale": false, "do_normalize": false, "size": [96, 96]}"#);
        assert_eq!(raw.preprocess.scale, 1.0);
        assert_eq!(raw.input_size, Some(96));
        // (BGR - mean) / std with the numbers given for red, green, blue.
        let flipped = processor(
            r#"{"do_rescale": false, "do_flip_channel_order": true, "image_mean": [1, 2, 3], "image_std": [4, 5, 6]}"#,
        );
        assert_eq!(flipped.preprocess.mean, [3.0, 2.0, 1.0]);
        assert_eq!(flipped.preprocess.std, [6.0, 5.0, 4.0]);
        // EfficientNet's: from -1 to 1 before it is normalised.
        let offset = processor(
            r#"{"rescale_factor": 0.00784313725490196, "rescale_offset": true, "image_mean": [0.5], "image_std": 0.25}"#,
        );
        assert_eq!(offset.preprocess.mean, [1.5; 3]);
        assert_eq!(offset.preprocess.std, [0.25; 3]);
    }

    #[test]
    fn the_configuration_of_timm_is_understood() {
        let (found, warnings) = said(
            "config.json",
            r#"{"architecture": "resnet18", "num_classes": 1000, "num_features": 512, "pretrained_cfg": {
                "tag": "a1_in1k", "custom_load": false, "input_size": [3, 224, 224],
                "test_input_size": [3, 288, 288], "fixed_input_size": false, "interpolation": "bicubic",
                "crop_pct": 0.95, "crop_mode": "center", "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225], "num_classes": 1000}}"#,
        );
        assert_eq!(warnings, Vec::<String>::new());
        let found = found.unwrap();
        assert_eq!(found.input_size, Some(224));
        let expected = Preprocess {
            resize: ResizeRule::Crop,
            crop_pct: Some(0.95),
            filter: Filter::Bicubic,
            ..Preprocess::torch()
        };
        assert_eq!(found.preprocess, expected);
        assert!(
            found.sentence().contains("centre crop of 95.0 %"),
            "{}",
            found.sentence()
        );
    }

    #[test]
    fn a_file_with_values_that_cannot_be_used_is_left_out_with_a_word() {
        let normal = r#""image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]"#;
        for (text, problem) in [
            ("[1]".to_owned(), "it is not a JSON object"),
            ("{".to_owned(), "it is not valid JSON"),
            (
                r#"{"image_mean": [0.5, 0.5], "image_std": 1}"#.to_owned(),
                "`image_mean` is [0.5,0.5]",
            ),
            (
                r#"{"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}"#.to_owned(),
                "std",
            ),
            (
                r#"{"image_mean": [0, 0, 1e99], "image_std": [1, 1, 1]}"#.to_owned(),
                "mean",
            ),
            (r#"{"do_normalize": true}"#.to_owned(), "no `image_mean`"),
            (
                r#"{"do_normalize": "yes"}"#.to_owned(),
                "`do_normalize` is \"yes\"",
            ),
            (format!(r#"{{{normal}, "size": 0}}"#), "`size` is 0"),
            (
                format!(r#"{{{normal}, "size": {{"height": 99999, "width": 1}}}}"#),
                "`size` is 99999",
            ),
            (
                format!(r#"{{{normal}, "size": {{"depth": 3}}}}"#),
                "without a height and width",
            ),
            (
                format!(r#"{{{normal}, "resample": 17}}"#),
                "`resample` is 17",
            ),
            (
                format!(r#"{{{normal}, "rescale_factor": -1}}"#),
                "`rescale_factor` is -1",
            ),
        ] {
            let (found, warnings) = said("preprocessor_config.json", &text);
            assert_eq!(found, None, "{text}");
            assert!(warnings[0].contains(problem), "{text}: {warnings:?}");
        }
        for (text, problem) in [
            (r#"{"pretrained_cfg": 3}"#, "is not an object"),
            (r#"{"pretrained_cfg": {"std": 1}}"#, "no `mean`"),
            (
                r#"{"pretrained_cfg": {"mean": 0, "std": 1, "input_size": [1, 28, 28]}}"#,
                "`input_size` is [1,28,28]",
            ),
            (
                r#"{"pretrained_cfg": {"mean": 0, "std": 1, "crop_pct": 0}}"#,
                "`crop_pct` is 0",
            ),
            (
                r#"{"pretrained_cfg": {"mean": 0, "std": 1, "crop_mode": "x"}}"#,
                "`crop_mode` is \"x\"",
            ),
        ] {
            let (found, warnings) = said("config.json", text);
            assert_eq!(found, None, "{text}");
            assert!(warnings[0].contains(problem), "{text}: {warnings:?}");
        }
        // A config.json of something else is ignored.
        assert_eq!(
            said("config.json", r#"{"image_size": 32}"#),
            (None, Vec::new())
        );
    }
}
