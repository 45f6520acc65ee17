"""Writes PNG, BMP, GIF, TIFF and WebP files of every kind that is not rare, and what Pillow makes of them.

    odd_pictures.py OUT COUNT SEED

OUT/cases.json lists file, width and height; OUT/pixels holds Pillow's RGB of all files one behind the other, upright
and on white, [height, width, 3]. A file that Pillow refuses is listed with width 0.
"""

import io
import json
import random
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from preprocess import open_rgb

WHITE = (255, 255, 255)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def ramps(chance, width, height, count, largest=255):
    """Returns integers [height, width, count] of ramps, 0 to `largest`."""
    y, x = np.mgrid[:height, :width]
    planes = [(chance.randint(0, 99) + chance.randint(1, 9) * x + chance.randint(1, 9) * y) * (largest // 255 or 1) for _ in range(count)]
    return np.stack(planes, 2) % (largest + 1)


def pack(samples, bits):
    """Returns samples [height, values] as rows of bytes, highest bit first; 16 bits big-endian."""
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    if bits == 8:
        return [row.astype(np.uint8).tobytes() for row in samples]
    digits = (samples[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in digits]


def palette(chance, count):
    return np.array([[chance.randint(0, 255) for _ in range(3)] for _ in range(count)], np.uint8)


def exif_block(chance, orientation):
    """Returns a TIFF block with an orientation of one of the types that Pillow reads, at times with a second one."""
    order = chance.choice("<>")
    kind, form = chance.choice([(3, "H"), (3, "H"), (4, "L"), (6, "b"), (8, "h"), (9, "l"), (13, "L")])
    value = struct.pack(order + form, orientation).ljust(4, b"\0")
    before = struct.pack(order + "HHL4s", 0x10F, 2, 4, b"abc\0")
    field = struct.pack(order + "HHL", 0x112, kind, 1) + value
    start = chance.choice([8, 8, 12])
    number = chance.choice([b"*\0", b"\0*"]) if chance.random() < 0.2 else None
    head = (b"II" if order == "<" else b"MM") + (number or (b"*\0" if order == "<" else b"\0*"))
    again = field[:8] + struct.pack(order + "HH", 3, 0) if chance.random() < 0.2 else b""
    fields = struct.pack(order + "H", 2 + len(again) // 12) + before + field + again
    return (head + struct.pack(order + "L", start)).ljust(start, b"\0") + fields + b"\0" * 4


def xmp(orientation):
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


def png(chance, width, height):
    colour, bits = chance.choice([(0, b) for b in (1, 2, 4, 8, 16)] + [(3, b) for b in (1, 2, 4, 8)] + [(c, b) for c in (2, 4, 6) for b in (8, 16)])
    count = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    pixels = ramps(chance, width, height, count, 2**bits - 1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    tail = b""
    if colour == 3:
        head += chunk(b"PLTE", palette(chance, 2**bits).tobytes())
        if chance.random() < 0.5:
            head += chunk(b"tRNS", bytes(chance.choice([0, 128, 255]) for _ in range(chance.randint(1, 2**bits))))
    elif colour in (0, 2) and bits == 8 and chance.random() < 0.3:
        head += chunk(b"tRNS", struct.pack(f">{count}H", *pixels[0, 0]))
    if chance.random() < 0.5:
        orientation = chance.randint(1, 8)
        block = exif_block(chance, orientation)
        digits = b"\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n"
        data = chance.choice(
            [
                chunk(b"eXIf", block),
                chunk(b"tEXt", b"Raw profile type exif\0" + digits),
                chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits)),
                chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(orientation)),
                chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0\0" + zlib.compress(xmp(orientation))),
                chunk(b"tEXt", b"XML:com.adobe.xmp\0" + xmp(orientation)),
                chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(xmp(orientation))),
            ]
        )
        if chance.random() < 0.5:
            head += data
        else:
            tail += data
    lines = b"".join(b"\0" + row for row in pack(pixels.reshape(height, -1), bits))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + tail + chunk(b"IEND", b"")


def run_lengths(indices, four_bits):
    """Returns rows [height, width] from the bottom up as RLE8 or RLE4, with runs and literal parts."""
    out = b""
    for row in indices[::-1].tolist():
        at = 0
        while at < len(row):
            part = row[at : at + 6]
            if len(part) >= 4 and at % 3:
                digits = bytes(a << 4 | b for a, b in zip(part[::2], part[1::2] + [0])) if four_bits else bytes(part)
                out += bytes([0, len(part)]) + digits + b"\0" * (len(digits) % 2)
                at += len(part)
            else:
                run = next((i for i, v in enumerate(row[at:]) if v != row[at]), len(row) - at)
                out += bytes([run, row[at] * 17 if four_bits else row[at]])
                at += run
        out += b"\0\0"
    return out + b"\0\1"


def bmp(chance, width, height):
    bits, compression = chance.choice([(1, 0), (4, 0), (8, 0), (16, 0), (16, 3), (24, 0), (32, 0), (32, 3), (8, 1), (4, 2)])
    size = chance.choice([40, 40, 108, 124] + ([12, 64] if compression == 0 and bits in (1, 4, 8, 24) else []))
    planes = chance.choice([0, 1, 1, 1])
    downward = compression in (0, 3) and size > 12 and chance.random() < 0.3
    colours = palette(chance, 2**bits) if bits <= 8 else b""
    masks = ()
    if bits <= 8:
        indices = ramps(chance, width, height, 1, 2**bits - 1)[:, :, 0]
        rows = pack(indices, bits)
    elif bits == 16:
        rows = [row.astype("<u2").tobytes() for row in ramps(chance, width, height, 1, 32767)[:, :, 0]]
        masks = chance.choice([(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)])
    else:
        rows = [row.astype(np.uint8).tobytes() for row in ramps(chance, width, height, bits // 8)]
        masks = chance.choice([(0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000)] if size > 56 else [(0xFF0000, 0xFF00, 0xFF)])
    rows = [row + b"\0" * (-len(row) % 4) for row in rows]
    pixels = b"".join(rows if downward else rows[::-1])
    if compression in (1, 2):
        pixels = run_lengths(indices, compression == 2)
    alpha = 0xFF000000 if masks == (0xFF, 0xFF00, 0xFF0000) else chance.choice([0, 0xFF000000])
    if size == 12:
        header = struct.pack("<IHHHH", 12, width, height, planes, bits)
        table = b"".join(bytes(c[::-1]) for c in colours)
    else:
        signed = -height if downward else height
        used = chance.choice([0, len(colours)]) if bits <= 8 else 0
        header = struct.pack("<IiiHHIIiiII", size, width, signed, planes, bits, compression, len(pixels), 2835, 2835, used, 0)
        if compression == 3:
            header += struct.pack("<3I", *masks)
            if size > 52:
                header += struct.pack("<I", alpha if bits == 32 else 0)
        header = header.ljust(size, b"\0")
        table = b"".join(bytes(c[::-1]) + b"\0" for c in colours)
    reserved = bytes(chance.randint(0, 255) for _ in range(4)) if chance.random() < 0.3 else b"\0" * 4
    gap = b"\0" * chance.choice([0, 0, 4])
    offset = 14 + len(header) + len(table) + len(gap)
    stated = 0 if not gap and chance.random() < 0.1 else offset
    return b"BM" + struct.pack("<I4sI", offset + len(pixels), reserved, stated) + header + table + gap + pixels


def lzw(indices, bits):
    """Returns indices as GIF's LZW that clears its table before codes grow."""
    clear, width = 1 << bits, bits + 1
    held, count, out = 0, 0, bytearray()

    def put(code):
        nonlocal held, count
        held |= code << count
        count += width
        while count >= 8:
            out.append(held & 0xFF)
            held >>= 8
            count -= 8

    for number, index in enumerate(indices):
        if number % (clear - 2) == 0:
            put(clear)
        put(index)
    put(clear + 1)
    out.append(held & 0xFF)
    blocks = [bytes(out[i : i + 255]) for i in range(0, len(out), 255)]
    return bytes([bits]) + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0"


def gif(chance, width, height):
    bits = chance.randint(2, 6)

    def frame(width, height, left, top):
        indices = ramps(chance, width, height, 1, 2**bits - 1)[:, :, 0]
        flags, table = 0, b""
        if own or chance.random() < 0.3:
            flags, table = 0x80 | (bits - 1), palette(chance, 2**bits).tobytes()
        if chance.random() < 0.3:
            flags |= 0x40
            indices = np.concatenate([indices[a::b] for a, b in [(0, 8), (4, 8), (2, 4), (1, 2)]])
        control = b""
        if chance.random() < 0.7:
            control = b"!\xf9\4" + bytes([chance.choice([0, 1, 4, 5, 8, 9, 12]), 5, 0, chance.randint(0, 2**bits - 1), 0])
        place = struct.pack("<4HB", left, top, width, height, flags)
        return control + b"," + place + table + lzw(indices.reshape(-1).tolist(), bits)

    own = chance.random() < 0.3
    screen = (width, height)
    left, top = 0, 0
    kind = chance.choice(["whole", "smaller frame", "larger frame", "beyond", "no screen"])
    if kind == "smaller frame":
        screen = (width + chance.randint(0, 20), height + chance.randint(1, 20))
    elif kind == "larger frame":
        screen = (max(1, width // 2), max(1, height // 3))
    elif kind == "no screen":
        screen = (0, 0)
    if kind in ("smaller frame", "beyond"):
        left, top = chance.randint(0, 20), chance.randint(0, 20)
    # Pixels may name colours after the end of the palette.
    known = bits - 1 if chance.random() < 0.2 else bits
    flags, table = (0, b"") if own else (0x80 | (known - 1), palette(chance, 2**known).tobytes())
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, flags, chance.randint(0, 2**bits - 1), 0) + table
    extra = chance.choice([b"", b"!\xfe\5hello\0", b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"])
    frames = frame(width, height, left, top)
    if chance.random() < 0.3:
        frames += frame(width, height, 0, 0)
    return head + extra + frames + b";"


def with_predictor(values, bits):
    """Returns samples [height, width, count] as differences from their left neighbours."""
    return np.concatenate([values[:, :1], np.diff(values.astype(np.int64), axis=1)], 1) % 2**bits


def pack_bits(data):
    return b"".join(bytes([len(part) - 1]) + part for part in (data[i : i + 100] for i in range(0, len(data), 100)))


def jpeg_of(chance, part, photometric):
    """Returns samples [height, width, count] as a JPEG whose colours are left alone."""
    stream = io.BytesIO()
    if photometric == 6:
        Image.fromarray(part.astype(np.uint8)).save(stream, "jpeg", quality=95, subsampling=chance[1])
    elif part.shape[2] == 1:
        Image.fromarray(part[:, :, 0].astype(np.uint8)).save(stream, "jpeg", quality=95)
    else:
        Image.fromarray(part.astype(np.uint8)).save(stream, "jpeg", quality=95, keep_rgb=True)
    return stream.getvalue()


def tiff(chance, width, height):
    photometric = chance.choice([0, 1, 1, 2, 2, 2, 2, 3, 5, 6])
    order = chance.choice("<>")
    bits = {0: [1, 2, 4, 8, 16], 1: [1, 2, 4, 8, 16], 3: [1, 2, 4, 8], 6: [8]}.get(photometric, [8, 8, 16])
    bits = chance.choice(bits)
    if photometric == 0 and bits == 16:
        # Pillow does not invert these.
        bits = 8
    count = {2: 3, 5: 4, 6: 3}.get(photometric, 1)
    extra = []
    if bits == 8 and photometric in (1, 2) or bits == 16 and photometric == 2:
        extra = chance.choice([[], [], [0], [1], [1], [2], [2], [999] if photometric == 2 and bits == 8 else [2]])
        if photometric == 2 and bits == 8 and extra and chance.random() < 0.2:
            extra = extra + [0]
    compression = chance.choice([1, 1, 8, 8, 32773, 7])
    if compression == 7 and (bits != 8 or photometric not in (1, 2, 6) or extra):
        compression = 8
    planar = 2 if count + len(extra) > 1 and compression in (1, 8) and bits == 8 and photometric in (2, 5) and chance.random() < 0.3 else 1
    if planar == 2:
        extra = []
    predictor = 2 if compression == 8 and bits in (8, 16) and chance.random() < 0.5 else 1
    fill_order = 2 if bits < 8 and compression == 1 and chance.random() < 0.3 else 1
    steps = 16 if compression == 7 else 1
    pixels = ramps(chance, width, height, count + len(extra), 2**bits - 1)
    if compression == 7:
        pixels = np.minimum(pixels, 0) + (np.mgrid[:height, :width].sum(0) * 2 % 256 // 1)[:, :, None].clip(40, 200)
    if 1 in extra:
        # Colours that are multiplied by alpha are no larger than it.
        pixels[:, :, :count] = pixels[:, :, :count] * pixels[:, :, count : count + 1] // (2**bits - 1)
    tiled = chance.random() < 0.3
    if tiled:
        chunk_width, chunk_height = chance.choice([16, 32, 48]), chance.choice([16, 32])
    else:
        chunk_width, chunk_height = width, min(height, steps * chance.choice([1, 3, 7, 16, 500]))
    sampling = chance.choice([0, 1, 2])
    chunks = []
    for band in range(pixels.shape[2]) if planar == 2 else [slice(None)]:
        plane = pixels[:, :, [band]] if planar == 2 else pixels
        for top in range(0, height, chunk_height):
            for left in range(0, width, chunk_width):
                part = plane[top : top + chunk_height, left : left + chunk_width]
                if tiled:
                    missing = (chunk_height - part.shape[0], chunk_width - part.shape[1])
                    part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
                if compression == 7:
                    chunks.append(jpeg_of((chance, sampling), part, photometric))
                    continue
                if predictor == 2:
                    part = with_predictor(part, bits)
                rows = pack(part.reshape(part.shape[0], -1), bits)
                if bits == 16 and order == "<":
                    rows = [np.frombuffer(row, ">u2").astype("<u2").tobytes() for row in rows]
                if fill_order == 2:
                    rows = [bytes(int(f"{b:08b}"[::-1], 2) for b in row) for row in rows]
                pack_row = pack_bits if compression == 32773 else bytes
                data = b"".join(map(pack_row, rows))
                chunks.append(zlib.compress(data) if compression == 8 else data)
    fields = {
        256: ("L", [width]),
        257: ("L", [height]),
        258: ("H", [bits] * (count + len(extra))),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        277: ("H", [count + len(extra)]),
        284: ("H", [planar]),
    }
    if tiled:
        fields |= {322: ("L", [chunk_width]), 323: ("L", [chunk_height])}
    else:
        fields[278] = ("L", [chunk_height])
    if extra:
        fields[338] = ("H", extra)
    # A predictor counts only where it belongs to the compression.
    if predictor == 2 or compression in (1, 32773) and chance.random() < 0.1:
        fields[317] = ("H", [2])
    if fill_order == 2:
        fields[266] = ("H", [2])
    if photometric == 3:
        fields[320] = ("H", [v * 257 for v in palette(chance, 2**bits).T.reshape(-1).tolist()])
    if photometric == 6:
        fields[530] = ("H", [[1, 1], [2, 1], [2, 2]][sampling] if compression == 7 else [1, 1])
    if chance.random() < 0.4:
        # Pillow turns some unpacked pictures twice that lie on their side.
        fields[274] = (chance.choice("HHL"), [chance.randint(1, 4 if compression == 1 else 8)])
    offsets, lengths = (324, 325) if tiled else (273, 279)
    fields[offsets] = ("L", [0] * len(chunks))
    fields[lengths] = ("L", [len(c) for c in chunks])
    place = 8 + 2 + 12 * len(fields) + 4
    outside = place
    for form, values in fields.values():
        size = struct.calcsize(order + form) * len(values)
        outside += size if size > 4 else 0
    at, starts = outside, []
    for data in chunks:
        starts.append(at)
        at += len(data)
    fields[offsets] = ("L", starts)
    entries = sorted(fields.items())
    again = chance.choice([256, 257, 258, 262, 277]) if chance.random() < 0.1 else None
    if again in fields:
        # The first of two counts.
        entries.append((again, ("H", [2])))
        outside += 12
        place += 12
        fields[offsets] = ("L", [start + 12 for start in starts])
        entries = sorted(fields.items()) + entries[-1:]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "LH", 8, len(entries))
    tail = b""
    for number, (form, values) in entries:
        data = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(data) > 4:
            data, tail = struct.pack(order + "L", place + len(tail)), tail + data
        head += struct.pack(order + "HHL", number, {"H": 3, "L": 4}[form], len(values)) + data.ljust(4, b"\0")
    return head + b"\0" * 4 + tail + b"".join(chunks)


def webp(chance, width, height):
    count = chance.choice([3, 4])
    pixels = ramps(chance, width, height, count).astype(np.uint8)
    stream = io.BytesIO()
    lossless = chance.random() < 0.5
    picture = Image.fromarray(pixels)
    if chance.random() < 0.2:
        other = Image.fromarray(pixels[::-1].copy())
        picture.save(stream, "webp", lossless=lossless, save_all=True, append_images=[other], exact=True)
    else:
        picture.save(stream, "webp", lossless=lossless, exact=True)
    data = stream.getvalue()[12:]
    flags = 0
    if data[:4] == b"VP8X":
        flags, data = data[8], data[18:]
    elif chance.random() < 0.3:
        return stream.getvalue()
    if count == 4 and data[:4] == b"VP8L":
        flags |= 0x10
    if count == 3 and data[:4] == b"VP8 " and chance.random() < 0.5:
        flags |= 0x10
    orientation = chance.randint(1, 8)
    kind = chance.choice(["exif", "named exif", "xmp", "no chunk", "no flag", "nothing"])
    if kind in ("exif", "named exif"):
        block = (b"Exif\0\0" if kind == "named exif" else b"") + exif_block(chance, orientation)
        data += b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
        flags |= 8
    elif kind == "xmp":
        packet = xmp(orientation)
        data += b"XMP " + struct.pack("<I", len(packet)) + packet + b"\0" * (len(packet) % 2)
        flags |= 4
    elif kind == "no chunk":
        flags |= chance.choice([4, 8])
    elif kind == "no flag":
        block = exif_block(chance, orientation)
        data += b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    data = b"VP8X" + struct.pack("<II", 10, flags) + size + data
    return b"RIFF" + struct.pack("<I", len(data) + 4) + b"WEBP" + data


def jpeg(chance, width, height):
    """A JPEG with one or two EXIF segments, or XMP."""
    stream = io.BytesIO()
    Image.fromarray((ramps(chance, width, height, 3) // 4 + 60).astype(np.uint8)).save(stream, "jpeg", quality=95, subsampling=0)
    data = stream.getvalue()
    blocks = [b"Exif\0\0" + exif_block(chance, chance.randint(1, 8)) for _ in range(chance.choice([1, 1, 2]))]
    if chance.random() < 0.3:
        blocks = [b"http://ns.adobe.com/xap/1.0/\0" + xmp(chance.randint(1, 8))]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(b) + 2) + b for b in blocks)
    return data[:2] + segments + data[2:]


WRITERS = {"png": png, "bmp": bmp, "gif": gif, "tif": tiff, "webp": webp, "jpg": jpeg}


def main():
    warnings.simplefilter("ignore")
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    cases = []
    with (folder / "pixels").open("wb") as pixels:
        for ending, writer in WRITERS.items():
            chance = random.Random(f"{seed}{ending}")
            for number in range(count // (3 if ending == "jpg" else 1)):
                name = f"{number}.{ending}"
                (folder / name).write_bytes(writer(chance, chance.randint(1, 50), chance.randint(1, 50)))
                try:
                    picture = open_rgb(folder / name, WHITE)
                except (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, IndexError) as error:
                    print(name, repr(error), file=sys.stderr)
                    cases.append({"file": name, "width": 0, "height": 0})
                    continue
                pixels.write(picture.tobytes())
                cases.append({"file": name, "width": picture.width, "height": picture.height})
    (folder / "cases.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    main()
