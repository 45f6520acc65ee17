"""Turns captured terminal cells into an SVG image: cells_to_svg.py COLUMNS LINES < cells > picture.svg

The input is text with SGR escape sequences, as `tmux capture-pane -e -p -N` writes it. Half blocks, which
form images, become one small PNG; backgrounds, other block elements, Braille and lines become paths, so that no font
has to contain them; everything else is text.
"""

import base64
import re
import struct
import sys
import unicodedata
import zlib
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 8, 17
GROUND = (16, 24, 24)
INK = (205, 209, 216)
BASIC = [
    (16, 24, 24), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221),
    (86, 182, 194), (205, 209, 216), (92, 99, 112), (240, 128, 137), (172, 215, 141), (245, 212, 143),
    (117, 195, 255), (218, 140, 241), (106, 202, 214), (255, 255, 255),
]  # fmt: skip


def indexed(number):
    """RGB of one of the 256 colours."""
    if number < 16:
        return BASIC[number]
    if number < 232:
        number -= 16
        levels = [0, 95, 135, 175, 215, 255]
        return levels[number // 36], levels[number // 6 % 6], levels[number % 6]
    grey = 8 + 10 * (number - 232)
    return grey, grey, grey


class Style:
    def __init__(self):
        self.ink, self.ground, self.bold, self.dim, self.reverse = INK, GROUND, False, False, False
        # Only images have backgrounds that are not among the 256 colours.
        self.picture = False

    def apply(self, parameters):
        """Applies the numbers of one SGR sequence."""
        numbers = [int(n or 0) for n in re.split("[;:]", parameters)]
        while numbers:
            n = numbers.pop(0)
            if n == 0:
                self.__init__()
            elif n == 1:
                self.bold = True
            elif n == 2:
                self.dim = True
            elif n == 7:
                self.reverse = True
            elif n == 22:
                self.bold = self.dim = False
            elif n == 27:
                self.reverse = False
            elif n in (38, 48) and numbers:
                exact = numbers.pop(0) == 2
                if not exact:
                    colour = indexed(numbers.pop(0))
                else:
                    colour = tuple(numbers[:3])
                    del numbers[:3]
                if n == 38:
                    self.ink = colour
                else:
                    self.ground, self.picture = colour, exact
            elif n == 39:
                self.ink = INK
            elif n == 49:
                self.ground, self.picture = GROUND, False
            elif 30 <= n <= 37 or 90 <= n <= 97:
                self.ink = BASIC[n - 30 if n < 90 else n - 82]
            elif 40 <= n <= 47 or 100 <= n <= 107:
                self.ground = BASIC[n - 40 if n < 100 else n - 92]

    def colours(self):
        ink, ground = (self.ground, self.ink) if self.reverse else (self.ink, self.ground)
        if self.dim:
            ink = tuple((2 * a + b) // 3 for a, b in zip(ink, ground))
        return ink, ground


def read_cells(text, columns, lines):
    """Rows of (character, ink, ground, bold, whether it is of a picture)."""
    rows = []
    style = Style()
    for line in text.split("\n")[:lines]:
        row = []
        for code, character in re.findall("\x1b\\[([0-9;:]*)m|(.)", line):
            if not character:
                style.apply(code)
                continue
            ink, ground = style.colours()
            row.append((character, ink, ground, style.bold, style.picture))
            if unicodedata.east_asian_width(character) in "WF":
                row.append(("", ink, ground, style.bold, style.picture))
        row += [(" ", INK, GROUND, False, False)] * (columns - len(row))
        rows.append(row[:columns])
    rows += [[(" ", INK, GROUND, False, False)] * columns] * (lines - len(rows))
    return rows


def png(pixels):
    """A PNG file of rows of RGB, as bytes; only the upper 5 bits of each colour are kept, which halves its size."""
    raw = b"".join(b"\0" + bytes(v & 0xF8 | v >> 5 for p in row for v in p) for row in pixels)

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    )


def shape(character, x, y):
    """A path of the character in the cell at pixel (x, y); none if it is text."""
    code = ord(character)

    def box(left, top, width, height):
        return f"M{x + left:g} {y + top:g}h{width:g}v{height:g}h{-width:g}z"

    if 0x2800 <= code <= 0x28FF:
        # Bits 0-2 are the left column, 3-5 the right one, 6 and 7 the bottom row.
        places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
        return "".join(
            box(c * 4 + 1.1, r * HEIGHT / 4 + 1.1, 2.2, 2.2)
            for bit, (c, r) in enumerate(places)
            if (code - 0x2800) >> bit & 1
        )
    if 0x2581 <= code <= 0x2587:
        height = (code - 0x2580) * HEIGHT / 8
        return box(0, HEIGHT - height, WIDTH, height)
    if character == "█":
        return box(0, 0, WIDTH, HEIGHT)
    if 0x2589 <= code <= 0x258F:
        return box(0, 0, (0x2590 - code) * WIDTH / 8, HEIGHT)
    middle, centre = WIDTH / 2, HEIGHT / 2
    lines = {
        "─": box(0, centre - 0.5, WIDTH, 1),
        "━": box(0, centre - 2, WIDTH, 4),
        "╸": box(0, centre - 2, middle, 4) + box(middle, centre - 0.5, middle, 1),
        "│": box(middle - 0.5, 0, 1, HEIGHT),
        "╭": box(middle - 0.5, centre + 2, 1, centre - 2) + box(middle + 2, centre - 0.5, middle - 2, 1)
        + box(middle, centre, 2, 1),
        "╮": box(middle - 0.5, centre + 2, 1, centre - 2) + box(0, centre - 0.5, middle - 2, 1)
        + box(middle - 2, centre, 2, 1),
        "╰": box(middle - 0.5, 0, 1, centre - 2) + box(middle + 2, centre - 0.5, middle - 2, 1)
        + box(middle, centre - 1, 2, 1),
        "╯": box(middle - 0.5, 0, 1, centre - 2) + box(0, centre - 0.5, middle - 2, 1)
        + box(middle - 2, centre - 1, 2, 1),
        "└": box(middle - 0.5, 0, 1, centre + 0.5) + box(middle, centre - 0.5, middle, 1),
    }  # fmt: skip
    return lines.get(character)


def hexadecimal(colour):
    return "#%02x%02x%02x" % colour


def svg(cells):
    columns, lines = len(cells[0]), len(cells)
    pixels = [[GROUND] * columns for _ in range(2 * lines)]
    grounds, paths, texts = {}, {}, []
    for row, line in enumerate(cells):
        run = None
        for column, (character, ink, ground, bold, picture) in enumerate(line):
            halves = {"▀": (ink, ground), "▄": (ground, ink)}.get(character)
            if picture and not halves and character == " ":
                halves = ground, ground
            if halves:
                pixels[2 * row][column], pixels[2 * row + 1][column] = halves
            elif ground != GROUND:
                left = column * WIDTH
                grounds.setdefault(ground, []).append(f"M{left} {row * HEIGHT}h{WIDTH}v{HEIGHT}h-{WIDTH}z")
            drawn = character.strip() == "" or halves
            path = None if drawn else shape(character, column * WIDTH, row * HEIGHT)
            if path:
                paths.setdefault(ink, []).append(path)
            if drawn and character != " " or path:
                run = None
                continue
            if character == " ":
                if run:
                    run[-1] += " "
                continue
            if run and run[2:4] == [ink, bold] and not run[-1].endswith("  "):
                run[-1] += character
            else:
                run = [column, row, ink, bold, character]
                texts.append(run)
    width, height = columns * WIDTH, lines * HEIGHT
    image = base64.b64encode(png(pixels)).decode()
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -12 {width + 24} {height + 24}" '
        f'font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" font-size="13">',
        f'<rect x="-12" y="-12" width="{width + 24}" height="{height + 24}" rx="10" fill="{hexadecimal(GROUND)}"/>',
        f'<image width="{width}" height="{height}" preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{image}"/>',
    ]
    for layer in (grounds, paths):
        out += [f'<path fill="{hexadecimal(ink)}" d="{"".join(path)}"/>' for ink, path in layer.items()]
    for column, row, ink, bold, text in texts:
        text = text.rstrip()
        weight = ' font-weight="bold"' if bold else ""
        length = f' textLength="{len(text) * WIDTH}"' if len(text) > 1 else ""
        out.append(
            f'<text x="{column * WIDTH}" y="{row * HEIGHT + 13}" fill="{hexadecimal(ink)}"{weight}{length} '
            f'xml:space="preserve">{escape(text)}</text>'
        )
    return "\n".join(out) + "\n</svg>\n"


if __name__ == "__main__":
    columns, lines = int(sys.argv[1]), int(sys.argv[2])
    sys.stdout.write(svg(read_cells(sys.stdin.read(), columns, lines)))
