//! Functions of single values: activations, and products and sums with constants.

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pointwise {
    /// max(0, x).
    Relu,
    /// x where x > 0, else `slope` · x.
    LeakyRelu {
        /// Slope below 0.
        slope: f32,
    },
    /// min(max(x, `low`), `high`); ReLU6 is 0 to 6.
    Clip {
        /// Least value.
        low: f32,
        /// Largest value.
        high: f32,
    },
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// tanh x.
    Tanh,
    /// min(max(`slope` · x + `offset`, 0), 1).
    HardSigmoid {
        /// Slope around 0.
        slope: f32,
        /// Value at 0.
        offset: f32,
    },
    /// x · min(max(x/6 + 1/2, 0), 1) (Howard et al., MobileNetV3, 2019).
    HardSwish,
    /// `factor` · x + `offset`.
    Affine {
        /// Factor.
        factor: f32,
        /// What is added.
        offset: f32,
    },
}

impl Pointwise {
    /// f(x) of every value.
    pub fn forward(self, input: &[f32]) -> Vec<f32> {
        let of = |f: &dyn Fn(f32) -> f32| input.iter().map(|&x| f(x)).collect();
        match self {
            Pointwise::Relu => input.iter().map(|&x| x.max(0.0)).collect(),
            Pointwise::Clip { low, high } => input.iter().map(|&x| x.max(low).min(high)).collect(),
            Pointwise::LeakyRelu { slope } => of(&|x| if x > 0.0 { x } else { slope * x }),
            Pointwise::Sigmoid => of(&sigmoid),
            Pointwise::Tanh => of(&f32::tanh),
            Pointwise::HardSigmoid { slope, offset } => {
                of(&|x| (slope * x + offset).clamp(0.0, 1.0))
            }
            Pointwise::HardSwish => of(&|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            Pointwise::Affine { factor, offset } => {
                input.iter().map(|&x| factor * x + offset).collect()
            }
        }
    }

    /// f′(x) · g for every x of `input` and g of `output_gradient`. At a kink f′ is that of the flat side.
    pub fn input_gradient(self, input: &[f32], output_gradient: &[f32]) -> Vec<f32> {
        let pairs = input.iter().zip(output_gradient);
        let inside = |low: f32, high: f32| {
            move |(&x, &g): (&f32, &f32)| {
                if x > low && x < high { g } else { 0.0 }
            }
        };
        match self {
            Pointwise::Relu => pairs.map(inside(0.0, f32::INFINITY)).collect(),
            Pointwise::Clip { low, high } => pairs.map(inside(low, high)).collect(),
            Pointwise::Affine { factor, .. } => pairs.map(|(_, g)| factor * g).collect(),
            _ => pairs.map(|(&x, g)| self.slope(x) * g).collect(),
        }
    }

    /// f′(x).
    fn slope(self, x: f32) -> f32 {
        match self {
            Pointwise::Relu => f32::from(u8::from(x > 0.0)),
            Pointwise::LeakyRelu { slope } => {
                if x > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Pointwise::Clip { low, high } => f32::from(u8::from(x > low && x < high)),
            Pointwise::Sigmoid => sigmoid(x) * (1.0 - sigmoid(x)),
            Pointwise::Tanh => 1.0 - x.tanh().powi(2),
            Pointwise::HardSigmoid { slope, offset } => {
                let y = slope * x + offset;
                if y > 0.0 && y < 1.0 { slope } else { 0.0 }
            }
            Pointwise::HardSwish => match x {
                x if x <= -3.0 => 0.0,
                x if x >= 3.0 => 1.0,
                x => x / 3.0 + 0.5,
            },
            Pointwise::Affine { factor, .. } => factor,
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
