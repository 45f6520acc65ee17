//! The directory of a TIFF file or of an EXIF block, which has the same structure.

/// One field: what it is and where its values stand.
#[derive(Clone, Copy, Debug)]
struct Field {
    /// Where the field itself stands, in bytes from the start.
    entry: usize,
    tag: u16,
    kind: u16,
    count: u64,
    /// Where its first value stands, in bytes from the start.
    at: usize,
}

/// The fields of the first directory. Nothing in it is checked but where it stands; what lies outside the bytes is
/// not there.
#[derive(Clone, Debug)]
pub(crate) struct Directory<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// True for BigTIFF, whose offsets have 8 bytes.
    big: bool,
    fields: Vec<Field>,
    /// Where the directory after this one stands; 0 if there is none.
    next: u64,
}

/// Bytes of one value of a type of the TIFF specification; `None` for types that there are not.
fn value_bytes(kind: u16) -> Option<usize> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}

impl<'a> Directory<'a> {
    /// The first directory of `bytes`, which start with the byte order; also of a BigTIFF file.
    pub fn first(bytes: &'a [u8]) -> Option<Directory<'a>> {
        let header = Directory::header(bytes)?;
        let start = match header.big {
            false => header.unsigned(4, 4)?,
            true => header.unsigned(8, 8)?,
        };
        Directory::at(bytes, start)
    }

    /// The directory of the same file that stands at `start`.
    pub fn at(bytes: &'a [u8], start: u64) -> Option<Directory<'a>> {
        let mut directory = Directory::header(bytes)?;
        let (count_bytes, field_bytes, inline) = match directory.big {
            false => (2, 12, 4),
            true => (8, 20, 8),
        };
        let start = usize::try_from(start).ok()?;
        let count = directory.unsigned(start, count_bytes)?;
        let mut at = start + count_bytes;
        for _ in 0..count {
            // Nothing below overflows: `at` is within the bytes or just after them.
            let Some(tag) = directory
                .unsigned(at, 2)
                .filter(|_| at + field_bytes <= bytes.len())
            else {
                return Some(directory);
            };
            let kind = directory.unsigned(at + 2, 2)? as u16;
            let count = directory.unsigned(at + 4, inline)?;
            let at_entry = at;
            let mut place = Some(at + 4 + inline);
            let size = value_bytes(kind).unwrap_or(0) as u64;
            if size.saturating_mul(count) > inline as u64 {
                let outside = directory.unsigned(at + 4 + inline, inline)?;
                place = usize::try_from(outside)
                    .ok()
                    .filter(|&place| place < bytes.len());
            }
            if let Some(at) = place {
                directory.fields.push(Field {
                    entry: at_entry,
                    tag: tag as u16,
                    kind,
                    count,
                    at,
                });
            }
            at += field_bytes;
        }
        directory.next = directory.unsigned(at, inline).unwrap_or(0);
        Some(directory)
    }

    /// The directory after this one, if there is one.
    pub fn next(&self) -> Option<Directory<'a>> {
        Directory::at(self.bytes, self.next).filter(|_| self.next != 0)
    }

    /// The byte order and the size of offsets, without fields.
    fn header(bytes: &'a [u8]) -> Option<Directory<'a>> {
        let mut header = Directory {
            bytes,
            big_endian: bytes.starts_with(b"MM"),
            big: false,
            fields: Vec::new(),
            next: 0,
        };
        if !header.big_endian && !bytes.starts_with(b"II") {
            return None;
        }
        header.big = match header.unsigned(2, 2)? {
            // Some cameras write the number in the other byte order than the rest.
            42 | 0x2a00 => false,
            43 => true,
            _ => return None,
        };
        Some(header)
    }

    /// True for the byte order `MM`.
    pub fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    /// True if there is a field of this tag.
    pub fn has(&self, tag: u16) -> bool {
        self.field(tag).is_some()
    }

    /// Where the fields stand that repeat the tag of one before them, and are not read.
    pub fn repeated(&self) -> impl Iterator<Item = usize> {
        let read = |field: &&Field| {
            self.field(field.tag)
                .is_some_and(|read| read.entry == field.entry)
        };
        let fields = self.fields.iter();
        fields.filter(move |field| !read(field)).map(|f| f.entry)
    }

    /// The whole numbers of a field, of a type that is unsigned. Those that lie outside the bytes are left out.
    pub fn numbers(&self, tag: u16) -> Option<Vec<u64>> {
        let field = self.field(tag)?;
        let size = match field.kind {
            1 | 3 | 4 | 13 | 16 => value_bytes(field.kind)?,
            _ => return None,
        };
        let there = self.bytes.len().saturating_sub(field.at) / size;
        let count = usize::try_from(field.count)
            .unwrap_or(usize::MAX)
            .min(there);
        (0..count)
            .map(|i| self.unsigned(field.at + i * size, size))
            .collect()
    }

    /// The first whole number of a field.
    pub fn number(&self, tag: u16) -> Option<u64> {
        self.numbers(tag)?.first().copied()
    }

    /// The first value of a field of any type of numbers, signed, fractions and floating-point ones among them.
    pub fn value(&self, tag: u16) -> Option<f64> {
        let field = self.field(tag).filter(|field| field.count > 0)?;
        let bits = |at: usize, bytes: usize| self.unsigned(at, bytes);
        let half = |offset: usize| bits(field.at + offset, 4);
        let size = value_bytes(field.kind)?;
        let whole = bits(field.at, size)?;
        Some(match field.kind {
            1 | 3 | 4 | 13 | 16 | 18 => whole as f64,
            6 => f64::from(whole as i8),
            8 => f64::from(whole as i16),
            9 => f64::from(whole as i32),
            17 => whole as i64 as f64,
            11 => f64::from(f32::from_bits(whole as u32)),
            12 => f64::from_bits(whole),
            5 => half(0)? as f64 / half(4)? as f64,
            10 => f64::from(half(0)? as i32) / f64::from(half(4)? as i32),
            _ => return None,
        })
    }

    /// The bytes of a field.
    pub fn data(&self, tag: u16) -> Option<&'a [u8]> {
        let field = self.field(tag)?;
        let length = usize::try_from(field.count)
            .ok()?
            .checked_mul(value_bytes(field.kind)?)?;
        self.bytes.get(field.at..field.at.checked_add(length)?)
    }

    /// Where the first value of a field stands, in bytes from the start, and how many bytes one value has.
    pub fn place(&self, tag: u16) -> Option<(usize, usize)> {
        let field = self.field(tag)?;
        Some((field.at, value_bytes(field.kind)?))
    }

    /// The field of this tag; of several, the first that has a value, as libtiff and Pillow have it.
    fn field(&self, tag: u16) -> Option<&Field> {
        let mut fields = self.fields.iter().filter(|field| field.tag == tag);
        let mut having = fields.clone();
        having
            .find(|field| field.count > 0 && value_bytes(field.kind).is_some())
            .or_else(|| fields.next())
    }

    /// The unsigned number of so many bytes at a place.
    fn unsigned(&self, at: usize, bytes: usize) -> Option<u64> {
        let digits = self.bytes.get(at..at.checked_add(bytes)?)?;
        let join = |number: u64, digit: &u8| number << 8 | u64::from(*digit);
        Some(match self.big_endian {
            true => digits.iter().fold(0, join),
            false => digits.iter().rev().fold(0, join),
        })
    }
}
