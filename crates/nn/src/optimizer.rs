//! Optimisers: from gradients to steps.

use super::parallel::{Executor, for_each};

/// The rule of an optimiser, in PyTorch's formulas (`torch.optim`, version 2).
///
/// θ is a parameter, g its gradient, η the learning rate, λ the weight decay, t the 1-based step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `torch.optim.SGD` without dampening: g ← g + λθ; v ← μv + g (v = g at the first step);
    /// θ ← θ − ηv, or θ ← θ − η(g + μv) with Nesterov's momentum.
    Sgd {
        /// μ, from 0 to below 1.
        momentum: f32,
        /// Whether momentum looks ahead.
        nesterov: bool,
        /// λ, added to the gradient.
        weight_decay: f32,
    },
    /// `torch.optim.Adam` (Kingma and Ba, ICLR 2015) with β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸: g ← g + λθ;
    /// m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; θ ← θ − η · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε).
    Adam {
        /// λ, added to the gradient.
        weight_decay: f32,
    },
    /// `torch.optim.AdamW` (Loshchilov and Hutter, ICLR 2019): θ ← θ − ηλθ, then Adam's step on g alone.
    AdamW {
        /// λ, decoupled from the gradient.
        weight_decay: f32,
    },
}

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// A tensor of parameters with its gradient, flattened.
pub struct Parameter<'a> {
    /// θ, changed by a step.
    pub values: &'a mut [f32],
    /// g, of the same length and order.
    pub gradient: &'a [f32],
    /// Whether weight decay acts on it.
    pub decays: bool,
}

/// An optimiser with its memory of earlier steps.
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: Rule,
    steps: i32,
    memory: Vec<Memory>,
}

/// First and second moments of one tensor; SGD uses the first for its velocity.
#[derive(Clone, Debug)]
struct Memory {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Optimizer {
    /// An optimiser before its first step.
    pub fn new(rule: Rule) -> Optimizer {
        Optimizer {
            rule,
            steps: 0,
            memory: Vec::new(),
        }
    }

    /// Number of steps taken, and the moments of every tensor in the order of the tensors, first before
    /// second: all that an optimiser remembers.
    pub fn memory(&self) -> (i32, Vec<&[f32]>) {
        let moments = self
            .memory
            .iter()
            .flat_map(|m| [&m.first[..], &m.second[..]]);
        (self.steps, moments.collect())
    }

    /// The optimiser that remembers what [`memory`](Self::memory) gave.
    pub fn with_memory(rule: Rule, steps: i32, moments: Vec<Vec<f32>>) -> Optimizer {
        let mut memory = Vec::with_capacity(moments.len() / 2);
        let mut moments = moments.into_iter();
        while let (Some(first), Some(second)) = (moments.next(), moments.next()) {
            memory.push(Memory { first, second });
        }
        Optimizer {
            rule,
            steps,
            memory,
        }
    }

    /// Takes one step with every tensor. The tensors must be the same, in the same order, each time.
    ///
    /// # Panics
    /// If a gradient has another length than its values.
    pub fn step(
        &mut self,
        learning_rate: f32,
        parameters: &mut [Parameter],
        executor: &dyn Executor,
    ) {
        self.steps = self.steps.saturating_add(1);
        for (index, parameter) in parameters.iter_mut().enumerate() {
            let length = parameter.values.len();
            assert_eq!(length, parameter.gradient.len(), "length of a gradient");
            if self.memory.len() == index {
                self.memory.push(Memory {
                    first: vec![0.0; length],
                    second: match self.rule {
                        Rule::Sgd { .. } => Vec::new(),
                        Rule::Adam { .. } | Rule::AdamW { .. } => vec![0.0; length],
                    },
                });
            }
            let decay = |rate: f32| if parameter.decays { rate } else { 0.0 };
            match self.rule {
                Rule::Sgd {
                    momentum,
                    nesterov,
                    weight_decay,
                } => {
                    let decay = decay(weight_decay);
                    let velocity = &mut self.memory[index].first;
                    for ((value, &gradient), velocity) in parameter
                        .values
                        .iter_mut()
                        .zip(parameter.gradient)
                        .zip(velocity)
                    {
                        let gradient = gradient + decay * *value;
                        *velocity = momentum * *velocity + gradient;
                        let ahead = if nesterov {
                            gradient + momentum * *velocity
                        } else {
                            *velocity
                        };
                        *value -= learning_rate * ahead;
                    }
                }
                Rule::Adam { weight_decay } => {
                    let decay = decay(weight_decay);
                    adam(
                        self.steps,
                        learning_rate,
                        parameter,
                        &mut self.memory[index],
                        decay,
                        1.0,
                        executor,
                    );
                }
                Rule::AdamW { weight_decay } => {
                    let shrink = 1.0 - learning_rate * decay(weight_decay);
                    adam(
                        self.steps,
                        learning_rate,
                        parameter,
                        &mut self.memory[index],
                        0.0,
                        shrink,
                        executor,
                    );
                }
            }
        }
    }
}

/// One step of Adam, with `decay` · θ added to the gradient and θ first multiplied by `shrink`.
fn adam(
    step: i32,
    learning_rate: f32,
    parameter: &mut Parameter,
    memory: &mut Memory,
    decay: f32,
    shrink: f32,
    executor: &dyn Executor,
) {
    /// Values that are one piece of work.
    const PIECE: usize = 1 << 16;
    let correction_1 = 1.0 - f64::from(BETA_1).powi(step);
    let correction_2 = 1.0 - f64::from(BETA_2).powi(step);
    let rate = (f64::from(learning_rate) / correction_1) as f32;
    let root_2 = correction_2.sqrt() as f32;
    let values = parameter.values.chunks_mut(PIECE);
    let gradients = parameter.gradient.chunks(PIECE);
    let first = memory.first.chunks_mut(PIECE);
    let second = memory.second.chunks_mut(PIECE);
    let pieces = values.zip(gradients).zip(first.zip(second));
    for_each(
        executor,
        pieces,
        |_, ((values, gradients), (first, second))| {
            let moments = first.iter_mut().zip(second.iter_mut());
            let numbers = values.iter_mut().zip(gradients.iter());
            for ((value, &gradient), (first, second)) in numbers.zip(moments) {
                let gradient = gradient + decay * *value;
                *value *= shrink;
                *first = BETA_1 * *first + (1.0 - BETA_1) * gradient;
                *second = BETA_2 * *second + (1.0 - BETA_2) * gradient * gradient;
                *value -= rate * *first / (second.sqrt() / root_2 + EPSILON);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::Sequential;

    /// Three steps at a learning rate of 0.1 from θ = (1, −2).
    fn three_steps(rule: Rule, decays: bool) -> [f32; 2] {
        let mut optimizer = Optimizer::new(rule);
        let mut values = [1.0, -2.0];
        for gradient in [[0.5, -1.0], [-0.25, 0.75], [0.1, 0.1]] {
            optimizer.step(
                0.1,
                &mut [Parameter {
                    values: &mut values,
                    gradient: &gradient,
                    decays,
                }],
                &Sequential,
            );
        }
        values
    }

    #[test]
    fn steps_as_pytorch_does() {
        // The formulas in the documentation of torch.optim 2, in NumPy with float64.
        let weight_decay = 0.1;
        let sgd = |nesterov| Rule::Sgd {
            momentum: 0.9,
            nesterov,
            weight_decay,
        };
        for (rule, expected) in [
            (sgd(false), [0.848_024, -1.773_298]),
            (sgd(true), [0.8019061, -1.7276598]),
            (Rule::Adam { weight_decay }, [0.8024038, -1.8440237]),
            (Rule::AdamW { weight_decay }, [0.8143973, -1.8319604]),
        ] {
            let found = three_steps(rule, true);
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{rule:?}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn goes_on_from_its_memory_with_the_same_bits() {
        let rule = Rule::Adam { weight_decay: 0.0 };
        let step = |optimizer: &mut Optimizer, values: &mut [f32; 2], gradient: [f32; 2]| {
            let parameter = Parameter {
                values,
                gradient: &gradient,
                decays: true,
            };
            optimizer.step(0.1, &mut [parameter], &Sequential);
        };
        let mut optimizer = Optimizer::new(rule);
        let mut values = [1.0, -2.0];
        step(&mut optimizer, &mut values, [0.5, -1.0]);
        let (steps, moments) = optimizer.memory();
        let moments = moments.into_iter().map(<[f32]>::to_vec).collect();
        let mut again = Optimizer::with_memory(rule, steps, moments);
        let mut same = values;
        step(&mut optimizer, &mut values, [0.3, 0.1]);
        step(&mut again, &mut same, [0.3, 0.1]);
        assert_eq!(values, same);
    }

    #[test]
    fn leaves_biases_out_of_weight_decay() {
        for rule in [
            |weight_decay| Rule::Sgd {
                momentum: 0.9,
                nesterov: false,
                weight_decay,
            },
            |weight_decay| Rule::Adam { weight_decay },
            |weight_decay| Rule::AdamW { weight_decay },
        ] {
            assert_eq!(three_steps(rule(0.5), false), three_steps(rule(0.0), true));
        }
    }
}
