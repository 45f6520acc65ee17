"""Writes pictures in many formats, and what Pillow makes of them.

    pillow_reference.py OUT PHOTO

OUT/cases.json lists two kinds of cases. `decode`: a file and its pixels after decoding. `resize`: a file,
a rule, a filter and a size, and the pixels after resizing. Pixels are raw bytes, [height, width, 3].
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from preprocess import FILTERS, open_rgb, resize

BACKGROUND = (250, 120, 10)
ORIENTATION = 0x0112


def drawing(width, height):
    """Returns RGB uint8 [height, width, 3] with slow ramps, rings, hard edges and a little noise."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    rings = 127 + 120 * np.sin((x**2 + y**2) / (4 * (width + height)))
    planes = [255 * x / width, rings, 255 * y / height]
    picture = np.stack(planes, axis=2)
    picture[height // 3 : height // 2, width // 4 : width // 2] = (255, 0, 0)
    picture[height // 2 :, -width // 3 : -width // 4] = (0, 0, 0)
    picture += np.random.default_rng(1).normal(0, 3, picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


def adobe_transform(jpeg, value):
    """Returns a JPEG with another transform in its Adobe segment; without the segment if `value` is None."""
    start = jpeg.index(b"\xff\xee")
    length = int.from_bytes(jpeg[start + 2 : start + 4], "big")
    if value is None:
        return jpeg[:start] + jpeg[start + 2 + length :]
    at = start + 2 + length - 1
    return jpeg[:at] + bytes([value]) + jpeg[at + 1 :]


def save(folder, name, picture, **options):
    picture.save(folder / name, **options)
    return name


def write_pictures(folder):
    """Writes one picture a format and kind of pixel; yields their names."""
    rgb = Image.fromarray(drawing(117, 83))
    grey = rgb.convert("L")
    alpha = Image.fromarray(drawing(117, 83)[:, ::-1, 1].copy())
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey_alpha = Image.merge("LA", (grey, alpha))
    wide = np.asarray(grey).astype(np.uint16) * 257 + np.arange(117, dtype=np.uint16)

    for name, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
        yield save(folder, f"jpeg-{name}.jpg", rgb, quality=90, subsampling=subsampling)
    yield save(folder, "jpeg-progressive.jpg", rgb, quality=90, subsampling=0, progressive=True)
    yield save(folder, "jpeg-grey.jpg", grey, quality=90)
    yield save(folder, "jpeg-rgb.jpg", rgb, quality=90, keep_rgb=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        yield save(folder, f"exif-{orientation}.jpg", rgb, quality=90, subsampling=0, exif=exif)
        yield save(folder, f"exif-{orientation}.png", rgb, exif=exif)
        yield save(folder, f"exif-{orientation}.webp", rgb, lossless=True, exif=exif)
        yield save(folder, f"exif-{orientation}.tif", rgb, exif=exif)

    cmyk = rgb.convert("CMYK")
    cmyk = Image.merge("CMYK", (*cmyk.split()[:3], alpha.point(lambda v: v // 3)))
    stream = io.BytesIO()
    cmyk.save(stream, "jpeg", quality=95, subsampling=0)
    for name, value in [("cmyk", 0), ("ycck", 2), ("cmyk-plain", None)]:
        (folder / f"jpeg-{name}.jpg").write_bytes(adobe_transform(stream.getvalue(), value))
        yield f"jpeg-{name}.jpg"

    yield save(folder, "png-rgb.png", rgb)
    yield save(folder, "png-grey.png", grey)
    yield save(folder, "png-grey-16.png", Image.fromarray(wide))
    yield save(folder, "png-rgba.png", rgba)
    yield save(folder, "png-grey-alpha.png", grey_alpha)
    yield save(folder, "png-palette.png", rgb.quantize(200))
    yield save(folder, "png-palette-alpha.png", rgba.quantize(200, method=Image.Quantize.FASTOCTREE))
    yield save(folder, "png-palette-4.png", rgb.quantize(4), bits=2)
    yield save(folder, "png-black-white.png", rgb.convert("1"))
    yield save(folder, "png-grey-key.png", grey, transparency=200)

    yield save(folder, "gif.gif", rgb.quantize(256))
    yield save(folder, "gif-transparent.gif", rgb.quantize(64), transparency=3)
    yield save(folder, "gif-frames.gif", rgb, save_all=True, append_images=[rgb.rotate(90)], duration=50)
    yield save(folder, "webp-lossless.webp", rgb, lossless=True)
    yield save(folder, "webp-lossy.webp", rgb, quality=90)
    yield save(folder, "webp-alpha.webp", rgba, lossless=True, exact=True)
    yield save(folder, "webp-frames.webp", rgb, lossless=True, save_all=True, append_images=[rgb.rotate(90)])
    yield save(folder, "bmp.bmp", rgb)
    yield save(folder, "bmp-grey.bmp", grey)
    yield save(folder, "bmp-palette.bmp", rgb.quantize(200))
    yield save(folder, "bmp-black-white.bmp", rgb.convert("1"))
    for compression in ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]:
        yield save(folder, f"tiff-{compression}.tif", rgb, compression=compression)
    yield save(folder, "tiff-jpeg.tif", rgb, compression="jpeg", quality=95)
    yield save(folder, "tiff-grey.tif", grey)
    yield save(folder, "tiff-grey-16.tif", Image.fromarray(wide))
    yield save(folder, "tiff-rgba.tif", rgba)
    yield save(folder, "tiff-cmyk.tif", cmyk)
    yield save(folder, "tiff-palette.tif", rgb.quantize(200))
    yield save(folder, "tiff-black-white.tif", rgb.convert("1"))


def resize_cases(folder, photo):
    """Yields a file, a rule, a filter and a size: reductions, enlargements, odd sizes, both proportions."""
    drawn = save(folder, "drawing.png", Image.fromarray(drawing(301, 233)))
    tall = save(folder, "tall.png", Image.fromarray(drawing(67, 211)))
    small = save(folder, "small.png", Image.fromarray(drawing(19, 13)))
    line = save(folder, "line.png", Image.fromarray(drawing(1000, 12)[:1].copy()))
    photo = save(folder, "photo.png", open_rgb(photo, BACKGROUND))
    for rule in ["stretch", "crop", "pad"]:
        for resampling in FILTERS:
            for source in [drawn, tall, small, line, photo]:
                for width, height in [(224, 224), (97, 61), (32, 75), (301, 233), (5, 4)]:
                    yield source, rule, resampling, width, height, None
    for resampling in ["bilinear", "bicubic", "lanczos"]:
        for source in [drawn, tall, small, photo]:
            for side, share in [(224, 224 / 257), (224, 0.9), (96, 0.875), (61, 0.95), (32, 1.0)]:
                yield source, "crop", resampling, side, side, share


def record(folder, number, picture, **facts):
    pixels = f"{number}.rgb"
    (folder / pixels).write_bytes(picture.tobytes())
    return {"pixels": pixels, "width": picture.width, "height": picture.height, **facts}


def main():
    folder = Path(sys.argv[1])
    decode = [
        record(folder, f"decode-{number}", open_rgb(folder / name, BACKGROUND), file=name)
        for number, name in enumerate(write_pictures(folder))
    ]
    scaled = []
    for number, (name, rule, resampling, width, height, share) in enumerate(resize_cases(folder, sys.argv[2])):
        picture = open_rgb(folder / name, BACKGROUND)
        picture = resize(picture, rule, FILTERS[resampling], width, height, BACKGROUND, share)
        facts = {"file": name, "resize": rule, "filter": resampling, "crop_pct": share}
        scaled.append(record(folder, f"resize-{number}", picture, **facts))
    (folder / "cases.json").write_text(json.dumps({"decode": decode, "resize": scaled}))


if __name__ == "__main__":
    main()
