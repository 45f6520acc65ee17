//! Computes the memory that a network needs before it is allocated.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::Conv;
use tract_onnx::tract_core::ops::konst::Const;

/// Peak bytes of the tensors between operators while `model` runs once, including the buffers of tract's convolutions.
/// Shapes that are not fixed count as nothing.
pub(super) fn tensor_bytes(model: &TypedModel) -> TractResult<u64> {
    let order = model.eval_order()?;
    let mut last_read: HashMap<OutletId, usize> = HashMap::new();
    for (step, &id) in order.iter().enumerate() {
        for &input in &model.node(id).inputs {
            last_read.insert(input, step);
        }
    }
    for &output in model.output_outlets()? {
        last_read.insert(output, usize::MAX);
    }
    let bytes = |outlet: OutletId| -> TractResult<u64> {
        let bytes = model.outlet_fact(outlet)?.mem_size().to_i64();
        Ok(bytes.map_or(0, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX)))
    };
    let (mut now, mut most) = (0_u64, 0_u64);
    for (step, &id) in order.iter().enumerate() {
        let node = model.node(id);
        if node.op_is::<Const>() {
            continue;
        }
        let mut gone = Vec::new();
        for slot in 0..node.outputs.len() {
            let made = OutletId::new(id, slot);
            now = now.saturating_add(bytes(made)?);
            if !last_read.contains_key(&made) {
                gone.push(made);
            }
        }
        most = most.max(now.saturating_add(patch_bytes(model, node)?));
        for &input in &node.inputs {
            let is_given = model.node(input.node).op_is::<Const>();
            if last_read.get(&input) == Some(&step) && !is_given && !gone.contains(&input) {
                gone.push(input);
            }
        }
        for outlet in gone {
            now = now.saturating_sub(bytes(outlet)?);
        }
    }
    Ok(most)
}

/// Bytes of the patches that tract copies for a convolution: all taps of all outputs.
fn patch_bytes(model: &TypedModel, node: &TypedNode) -> TractResult<u64> {
    let Some(op) = node.op_as::<Conv>() else {
        return Ok(0);
    };
    let output = model.outlet_fact(OutletId::new(node.id, 0))?;
    let (Some(shape), true) = (output.shape.as_concrete(), op.group < op.input_channels()) else {
        return Ok(0);
    };
    let taps = op.pool_spec.kernel_shape.iter();
    let depth = (op.input_channels() / op.group.max(1)) as u64;
    let depth = taps.fold(depth, |depth, &n| depth.saturating_mul(n as u64));
    let outputs = shape
        .iter()
        .fold(1_u64, |n, &dim| n.saturating_mul(dim as u64));
    let pixels = outputs / (op.output_channels().max(1) as u64);
    let size = output.datum_type.size_of() as u64;
    Ok(depth.saturating_mul(pixels).saturating_mul(size))
}

/// A clause that refuses an allocation of `bytes`, if this machine has less.
pub(super) fn refusal(bytes: u64) -> Option<String> {
    let free = free_bytes()?;
    (bytes > free).then(|| needs(bytes, free))
}

/// A clause that refuses an allocation of `bytes` where `free` are.
pub(super) fn needs(bytes: u64, free: u64) -> String {
    format!(
        "it needs {} of memory per worker, and {} are free; use a smaller --input-size or another backbone",
        gigabytes(bytes),
        gigabytes(free)
    )
}

/// Bytes in words: `11.5 GB`.
pub(crate) fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Memory that this process can still take: what the machine has free, or what a control group or a limit of its
/// addresses leaves, in bytes. `None` if the system does not report it.
pub(crate) fn free_bytes() -> Option<u64> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let machine = kilobytes(&text("/proc/meminfo"), "MemAvailable:");
    let groups = group_bytes(&text("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let addresses = address_bytes(&text("/proc/self/limits"), &text("/proc/self/status"));
    [machine, groups, addresses].into_iter().flatten().min()
}

/// A number of bytes that the system gives in kilobytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Memory left by the limits of this process's control groups, listed in `membership`, in the folder `root`.
fn group_bytes(membership: &str, root: &Path) -> Option<u64> {
    let number =
        |path: PathBuf| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    // File pages not used for a while are reclaimed when memory is needed.
    let given_up = |folder: &Path, name: &str| -> u64 {
        let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let line = statistics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    };
    let left = |folder: &Path, names: [&str; 3]| -> Option<u64> {
        let limit = number(folder.join(names[0]))?;
        let used = number(folder.join(names[1]))?;
        let used = used.saturating_sub(given_up(folder, names[2]));
        Some(limit.saturating_sub(used))
    };
    let mut least = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, names) = match kinds {
            "" => (
                root.to_owned(),
                ["memory.max", "memory.current", "inactive_file "],
            ),
            _ if kinds.split(',').any(|kind| kind == "memory") => (
                root.join("memory"),
                [
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    "total_inactive_file ",
                ],
            ),
            _ => continue,
        };
        // In a container the path may be one of the machine outside: then only the root is there.
        let folders = Path::new(path.trim_start_matches('/')).ancestors();
        for folder in folders {
            least = left(&root.join(folder), names)
                .into_iter()
                .chain(least)
                .min();
        }
    }
    least
}

/// What a limit of addresses leaves.
fn address_bytes(limits: &str, status: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kilobytes(status, "VmSize:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_read_as_linux_writes_it() {
        let text = "MemTotal:       24684212 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(23_000_000 * 1024));
        assert_eq!(kilobytes(text, "SwapTotal:"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax address space         1000000    unlimited  bytes\n";
        assert_eq!(
            address_bytes(limits, "VmSize:\t     100 kB\n"),
            Some(1_000_000 - 102_400)
        );
        let unlimited = limits.replace("1000000 ", "unlimited");
        assert_eq!(address_bytes(&unlimited, "VmSize:\t     100 kB\n"), None);
    }

    #[test]
    fn the_narrowest_control_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "5000\n");
        write("a/memory.current", "3000\n");
        write("a/memory.stat", "anon 1\ninactive_file 1000\n");
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "3000\n");
        assert_eq!(group_bytes("0::/a/b\n", root.path()), Some(3000));
        assert_eq!(group_bytes("0::/elsewhere\n", root.path()), None);
        write("memory/memory.limit_in_bytes", "700\n");
        write("memory/memory.usage_in_bytes", "600\n");
        let old = "9:name=systemd:/\n4:cpu,memory:/outside/of/it\n";
        assert_eq!(group_bytes(old, root.path()), Some(100));
    }

    #[test]
    fn bytes_are_written_as_people_say_them() {
        assert_eq!(gigabytes(11_520_000_000), "11.5 GB");
        assert_eq!(gigabytes(300_000_001), "301 MB");
    }

    #[test]
    fn what_no_machine_has_is_refused_with_the_figure() {
        if free_bytes().is_some() {
            let refused = refusal(u64::MAX / 2).unwrap();
            assert!(refused.contains("9223372036.9 GB"), "{refused}");
        }
        assert_eq!(refusal(0), None);
    }
}
