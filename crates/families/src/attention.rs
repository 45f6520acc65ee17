//! Attention of many heads over tokens `[N, T, D]`.

use crate::error::Result;
use crate::graph::{Attribute, Graph};

/// The parts of an attention that its weights do not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub count: usize,
    /// Of the normalisation of queries and keys, where there is one.
    pub epsilon: f32,
}

impl Graph<'_> {
    /// Self-attention with the weights `name.qkv`, `name.proj`, and whatever else of timm's attention there is. The
    /// heads divide the width.
    pub fn self_attention(&mut self, x: &str, heads: Heads, name: &str) -> Result<String> {
        let [total, width] = self.weights.shape(&format!("{name}.qkv.weight"))?;
        if total != 3 * width {
            let problem = format!("`{name}.qkv` makes {total} values of {width}");
            return Err(self.weights.mismatch(problem));
        }
        let qkv = self.linear(x, &format!("{name}.qkv"))?;
        let parts = ["q", "k", "v"].map(|part| format!("{name}.{part}"));
        self.split(&qkv, &[width; 3], -1, &parts);
        let [q, k, v] = parts;
        let mut q = self.heads_first(&q, heads.count, width);
        let mut k = self.heads_first(&k, heads.count, width);
        let v = self.heads_first(&v, heads.count, width);
        for (tensor, norm) in [(&mut q, "q_norm"), (&mut k, "k_norm")] {
            let norm = format!("{name}.{norm}");
            if self.weights.has_module(&norm) {
                *tensor = self.layer_norm(tensor, heads.epsilon, &norm)?;
            }
        }
        let mut mixed = self.mixed(&q, &k, &v, width, heads.count, name);
        let norm = format!("{name}.norm");
        if self.weights.has_module(&norm) {
            mixed = self.layer_norm(&mixed, heads.epsilon, &norm)?;
        }
        self.linear(&mixed, &format!("{name}.proj"))
    }

    /// `[N, T, D]` as `[N, heads, T, D / heads]`.
    pub fn heads_first(&mut self, x: &str, heads: usize, width: usize) -> String {
        let shape = [0, 0, heads as i64, (width / heads) as i64];
        let apart = self.reshape(x, &shape, &format!("{x}.heads"));
        self.transpose(&apart, &[0, 2, 1, 3], &format!("{x}.heads_first"))
    }

    /// The values `v`, mixed by the likeness of `q` and `k`, all `[N, heads, T, D / heads]`; as `[N, T, D]`.
    pub fn mixed(
        &mut self,
        q: &str,
        k: &str,
        v: &str,
        width: usize,
        heads: usize,
        name: &str,
    ) -> String {
        let per_head = width / heads;
        let scale = self.number(
            &format!("attention_scale_{per_head}"),
            (per_head as f32).powf(-0.5),
        );
        let q = self.node("Mul", &[q, &scale], &format!("{name}.scaled"), &[]);
        let k = self.transpose(k, &[0, 1, 3, 2], &format!("{name}.k_transposed"));
        let likeness = self.node("MatMul", &[&q, &k], &format!("{name}.likeness"), &[]);
        let axis = [("axis", Attribute::Int(-1))];
        let shares = self.node("Softmax", &[&likeness], &format!("{name}.softmax"), &axis);
        let mixed = self.node("MatMul", &[&shares, v], &format!("{name}.mixed"), &[]);
        let tokens_first = self.transpose(&mixed, &[0, 2, 1, 3], &format!("{name}.tokens_first"));
        self.reshape(
            &tokens_first,
            &[0, 0, width as i64],
            &format!("{name}.joined"),
        )
    }
}
