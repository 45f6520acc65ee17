//! Memory for maps and weights.

use memmap2::MmapMut;

/// Bytes to which buffers are aligned: a cache line, and the widest vector.
pub(super) const ALIGNMENT: usize = 64;

/// Values in a cache line.
const LINE: usize = ALIGNMENT / size_of::<f32>();

/// From this many bytes, a buffer asks for huge pages: maps and weights are walked through with strides at
/// which looking up small pages costs more than the loads themselves.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// f32 values whose first lies on a cache line.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

/// One cache line of values.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

impl Buffer {
    /// At least `len` zeros; a few.
    pub(super) fn zeros(len: usize) -> Buffer {
        Buffer {
            memory: Memory::Lines(vec![Line([0.0; LINE]); len.div_ceil(LINE)]),
        }
    }

    /// At least `len` zeros; none if the system has not as much memory.
    pub(super) fn try_zeros(len: usize) -> Option<Buffer> {
        let bytes = len.checked_mul(size_of::<f32>())?;
        // Not rounded up to whole huge pages: each takes the system long to find.
        if bytes >= HUGE_PAGE_BYTES
            && let Some(whole) = bytes.checked_next_multiple_of(ALIGNMENT)
            && let Ok(pages) = MmapMut::map_anon(whole)
        {
            // A system without huge pages gives small ones.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Some(Buffer {
                memory: Memory::Pages(pages),
            });
        }
        let mut lines = Vec::new();
        lines.try_reserve_exact(len.div_ceil(LINE)).ok()?;
        lines.resize(len.div_ceil(LINE), Line([0.0; LINE]));
        Some(Buffer {
            memory: Memory::Lines(lines),
        })
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        match &self.memory {
            Memory::Lines(lines) => lines.len() * LINE,
            Memory::Pages(pages) => pages.len() / size_of::<f32>(),
        }
    }

    pub(super) fn as_ptr(&self) -> *const f32 {
        match &self.memory {
            Memory::Lines(lines) => lines.as_ptr().cast(),
            Memory::Pages(pages) => pages.as_ptr().cast(),
        }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        match &mut self.memory {
            Memory::Lines(lines) => lines.as_mut_ptr().cast(),
            Memory::Pages(pages) => pages.as_mut_ptr().cast(),
        }
    }

    /// All values.
    fn as_slice(&self) -> &[f32] {
        // SAFETY: `len` counts the values of lines or pages: a `Line` is `LINE` f32 without padding, and every pattern
        // of bits in a page is an f32; both are aligned to more than f32, and borrowed as long as the slice.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// All values.
    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.len();
        // SAFETY: as for `as_slice`, borrowed mutably as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }
}

impl Clone for Buffer {
    /// A copy; one without values if the system has not as much memory.
    fn clone(&self) -> Buffer {
        let mut copy = Buffer::try_zeros(self.len()).unwrap_or_default();
        let len = copy.len().min(self.len());
        copy.as_mut_slice()[..len].copy_from_slice(&self.as_slice()[..len]);
        copy
    }
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::zeros(0)
    }
}
