"""Feeds `tl-batch watch` with images, never further ahead than its queue holds, and samples its resident memory."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("TL_BATCH", ROOT / "target/release/tl-batch")
QUEUE = 256


def resident_kib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit("the watch died")


def main():
    wanted = int(sys.argv[1])
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    work = Path(tempfile.mkdtemp(prefix="tl-soak-", dir=memory))
    inbox, ready = work / "in", work / "ready"
    inbox.mkdir()
    ready.mkdir()
    shutil.copy(ROOT / "tests/data/small.onnx", work / "small.onnx")
    fit = f"{PROGRAM} --quiet fit {ROOT}/datasets/tiny -o m.onnx --model ./small.onnx --input-size 32 --epochs 20"
    subprocess.run(fit.split(), cwd=work, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Images of every format, one photograph in twenty, and one invalid file in fifty.
    small = [p.read_bytes() for p in sorted((ROOT / "tests/data/pictures").iterdir())]
    photos = [p.read_bytes() for p in sorted((ROOT / "datasets/tiny").rglob("*.jpg"))]

    def picture(number):
        if number % 50 == 49:
            return b"no picture"
        if number % 20 == 10:
            return photos[number // 20 % len(photos)]
        return small[number % len(small)]

    watch = subprocess.Popen(
        f"{PROGRAM} --quiet watch in m.onnx --delete --queue {QUEUE} --output seen.jsonl --rotate 1M".split(),
        cwd=work,
    )
    time.sleep(1)
    samples, sent, start = [], 0, time.monotonic()
    while sent < wanted:
        while len(os.listdir(inbox)) > QUEUE // 2:
            time.sleep(0.0005)
        for _ in range(16):
            if sent == wanted:
                break
            (ready / "next").write_bytes(picture(sent))
            os.rename(ready / "next", inbox / f"{sent:06}.jpg")
            sent += 1
            if sent % 1000 == 0:
                samples.append((sent, resident_kib(watch.pid), time.monotonic() - start))
    while os.listdir(inbox):
        time.sleep(0.01)
    end = resident_kib(watch.pid)
    seconds = time.monotonic() - start
    samples.append((sent, end, seconds))
    watch.send_signal(signal.SIGTERM)
    code = watch.wait()
    last = (work / "seen.jsonl").read_text().splitlines()[-1]
    files = sorted(p.name for p in work.glob("seen.jsonl*"))
    shutil.rmtree(work)
    lines = [f"{n},{kib},{s:.1f}\n" for n, kib, s in samples]
    (ROOT / "target/soak.csv").write_text("pictures,resident_kib,seconds\n" + "".join(lines))
    first = samples[0][1]
    print(f"{sent} images in {seconds:.0f} s ({sent / seconds:.0f} per second), exit code {code}")
    print(f"resident after 1,000: {first} KiB, at the end: {end} KiB ({100 * (end / first - 1):+.1f} %)")
    print(f"peak: {max(kib for _, kib, _ in samples)} KiB; files: {', '.join(files)}")
    print(f"last line: {last}")
    sys.exit(0 if code == 0 and end <= 1.05 * first else 1)


main()
