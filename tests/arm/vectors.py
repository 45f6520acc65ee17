"""Counts the vector instructions of our kernels in what an emulator translated, hence ran: vectors.py LOG, of
`qemu -d in_asm`. Ends with 1 unless kernels multiply and add in vectors far more than one value at a time."""

import re
import sys

KERNEL = re.compile(r"IN: \S*engine4simd\d+(neon|portable)\S*3run")
# Four values at once: AArch64's .4s, ARMv7's q registers; and one at a time.
VECTOR = re.compile(r"\b(fmla|fmul|fadd)\s+v\d+\.4s|\b(vmla|vfma|vmul|vadd)\.f32\s+q")
SCALAR = re.compile(r"\b(fmadd|fmul|fadd)\s+s\d|\b(vmla|vfma|vmul|vadd)\.f32\s+s")

kernels = set()
vector = scalar = 0
inside = False
for line in open(sys.argv[1], errors="replace"):
    if line.startswith("IN:"):
        found = KERNEL.match(line)
        inside = found is not None
        if inside:
            kernels.add(line.strip())
    elif inside:
        vector += bool(VECTOR.search(line))
        scalar += bool(SCALAR.search(line))
print(f"{len(kernels)} kernels ran, with {vector} vector and {scalar} scalar multiplications and additions")
sys.exit(0 if len(kernels) >= 3 and vector > 100 and vector > 4 * scalar else 1)
