//! Random graphs of steps that only leave traces: each row of a map is filled with a byte that follows from the rows it is
//! made of, so that whatever overwrites a row before its time changes the outputs.

use super::super::map::Element;
use super::super::simd::InstructionSet;
use super::*;

/// Knuth's MMIX, upper bits.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A window over rows, filled up with nothing beyond the edges.
#[derive(Clone, Copy)]
struct Trace {
    mark: u8,
    size: usize,
    stride: usize,
    /// Rows above the first that the first window begins at.
    above: usize,
    input_height: usize,
    granule: usize,
    all_rows: bool,
    weight_bytes: usize,
}

impl Trace {
    fn output_height(&self) -> usize {
        (self.input_height + 2 * self.above).saturating_sub(self.size) / self.stride + 1
    }

    /// The byte that fills row `y`, given the bytes of the rows of all inputs.
    fn byte(&self, y: usize, inputs: &[Vec<u8>]) -> u8 {
        let rows = match self.all_rows {
            true => 0..inputs[0].len(),
            false => self.input_rows(&(y..y + 1)),
        };
        let other = inputs[1..].iter().map(|rows| rows[y % rows.len()]);
        let read = inputs[0][rows].iter().copied().chain(other);
        read.fold(self.mark ^ y as u8, |sum, byte| {
            sum.rotate_left(3).wrapping_mul(29).wrapping_add(byte)
        })
    }
}

impl Step for Trace {
    fn kind(&self) -> &'static str {
        "trace"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        let row = |y: usize| y.saturating_sub(self.above).min(self.input_height);
        row(rows.start * self.stride)..row((rows.end - 1) * self.stride + self.size)
    }

    fn needs_all_rows(&self) -> bool {
        self.all_rows
    }

    fn granule(&self) -> usize {
        self.granule
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        inputs[0].height == self.input_height && output.height == self.output_height()
    }

    fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        // SAFETY: the plan vouches for the rows that are read and written.
        unsafe {
            let bytes = |map: &Map, y: usize| {
                std::slice::from_raw_parts_mut(map.bytes(y), map.shape.row_bytes())
            };
            let whole = |y: usize| y.is_multiple_of(self.granule);
            assert!(whole(rows.start) && (whole(rows.end) || rows.end == output.shape.height));
            for y in rows {
                let needed = match self.all_rows {
                    true => 0..self.input_height,
                    false => self.input_rows(&(y..y + 1)),
                };
                let read = inputs.iter().enumerate().map(|(i, map)| {
                    let there = |row: &usize| match i {
                        0 => needed.contains(row),
                        _ => *row == y % map.shape.height,
                    };
                    let filled = |row: usize| {
                        let bytes = bytes(map, row);
                        // Maps begin at multiples of 64 bytes.
                        let whole = bytes.iter().step_by(64).all(|byte| *byte == bytes[0]);
                        assert!(whole, "row {row} was overwritten in part");
                        bytes[0]
                    };
                    let rows = 0..map.shape.height;
                    rows.map(|row| if there(&row) { filled(row) } else { 0 })
                        .collect()
                });
                let read: Vec<Vec<u8>> = read.collect();
                bytes(&output, y).fill(self.byte(y, &read));
            }
        }
    }
}

/// A graph, and how many rows its inputs have.
struct Sketch {
    steps: Vec<(Trace, Vec<Value>, Shape)>,
    inputs: Vec<Shape>,
    outputs: Vec<Value>,
}

fn shape(height: usize, row_bytes: usize) -> Shape {
    Shape::of(Element::Byte, [height, 1, row_bytes], 1).unwrap()
}

impl Sketch {
    fn random(random: &mut Random) -> Sketch {
        let row = |random: &mut Random| random.of(&[48, 1000, 1 << 14, 40_000, 1 << 16]);
        let inputs: Vec<Shape> = (0..1 + random.below(2))
            .map(|_| shape(1 + random.below(48), row(random)))
            .collect();
        let mut sketch = Sketch {
            steps: Vec::new(),
            inputs,
            outputs: Vec::new(),
        };
        for number in 0..1 + random.below(14) {
            let first = match number > 0 && random.below(4) > 0 {
                true => Value::Step(number - 1),
                false => sketch.any(random),
            };
            let trace = Trace {
                mark: random.below(256) as u8,
                size: random.of(&[1, 1, 2, 3, 5]),
                stride: random.of(&[1, 1, 1, 2, 3]),
                above: random.of(&[0, 1, 1, 2]),
                input_height: sketch.shape(first).height,
                granule: random.of(&[1, 1, 1, 2, 4]),
                all_rows: random.below(12) == 0,
                weight_bytes: random.of(&[0, 0, 0, 1 << 20]),
            };
            let mut inputs = vec![first];
            while random.below(3) == 0 {
                inputs.push(sketch.any(random));
            }
            let shape = shape(trace.output_height(), row(random));
            sketch.steps.push((trace, inputs, shape));
        }
        sketch.outputs = vec![Value::Step(sketch.steps.len() - 1)];
        while random.below(2) == 0 {
            let value = sketch.any(random);
            sketch.outputs.push(value);
        }
        sketch
    }

    fn any(&self, random: &mut Random) -> Value {
        match random.below(self.inputs.len() + self.steps.len()) {
            i if i < self.inputs.len() => Value::Input(i),
            i => Value::Step(i - self.inputs.len()),
        }
    }

    fn shape(&self, value: Value) -> Shape {
        match value {
            Value::Input(i) => self.inputs[i],
            Value::Step(i) => self.steps[i].2,
        }
    }

    fn plan(&self) -> TractResult<Plan> {
        let steps = self.steps.iter().map(|(trace, inputs, shape)| PlacedStep {
            name: "step".into(),
            step: Box::new(*trace),
            activation: Activation::new(InstructionSet::best(), None),
            inputs: inputs.clone(),
            shape: *shape,
        });
        Plan::new(steps.collect(), self.inputs.clone(), self.outputs.clone())
    }

    /// The byte of each row of each output, every map by itself.
    fn expected(&self, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut made: Vec<Vec<u8>> = Vec::new();
        let get = |made: &[Vec<u8>], value: &Value| match *value {
            Value::Input(i) => inputs[i].clone(),
            Value::Step(i) => made[i].clone(),
        };
        for (trace, read, shape) in &self.steps {
            let read: Vec<Vec<u8>> = read.iter().map(|value| get(&made, value)).collect();
            made.push((0..shape.height).map(|y| trace.byte(y, &read)).collect());
        }
        self.outputs.iter().map(|v| get(&made, v)).collect()
    }
}

/// What is read of a step's map after the chain that makes it: the last chain that does, or the end for an output.
fn last_reader(plan: &Plan, step: usize) -> usize {
    let reads = |chain: &Chain| {
        let steps = &plan.steps[chain.steps.clone()];
        steps.iter().any(|s| s.inputs.contains(&Value::Step(step)))
    };
    match plan.outputs.contains(&Value::Step(step)) {
        true => plan.chains.len(),
        false => plan.chains.iter().rposition(reads).unwrap_or(0),
    }
}

/// Asks that no two maps that are needed during the same chain share a byte, and that chains are what they should be.
fn check_places_and_chains(plan: &Plan) {
    let mut next = 0;
    for (c, chain) in plan.chains.iter().enumerate() {
        assert_eq!(chain.steps.start, next, "the chains are all steps in order");
        assert!(!chain.steps.is_empty() && chain.strip > 0);
        next = chain.steps.end;
        for i in chain.steps.start..chain.steps.end - 1 {
            assert_eq!(plan.steps[i + 1].inputs[0], Value::Step(i));
            let steps = plan.steps.iter().flat_map(|s| &s.inputs);
            let all = steps.chain(&plan.outputs);
            let readers = all.filter(|&&value| value == Value::Step(i)).count();
            assert_eq!(readers, 1, "a map inside a chain is read by the next alone");
        }
        let needed: Vec<usize> = (0..chain.steps.end)
            .filter(|&i| chain.steps.contains(&i) || last_reader(plan, i) >= c)
            .collect();
        for (n, &i) in needed.iter().enumerate() {
            for &j in &needed[n + 1..] {
                let (a, b) = (&plan.places[i], &plan.places[j]);
                assert!(
                    a.end <= b.start || b.end <= a.start,
                    "{i} at {a:?}, {j} at {b:?} in chain {c}"
                );
            }
        }
    }
    assert_eq!(next, plan.steps.len());
}

#[test]
fn random_graphs_give_what_maps_of_their_own_give() {
    let mut random = Random(1);
    let (mut strips, mut reused) = (0, 0);
    for graph in 0..super::super::tests::cases(150) {
        let sketch = Sketch::random(&mut random);
        let plan = sketch.plan().unwrap();
        check_places_and_chains(&plan);
        strips +=
            usize::from(plan.chains.iter().any(|c| {
                c.steps.len() > 1 && 2 * c.strip <= plan.steps[c.steps.end - 1].shape.height
            }));
        let all: usize = plan.places.iter().map(Range::len).sum();
        reused += usize::from(plan.arena_bytes < all);

        let rows: Vec<Vec<u8>> = (sketch.inputs.iter())
            .map(|shape| (0..shape.height).map(|_| random.below(256) as u8).collect())
            .collect();
        let inputs: Vec<Vec<u8>> = (sketch.inputs.iter().zip(&rows))
            .map(|(shape, rows)| {
                rows.iter()
                    .flat_map(|&b| vec![b; shape.row_bytes()])
                    .collect()
            })
            .collect();
        let given: Vec<*const u8> = inputs.iter().map(|map| map.as_ptr()).collect();
        let expected = sketch.expected(&rows);
        let mut workspace = plan.workspace().unwrap();
        // The second time, with what the first left behind; then by several threads.
        for threads in [1, 1, 2, 3] {
            plan.set_threads(&mut workspace, threads).unwrap();
            // SAFETY: the inputs are as long as their maps.
            let maps = unsafe { plan.run(&given, &mut workspace) }.unwrap();
            for (map, expected) in maps.iter().zip(&expected) {
                for (y, byte) in expected.iter().enumerate() {
                    // SAFETY: an output is there whole.
                    let row =
                        unsafe { std::slice::from_raw_parts(map.bytes(y), map.shape.row_bytes()) };
                    assert!(
                        row.iter().all(|b| b == byte),
                        "graph {graph} by {threads}, row {y}"
                    );
                }
            }
        }
        for (map, rows) in inputs.iter().zip(&rows) {
            let row_bytes = map.len() / rows.len();
            let mut chunks = map.chunks(row_bytes).zip(rows);
            assert!(chunks.all(|(row, byte)| row.iter().all(|b| b == byte)));
        }
    }
    assert!(strips > 20, "{strips} graphs went in strips");
    assert!(reused > 75, "{reused} graphs used memory twice");
}

/// A step that makes a map of `height` rows from one of as many.
fn plain(height: usize) -> Trace {
    Trace {
        mark: 0,
        size: 1,
        stride: 1,
        above: 0,
        input_height: height,
        granule: 1,
        all_rows: false,
        weight_bytes: 0,
    }
}

/// A line of `count` steps with maps of 32 rows of `row_bytes`.
fn line(count: usize, row_bytes: usize) -> Sketch {
    let map = shape(32, row_bytes);
    let step = |i: usize| {
        let read = match i {
            0 => Value::Input(0),
            _ => Value::Step(i - 1),
        };
        (plain(32), vec![read], map)
    };
    Sketch {
        steps: (0..count).map(step).collect(),
        inputs: vec![map],
        outputs: vec![Value::Step(count - 1)],
    }
}

#[test]
fn small_maps_that_follow_each_other_take_turns_in_two_places() {
    let row_bytes = 1 << 12;
    let plan = line(9, row_bytes).plan().unwrap();
    assert_eq!(plan.chains.len(), 9);
    assert_eq!(plan.arena_bytes, 2 * 32 * row_bytes);
    // A map that is added at the end keeps its place until then.
    let mut shortcut = line(9, row_bytes);
    shortcut.steps[8].1.push(Value::Step(0));
    assert_eq!(shortcut.plan().unwrap().arena_bytes, 3 * 32 * row_bytes);
}

#[test]
fn large_maps_go_in_strips_that_stay_in_the_cache() {
    let row_bytes = 1 << 16;
    let plan = line(4, row_bytes).plan().unwrap();
    let [chain] = &plan.chains[..] else {
        panic!("{} chains", plan.chains.len());
    };
    assert_eq!(chain.steps, 0..4);
    // Of three maps inside, strips of two rows fill STRIP_BYTES.
    assert_eq!((chain.strip, &chain.rows[..]), (2, &[2, 2, 2, 32][..]));
    assert_eq!(plan.arena_bytes, (2 + 2 + 2 + 32) * row_bytes);
}

#[test]
fn a_map_is_made_whole_where_a_strip_is_not_enough() {
    type Change = fn(&mut Sketch);
    let changes: [(&str, Change); 6] = [
        ("it is an output", |s| s.outputs.push(Value::Step(1))),
        ("two steps read it", |s| s.steps[3].1.push(Value::Step(1))),
        ("the next step reads another first", |s| {
            s.steps[2].1 = vec![Value::Step(0), Value::Step(1)];
        }),
        ("the next step needs all of it", |s| {
            s.steps[2].0.all_rows = true
        }),
        ("the next step's window is as large", |s| {
            s.steps[2].0.size = 32;
            for step in &mut s.steps[2..] {
                step.2 = shape(1, 1 << 16);
            }
            s.steps[3].0.input_height = 1;
        }),
        ("weights would not stay in the cache", |s| {
            s.steps[2].0.weight_bytes = CHAIN_WEIGHT_BYTES + 1;
        }),
    ];
    for (why, change) in changes {
        let mut sketch = line(4, 1 << 16);
        change(&mut sketch);
        let plan = sketch.plan().unwrap();
        let inside = |chain: &Chain| chain.steps.contains(&1) && chain.steps.contains(&2);
        assert!(!plan.chains.iter().any(inside), "{why}");
    }
}

#[test]
fn what_is_read_before_it_is_made_or_in_another_shape_is_refused() {
    for (value, count) in [
        (Value::Step(2), 4),
        (Value::Step(3), 4),
        (Value::Step(9), 4),
        (Value::Input(1), 4),
    ] {
        let mut sketch = line(count, 64);
        sketch.steps[2].1 = vec![value];
        assert!(sketch.plan().is_err(), "{value:?}");
        let mut sketch = line(2, 64);
        sketch.outputs = vec![value];
        assert!(sketch.plan().is_err(), "{value:?} as an output");
    }
    let mut sketch = line(4, 64);
    sketch.steps[1].2 = shape(31, 64);
    assert!(sketch.plan().is_err());
}

#[test]
fn other_inputs_and_another_workspace_are_refused() {
    let plan = line(3, 64).plan().unwrap();
    let map = [0u8; 32 * 64];
    let mut workspace = plan.workspace().unwrap();
    // SAFETY: the input, where there is one, is as long as its map.
    unsafe {
        assert!(plan.run(&[], &mut workspace).is_err());
        assert!(plan.run(&[map.as_ptr()], &mut workspace).is_ok());
        let mut small = line(1, 16).plan().unwrap().workspace().unwrap();
        assert!(plan.run(&[map.as_ptr()], &mut small).is_err());
    }
}
