//! Why a network is not run.

/// What this crate itself refuses, and no operator of tract: found in the chain of a `TractError` by
/// `error.root_cause().downcast_ref()`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Windows that no map is made for; see [`check_windows`](crate::check_windows).
    #[error("the windows of `{node}` {problem}")]
    Windows {
        /// Name of the node.
        node: String,
        /// What is wrong with them: a clause that goes on from `the windows`.
        problem: String,
    },
    /// The packed weights of a region are too large.
    #[error("the weights of {region} take {bytes} bytes, which is more than {most}")]
    Weights {
        /// Name of the region's first output.
        region: String,
        /// Bytes that they take at most.
        bytes: u64,
        /// Bytes that were allowed.
        most: u64,
    },
    /// The system does not give the memory for the maps of a region.
    #[error("there is not enough memory for its maps")]
    Memory,
}
