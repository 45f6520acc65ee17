//! Reads a JPEG header: size, components, scans, colour, metadata (ITU-T T.81, annex B).

use jpeg_decoder::ColorTransform;

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// A marker and what belongs to it.
struct Segment<'a> {
    marker: u8,
    /// Where the marker's two bytes stand.
    start: usize,
    /// What follows the length; empty for markers without a length.
    data: &'a [u8],
}

/// The segments of a JPEG in their order. Bytes between segments, entropy-coded data among them, are skipped up
/// to the next marker that is neither a stuffed zero nor a restart. Ends after the end of the image, or where the
/// file ends.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn segments(bytes: &[u8]) -> Segments<'_> {
    // After the start of the image.
    Segments { bytes, at: 2 }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            let offset = rest.windows(2).position(|w| w[0] == 0xff && w[1] != 0xff)?;
            let start = self.at + offset;
            self.at = start + 2;
            let marker = self.bytes[start + 1];
            match marker {
                0x00 | 0x01 | 0xd0..=0xd8 => {}
                END_OF_IMAGE => {
                    self.at = self.bytes.len();
                    return Some(Segment {
                        marker,
                        start,
                        data: &[],
                    });
                }
                _ => {
                    let &[high, low] = self.bytes.get(self.at..self.at + 2)? else {
                        return None;
                    };
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    let data = self.bytes.get(self.at + 2..self.at + length.max(2));
                    self.at += length;
                    return Some(Segment {
                        marker,
                        start,
                        data: data?,
                    });
                }
            }
        }
    }
}

/// True if a JPEG ends before its end-of-image marker, or before its first scan.
pub(super) fn is_cut_off(bytes: &[u8]) -> bool {
    let mut scans = 0;
    for segment in segments(bytes) {
        match segment.marker {
            START_OF_SCAN => scans += 1,
            END_OF_IMAGE => return scans == 0,
            _ => {}
        }
    }
    true
}

/// One component of the frame: a plane of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Component {
    id: u8,
    /// Sampling factors, across and down: samples per unit of the frame, 1 to 4.
    sampling: (u8, u8),
}

/// What stands before a JPEG's first scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JpegHeader {
    /// Width and height in pixels, both at least 1.
    pub size: (u32, u32),
    components: Vec<Component>,
    /// Components of the first scan.
    first_scan: usize,
    progressive: bool,
    jfif: bool,
    /// The transform that an Adobe segment names; of several segments, the last one's.
    adobe: Option<u8>,
    /// True if there is an Adobe segment that names another transform than that of YCbCr, or none.
    odd_adobe: bool,
    /// The EXIF block, without its name; empty if there is none. Of several, the later ones carry the first one on.
    pub exif: Vec<u8>,
    /// The XMP packet; empty if there is none.
    pub xmp: Vec<u8>,
    /// Where the Adobe segments stand, in bytes.
    adobe_segments: Vec<std::ops::Range<usize>>,
}

impl JpegHeader {
    /// Reads the header of a JPEG; the error is one clause. A JPEG of a kind that no decoder here reads is an error:
    /// arithmetic coding, 12 bits, lossless, hierarchical, a height that stands after the image, 2 components or
    /// more than 4, sampling factors that do not divide the largest, and some factors with scans of their own.
    pub fn read(bytes: &[u8]) -> Result<JpegHeader, String> {
        let mut header = JpegHeader {
            size: (0, 0),
            components: Vec::new(),
            first_scan: 0,
            progressive: false,
            jfif: false,
            adobe: None,
            odd_adobe: false,
            exif: Vec::new(),
            xmp: Vec::new(),
            adobe_segments: Vec::new(),
        };
        let mut whole = false;
        for segment in segments(bytes) {
            match segment.marker {
                0xc4 | 0xc8 => {}
                0xcc => return Err(unsupported("arithmetic coding")),
                0xc0..=0xcf | 0xf7 => header.frame(segment.marker, segment.data)?,
                0xe0..=0xee => header.application(&segment),
                START_OF_SCAN => {
                    header.first_scan = usize::from(segment.data.first().copied().unwrap_or(0));
                    whole = true;
                    break;
                }
                END_OF_IMAGE => {
                    whole = true;
                    break;
                }
                _ => {}
            }
        }
        if !whole {
            return Err("is truncated: its JPEG data ends too early; copy it again".into());
        }
        match (header.components.is_empty(), header.first_scan) {
            (true, _) => Err("is broken JPEG (it has no frame header)".into()),
            (false, 0) => Err("is broken JPEG (it has no scan)".into()),
            _ if header.has_miscounted_scans() => {
                Err(unsupported("scans of components with odd sampling factors"))
            }
            (false, _) => Ok(header),
        }
    }

    /// A start of frame.
    fn frame(&mut self, marker: u8, data: &[u8]) -> Result<(), String> {
        match marker {
            0xc0..=0xc2 => {}
            0xc3 => return Err(unsupported("lossless")),
            0xc9..=0xcb => return Err(unsupported("arithmetic coding")),
            0xf7 => return Err(unsupported("JPEG-LS")),
            _ => return Err(unsupported("hierarchical")),
        }
        if !self.components.is_empty() {
            return Err("is broken JPEG (it has two frame headers)".into());
        }
        let &[bits, h1, h0, w1, w0, count, ref rest @ ..] = data else {
            return Err("is broken JPEG (its frame header is too short)".into());
        };
        if bits != 8 {
            return Err(unsupported(&format!("{bits} bits per sample")));
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        if height == 0 {
            return Err(unsupported("its height is stored after the image data"));
        }
        if width == 0 {
            return Err("is broken JPEG (its width is 0)".into());
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(unsupported(&format!("{count} components")));
        }
        if rest.len() < 3 * usize::from(count) {
            return Err("is broken JPEG (its frame header is too short)".into());
        }
        self.size = (width.into(), height.into());
        self.progressive = marker == 0xc2;
        self.components = rest
            .chunks_exact(3)
            .take(count.into())
            .map(|c| Component {
                id: c[0],
                sampling: (c[1] >> 4, c[1] & 15),
            })
            .collect();
        let factors = |of: fn(&Component) -> u8| self.components.iter().map(of);
        let uneven = |of: fn(&Component) -> u8| {
            let most = factors(of).max().unwrap_or(1);
            factors(of).any(|factor| factor == 0 || factor > 4 || most % factor != 0)
        };
        match uneven(|c| c.sampling.0) || uneven(|c| c.sampling.1) {
            true => Err(unsupported(
                "sampling factors that do not divide each other",
            )),
            false => Ok(()),
        }
    }

    /// An APPn segment.
    fn application(&mut self, segment: &Segment) {
        const EXIF: &[u8] = b"Exif\0\0";
        const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
        match (segment.marker, segment.data) {
            (0xe0, data) if data.starts_with(b"JFIF\0") && data.len() >= 14 => self.jfif = true,
            (0xe1, data) if data.starts_with(EXIF) => self.exif.extend(&data[EXIF.len()..]),
            (0xe1, data) if data.starts_with(XMP) => self.xmp = data[XMP.len()..].to_vec(),
            (0xee, data) if data.starts_with(b"Adobe") => {
                let end = segment.start + 4 + data.len();
                self.adobe_segments.push(segment.start..end);
                let transform = data.get(11).copied();
                self.odd_adobe |= transform != Some(1);
                self.adobe = transform.or(self.adobe);
            }
            _ => {}
        }
    }

    /// Planes of samples: 1 for grey, 3 for colour, 4 for inks.
    pub fn components(&self) -> usize {
        self.components.len()
    }

    /// How the samples become colours, by libjpeg's rule, which most programs share. Three components: a JFIF segment
    /// means YCbCr, else an Adobe segment with transform 0 means RGB and one with another transform YCbCr, else the
    /// identifiers `R`, `G`, `B` mean RGB and all others YCbCr. Four: an Adobe segment with a transform other than 0
    /// means YCCK, else they are CMYK. The size of the image and the kind of its scans have no part in it.
    pub fn colour(&self) -> ColorTransform {
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        match (ids.len(), self.adobe) {
            (1, _) => ColorTransform::Grayscale,
            (3, _) if self.jfif => ColorTransform::YCbCr,
            (3, Some(0)) => ColorTransform::RGB,
            (3, None) if ids == *b"RGB" => ColorTransform::RGB,
            (3, _) => ColorTransform::YCbCr,
            (_, None | Some(0)) => ColorTransform::CMYK,
            (_, Some(_)) => ColorTransform::YCCK,
        }
    }

    /// True if the faster decoder, zune-jpeg 0.5.15, reads the image rightly; `jpeg-decoder` reads all others.
    ///
    /// zune-jpeg gives wrong pixels without an error for sequential images whose components come in scans of their
    /// own, for chroma finer than luma and for some other sampling factors, and has a rule of its own for colours.
    /// It is taken only for grey with sampling factors of 1, and for YCbCr whose luma has factors of 1 or 2 and whose
    /// chroma has factors of 1; if sequential, with all components in the first scan; and if no Adobe segment and no
    /// identifiers say something else than YCbCr.
    pub fn is_plain(&self) -> bool {
        let in_one_scan = self.progressive || self.in_one_scan();
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        let samplings: Vec<(u8, u8)> = self.components.iter().map(|c| c.sampling).collect();
        match samplings[..] {
            [sampling] => in_one_scan && sampling == (1, 1) && !self.odd_adobe,
            [(across, down), (1, 1), (1, 1)] => {
                in_one_scan
                    && across <= 2
                    && down <= 2
                    && self.colour() == ColorTransform::YCbCr
                    && !self.odd_adobe
                    && ids != *b"RGB"
            }
            _ => false,
        }
    }

    /// True if a reduced image loses little of its colours: no component has less than half of another's samples,
    /// across or down.
    pub fn is_evenly_sampled(&self) -> bool {
        let even = |of: fn(&Component) -> u8| {
            let factors = || self.components.iter().map(of);
            factors().max() <= factors().min().map(|least| 2 * least)
        };
        even(|c| c.sampling.0) && even(|c| c.sampling.1)
    }

    fn in_one_scan(&self) -> bool {
        self.first_scan == self.components.len()
    }

    /// True if `jpeg-decoder` 0.3.2 counts the blocks of a scan wrongly: that of one component whose sampling factor is
    /// neither 1 nor the largest, which it pads to whole units of the frame. Sequential images have such scans if
    /// their components are apart, progressive ones always do.
    fn has_miscounted_scans(&self) -> bool {
        let between = |of: fn(&Component) -> u8| {
            let most = self.components.iter().map(of).max();
            let mut factors = self.components.iter().map(of);
            factors.any(|factor| factor > 1 && Some(factor) != most)
        };
        (self.progressive || !self.in_one_scan())
            && (between(|c| c.sampling.0) || between(|c| c.sampling.1))
    }

    /// The file without its Adobe segments, in two parts: `jpeg-decoder` refuses a transform that it does not know, and
    /// is told the colours by [`colour`](Self::colour).
    pub fn without_adobe<'a>(&self, bytes: &'a [u8]) -> (Vec<u8>, &'a [u8]) {
        let mut head = Vec::new();
        let mut at = 0;
        for segment in &self.adobe_segments {
            head.extend(&bytes[at..segment.start]);
            at = segment.end;
        }
        (head, &bytes[at..])
    }
}

fn unsupported(kind: &str) -> String {
    format!("is an unsupported kind of JPEG ({kind}); save it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG's bytes up to its first scan: three components with these identifiers, luma 2 x 2, and segments before
    /// them.
    fn header(segments: &[(u8, &[u8])], ids: [u8; 3]) -> Vec<u8> {
        let [a, b, c] = ids;
        let frame = [8, 0, 9, 0, 7, 3, a, 0x22, 0, b, 0x11, 0, c, 0x11, 0];
        let scan = [3, a, 0, b, 0, c, 0, 0, 63, 0];
        let mut bytes = vec![0xff, 0xd8];
        for (marker, data) in segments
            .iter()
            .copied()
            .chain([(0xc0, &frame[..]), (0xda, &scan[..])])
        {
            bytes.extend([0xff, marker, 0, data.len() as u8 + 2]);
            bytes.extend(data);
        }
        bytes
    }

    const JFIF: (u8, &[u8]) = (0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    const ADOBE: [(u8, &[u8]); 3] = [
        (0xee, b"Adobe\0\x64\0\0\0\0\0"),
        (0xee, b"Adobe\0\x64\0\0\0\0\x01"),
        (0xee, b"Adobe\0\x64\0\0\0\0\x09"),
    ];

    #[test]
    fn markers_decide_about_colour_as_in_libjpeg() {
        use ColorTransform::{RGB, YCbCr};
        let [zero, one, nine] = ADOBE;
        let ids = [1, 2, 3];
        for (segments, ids, colour, plain) in [
            (vec![], ids, YCbCr, true),
            (vec![], [0, 1, 2], YCbCr, true),
            (vec![], *b"RGB", RGB, false),
            (vec![JFIF], *b"RGB", YCbCr, false),
            (vec![JFIF], ids, YCbCr, true),
            (vec![JFIF, zero], ids, YCbCr, false),
            (vec![zero], ids, RGB, false),
            (vec![one], *b"RGB", YCbCr, false),
            (vec![one], ids, YCbCr, true),
            (vec![nine], ids, YCbCr, false),
            (vec![zero, one], ids, YCbCr, false),
        ] {
            let bytes = header(&segments, ids);
            let read = JpegHeader::read(&bytes).unwrap();
            assert_eq!(read.size, (7, 9));
            assert_eq!(
                (read.colour(), read.is_plain()),
                (colour, plain),
                "{segments:?}"
            );
            let (head, rest) = read.without_adobe(&bytes);
            let kept = [&head[..], rest].concat();
            assert!(!kept.windows(5).any(|w| w == b"Adobe"));
            assert_eq!(JpegHeader::read(&kept).unwrap().components, read.components);
        }
    }

    #[test]
    fn a_file_that_ends_within_a_segment_is_cut_off_and_has_no_header() {
        let whole = header(&[JFIF], [1, 2, 3]);
        let scan = whole.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
        assert!(is_cut_off(&whole));
        assert!(!is_cut_off(
            &[&whole[..], b"\x12\xff\0\x34\xff\xd9"].concat()
        ));
        assert!(is_cut_off(&[&whole[..scan], b"\xff\xd9"].concat()));
        for length in 2..scan {
            assert!(JpegHeader::read(&whole[..length]).is_err(), "{length}");
        }
    }
}
