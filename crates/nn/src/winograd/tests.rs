use super::*;
use crate::parallel::Sequential;

/// Numerical Recipes' linear congruential generator.
fn numbers(count: usize, state: &mut u32) -> Vec<f32> {
    let mut next = || {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Y, ∂L/∂W and ∂L/∂X by the definition, in f64, for ∂L/∂Y = `slope`.
fn by_definition(
    conv: &Conv,
    images: usize,
    [input, weights, slope]: [&[f32]; 3],
) -> [Vec<f64>; 3] {
    let (from, to) = (conv.input, conv.output());
    let mut output = vec![0.0; to.values() * images];
    let mut kernel = vec![0.0; weights.len()];
    let mut gradient = vec![0.0; input.len()];
    for o in 0..to.channels * images * to.pixels() {
        let (x, y) = (o % to.width, o / to.width % to.height);
        let (image, channel) = (o / to.pixels() % images, o / to.pixels() / images);
        for w in 0..from.channels * 9 {
            let (dx, dy, c) = (w % 3, w / 3 % 3, w / 9);
            let iy = (y + dy).wrapping_sub(conv.pad_before[0]);
            let ix = (x + dx).wrapping_sub(conv.pad_before[1]);
            if iy >= from.height || ix >= from.width {
                continue;
            }
            let i = ((c * images + image) * from.height + iy) * from.width + ix;
            let w = channel * from.channels * 9 + w;
            output[o] += f64::from(input[i]) * f64::from(weights[w]);
            kernel[w] += f64::from(input[i]) * f64::from(slope[o]);
            gradient[i] += f64::from(weights[w]) * f64::from(slope[o]);
        }
    }
    [output, kernel, gradient]
}

/// Maps of three pictures as two shards, of one and of two.
fn in_shards(maps: &[f32], channels: usize) -> [Vec<f32>; 2] {
    let pixels = maps.len() / channels / 3;
    let planes = || maps.chunks_exact(3 * pixels);
    let first = planes().flat_map(|planes| &planes[..pixels]).copied();
    let others = planes().flat_map(|planes| &planes[pixels..]).copied();
    [first.collect(), others.collect()]
}

#[test]
fn agrees_with_the_definition_of_convolution_and_its_derivatives() {
    let cases = [(9, 9, [1, 1], [1, 1]), (6, 11, [0, 2], [1, 0])];
    let mut state = 3;
    for (height, width, pad_before, pad_after) in cases {
        let conv = Conv {
            input: Maps {
                channels: 17,
                height,
                width,
            },
            output_channels: 19,
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            pad_before,
            pad_after,
            groups: 1,
        };
        assert!(suits(&conv));
        let images = 3;
        let input = numbers(conv.input.values() * images, &mut state);
        let weights = numbers(conv.weights(), &mut state);
        let slope = numbers(conv.output().values() * images, &mut state);
        let expected = by_definition(&conv, images, [&input, &weights, &slope]);
        let (mut transformed, mut buffers) = (Vec::new(), Buffers::default());
        transform_weights(&conv, &weights, &mut transformed, &Sequential);
        let values = conv.output().values();
        let mut output = [vec![0.0; values], vec![0.0; values * 2]];
        let input = in_shards(&input, 17);
        let slope = in_shards(&slope, 19);
        forward(
            &conv,
            &[1, 2],
            &[&input[0], &input[1]],
            &transformed,
            &mut output,
            &mut buffers,
            &Sequential,
        );
        let mut gradient = vec![0.0; weights.len()];
        let values = conv.input.values();
        let mut input_gradient = [vec![0.0; values], vec![0.0; values * 2]];
        backward(
            &conv,
            &[1, 2],
            &[&input[0], &input[1]],
            &[&slope[0], &slope[1]],
            &transformed,
            Some(&mut gradient),
            Some(&mut input_gradient),
            &mut buffers,
            &Sequential,
        );
        let expected =
            expected.map(|values| values.into_iter().map(|v| v as f32).collect::<Vec<_>>());
        let [output_expected, gradient_expected, input_expected] = expected;
        let [a, b] = in_shards(&output_expected, 19);
        let [c, d] = in_shards(&input_expected, 17);
        let [output_1, output_2] = output;
        let [input_1, input_2] = input_gradient;
        let found = [output_1, output_2, gradient, input_1, input_2];
        let expected = [a, b, gradient_expected, c, d];
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            let scale = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            for (a, b) in found.iter().zip(expected) {
                let error = (a - b).abs() / scale;
                assert!(error < 1e-5, "{height}×{width}: {a} {b}");
            }
        }
    }
}
