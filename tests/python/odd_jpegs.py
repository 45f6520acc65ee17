"""Writes JPEGs of every kind that baseline, sequential and progressive coding allow, and what Pillow makes of them.

    odd_jpegs.py OUT COUNT SEED

Files of two writers: Pillow's, and the one below, which takes any sampling factors, scans, restart intervals,
identifiers and markers (ITU-T T.81). OUT/cases.json lists file, width and height; OUT/pixels holds Pillow's RGB of all
files one behind the other, [height, width, 3]. A file that Pillow refuses is listed with width 0.
"""

import io
import json
import random
import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from preprocess import open_rgb

# T.81, figure A.6: the order of coefficients.
ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))

# T.81, K.3: how many codes have each length, and their symbols.
DC = (bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]), bytes(range(12)))
AC = (
    bytes([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125]),
    bytes.fromhex(
        "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738"
        "393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5"
        "a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
    ),
)


def codes(table):
    """Returns {symbol: (code, length)} of a Huffman table (T.81, annex C)."""
    counts, symbols = table
    found, code, place = {}, 0, 0
    for length, count in enumerate(counts, 1):
        for symbol in symbols[place : place + count]:
            found[symbol] = (code, length)
            code += 1
        place += count
        code <<= 1
    return found


DC_CODES, AC_CODES = codes(DC), codes(AC)


class Bits:
    """Entropy-coded bytes, with a zero behind each 0xff."""

    def __init__(self):
        self.held, self.count, self.bytes = 0, 0, bytearray()

    def put(self, code, length):
        self.held = self.held << length | code
        self.count += length
        while self.count >= 8:
            self.count -= 8
            byte = self.held >> self.count & 0xFF
            self.bytes.append(byte)
            if byte == 0xFF:
                self.bytes.append(0)
        self.held &= (1 << self.count) - 1

    def fill(self):
        if self.count:
            self.put((1 << (8 - self.count)) - 1, 8 - self.count)


def magnitude(value):
    """Returns the category of a number and its bits (T.81, F.1.2.1)."""
    size = abs(value).bit_length()
    return size, value if value >= 0 else value + (1 << size) - 1


def put_block(bits, block, predicted, first, last):
    """Writes coefficients `first` to `last` of a block in zigzag order; returns its DC coefficient."""
    if first == 0:
        size, value = magnitude(block[0] - predicted)
        bits.put(*DC_CODES[size])
        bits.put(value, size)
        first = 1
    run = 0
    for place in range(first, last + 1):
        value = block[place]
        if value == 0:
            run += 1
            continue
        while run > 15:
            bits.put(*AC_CODES[0xF0])
            run -= 16
        size, low = magnitude(value)
        bits.put(*AC_CODES[run << 4 | size])
        bits.put(low, size)
        run = 0
    if run:
        bits.put(*AC_CODES[0])
    return block[0]


COSINES = np.array(
    [[np.sqrt((1 if u == 0 else 2) / 8) * np.cos((2 * x + 1) * u * np.pi / 16) for x in range(8)] for u in range(8)]
)


class Component:
    """A plane of samples, cut into blocks of whole MCUs."""

    def __init__(self, plane, size, sampling, largest, step):
        width, height = size
        self.sampling = sampling
        across, down = largest[0] // sampling[0], largest[1] // sampling[1]
        mcus = (-(-width // (8 * largest[0])), -(-height // (8 * largest[1])))
        padded = np.pad(
            plane, ((0, mcus[1] * 8 * largest[1] - height), (0, mcus[0] * 8 * largest[0] - width)), mode="edge"
        )
        small = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across).mean((1, 3))
        self.mcus = mcus
        # Blocks that a scan of this component alone holds (T.81, A.2.2).
        self.alone = (
            -(-(-(-width * sampling[0] // largest[0])) // 8),
            -(-(-(-height * sampling[1] // largest[1])) // 8),
        )
        rows, columns = small.shape[0] // 8, small.shape[1] // 8
        cut = small.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3) - 128
        blocks = np.rint(COSINES @ cut @ COSINES.T / step).astype(int).reshape(rows, columns, 64)
        self.blocks = blocks[:, :, ZIGZAG].tolist()


def segment(marker, data, fill=0):
    return b"\xff" * fill + bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def write_scan(components, chosen, restart, first, last):
    """Returns the entropy-coded bytes of a scan over the components `chosen`, by MCUs."""
    parts = [components[i] for i in chosen]
    if len(parts) == 1:
        width, height = parts[0].alone
        units = [[(0, y, x)] for y in range(height) for x in range(width)]
    else:
        units = []
        for my in range(parts[0].mcus[1]):
            for mx in range(parts[0].mcus[0]):
                units.append(
                    [
                        (i, my * part.sampling[1] + y, mx * part.sampling[0] + x)
                        for i, part in enumerate(parts)
                        for y in range(part.sampling[1])
                        for x in range(part.sampling[0])
                    ]
                )
    bits, predicted, out = Bits(), [0] * len(parts), bytearray()
    for number, unit in enumerate(units):
        if restart and number and number % restart == 0:
            bits.fill()
            out += bits.bytes + bytes([0xFF, 0xD0 + (number // restart - 1) % 8])
            bits, predicted = Bits(), [0] * len(parts)
        for i, y, x in unit:
            predicted[i] = put_block(bits, parts[i].blocks[y][x], predicted[i], first, last)
    bits.fill()
    return bytes(out + bits.bytes)


def write_jpeg(planes, samplings, scans, *, ids, restart, progressive, extended, head, fill, step):
    """Returns a JPEG.

    `planes`: float arrays [height, width], one a component. `samplings`: factors across and down, one pair a component.
    `scans`: places of components, one list a scan. `head`: segments behind the start. `fill`: needless 0xff before
    markers. `step`: of the quantiser.
    """
    height, width = planes[0].shape
    largest = (max(s[0] for s in samplings), max(s[1] for s in samplings))
    components = [Component(p, (width, height), s, largest, step) for p, s in zip(planes, samplings)]
    frame = struct.pack(">BHHB", 8, height, width, len(planes))
    for number, (across, down) in zip(ids, samplings):
        frame += bytes([number, across << 4 | down, 0])
    out = b"\xff\xd8" + head + segment(0xDB, b"\0" + bytes([step] * 64), fill)
    out += segment(0xC2 if progressive else 0xC1 if extended else 0xC0, frame, fill)
    out += segment(0xC4, b"\0" + DC[0] + DC[1] + b"\x10" + AC[0] + AC[1])
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))
    bands = [(scan, 0, 63) for scan in scans]
    if progressive:
        bands = [(scan, 0, 0) for scan in scans]
        bands += [([i], *band) for band in [(1, 5), (6, 63)] for i in range(len(planes))]
    for chosen, first, last in bands:
        header = bytes([len(chosen)]) + b"".join(bytes([ids[i], 0]) for i in chosen) + bytes([first, last, 0])
        out += segment(0xDA, header, fill) + write_scan(components, chosen, restart, first, last)
    return out + b"\xff\xd9"


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def soft_planes(chance, width, height, count):
    """Returns float planes [height, width] of slow waves, 0 to 255: enlarging them makes little difference."""
    y, x = np.mgrid[:height, :width]
    planes = []
    for _ in range(count):
        across, down = chance.uniform(-0.06, 0.06), chance.uniform(-0.06, 0.06)
        start = chance.uniform(0, 6.28)
        planes.append(127.5 + chance.uniform(40, 110) * np.sin(start + across * x + down * y))
    return planes


def pick_sampling(chance, count):
    """Returns factors for each component: usual ones, and any that divide the largest."""
    if chance.random() < 0.4:
        luma = chance.choice([(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2)])
        return [luma] + [(1, 1)] * (count - 1)
    while True:
        found = [(chance.choice([1, 1, 2, 3, 4]), chance.choice([1, 1, 2, 3, 4])) for _ in range(count)]
        if all(max(s[i] for s in found) % s[i] == 0 for s in found for i in (0, 1)):
            return found


def pick_scans(chance, samplings):
    """Returns the scans: as many components together as 10 blocks of an MCU allow, or fewer."""
    blocks = [s[0] * s[1] for s in samplings]
    everything = list(range(len(samplings)))
    if sum(blocks) <= 10 and chance.random() < 0.5:
        return [everything]
    if len(samplings) == 3 and blocks[1] + blocks[2] <= 10 and chance.random() < 0.4:
        return [[0], [1, 2]]
    if len(samplings) == 3 and blocks[0] + blocks[1] <= 10 and chance.random() < 0.3:
        return [[0, 1], [2]]
    if chance.random() < 0.3:
        everything.reverse()
    return [[i] for i in everything]


def own_jpeg(chance, width, height):
    count = chance.choice([1, 3, 3, 3, 3, 3, 3, 4])
    samplings = pick_sampling(chance, count)
    ids = {1: [1], 3: [1, 2, 3], 4: [1, 2, 3, 4]}[count]
    head = chance.choice([b"", JFIF, JFIF, JFIF])
    if count == 3 and chance.random() < 0.3:
        ids = chance.choice([[82, 71, 66], [0, 1, 2], [1, 34, 35], [7, 9, 200], [66, 71, 82], [3, 2, 1]])
    if chance.random() < 0.3 or count == 4:
        head += b"".join(adobe(chance.choice([0, 1, 2, 2, 0, 3, 255])) for _ in range(chance.choice([1, 1, 1, 2, 0])))
    if chance.random() < 0.1:
        head += segment(0xEE, b"Adobe\0\x64") + segment(0xFE, b"\xff\xd8 a comment \xff\xda")
    return write_jpeg(
        soft_planes(chance, width, height, count),
        samplings,
        pick_scans(chance, samplings),
        ids=ids,
        restart=chance.choice([0, 0, 0, 1, 2, 3, 7, 50]),
        progressive=chance.random() < 0.25,
        extended=chance.random() < 0.2,
        head=head,
        fill=chance.choice([0, 0, 0, 1, 3]),
        step=chance.choice([1, 2, 4]),
    )


def pillow_jpeg(chance, width, height):
    planes = soft_planes(chance, width, height, 3)
    picture = Image.fromarray(np.stack(planes, 2).clip(0, 255).astype(np.uint8))
    mode = chance.choice(["RGB", "RGB", "RGB", "RGB", "L", "CMYK"])
    options = {"quality": chance.choice([75, 90, 95, 100])}
    if mode == "RGB":
        options["keep_rgb"] = chance.random() < 0.15
        options["subsampling"] = "4:4:4" if options["keep_rgb"] else chance.choice(["4:4:4", "4:2:2", "4:2:0"])
    if chance.random() < 0.5:
        options["progressive"] = True
    if chance.random() < 0.4:
        options[chance.choice(["restart_marker_blocks", "restart_marker_rows"])] = chance.choice([1, 2, 5])
    options["optimize"] = chance.random() < 0.5
    stream = io.BytesIO()
    picture.convert(mode).save(stream, "jpeg", **options)
    return stream.getvalue()


def main():
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    cases = []
    with (folder / "pixels").open("wb") as pixels:
        for number in range(count):
            width, height = chance.randint(1, 70), chance.randint(1, 70)
            if number % 8 == 0:
                width, height = width * 5, height * 5
            writer = pillow_jpeg if chance.random() < 0.3 else own_jpeg
            name = f"{number}-{writer.__name__}.jpg"
            (folder / name).write_bytes(writer(chance, width, height))
            try:
                picture = open_rgb(folder / name, (255, 255, 255))
            except (OSError, SyntaxError):
                cases.append({"file": name, "width": 0, "height": 0})
                continue
            pixels.write(picture.tobytes())
            cases.append({"file": name, "width": picture.width, "height": picture.height})
    (folder / "cases.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    main()
