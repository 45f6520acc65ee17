"""Turns picture files into input tensors by the [preprocess] table of a model card, with Pillow and numpy."""

import math

import numpy as np
from PIL import Image, ImageOps

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def open_rgb(path, background):
    """Returns the first frame as 8-bit RGB: turned upright by EXIF, alpha composited on `background`."""
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode.startswith("I"):
        grey = (np.asarray(picture).astype(np.uint32) + 128) // 257
        picture = Image.fromarray(grey.astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        canvas = Image.new("RGBA", picture.size, (*background, 255))
        picture = Image.alpha_composite(canvas, picture)
    return picture.convert("RGB")


def resize(picture, rule, resampling, width, height, background, crop_pct=None):
    """Brings a picture to `width` x `height` pixels.

    `stretch` changes the proportions; `crop` takes the largest centred part that has the right proportions, or, with
    `crop_pct`, resizes the shorter side to that much more and crops whole pixels, as torchvision does;
    `pad` fits the whole picture in and centres it on `background`.
    """
    if rule == "stretch":
        return picture.resize((width, height), resampling)
    if rule == "crop" and crop_pct is not None:
        short, long = math.floor(width / crop_pct + 1e-6), max(picture.size)
        long = int(short * long / min(picture.size))
        resized = (long, short) if picture.width > picture.height else (short, long)
        left, top = round((resized[0] - width) / 2), round((resized[1] - height) / 2)
        return picture.resize(resized, resampling).crop((left, top, left + width, top + height))
    if rule == "crop":
        factor = min(picture.width / width, picture.height / height)
        part_width, part_height = width * factor, height * factor
        left, top = (picture.width - part_width) / 2, (picture.height - part_height) / 2
        box = (left, top, left + part_width, top + part_height)
        return picture.resize((width, height), resampling, box=box)
    if rule == "pad":
        factor = min(width / picture.width, height / picture.height)
        inner_width = max(1, round(picture.width * factor))
        inner_height = max(1, round(picture.height * factor))
        canvas = Image.new("RGB", (width, height), tuple(background))
        inner = picture.resize((inner_width, inner_height), resampling)
        canvas.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
        return canvas
    raise SystemExit(f"no resize rule is named {rule}")


def input_tensor(path, preprocess, width, height):
    """Returns float32 [1, 3, height, width] or [1, height, width, 3], as the card's layout says."""
    background = tuple(preprocess.get("background", (255, 255, 255)))
    picture = open_rgb(path, background)
    resampling = FILTERS[preprocess["filter"]]
    crop_pct = preprocess.get("crop-pct")
    picture = resize(picture, preprocess["resize"], resampling, width, height, background, crop_pct)
    values = np.asarray(picture, np.float32)
    if preprocess["order"] == "bgr":
        values = values[:, :, ::-1]
    mean = np.asarray(preprocess["mean"], np.float32)
    std = np.asarray(preprocess["std"], np.float32)
    values = (values * np.float32(preprocess["scale"]) - mean) / std
    if preprocess["layout"] == "nchw":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[np.newaxis], np.float32)
