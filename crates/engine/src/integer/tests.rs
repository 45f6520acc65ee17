//! Every step against plain loops over its definition, for every way of summing that this processor has: the same
//! bytes.

use super::*;
use crate::buffer::Buffer;
use crate::geometry::{Sliding, Window};
use crate::map::{Element, Map, Shape};
use crate::simd::{DotSet, InstructionSet};
use crate::step::{Scratch, Step};
use crate::tests::{Random, cases};

impl Random {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        // The ends come often: they are where sums could overflow.
        let byte = |r: u32| match r % 8 {
            0 => 255,
            1 => 0,
            _ => (r >> 8) as u8,
        };
        (0..count).map(|_| byte(self.next())).collect()
    }

    fn weights(&mut self, count: usize) -> Vec<i8> {
        let weight = |r: u32| match r % 8 {
            0 => 127,
            1 => -127,
            _ => ((r >> 8) % 255) as i32 as i8,
        };
        let weights = (0..count).map(|_| weight(self.next()));
        weights.map(|w| w.max(-127)).collect()
    }

    fn scale(&mut self) -> f32 {
        0.001 + (self.next() % 1000) as f32 / 20_000.0
    }
}

/// Bytes of a map without padding, `[row][column][channel]`.
fn stored(shape: &Shape, values: &[u8]) -> Buffer {
    let mut buffer = Buffer::zeros(shape.bytes().div_ceil(4) + 16);
    let to: *mut u8 = buffer.as_mut_ptr().cast();
    for (i, &value) in values.iter().enumerate() {
        let (pixel, channel) = (i / shape.channels, i % shape.channels);
        // SAFETY: the buffer has the bytes of the whole map.
        unsafe { *to.add(pixel * shape.pixel + channel) = value };
    }
    buffer
}

fn read(shape: &Shape, buffer: &Buffer) -> Vec<u8> {
    let from: *const u8 = buffer.as_ptr().cast();
    let pixels = shape.height * shape.width;
    let at = |i: usize| i / shape.channels * shape.pixel + i % shape.channels;
    (0..pixels * shape.channels)
        // SAFETY: the buffer has the bytes of the whole map.
        .map(|i| unsafe { *from.add(at(i)) })
        .collect()
}

/// Runs a step on maps, some rows at a time, and reads the result's bytes.
fn run(step: &dyn Step, inputs: &[(Shape, &Buffer)], output: Shape, strip: usize) -> Vec<u8> {
    let mut to = Buffer::zeros(output.bytes().div_ceil(4) + 16);
    let mut scratch = Scratch {
        values: Buffer::zeros(step.scratch_len()),
    };
    let shapes: Vec<Shape> = inputs.iter().map(|(shape, _)| *shape).collect();
    assert!(step.fits(&shapes, &output), "{} does not fit", step.kind());
    let whole = |shape: &Shape, data: *mut f32| Map::new(data.cast(), 0..shape.height, *shape);
    let maps: Vec<Map> = inputs
        .iter()
        .map(|(shape, buffer)| whole(shape, buffer.as_ptr().cast_mut()))
        .collect();
    let map = whole(&output, to.as_mut_ptr());
    for start in (0..output.height).step_by(strip) {
        let rows = start..(start + strip).min(output.height);
        // SAFETY: the step fits the maps, which are whole and apart; scratch memory is as long as it asks.
        unsafe { step.run(&maps, map, rows, &mut scratch) };
    }
    read(&output, &to)
}

fn round_to_byte(value: f32, zero: u8) -> u8 {
    (value.round_ties_even() + f32::from(zero)).clamp(0.0, 255.0) as u8
}

struct Case {
    rows: Window,
    columns: Window,
    inputs: usize,
    outputs: usize,
    depthwise: bool,
}

fn window(size: usize, stride: usize, before: usize, after: usize, input: usize) -> Window {
    let output = Window::outputs(input + before + after, [size, stride, 1]).unwrap();
    let window = Window::new(Sliding {
        size,
        stride,
        dilation: 1,
        before,
        input,
        output,
    });
    window.unwrap()
}

fn check(case: &Case, seed: u32) {
    let mut random = Random(seed);
    let Case { rows, columns, .. } = *case;
    let depth = if case.depthwise { 1 } else { case.inputs };
    let taps = rows.size * columns.size;
    let weights = IntegerWeights {
        values: random.weights(case.outputs * depth * taps).into(),
        bias: (0..case.outputs)
            .map(|_| random.next() as i32 % 50_000)
            .collect(),
        scales: (0..case.outputs).map(|_| random.scale() / 30.0).collect(),
        input: Steps {
            scale: random.scale(),
            zero: random.next() as u8,
        },
        output: Some(Steps {
            scale: random.scale(),
            zero: random.of(&[0, 255, 128, 3]),
        }),
    };
    let values = random.bytes(rows.input * columns.input * case.inputs);
    let zero = weights.output.unwrap().zero;
    let multipliers = weights.multipliers();
    let mut expected = Vec::new();
    for y in 0..rows.output {
        for x in 0..columns.output {
            for (o, multiplier) in multipliers.iter().enumerate() {
                let mut sum = weights.bias[o];
                for ky in rows.taps(y) {
                    for kx in columns.taps(x) {
                        let pixel = rows.at(y, ky) * columns.input + columns.at(x, kx);
                        for i in 0..depth {
                            let channel = if case.depthwise { o } else { i };
                            let byte = values[pixel * case.inputs + channel];
                            let weight =
                                weights.values[(o * depth + i) * taps + ky * columns.size + kx];
                            sum += (i32::from(byte) - i32::from(weights.input.zero))
                                * i32::from(weight);
                        }
                    }
                }
                expected.push(round_to_byte(sum as f32 * multiplier, zero));
            }
        }
    }
    for isa in InstructionSet::available() {
        let lanes = isa.lanes();
        let input = Shape::of(
            Element::Byte,
            [rows.input, columns.input, case.inputs],
            lanes,
        )
        .unwrap();
        let output = Shape::of(
            Element::Byte,
            [rows.output, columns.output, case.outputs],
            lanes,
        )
        .unwrap();
        let buffer = stored(&input, &values);
        for set in DotSet::available(isa) {
            let step: Box<dyn Step> = if case.depthwise {
                Box::new(IntegerDepthwise::new(isa, set, rows, columns, &weights).unwrap())
            } else {
                let step = IntegerConvolution::new(isa, set, rows, columns, &input, &weights);
                Box::new(step.unwrap())
            };
            for strip in [1, 3, rows.output] {
                let found = run(&*step, &[(input, &buffer)], output, strip);
                assert!(
                    found == expected,
                    "{set:?}, strips of {strip}: {rows:?} {columns:?} {} -> {}",
                    case.inputs,
                    case.outputs
                );
            }
        }
    }
}

#[test]
fn convolutions_give_the_bytes_of_their_definition() {
    let mut seed = 1;
    for (size, stride, before, after) in [
        (1, 1, 0, 0),
        (3, 1, 1, 1),
        (3, 2, 0, 1),
        (1, 2, 0, 0),
        (2, 1, 0, 0),
        (5, 2, 2, 2),
    ] {
        for (inputs, outputs) in [(3, 5), (4, 16), (17, 33), (40, 70), (64, 49)] {
            seed += 1;
            let case = Case {
                rows: window(size, stride, before, after, 9),
                columns: window(size, stride, before, after, 7 + seed as usize % 7),
                inputs,
                outputs,
                depthwise: false,
            };
            check(&case, seed);
        }
    }
}

#[test]
fn depthwise_convolutions_give_the_bytes_of_their_definition() {
    let mut seed = 100;
    for (size, stride, before, after) in [
        (3, 1, 1, 1),
        (3, 2, 0, 1),
        (3, 2, 1, 1),
        (5, 1, 2, 2),
        (5, 2, 1, 2),
        (4, 1, 1, 2),
        (7, 3, 3, 3),
        (1, 1, 0, 0),
    ] {
        for channels in [1, 16, 24, 50] {
            for width in [size.max(3), 9, 14] {
                seed += 1;
                let case = Case {
                    rows: window(size, stride, before, after, 11),
                    columns: window(size, stride, before, after, width),
                    inputs: channels,
                    outputs: channels,
                    depthwise: true,
                };
                check(&case, seed);
            }
        }
    }
}

#[test]
fn convolutions_of_odd_shapes_give_the_bytes_of_their_definition() {
    let mut choice = Random(11);
    for seed in 0..cases(60) {
        let mut axis = || {
            let size = choice.of(&[1, 1, 2, 3, 3, 5, 7]);
            let (before, after) = (choice.below(size), choice.below(size));
            let input = choice.below(17) + size.saturating_sub(before + after).max(1);
            window(size, choice.below(3) + 1, before, after, input)
        };
        let (rows, columns) = (axis(), axis());
        let inputs = choice.below(67) + 1;
        let depthwise = choice.next().is_multiple_of(2);
        let case = Case {
            rows,
            columns,
            inputs,
            outputs: if depthwise {
                inputs
            } else {
                choice.below(67) + 1
            },
            depthwise,
        };
        check(&case, 1000 + seed);
    }
}

#[test]
fn sums_and_roundings_give_the_bytes_of_their_definition() {
    let mut random = Random(7);
    for isa in InstructionSet::available() {
        let size = [3, 5, 37];
        let bytes = Shape::of(Element::Byte, size, isa.lanes()).unwrap();
        let floats = Shape::new(size, isa.lanes()).unwrap();
        let values = [random.bytes(555), random.bytes(555)];
        let steps =
            [(0.02, 3), (0.05, 250), (0.03, 128)].map(|(scale, zero)| Steps { scale, zero });
        let buffers = values.each_ref().map(|v| stored(&bytes, v));
        let inputs = [(bytes, &buffers[0]), (bytes, &buffers[1])];
        let found = run(&SumBytes::new(isa, steps), &inputs, bytes, 2);
        let of = |byte: u8, steps: Steps| (f32::from(byte) - f32::from(steps.zero)) * steps.scale;
        for (i, &byte) in found.iter().enumerate() {
            let sum = of(values[0][i], steps[0]) + of(values[1][i], steps[1]);
            assert_eq!(
                byte,
                round_to_byte(sum / steps[2].scale, 128),
                "{}",
                isa.name()
            );
        }
        // To floats and back: nothing is lost.
        let mut middle = Buffer::zeros(floats.bytes() / 4);
        let there = Dequantize::new(isa, steps[0]);
        let from = Map::new(buffers[0].as_ptr().cast_mut().cast(), 0..3, bytes);
        let to = Map::new(middle.as_mut_ptr().cast(), 0..3, floats);
        // SAFETY: both maps are whole and apart, and of the shape for which the step was made.
        unsafe { there.run(&[from], to, 0..3, &mut Scratch::default()) };
        assert_eq!(middle.as_mut_slice()[36], of(values[0][36], steps[0]));
        let back = Quantize::new(isa, steps[0], None);
        assert_eq!(
            run(&back, &[(floats, &middle)], bytes, 1),
            values[0],
            "{}",
            isa.name()
        );
    }
}

#[test]
fn floats_are_rounded_to_the_even_neighbour_and_held_within_a_byte() {
    let cases = [
        (0.5, 0),
        (1.5, 2),
        (2.5, 2),
        (-0.6, 0),
        (254.5, 254),
        (300.0, 255),
        (1e20, 255),
        (-1e20, 0),
        (f32::NAN, 0),
        (f32::INFINITY, 255),
    ];
    for isa in InstructionSet::available() {
        let step = Quantize::new(
            isa,
            Steps {
                scale: 1.0,
                zero: 0,
            },
            Some([10, 1, 10]),
        );
        let values: Vec<f32> = cases.iter().map(|c| c.0).collect();
        let mut from = Buffer::zeros(16);
        from.as_mut_slice()[..10].copy_from_slice(&values);
        let outer = Shape::new([1, 10, 1], 1).unwrap();
        let found = run(
            &step,
            &[(outer, &from)],
            Shape::of(Element::Byte, [1, 10, 1], isa.lanes()).unwrap(),
            1,
        );
        let expected: Vec<u8> = cases.iter().map(|c| c.1).collect();
        assert_eq!(found, expected, "{}", isa.name());
    }
}

#[test]
fn the_largest_byte_of_each_window_is_found() {
    let mut random = Random(3);
    for isa in InstructionSet::available() {
        let (rows, columns) = (window(3, 2, 1, 0, 9), window(2, 2, 0, 0, 8));
        let values = random.bytes(9 * 8 * 21);
        let input = Shape::of(Element::Byte, [9, 8, 21], isa.lanes()).unwrap();
        let output = Shape::of(
            Element::Byte,
            [rows.output, columns.output, 21],
            isa.lanes(),
        )
        .unwrap();
        let buffer = stored(&input, &values);
        let found = run(
            &MaxBytes::new(isa, rows, columns),
            &[(input, &buffer)],
            output,
            2,
        );
        let mut expected = Vec::new();
        for (y, x) in (0..rows.output).flat_map(|y| (0..columns.output).map(move |x| (y, x))) {
            for c in 0..21 {
                let taps = rows
                    .taps(y)
                    .flat_map(|ky| columns.taps(x).map(move |kx| (ky, kx)));
                let at =
                    taps.map(|(ky, kx)| values[(rows.at(y, ky) * 8 + columns.at(x, kx)) * 21 + c]);
                expected.push(at.max().unwrap());
            }
        }
        assert_eq!(found, expected, "{}", isa.name());
    }
}
