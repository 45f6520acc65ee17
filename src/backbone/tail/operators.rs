//! Operators between a classifier and an output.

/// Products of a matrix: with fixed weights they are dense layers.
pub(super) fn is_product(op: &str) -> bool {
    op.contains("MatMul") || op.contains("Gemm") || op == "Einsum"
}

pub(super) fn is_convolution(op: &str) -> bool {
    op.contains("Conv") && !op.contains("ConvTranspose")
}

/// Operators that change no value, or all in the same way.
pub(super) fn is_passing(op: &str) -> bool {
    matches!(
        op,
        "Identity"
            | "Dropout"
            | "Cast"
            | "CastLike"
            | "QuantizeLinear"
            | "DequantizeLinear"
            | "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Transpose"
            | "Slice"
            | "Gather"
            | "Split"
            | "Expand"
            | "Exp"
            | "Log"
            | "Neg"
    )
}

/// Activations and normalisations.
pub(super) fn is_bending(op: &str) -> bool {
    matches!(
        op,
        "Relu"
            | "LeakyRelu"
            | "PRelu"
            | "Clip"
            | "Elu"
            | "Selu"
            | "Celu"
            | "Gelu"
            | "FastGelu"
            | "QuickGelu"
            | "BiasGelu"
            | "Mish"
            | "HardSwish"
            | "HardSigmoid"
            | "Sigmoid"
            | "Tanh"
            | "Erf"
            | "Softplus"
            | "Softsign"
            | "ThresholdedRelu"
            | "BatchNormalization"
            | "LayerNormalization"
            | "RMSNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "LpNormalization"
    )
}
