//! The reference input (a built-in synthetic image), and the kind of machine that a model runs on. Pure.

use crate::backbone::kernels;
use crate::pixels::Picture;

/// Width and height of the reference input, chosen so that every resize rule has an effect.
const WIDTH: u32 = 301;
const HEIGHT: u32 = 233;

/// The reference input, identical in every copy of the program: colour ramps, rings and noise, so that all parts of a
/// network respond.
pub fn probe_picture() -> Picture {
    let mut noise: u32 = 0x2545_f491;
    let mut rgb = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            // Marsaglia's 32-bit xorshift ("Xorshift RNGs", 2003), shifts 13, 17, 5.
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let (dx, dy) = (x as i32 - 150, y as i32 - 116);
            let ring = ((dx * dx + dy * dy) / 160) as u32 % 256;
            rgb.push((x * 255 / WIDTH) as u8);
            rgb.push(ring as u8);
            rgb.push(((y * 192 / HEIGHT) + (noise >> 26)) as u8);
        }
    }
    Picture {
        width: WIDTH,
        height: HEIGHT,
        rgb,
        warnings: Vec::new(),
    }
}

/// The kind of this machine: processor family, the instruction sets that decide which kernels of tract run,
/// and the kernels of the engine.
///
/// On machines of the same kind, the same build gives the same bits.
pub fn machine_kind() -> String {
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        allow(unused_mut)
    )]
    let mut kind = vec![std::env::consts::ARCH, kernels()];
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            kind.push("avx512f");
        }
        if std::is_x86_feature_detected!("avx2") {
            kind.push("avx2");
        }
        if std::is_x86_feature_detected!("fma") {
            kind.push("fma");
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("fp16") {
        kind.push("fp16");
    }
    kind.join(" ")
}
