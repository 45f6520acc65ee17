"""What Pillow makes of a picture in the colour operations of RandAugment, with torchvision's ranges.

    rand_augment.py OUT PHOTO

OUT/plain.rgb has the picture, OUT/cases.json the operations, strengths from -1 to 1, and files of pixels after
them. Pixels are raw bytes, [height, width, 3].
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps


def results(picture):
    """Yields operation, strength and result."""
    for strength in (-1.0, -0.45, 0.3, 1.0):
        for name in ("Brightness", "Color", "Contrast", "Sharpness"):
            yield name, strength, getattr(ImageEnhance, name)(picture).enhance(1 + 0.9 * strength)
    for strength in (0.3, 0.6, 1.0):
        yield "Posterize", strength, ImageOps.posterize(picture, 8 - round(4 * strength))
        yield "Solarize", strength, ImageOps.solarize(picture, 255 * (1 - strength))
    yield "AutoContrast", 1.0, ImageOps.autocontrast(picture)
    yield "Equalize", 1.0, ImageOps.equalize(picture)


def main():
    out, photo = Path(sys.argv[1]), sys.argv[2]
    # Few contrasts, so that stretching does something.
    picture = Image.open(photo).convert("RGB").resize((97, 61)).point(lambda v: 30 + v * 3 // 4)
    (out / "plain.rgb").write_bytes(picture.tobytes())
    cases = []
    for number, (operation, strength, result) in enumerate(results(picture)):
        (out / f"{number}.rgb").write_bytes(result.tobytes())
        cases.append({"operation": operation, "strength": strength, "pixels": f"{number}.rgb"})
    (out / "cases.json").write_text(json.dumps({"width": 97, "height": 61, "cases": cases}))


main()
