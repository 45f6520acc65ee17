"""Writes the pictures of tests/data/pictures: kinds of files that the test itself cannot encode.

    make_pictures.py OUT

All show `clean.png`. Needs Pillow, and `jpegtran` of libjpeg-turbo for arithmetic coding. The files are kept
in the repository: another version of Pillow may write other bytes.
"""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from odd_jpegs import JFIF, adobe, write_jpeg
from odd_pictures import chunk
from pillow_reference import adobe_transform

WIDTH, HEIGHT = 48, 36


def drawing():
    """Returns RGB uint8 [height, width, 3]: slow ramps and one red rectangle."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([5 * x, 7 * y, 2 * x + 3 * y], axis=2)
    picture[6:14, 8:24] = (220, 30, 30)
    return picture.astype(np.uint8)


def interlaced_png(pixels):
    """Returns an Adam7 PNG of RGB uint8 [height, width, 3]; every line has filter 0."""
    height, width, _ = pixels.shape
    lines = b""
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        for line in pixels[y0::dy, x0::dx]:
            lines += b"\0" + line.tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def main():
    folder = Path(sys.argv[1])
    rgb = Image.fromarray(drawing())
    turned = rgb.rotate(180)

    def save(name, picture, **options):
        picture.save(folder / name, **options)

    save("clean.png", rgb, optimize=True)
    save("baseline.jpg", rgb, quality=95, subsampling=0)
    save("progressive.jpg", rgb, quality=95, subsampling=0, progressive=True)
    save("subsampled.jpg", rgb, quality=95, subsampling=2)
    (folder / "arithmetic.jpg").write_bytes(
        subprocess.run(
            ["jpegtran", "-arithmetic", folder / "baseline.jpg"], check=True, capture_output=True
        ).stdout
    )
    usual = {"ids": [1, 2, 3], "restart": 0, "progressive": False, "extended": False, "head": JFIF, "fill": 0, "step": 2}
    luma_chroma = [np.asarray(p, float) for p in rgb.convert("YCbCr").split()]
    red_green_blue = [np.asarray(p, float) for p in rgb.split()]
    even, together, apart = [(1, 1)] * 3, [[0, 1, 2]], [[0], [1], [2]]
    for name, planes, samplings, scans, other in [
        ("scans-apart", luma_chroma, [(2, 2), (1, 1), (1, 1)], apart, {}),
        ("scans-apart-restarts", luma_chroma, even, apart, {"restart": 2}),
        ("chroma-finer", luma_chroma, [(1, 1), (2, 1), (2, 1)], together, {}),
        ("factor-3", luma_chroma, [(3, 1), (1, 1), (1, 1)], together, {}),
        ("jfif-adobe-rgb", luma_chroma, even, together, {"head": JFIF + adobe(0)}),
        ("adobe-rgb", red_green_blue, even, together, {"head": adobe(0)}),
    ]:
        (folder / f"{name}.jpg").write_bytes(write_jpeg(planes, samplings, scans, **(usual | other)))
    # Adobe's files hold inverted inks, and YCCK the YCbCr of what is held; Pillow inverts what it saves.
    no_black = Image.new("L", rgb.size, 0)
    held = ImageChops.invert(rgb).convert("YCbCr")
    ycck = Image.merge("CMYK", (*map(ImageChops.invert, held.split()), no_black))
    for name, inks, transform in [("cmyk", rgb.convert("CMYK"), 0), ("ycck", ycck, 2)]:
        stream = io.BytesIO()
        inks.save(stream, "jpeg", quality=95, subsampling=0)
        (folder / f"{name}.jpg").write_bytes(adobe_transform(stream.getvalue(), transform))
    (folder / "interlaced.png").write_bytes(interlaced_png(drawing()))
    save("animated.png", rgb, save_all=True, append_images=[turned], duration=50)
    palette = rgb.quantize(256)
    save("palette.png", palette, optimize=True)
    save("palette-alpha.png", palette, transparency=bytes([255] * 256), optimize=True)
    save("animated.gif", rgb, save_all=True, append_images=[turned], duration=50)
    save("animated.webp", rgb, lossless=True, save_all=True, append_images=[turned], duration=50)
    save("lossless.webp", rgb, lossless=True)
    stream = io.BytesIO()
    rgb.save(stream, "webp", quality=95)
    alpha = 0x10
    size = struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
    chunks = b"WEBPVP8X" + struct.pack("<II", 10, alpha) + size + stream.getvalue()[12:]
    (folder / "alpha-flag.webp").write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)


if __name__ == "__main__":
    main()
