//! Attention of many heads over tokens `[N, T, D]`.

use crate::error::Result;
use crate::graph::{Attribute, Graph};
use crate::safetensors::Tensor;
use crate::vit::Turning;

/// The parts of an attention that its weights do not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads<'a> {
    pub count: usize,
    /// Of the normalisation of queries and keys, where there is one.
    pub epsilon: f32,
    /// How queries and keys are turned, where they are.
    pub turning: Option<&'a Turning>,
}

impl Graph<'_> {
    /// Self-attention with the weights `name.qkv`, `name.proj`, and whatever else of timm's attention there is. The
    /// heads divide the width.
    pub fn self_attention(&mut self, x: &str, heads: Heads, name: &str) -> Result<String> {
        let ([q, k, v], width) = match self.weights.has(&format!("{name}.q_proj.weight")) {
            true => {
                let [total, width] = self.weights.shape(&format!("{name}.q_proj.weight"))?;
                if total != width {
                    let problem = format!("`{name}.q_proj` makes {total} values of {width}");
                    return Err(self.weights.mismatch(problem));
                }
                let mut part = |part: &str| self.linear(x, &format!("{name}.{part}"));
                ([part("q_proj")?, part("k_proj")?, part("v_proj")?], width)
            }
            false => self.queries_keys_values(x, name)?,
        };
        let mut q = self.heads_first(&q, heads.count, width);
        let mut k = self.heads_first(&k, heads.count, width);
        let v = self.heads_first(&v, heads.count, width);
        for (tensor, norm) in [(&mut q, "q_norm"), (&mut k, "k_norm")] {
            let norm = format!("{name}.{norm}");
            if self.weights.has_module(&norm) {
                *tensor = self.layer_norm(tensor, heads.epsilon, &norm)?;
            }
        }
        if let Some(turning) = heads.turning {
            q = self.turned(&q, turning, &format!("{name}.q.turned"));
            k = self.turned(&k, turning, &format!("{name}.k.turned"));
        }
        let mut mixed = self.mixed(&q, &k, &v, width, heads.count, name);
        let norm = format!("{name}.norm");
        if self.weights.has_module(&norm) {
            mixed = self.layer_norm(&mixed, heads.epsilon, &norm)?;
        }
        self.linear(&mixed, &format!("{name}.proj"))
    }

    /// Queries, keys and values by one dense layer, whose bias may leave out the keys; and their width.
    fn queries_keys_values(&mut self, x: &str, name: &str) -> Result<([String; 3], usize)> {
        let whole = format!("{name}.qkv");
        let [total, width] = self.weights.shape(&format!("{whole}.weight"))?;
        if total != 3 * width {
            let problem = format!("`{whole}` makes {total} values of {width}");
            return Err(self.weights.mismatch(problem));
        }
        let mut qkv = self.linear(x, &whole)?;
        let biases = ["q_bias", "v_bias"].map(|part| format!("{name}.{part}"));
        if self.weights.has(&biases[0]) {
            let [q, v] = [
                self.weights.read(&biases[0])?,
                self.weights.read(&biases[1])?,
            ];
            if q.values.len() != width || v.values.len() != width {
                let problem = format!("`{}` has another length than {width}", biases[0]);
                return Err(self.weights.mismatch(problem));
            }
            self.count(2 * width);
            let values = [q.values, vec![0.0; width], v.values].concat();
            let dims = vec![3 * width];
            let bias = self.constant(&format!("{whole}.bias"), Tensor { dims, values });
            qkv = self.add(&qkv, &bias, &format!("{whole}.add"));
        }
        let parts = ["q", "k", "v"].map(|part| format!("{name}.{part}"));
        self.split(&qkv, &[width; 3], -1, &parts);
        Ok((parts, width))
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
