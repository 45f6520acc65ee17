//! The table: each input and what becomes of it.

use std::ffi::{OsStr, OsString};

use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageFormat, LumaA, Rgba, RgbaImage};

use super::bytes::*;

/// What becomes of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Decodes to the clean picture; levels (0 to 255) differ by so much in the mean.
    Same(f64),
    /// The same, with a warning that has these words.
    Warned(f64, &'static str),
    /// Decodes to another picture of this width and height.
    Other(u32, u32),
    /// Skipped by name, with a reason that has these words.
    Skipped(&'static str),
    /// Damage that no check sums up to: decoded or skipped, but never an end of the run.
    Either,
}

/// One file.
pub struct Case {
    /// What is odd about it.
    pub about: String,
    /// Its name.
    pub name: OsString,
    pub bytes: Vec<u8>,
    pub outcome: Outcome,
}

use Outcome::{Either, Other, Same, Skipped, Warned};

struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, about: &str, name: &str, bytes: Vec<u8>, outcome: Outcome) {
        self.0.push(Case {
            about: about.to_owned(),
            name: name.into(),
            bytes,
            outcome,
        });
    }
}

/// All cases that are files, with names that are all different.
pub fn cases() -> Vec<Case> {
    let mut table = Table(Vec::new());
    kinds(&mut table);
    rare_kinds(&mut table);
    orientations(&mut table);
    metadata(&mut table);
    sizes(&mut table);
    cut_and_broken(&mut table);
    no_pictures(&mut table);
    names(&mut table);
    table.0
}

/// Every kind of file that holds the picture.
fn kinds(table: &mut Table) {
    for (about, name, outcome) in [
        ("PNG", "clean.png", Same(0.0)),
        ("interlaced PNG", "interlaced.png", Same(0.0)),
        ("animated PNG: its first frame", "animated.png", Same(0.0)),
        ("palette PNG", "palette.png", Same(3.0)),
        (
            "palette PNG with transparency, all opaque",
            "palette-alpha.png",
            Same(3.0),
        ),
        ("baseline JPEG", "baseline.jpg", Same(1.0)),
        ("progressive JPEG", "progressive.jpg", Same(1.0)),
        ("JPEG with halved colour", "subsampled.jpg", Same(2.5)),
        (
            "CMYK JPEG as Adobe writes it, inverted",
            "cmyk.jpg",
            Same(1.0),
        ),
        (
            "YCCK JPEG as Adobe writes it, inverted",
            "ycck.jpg",
            Same(1.5),
        ),
        (
            "JPEG with a scan for each component",
            "scans-apart.jpg",
            Same(2.5),
        ),
        (
            "JPEG with a scan for each component and restart markers",
            "scans-apart-restarts.jpg",
            Same(1.0),
        ),
        (
            "JPEG whose chroma is finer than its luma",
            "chroma-finer.jpg",
            Same(2.5),
        ),
        (
            "JPEG with a sampling factor of 3",
            "factor-3.jpg",
            Same(2.5),
        ),
        (
            "JPEG that is YCbCr by its JFIF marker and RGB by its Adobe marker: YCbCr",
            "jfif-adobe-rgb.jpg",
            Same(1.0),
        ),
        (
            "JPEG that is RGB by its Adobe marker",
            "adobe-rgb.jpg",
            Same(1.0),
        ),
        (
            "arithmetic-coded JPEG",
            "arithmetic.jpg",
            Skipped("is an unsupported kind of JPEG"),
        ),
        ("animated GIF: its first frame", "animated.gif", Same(3.0)),
        ("lossless WebP", "lossless.webp", Same(0.0)),
        ("animated WebP: its first frame", "animated.webp", Same(0.0)),
        (
            "WebP that announces alpha and has none",
            "alpha-flag.webp",
            Same(2.5),
        ),
    ] {
        table.add(about, name, fixture(name), outcome);
    }
    let clean = clean();
    let (width, height) = (clean.width(), clean.height());
    let png = ImageFormat::Png;
    table.add(
        "BMP",
        "bmp.bmp",
        encode(&clean, ImageFormat::Bmp),
        Same(0.0),
    );
    table.add(
        "TIFF",
        "tiff.tif",
        encode(&clean, ImageFormat::Tiff),
        Same(0.0),
    );
    let deep = DynamicImage::ImageRgb16(clean.to_rgb16());
    table.add("16-bit PNG", "deep.png", encode(&deep, png), Same(0.0));
    table.add(
        "16-bit TIFF",
        "deep.tif",
        encode(&deep, ImageFormat::Tiff),
        Same(0.0),
    );
    let float = DynamicImage::ImageRgb32F(clean.to_rgb32f());
    table.add(
        "TIFF of floating-point numbers",
        "float.tif",
        encode(&float, ImageFormat::Tiff),
        Skipped("has floating-point pixels"),
    );
    let opaque = DynamicImage::ImageRgba8(clean.to_rgba8());
    table.add(
        "PNG with alpha, all opaque",
        "opaque.png",
        encode(&opaque, png),
        Same(0.0),
    );
    let nothing = RgbaImage::from_pixel(width, height, Rgba([9, 9, 9, 0]));
    table.add(
        "PNG that is wholly transparent: the background",
        "transparent.png",
        encode(&DynamicImage::ImageRgba8(nothing), png),
        Other(width, height),
    );
    let grey = DynamicImage::ImageLuma8(clean.to_luma8());
    table.add(
        "grey PNG",
        "grey.png",
        encode(&grey, png),
        Other(width, height),
    );
    table.add(
        "grey JPEG",
        "grey.jpg",
        encode_jpeg(&grey),
        Other(width, height),
    );
    let veiled = GrayAlphaImage::from_fn(width, height, |x, y| LumaA([x as u8, y as u8 * 7]));
    table.add(
        "grey PNG with alpha",
        "grey-alpha.png",
        encode(&DynamicImage::ImageLumaA8(veiled), png),
        Other(width, height),
    );
    let lines: Vec<u8> = (0..16u8).flat_map(|y| [0, 0x55 << (y % 2), 0x0f]).collect();
    table.add(
        "1-bit PNG",
        "one-bit.png",
        self::png(16, 16, 1, 0, &lines),
        Other(16, 16),
    );
}

/// Kinds of JPEG that no decoder here reads, kinds of TIFF, and odd BMP and GIF files.
fn rare_kinds(table: &mut Table) {
    let jpeg = fixture("baseline.jpg");
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    for (about, name, at, value, reason) in [
        (
            "12-bit JPEG",
            "12-bit.jpg",
            4,
            12,
            "is an unsupported kind of JPEG (12 bits per sample)",
        ),
        (
            "lossless JPEG",
            "lossless.jpg",
            1,
            0xc3,
            "is an unsupported kind of JPEG (lossless)",
        ),
        (
            "hierarchical JPEG",
            "layers.jpg",
            1,
            0xc5,
            "is an unsupported kind of JPEG (hierarchical)",
        ),
        (
            "JPEG whose sampling factors do not divide each other",
            "two-thirds.jpg",
            11,
            0x32,
            "is an unsupported kind of JPEG (sampling factors",
        ),
    ] {
        let mut bytes = jpeg.clone();
        bytes[frame + at] = value;
        if value == 0x32 {
            bytes[frame + 14] = 0x22;
        }
        table.add(about, name, bytes, Skipped(reason));
    }
    let mut bmp = encode(&clean(), ImageFormat::Bmp);
    bmp[6..10].copy_from_slice(b"made");
    table.add(
        "BMP whose reserved bytes are not 0",
        "reserved.bmp",
        bmp,
        Same(0.0),
    );
    let mut gif = fixture("animated.gif");
    gif[6..10].copy_from_slice(&[20, 0, 10, 0]);
    table.add(
        "GIF whose screen is smaller than its frame: enlarged",
        "screen.gif",
        gif,
        Same(3.0),
    );
    let page = |photometric, samples| {
        vec![
            (256, 4, 1, 4),
            (257, 4, 1, 1),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, photometric),
            (273, 4, 1, 8),
            (277, 3, 1, samples),
            (278, 4, 1, 1),
            (279, 4, 1, 4 * samples),
        ]
    };
    let with = |mut fields: Vec<(u16, u16, u32, u32)>, field| {
        fields.push(field);
        fields.sort_unstable();
        tiff(&fields, &[200; 16])
    };
    for (about, name, bytes, reason) in [
        (
            "TIFF that is a raw photo: DNG",
            "photo.dng",
            with(page(1, 1), (50706, 1, 4, 0x0401)),
            "a raw photo (DNG), which is not supported",
        ),
        (
            "TIFF that is a raw photo: sensor values",
            "photo.nef",
            with(page(32803, 1), (254, 4, 1, 0)),
            "a camera raw photo, which is not supported",
        ),
        (
            "TIFF that begins with a thumbnail, as raw photos do",
            "photo.arw",
            with(page(1, 1), (254, 4, 1, 1)),
            "starts with a thumbnail, which is not supported",
        ),
        (
            "TIFF in CIE L*a*b*",
            "lab.tif",
            with(page(8, 3), (254, 4, 1, 0)),
            "is an unsupported kind of TIFF (CIE L*a*b*)",
        ),
    ] {
        table.add(about, name, bytes, Skipped(reason));
    }
    for (about, name, extra) in [
        (
            "TIFF whose colours are multiplied by alpha",
            "associated.tif",
            1,
        ),
        ("TIFF with alpha", "unassociated.tif", 2),
    ] {
        let bytes = with(page(2, 4), (338, 3, 1, extra));
        table.add(about, name, bytes, Other(4, 1));
    }
}

/// EXIF orientations: as a camera stores them, in JPEG and PNG; then those that mean nothing.
fn orientations(table: &mut Table) {
    let clean = clean();
    for orientation in 1..=8 {
        let stored = stored_for(&clean, orientation);
        let block = exif(u16::from(orientation));
        table.add(
            &format!("JPEG with EXIF orientation {orientation}"),
            &format!("exif-{orientation}.jpg"),
            with_exif(&encode_jpeg(&stored), &block),
            Same(2.5),
        );
        table.add(
            &format!("PNG with EXIF orientation {orientation}"),
            &format!("exif-{orientation}.png"),
            with_chunk(&encode(&stored, ImageFormat::Png), b"eXIf", &block),
            Same(0.0),
        );
    }
    let turned = stored_for(&clean, 6);
    for (about, name, blocks) in [
        ("of type BYTE", "byte", vec![exif_of_type(1, &[6])]),
        (
            "of type LONG",
            "long",
            vec![exif_of_type(4, &6u32.to_be_bytes())],
        ),
        ("and a second one: the first", "two", vec![exif(1), exif(6)]),
    ] {
        let add = |jpeg: Vec<u8>, block: &Vec<u8>| with_exif(&jpeg, block);
        table.add(
            &format!("JPEG with an EXIF orientation {about}"),
            &format!("exif-{name}.jpg"),
            blocks.iter().fold(encode_jpeg(&turned), add),
            Same(2.5),
        );
    }
    let jpeg = fixture("baseline.jpg");
    for orientation in [0, 9, 0xffff] {
        table.add(
            &format!("EXIF orientation {orientation}, which there is not: taken as upright"),
            &format!("exif-{orientation}.jpg"),
            with_exif(&jpeg, &exif(orientation)),
            Same(1.0),
        );
    }
    let garbage: Vec<u8> = (0..200u8).map(|i| i.wrapping_mul(101)).collect();
    table.add(
        "EXIF of garbage",
        "exif-garbage.jpg",
        with_exif(&jpeg, &garbage),
        Same(1.0),
    );
    table.add(
        "EXIF whose directory lies past its end",
        "exif-beyond.jpg",
        with_exif(&jpeg, b"MM\0*\x7f\xff\xff\xff"),
        Same(1.0),
    );
    table.add(
        "EXIF whose directory says it has 65,535 entries",
        "exif-many.jpg",
        with_exif(&jpeg, b"MM\0*\0\0\0\x08\xff\xff\x01\x12"),
        Same(1.0),
    );
}

/// Profiles, texts, and bombs in them.
fn metadata(table: &mut Table) {
    let jpeg = fixture("baseline.jpg");
    let png = fixture("clean.png");
    let profile = [b"ICC_PROFILE\0\x01\x01".as_slice(), &[7; 600]].concat();
    table.add(
        "JPEG with a colour profile (Display P3 or any): not applied",
        "profile.jpg",
        with_segment(&jpeg, 0xe2, &profile),
        Same(1.0),
    );
    let lost = [b"ICC_PROFILE\0\x09\xff".as_slice(), &[7; 600]].concat();
    table.add(
        "JPEG with one of 255 parts of a colour profile",
        "profile-part.jpg",
        with_segment(&jpeg, 0xe2, &lost),
        Same(1.0),
    );
    let bomb = zlib_bomb(200 << 20);
    for (about, name, kind, head) in [
        (
            "PNG whose colour profile unpacks to 200 MiB",
            "profile-bomb.png",
            b"iCCP",
            &b"p\0\0"[..],
        ),
        (
            "PNG whose text unpacks to 200 MiB",
            "text-bomb.png",
            b"zTXt",
            &b"t\0\0"[..],
        ),
    ] {
        let data = [head, &bomb].concat();
        table.add(about, name, with_chunk(&png, kind, &data), Same(0.0));
    }
    table.add(
        "PNG with a text of escape sequences",
        "text-escape.png",
        with_chunk(&png, b"tEXt", b"Title\0\x1b]0;owned\x07"),
        Same(0.0),
    );
    let mut bad_text = with_chunk(&png, b"tEXt", b"Title\0hello");
    let at = chunk_at(&bad_text, b"tEXt");
    bad_text[at + 8] ^= 1;
    table.add(
        "PNG with a wrong checksum on a text",
        "text-crc.png",
        bad_text,
        Same(0.0),
    );
}

/// Sizes: small, thin, and headers that lie.
fn sizes(table: &mut Table) {
    table.add(
        "1 x 1 PNG",
        "1x1.png",
        png(1, 1, 8, 0, &[0, 9]),
        Other(1, 1),
    );
    let tall = DynamicImage::ImageLuma8(GrayImage::from_fn(1, 5000, |_, y| image::Luma([y as u8])));
    table.add(
        "1 x 5000 PNG",
        "1x5000.png",
        encode(&tall, ImageFormat::Png),
        Other(1, 5000),
    );
    let wide = DynamicImage::ImageLuma8(GrayImage::from_fn(5000, 1, |x, _| image::Luma([x as u8])));
    table.add(
        "5000 x 1 JPEG",
        "5000x1.jpg",
        encode_jpeg(&wide),
        Other(5000, 1),
    );
    let jpeg = fixture("baseline.jpg");
    table.add(
        "JPEG of a few kB whose header says 65,500 x 65,500",
        "bomb.jpg",
        with_jpeg_size(&jpeg, 65_500, 65_500),
        Skipped("is 65500 x 65500 pixels, 4290 megapixels; the limit is 100 megapixels"),
    );
    table.add(
        "JPEG whose header says three times the height",
        "taller.jpg",
        with_jpeg_size(&jpeg, 48, 108),
        Either,
    );
    table.add(
        "JPEG of height 0",
        "flat.jpg",
        with_jpeg_size(&jpeg, 48, 0),
        Skipped("JPEG"),
    );
    let bomb = [
        PNG,
        &ihdr(30_000, 30_000, 1, 0),
        &chunk(b"IDAT", &zlib_bomb(30_000 * 3751)),
        &chunk(b"IEND", b""),
    ]
    .concat();
    table.add(
        "PNG of some 700 kB that unpacks to 30,000 x 30,000",
        "bomb.png",
        bomb,
        Skipped("is 30000 x 30000 pixels, 900 megapixels; the limit is 100 megapixels"),
    );
    table.add(
        "PNG of 2,147,483,647 x 2,147,483,647",
        "endless.png",
        png(0x7fff_ffff, 0x7fff_ffff, 16, 6, &[0]),
        Skipped("needs more than 512 MiB to decode"),
    );
    table.add(
        "PNG of width 0",
        "no-width.png",
        png(0, 9, 8, 0, &[0]),
        Skipped("PNG"),
    );
    table.add(
        "PNG with fewer lines than its header says",
        "few-lines.png",
        png(48, 36, 8, 0, &[0; 49 * 5]),
        Skipped("is truncated: its PNG data ends too early"),
    );
    let mut gif = fixture("animated.gif");
    gif[6..10].fill(0xff);
    table.add(
        "GIF whose screen is 65,535 x 65,535",
        "bomb.gif",
        gif,
        Skipped("65535 x 65535"),
    );
    let mut bmp = encode(&clean(), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    table.add(
        "BMP of width 2,147,483,647",
        "bomb.bmp",
        bmp,
        Skipped("BMP"),
    );
    let webp = [
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".as_slice(),
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    table.add(
        "WebP of 16,777,216 x 16,777,216",
        "bomb.webp",
        webp,
        Skipped("WebP"),
    );
    let huge = [
        (256, 4, 1, 60_000),
        (257, 4, 1, 60_000),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (278, 4, 1, 60_000),
        (279, 4, 1, 4),
    ];
    table.add(
        "TIFF of 60,000 x 60,000 in four bytes",
        "bomb.tif",
        tiff(&huge, b"abcd"),
        Skipped("is 60000 x 60000 pixels"),
    );
    let mut strips = huge;
    strips[0].3 = 48;
    strips[1].3 = 36;
    strips[7] = (279, 4, 1, u32::MAX);
    table.add(
        "TIFF with a strip of 4 GiB",
        "strip.tif",
        tiff(&strips, b"abcd"),
        Skipped("needs more than 512 MiB to decode"),
    );
    strips[7] = (279, 4, u32::MAX, 8);
    table.add(
        "TIFF with 4,294,967,295 strips",
        "strips.tif",
        tiff(&strips, b"abcd"),
        Skipped("needs more than 512 MiB to decode"),
    );
}

/// What is left of a picture.
fn cut_and_broken(table: &mut Table) {
    let jpeg = fixture("baseline.jpg");
    let progressive = fixture("progressive.jpg");
    let png = fixture("interlaced.png");
    let cut = |bytes: &[u8], tenths: usize| bytes[..bytes.len() * tenths / 10].to_vec();
    for (name, bytes) in [
        ("cut.jpg", cut(&jpeg, 7)),
        ("cut-early.jpg", cut(&jpeg, 1)),
        ("cut-late.jpg", jpeg[..jpeg.len() - 2].to_vec()),
        ("cut-progressive.jpg", cut(&progressive, 7)),
        ("cut.png", cut(&png, 7)),
        ("cut.gif", cut(&fixture("animated.gif"), 3)),
        ("cut.bmp", cut(&encode(&clean(), ImageFormat::Bmp), 7)),
        ("cut.tif", cut(&encode(&clean(), ImageFormat::Tiff), 7)),
    ] {
        table.add(
            &format!("cut off: {name}"),
            name,
            bytes,
            Skipped("is truncated"),
        );
    }
    let webp = cut(&fixture("lossless.webp"), 7);
    table.add(
        "cut off: cut.webp",
        "cut.webp",
        webp,
        Skipped("is broken WebP"),
    );
    let end = chunk_at(&png, b"IEND");
    table.add(
        "PNG without its end",
        "no-end.png",
        png[..end].to_vec(),
        Skipped("is truncated"),
    );
    let mut crc = png.clone();
    let at = chunk_at(&crc, b"IDAT");
    crc[at + 100] ^= 0x10;
    table.add(
        "PNG with a wrong checksum on its pixels",
        "crc.png",
        crc,
        Skipped("is broken PNG"),
    );
    let mut crc = png.clone();
    crc[PNG.len() + 8] ^= 0x01;
    table.add(
        "PNG with a wrong checksum on its header",
        "crc-header.png",
        crc,
        Skipped("is broken PNG"),
    );
    table.add(
        "PNG without pixels",
        "no-pixels.png",
        [PNG, &ihdr(48, 36, 8, 2), &chunk(b"IEND", b"")].concat(),
        Skipped("PNG"),
    );
    let junk = b"\0junk of another program".repeat(400);
    table.add(
        "JPEG with 10 kB after its end",
        "tail.jpg",
        [&jpeg[..], &junk].concat(),
        Same(1.0),
    );
    table.add(
        "PNG with 10 kB after its end",
        "tail.png",
        [&png[..], &junk].concat(),
        Same(0.0),
    );
    table.add(
        "two JPEGs in one file: the first",
        "two.jpg",
        [&jpeg[..], &progressive].concat(),
        Same(1.0),
    );
    table.add(
        "JPEG with bytes before its start",
        "head.jpg",
        [b"\0\0".as_slice(), &jpeg].concat(),
        Skipped("is not an image in a known format"),
    );
    table.add(
        "PNG whose line ends were converted as text",
        "as-text.png",
        [b"\x89PNG\n\x1a\n", &png[8..]].concat(),
        Skipped("is not an image in a known format"),
    );
    let scan = jpeg.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    table.add(
        "JPEG without Huffman tables",
        "no-tables.jpg",
        {
            let table = jpeg.windows(2).position(|w| w == [0xff, 0xc4]).unwrap();
            [&jpeg[..table], &jpeg[scan..]].concat()
        },
        Skipped("JPEG"),
    );
    table.add(
        "JPEG without a scan",
        "no-scan.jpg",
        [&jpeg[..scan], b"\xff\xd9"].concat(),
        Skipped("JPEG"),
    );
    for seed in 1..=4 {
        table.add(
            &format!("JPEG with bits turned, {seed}"),
            &format!("rot-{seed}.jpg"),
            rotten(&jpeg, seed, 4),
            Either,
        );
        table.add(
            &format!("WebP with bits turned, {seed}"),
            &format!("rot-{seed}.webp"),
            rotten(&fixture("lossless.webp"), seed, 2),
            Either,
        );
        table.add(
            &format!("PNG with bits turned, {seed}"),
            &format!("rot-{seed}.png"),
            rotten(&png, seed, 3),
            Skipped("is broken PNG"),
        );
    }
}

/// What is no picture at all, or one that we do not read.
fn no_pictures(table: &mut Table) {
    for (about, name, bytes, reason) in [
        ("empty file", "empty.jpg", &b""[..], "is empty"),
        ("one byte", "byte.jpg", b"\xff", "is not an image"),
        ("text", "text.jpg", b"Forbidden", "it starts like text"),
        (
            "HTML",
            "page.jpg",
            b"<!DOCTYPE html><html>404",
            "it starts like HTML",
        ),
        (
            "JSON",
            "json.jpg",
            b"{\"error\": 403}",
            "it starts like text",
        ),
        (
            "UTF-16 text",
            "utf16.jpg",
            b"\xff\xfeh\0i\0",
            "is not an image",
        ),
        (
            "SVG",
            "drawing.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "is SVG",
        ),
        ("PDF", "page.png", b"%PDF-1.7", "it starts like PDF"),
        (
            "ZIP archive",
            "album.jpg",
            b"PK\x03\x04album",
            "a ZIP archive",
        ),
        (
            "gzip archive",
            "gzip.png",
            b"\x1f\x8b\x08",
            "a gzip archive",
        ),
        (
            "Git LFS pointer",
            "lfs.jpg",
            b"version https://git-lfs.github.com/spec/v1\n",
            "git lfs pull",
        ),
        (
            "zero bytes, as a card gives that lost its data",
            "zeros.jpg",
            &[0; 4096],
            "only zero bytes",
        ),
        (
            "random bytes",
            "random.jpg",
            b"\x93\x14\xfa\x02\x88\x01",
            "is not an image in a known format",
        ),
        (
            "HEIC",
            "phone.heic",
            b"\0\0\0\x18ftypheic\0\0\0\0",
            "is HEIC, which is not supported",
        ),
        (
            "AVIF",
            "web.avif",
            b"\0\0\0\x18ftypavif\0\0\0\0",
            "is AVIF, which is not supported",
        ),
        (
            "JPEG XL",
            "new.jxl",
            b"\xff\x0a\x01\x02",
            "is JPEG XL, which is not supported",
        ),
        (
            "icon",
            "icon.ico",
            b"\0\0\x01\0\x01\0",
            "an icon file, which is not supported",
        ),
        (
            "Photoshop file",
            "layers.psd",
            b"8BPS\0\x01",
            "a Photoshop file, which is not supported",
        ),
        (
            "Canon raw file",
            "raw.cr2",
            b"II*\0\x10\0\0\0CR\x02\0",
            "a Canon raw file, which is not supported",
        ),
        (
            "video",
            "film.jpg",
            b"\0\0\0\x18ftypisom\0\0\0\0",
            "it starts like an MP4 video",
        ),
    ] {
        table.add(about, name, bytes.to_vec(), Skipped(reason));
    }
}

/// Names that are odd, of a file that is fine.
fn names(table: &mut Table) {
    let png = fixture("clean.png");
    table.add(
        "PNG named .jpg",
        "wrong.jpg",
        png.clone(),
        Warned(0.0, "is PNG, despite the extension of its name"),
    );
    table.add(
        "JPEG named .png",
        "wrong.png",
        fixture("baseline.jpg"),
        Warned(1.0, "is JPEG, despite the extension of its name"),
    );
    let long = format!("{}.png", "n".repeat(251));
    for name in [
        "no-ending",
        "CAPITAL.PNG",
        "with space .png",
        "quote\".png",
        "it's.png",
        "comma, semi; tab\t.png",
        "new\nline.png",
        "new\nerror: forged.png",
        "\u{1b}]0;owned\u{7}.png",
        "\u{1b}[2J\u{1b}[31m.png",
        "\u{9b}2J.png",
        "right \u{202e}gnp.png",
        "=1+1.png",
        "+cmd|' C calc'!A0.png",
        "@SUM(A1).png",
        "-rf.png",
        "--force.png",
        "$(touch owned).png",
        "%s%n.png",
        "back\\slash.png",
        "写真 🐟 é.png",
        &long,
    ] {
        let about = match name.len() {
            255 => "a name of 255 bytes".to_owned(),
            _ => format!("the name `{}`", name.escape_default()),
        };
        table.add(&about, name, png.clone(), Same(0.0));
    }
    #[cfg(unix)]
    table.0.push(Case {
        about: "a name that is not UTF-8".to_owned(),
        name: {
            use std::os::unix::ffi::OsStrExt;
            OsStr::from_bytes(b"\xff\xfe\x80.png").to_owned()
        },
        bytes: png,
        outcome: Same(0.0),
    });
}
