//! Small networks of the families that people choose, as the exporters of PyTorch write them: each runs in one region and
//! gives what ONNX Runtime gives. `scripts/make_networks.py` makes them.

use std::path::Path;

use cnn_engine::{canonical, check_windows, declutter, framework, optimize, set_threads};
use tract_onnx::prelude::*;

/// Largest difference from ONNX Runtime, as a share of the largest output.
const TOLERANCE: f32 = 2e-5;

fn run(state: &mut TypedSimpleState, image: &Tensor) -> Vec<f32> {
    let outputs = state.run(tvec!(image.clone().into())).unwrap();
    let output = outputs[0].try_as_plain_ram().unwrap();
    output.as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn every_family_is_one_region_and_agrees_with_onnx_runtime() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let expected = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
    let mut wrong = Vec::new();
    for line in expected.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let side: usize = words.next().unwrap().parse().unwrap();
        let expected: Vec<f32> = words.map(|word| word.parse().unwrap()).collect();

        let file = tract_onnx::onnx()
            .proto_model_for_path(folder.join(name))
            .unwrap();
        let file = canonical(&file);
        let model = framework().model_for_proto_model(&file).unwrap();
        let model = model
            .with_input_fact(0, f32::fact([1, 3, side, side]).into())
            .unwrap()
            .into_typed()
            .unwrap();
        check_windows(&model).unwrap();
        let model = optimize(declutter(model).unwrap(), u64::MAX).unwrap();
        let inner = model.nodes().iter().filter(|node| !node.inputs.is_empty());
        let parts = inner.count();
        if parts != 1 {
            let left = model.nodes().iter().map(|node| node.op.name());
            wrong.push(format!(
                "{name}: {parts} parts: {:?}",
                left.collect::<Vec<_>>()
            ));
        }
        let values: Vec<f32> = (0..3 * side * side)
            .map(|i| (0.37 * i as f64).sin() as f32)
            .collect();
        let image = Tensor::from_shape(&[1, 3, side, side], &values).unwrap();
        let mut state = model.into_runnable().unwrap().spawn().unwrap();
        let found = run(&mut state, &image);
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let pairs = found.iter().zip(&expected);
        let difference = pairs.fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        if difference.is_nan() || difference > TOLERANCE * largest {
            wrong.push(format!("{name}: {difference:e} of {largest}"));
        }
        set_threads(&mut state, 2).unwrap();
        assert_eq!(run(&mut state, &image), found, "{name} on two threads");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
