//! Matrices in Q8_0 (blocks of 32 signed bytes and one scale in half precision) times columns in
//! Q8_0, for AVX-512 with VNNI.
//!
//! The library multiplies one row with one column at a time and adds up across a register at the
//! end of each block. Here a register holds the same four elements of sixteen rows: the rows are
//! turned around once for all columns, a column's elements are read straight from memory for all
//! sixteen rows, and nothing is added up across a register.
//!
//! **Invariant:** every element of the result is one chain of fused multiply-adds over its blocks,
//! from the first to the last. Its bits depend on its row and its column alone: not on how many
//! columns there are, how rows are dealt out to threads, or where a panel ends.

use std::{arch::x86_64::*, cell::RefCell, mem::MaybeUninit};

/// Bytes of a block: its scale, then its elements.
const BLOCK_BYTES: usize = 2 + BLOCK;
/// Elements of a block.
const BLOCK: usize = 32;
/// Rows that are computed together, one for each lane of a register.
const LANES: usize = 16;
/// Columns that are computed together: as many sums as fit beside a block of the rows.
const COLUMNS: usize = 16;
/// Columns for which the rows are turned while they are multiplied, and not kept.
const STREAMED: usize = 4;
/// Blocks of each row that are turned around at once. A panel of them stays in the nearest caches.
const DEPTH: usize = 64;
/// What memory brings at once.
const LINE_BYTES: usize = 64;
/// Panels that share prepared columns.
const PANELS: usize = 4;

/// What `native/avx512.c` calls: rows, the stride between them and their count, the rows that the
/// same thread takes next, as a hint; columns, their stride and count, the blocks of each, the result
/// and the stride between its columns. Strides count blocks, and floats in the result.
pub(crate) type MultiplyRows =
    unsafe extern "C" fn(*const u8, i64, i64, *const u8, *const u8, i64, i64, i64, *mut f32, i64);

/// Blocks of sixteen rows, turned around.
#[repr(C, align(64))]
struct Panel {
    /// Of each block eight registers: elements `4 * i` to `4 * i + 3` of all rows.
    elements: [[u8; 64]; DEPTH * 8],
    /// What the columns' offset of 128 adds to each row's sum, negated.
    offsets: [[i32; LANES]; DEPTH],
    scales: [[f32; LANES]; DEPTH],
}

/// Blocks of up to sixteen columns, their elements moved from signed to unsigned by adding 128,
/// because the instruction multiplies unsigned bytes with signed ones.
#[repr(C, align(64))]
struct Columns {
    elements: [[[u8; BLOCK]; DEPTH]; COLUMNS],
    scales: [[f32; DEPTH]; COLUMNS],
    /// What the rows' offset of 128 adds to the sum of each of few columns, negated.
    offsets: [[i32; DEPTH]; STREAMED],
}

struct Scratch {
    panels: [Panel; PANELS],
    columns: Columns,
}

impl Scratch {
    fn new() -> Box<Self> {
        let scratch: Box<MaybeUninit<Self>> = Box::new_zeroed();
        // SAFETY: it holds numbers alone, of which zero is one.
        unsafe { scratch.assume_init() }
    }
}

thread_local! {
    /// A fifth of a megabyte, too much for a stack that is not ours.
    static SCRATCH: RefCell<Option<Box<Scratch>>> = const { RefCell::new(None) };
}

/// Multiplies rows with columns, for C.
///
/// # Safety
///
/// The processor knows AVX-512 with VNNI; rows and columns hold as many blocks as is said, and the
/// result has room for `row_count` floats in each column, which no other thread touches meanwhile.
pub(crate) unsafe extern "C" fn multiply_rows(
    rows: *const u8,
    row_stride: i64,
    row_count: i64,
    next: *const u8,
    columns: *const u8,
    column_stride: i64,
    column_count: i64,
    blocks: i64,
    out: *mut f32,
    out_stride: i64,
) {
    let size = |n: i64| usize::try_from(n).expect("the library's sizes are not negative");
    let whole = Matrices {
        rows: Blocks { first: rows, stride: size(row_stride) },
        next,
        columns: Blocks { first: columns, stride: size(column_stride) },
        column_count: size(column_count),
        blocks: size(blocks),
        out,
        out_stride: size(out_stride),
    };
    let row_count = size(row_count);
    SCRATCH.with_borrow_mut(|scratch| {
        let scratch = scratch.get_or_insert_with(Scratch::new);
        for first in (0..row_count).step_by(LANES * PANELS) {
            let count = (row_count - first).min(LANES * PANELS);
            // SAFETY: as promised to this function.
            unsafe { multiply(scratch, &whole, first, count) };
        }
    });
}

/// Blocks in memory, of several rows or columns.
#[derive(Clone, Copy)]
struct Blocks {
    first: *const u8,
    stride: usize,
}

impl Blocks {
    /// Where the block of a row at a depth is, or would be.
    #[inline(always)]
    fn at(self, row: usize, depth: usize) -> *const u8 {
        self.first.wrapping_add((row * self.stride + depth) * BLOCK_BYTES)
    }
}

struct Matrices {
    rows: Blocks,
    /// The rows that this thread takes after these.
    next: *const u8,
    columns: Blocks,
    column_count: usize,
    /// Of each row and column.
    blocks: usize,
    out: *mut f32,
    out_stride: usize,
}

/// Multiplies up to four panels of rows with all columns.
///
/// # Safety
///
/// As [`multiply_rows`].
#[target_feature(enable = "avx2,f16c,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn multiply(scratch: &mut Scratch, whole: &Matrices, first_row: usize, row_count: usize) {
    let Scratch { panels, columns } = scratch;
    for depth in (0..whole.blocks).step_by(DEPTH) {
        let deep = (whole.blocks - depth).min(DEPTH);
        let part = Part { whole, first_row, row_count, depth, deep };
        // SAFETY: these rows are there, and `depth + deep` blocks of each.
        unsafe {
            if whole.column_count <= STREAMED {
                part.multiply_few(columns);
            } else {
                part.multiply_many(panels, columns);
            }
        }
    }
}

/// Some rows, some blocks deep.
struct Part<'a> {
    whole: &'a Matrices,
    first_row: usize,
    row_count: usize,
    depth: usize,
    deep: usize,
}

impl Part<'_> {
    fn panel_count(&self) -> usize {
        self.row_count.div_ceil(LANES)
    }

    /// The rows of a panel, and where those are that are read after it.
    fn lanes(&self, panel: usize) -> Lanes {
        let Self { whole, first_row, row_count, depth, deep } = *self;
        let ahead = if panel + 1 < self.panel_count() {
            whole.rows.at(first_row + (panel + 1) * LANES, depth)
        } else if depth + deep < whole.blocks {
            whole.rows.at(first_row, depth + deep)
        } else {
            whole.next
        };
        let last_row = first_row + row_count - 1;
        Lanes::new(whole.rows, first_row + panel * LANES, last_row, depth, deep, ahead)
    }

    /// What takes the place of a panel's rows when all columns are done with them.
    fn ahead(&self, panel: usize) -> Ahead {
        let rows = self.whole.rows;
        let depth = self.depth + self.deep;
        if depth < self.whole.blocks {
            let deep = (self.whole.blocks - depth).min(DEPTH);
            return Ahead::new(rows.at(self.first_row + panel * LANES, depth), rows, deep);
        }
        let next = Blocks { first: self.whole.next, ..rows };
        Ahead::new(next.at(panel * LANES, 0), rows, self.whole.blocks.min(DEPTH))
    }

    /// Columns from one on.
    fn columns(&self, first: usize) -> Blocks {
        let columns = self.whole.columns;
        Blocks { first: columns.at(first, self.depth), ..columns }
    }

    fn tile(&self, panel: usize, first_column: usize) -> Tile {
        let row = self.first_row + panel * LANES;
        let rows = (self.row_count - panel * LANES).min(LANES);
        Tile {
            out: self.whole.out.wrapping_add(first_column * self.whole.out_stride + row),
            stride: self.whole.out_stride,
            mask: u16::MAX >> (LANES - rows),
            is_first: self.depth == 0,
            deep: self.deep,
        }
    }

    /// With up to [`STREAMED`] columns.
    ///
    /// # Safety
    ///
    /// Rows, columns and the result are there.
    #[target_feature(enable = "avx2,f16c,fma,avx512f,avx512vl,avx512vnni")]
    unsafe fn multiply_few(&self, columns: &mut Columns) {
        let from = self.columns(0);
        let count = self.whole.column_count;
        // SAFETY: as promised.
        unsafe { columns.weigh(from, count, self.deep) };
        for panel in 0..self.panel_count() {
            let (tile, lanes) = (self.tile(panel, 0), self.lanes(panel));
            // SAFETY: as promised; the mask leaves out the rows that are not there.
            unsafe {
                match count {
                    1 => tile.stream::<1>(lanes, from, columns),
                    2 => tile.stream::<2>(lanes, from, columns),
                    3 => tile.stream::<3>(lanes, from, columns),
                    _ => tile.stream::<STREAMED>(lanes, from, columns),
                }
            }
        }
    }

    /// With any number of columns.
    ///
    /// # Safety
    ///
    /// Rows, columns and the result are there.
    #[target_feature(enable = "avx2,f16c,fma,avx512f,avx512vnni")]
    unsafe fn multiply_many(&self, panels: &mut [Panel; PANELS], columns: &mut Columns) {
        let panels = &mut panels[..self.panel_count()];
        for (i, panel) in panels.iter_mut().enumerate() {
            // SAFETY: as promised.
            unsafe { panel.fill(self.lanes(i)) };
        }
        for first in (0..self.whole.column_count).step_by(COLUMNS) {
            let count = (self.whole.column_count - first).min(COLUMNS);
            // SAFETY: as promised.
            unsafe { columns.fill(self.columns(first), count, self.deep) };
            for (i, panel) in panels.iter().enumerate() {
                let tile = self.tile(i, first);
                let ahead = if first == 0 { Some(self.ahead(i)) } else { None };
                macro_rules! of_columns {
                    ($($n:literal)*) => {
                        // SAFETY: as promised; the mask leaves out the rows that are not there.
                        unsafe {
                            match count {
                                $($n => tile.multiply::<$n>(panel, columns, ahead),)*
                                _ => tile.multiply::<COLUMNS>(panel, columns, ahead),
                            }
                        }
                    };
                }
                of_columns!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            }
        }
    }
}

/// Rows that are needed soon, asked for one after the other while others are computed. The processor
/// does not foresee sixteen rows side by side, and would wait for each.
struct Ahead {
    /// Where the next blocks to ask for are, and where those of the row end.
    at: *const u8,
    end: *const u8,
    row_bytes: usize,
    deep_bytes: usize,
}

impl Ahead {
    /// From this block on.
    fn new(at: *const u8, rows: Blocks, deep: usize) -> Self {
        let deep_bytes = deep * BLOCK_BYTES;
        let row_bytes = rows.stride * BLOCK_BYTES;
        Self { at, end: at.wrapping_add(deep_bytes), row_bytes, deep_bytes }
    }

    /// Asks for one share of as many as a row has blocks.
    #[target_feature(enable = "avx512f")]
    fn fetch(&mut self) {
        const SHARE: usize = LANES * BLOCK_BYTES;
        for line in (0..SHARE).step_by(LINE_BYTES) {
            _mm_prefetch::<_MM_HINT_T1>(self.at.wrapping_add(line).cast());
        }
        self.at = self.at.wrapping_add(SHARE);
        if self.at >= self.end {
            self.end = self.end.wrapping_add(self.row_bytes);
            self.at = self.end.wrapping_sub(self.deep_bytes);
        }
    }
}

/// Sixteen rows that are read side by side. Where there are fewer, the last one stands for those that
/// are missing.
struct Lanes {
    rows: [*const u8; LANES],
    deep: usize,
    /// What comes after these.
    ahead: Ahead,
}

impl Lanes {
    fn new(
        rows: Blocks,
        first_row: usize,
        last_row: usize,
        depth: usize,
        deep: usize,
        ahead: *const u8,
    ) -> Self {
        let deep = deep.min(DEPTH);
        Self {
            rows: std::array::from_fn(|lane| rows.at((first_row + lane).min(last_row), depth)),
            deep,
            ahead: Ahead::new(ahead, rows, deep),
        }
    }

    /// A block of all rows, turned around: register `i` has elements `4 * i` to `4 * i + 3` of each.
    ///
    /// # Safety
    ///
    /// The rows have this block.
    #[target_feature(enable = "avx2,avx512f")]
    unsafe fn turned(&self, block: usize) -> [__m512i; 8] {
        // The elements of one row in the lower half, those of the fourth after it in the upper one.
        let pair = |lane: usize| {
            let skip = block * BLOCK_BYTES + 2;
            // SAFETY: a block's elements follow its scale.
            let (low, high) = unsafe {
                (
                    _mm256_loadu_si256(self.rows[lane].add(skip).cast()),
                    _mm256_loadu_si256(self.rows[lane + 4].add(skip).cast()),
                )
            };
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        };
        let [a, b, c, d] = turn_four([pair(0), pair(1), pair(2), pair(3)]);
        let [e, f, g, h] = turn_four([pair(8), pair(9), pair(10), pair(11)]);
        [
            _mm512_shuffle_i32x4::<0x88>(a, e),
            _mm512_shuffle_i32x4::<0x88>(b, f),
            _mm512_shuffle_i32x4::<0x88>(c, g),
            _mm512_shuffle_i32x4::<0x88>(d, h),
            _mm512_shuffle_i32x4::<0xdd>(a, e),
            _mm512_shuffle_i32x4::<0xdd>(b, f),
            _mm512_shuffle_i32x4::<0xdd>(c, g),
            _mm512_shuffle_i32x4::<0xdd>(d, h),
        ]
    }

    /// The scales of a block of all rows.
    ///
    /// # Safety
    ///
    /// The rows have this block.
    #[target_feature(enable = "avx2,f16c,avx512f")]
    unsafe fn scales(&self, block: usize) -> __m512 {
        let half = |lane: usize| {
            // SAFETY: a block that is there begins with its scale, at any address.
            unsafe { self.rows[lane].add(block * BLOCK_BYTES).cast::<i16>().read_unaligned() }
        };
        _mm512_cvtph_ps(_mm256_setr_epi16(
            half(0),
            half(1),
            half(2),
            half(3),
            half(4),
            half(5),
            half(6),
            half(7),
            half(8),
            half(9),
            half(10),
            half(11),
            half(12),
            half(13),
            half(14),
            half(15),
        ))
    }
}

/// Four pairs of rows, of which each quarter of a register then holds four elements of four rows.
#[target_feature(enable = "avx512f")]
fn turn_four(pairs: [__m512i; 4]) -> [__m512i; 4] {
    let [a, b, c, d] = pairs;
    let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

impl Panel {
    /// # Safety
    ///
    /// The rows have as many blocks as they say.
    #[target_feature(enable = "avx2,f16c,avx512f,avx512vnni")]
    unsafe fn fill(&mut self, mut lanes: Lanes) {
        let offset = _mm512_set1_epi8(-128);
        for block in 0..lanes.deep {
            lanes.ahead.fetch();
            // SAFETY: as promised; what is written are sixteen lanes each, aligned.
            unsafe {
                let mut sums = _mm512_setzero_si512();
                for (i, elements) in lanes.turned(block).into_iter().enumerate() {
                    sums = _mm512_dpbusd_epi32(sums, offset, elements);
                    let to = &mut self.elements[block * 8 + i];
                    _mm512_store_si512(to.as_mut_ptr().cast(), elements);
                }
                let negated = _mm512_sub_epi32(_mm512_setzero_si512(), sums);
                _mm512_store_si512(self.offsets[block].as_mut_ptr().cast(), negated);
                _mm512_store_ps(self.scales[block].as_mut_ptr(), lanes.scales(block));
            }
        }
    }
}

impl Columns {
    /// Takes elements, unsigned, and scales.
    ///
    /// # Safety
    ///
    /// The columns are there, and `deep` blocks of each.
    #[target_feature(enable = "avx2,f16c,avx512f")]
    unsafe fn fill(&mut self, from: Blocks, count: usize, deep: usize) {
        let offset = _mm256_set1_epi8(-128);
        for column in 0..count {
            for block in 0..deep {
                // SAFETY: a block that is there: its scale, then its elements. What is written is aligned.
                unsafe {
                    let at = from.at(column, block);
                    let elements = _mm256_loadu_si256(at.add(2).cast());
                    let to = self.elements[column][block].as_mut_ptr();
                    _mm256_store_si256(to.cast(), _mm256_xor_si256(elements, offset));
                    self.scales[column][block] = scale(at);
                }
            }
        }
    }

    /// Takes scales, and what an offset of 128 of the rows adds.
    ///
    /// # Safety
    ///
    /// The columns are there, and `deep` blocks of each.
    #[target_feature(enable = "avx2,f16c,avx512f,avx512vl,avx512vnni")]
    unsafe fn weigh(&mut self, from: Blocks, count: usize, deep: usize) {
        let offset = _mm256_set1_epi8(-128);
        for column in 0..count {
            for block in 0..deep {
                // SAFETY: a block that is there: its scale, then its elements.
                unsafe {
                    let at = from.at(column, block);
                    let elements = _mm256_loadu_si256(at.add(2).cast());
                    let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), offset, elements);
                    let sums = _mm512_zextsi256_si512(sums);
                    self.offsets[column][block] = -_mm512_reduce_add_epi32(sums);
                    self.scales[column][block] = scale(at);
                }
            }
        }
    }
}

/// The scale that a block begins with.
///
/// # Safety
///
/// The block is there.
#[target_feature(enable = "f16c")]
unsafe fn scale(block: *const u8) -> f32 {
    // SAFETY: as promised, at any address.
    let half = unsafe { block.cast::<u16>().read_unaligned() };
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half))))
}

/// A part of the result: sixteen rows and some columns, some blocks deep.
struct Tile {
    out: *mut f32,
    stride: usize,
    /// The rows that are there.
    mask: u16,
    /// Whether the result is set, and not added to.
    is_first: bool,
    deep: usize,
}

impl Tile {
    /// The sums so far.
    ///
    /// # Safety
    ///
    /// The result has room for the rows of the mask in `N` columns.
    #[target_feature(enable = "avx512f")]
    unsafe fn load<const N: usize>(&self) -> [__m512; N] {
        let mut sums = [_mm512_setzero_ps(); N];
        if !self.is_first {
            for (column, sum) in sums.iter_mut().enumerate() {
                // SAFETY: as promised.
                *sum =
                    unsafe { _mm512_maskz_loadu_ps(self.mask, self.out.add(column * self.stride)) };
            }
        }
        sums
    }

    /// # Safety
    ///
    /// As [`Self::load`].
    #[target_feature(enable = "avx512f")]
    unsafe fn store<const N: usize>(&self, sums: [__m512; N]) {
        for (column, sum) in sums.into_iter().enumerate() {
            // SAFETY: as promised.
            unsafe { _mm512_mask_storeu_ps(self.out.add(column * self.stride), self.mask, sum) };
        }
    }

    /// Many columns, with rows that were turned before.
    ///
    /// # Safety
    ///
    /// As [`Self::load`].
    #[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
    unsafe fn multiply<const N: usize>(
        &self,
        panel: &Panel,
        columns: &Columns,
        mut ahead: Option<Ahead>,
    ) {
        // SAFETY: as promised.
        let mut sums = unsafe { self.load::<N>() };
        for block in 0..self.deep.min(DEPTH) {
            if let Some(ahead) = &mut ahead {
                ahead.fetch();
            }
            // SAFETY: aligned, sixteen lanes each.
            let load = |from: *const u8| unsafe { _mm512_load_si512(from.cast()) };
            let rows: [__m512i; 8] =
                std::array::from_fn(|i| load(panel.elements[block * 8 + i].as_ptr()));
            let offsets = load(panel.offsets[block].as_ptr().cast());
            // SAFETY: as above.
            let scales = unsafe { _mm512_load_ps(panel.scales[block].as_ptr()) };
            for (column, sum) in sums.iter_mut().enumerate() {
                let elements = &columns.elements[column][block];
                let mut dot = offsets;
                for (i, row) in rows.iter().enumerate() {
                    let at = 4 * i;
                    let four = [elements[at], elements[at + 1], elements[at + 2], elements[at + 3]];
                    let four = _mm512_set1_epi32(i32::from_le_bytes(four));
                    dot = _mm512_dpbusd_epi32(dot, four, *row);
                }
                let scale = _mm512_mul_ps(scales, _mm512_set1_ps(columns.scales[column][block]));
                *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, *sum);
            }
        }
        // SAFETY: as promised.
        unsafe { self.store(sums) };
    }

    /// Few columns: the rows come from memory and are needed once. Their elements are made unsigned
    /// here, where the columns' are not.
    ///
    /// # Safety
    ///
    /// As [`Self::load`]; the rows and columns have `deep` blocks.
    #[target_feature(enable = "avx2,f16c,fma,avx512f,avx512vnni")]
    unsafe fn stream<const N: usize>(&self, mut lanes: Lanes, from: Blocks, columns: &Columns) {
        let offset = _mm512_set1_epi8(-128);
        // SAFETY: as promised.
        let mut sums = unsafe { self.load::<N>() };
        for block in 0..self.deep.min(DEPTH) {
            lanes.ahead.fetch();
            // SAFETY: as promised.
            let (rows, scales) = unsafe { (lanes.turned(block), lanes.scales(block)) };
            let mut dots: [__m512i; N] =
                std::array::from_fn(|column| _mm512_set1_epi32(columns.offsets[column][block]));
            for (i, row) in rows.into_iter().enumerate() {
                let row = _mm512_xor_si512(row, offset);
                for (column, dot) in dots.iter_mut().enumerate() {
                    let at = from.at(column, block).wrapping_add(2 + 4 * i);
                    // SAFETY: four elements of a block that is there.
                    let four = unsafe { at.cast::<i32>().read_unaligned() };
                    *dot = _mm512_dpbusd_epi32(*dot, row, _mm512_set1_epi32(four));
                }
            }
            for (column, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
                let scale = _mm512_mul_ps(scales, _mm512_set1_ps(columns.scales[column][block]));
                *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, *sum);
            }
        }
        // SAFETY: as promised.
        unsafe { self.store(sums) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some blocks: a scale and its elements each.
    fn matrix(rows: usize, blocks: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..rows * blocks)
            .flat_map(|_| {
                // Between 2^-8 and 2^-4, with all bits of the fraction.
                let scale = [next(), 0x1c + next() % 16];
                let elements: [u8; BLOCK] = std::array::from_fn(|_| next());
                [&scale[..], &elements].concat()
            })
            .collect()
    }

    fn half(bytes: &[u8]) -> f32 {
        let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
        let fraction = 1.0 + f32::from(bits & 0x3ff) / 1024.0;
        fraction * 2_f32.powi(i32::from(bits >> 10) - 15)
    }

    /// One element of the result, as the invariant says it.
    fn element(row: &[u8], column: &[u8]) -> f32 {
        let blocks = row.chunks(BLOCK_BYTES).zip(column.chunks(BLOCK_BYTES));
        blocks.fold(0.0, |sum, (a, b)| {
            let signed = |byte: &u8| i32::from(byte.cast_signed());
            let dot: i32 = a[2..].iter().zip(&b[2..]).map(|(a, b)| signed(a) * signed(b)).sum();
            #[expect(clippy::cast_precision_loss, reason = "below 2^20")]
            let dot = dot as f32;
            dot.mul_add(half(a) * half(b), sum)
        })
    }

    fn check(rows: usize, columns: usize, blocks: usize, seed: u64) {
        if crate::Kernels::best() != crate::Kernels::Avx512 {
            return;
        }
        let a = matrix(rows, blocks, seed);
        let b = matrix(columns, blocks, !seed);
        let untouched = f32::from_bits(0x7fc0_1234);
        // One row of the result more than is written, so that writing too far shows.
        let stride = rows + 1;
        let mut out = vec![untouched; stride * columns];
        let size = |n: usize| i64::try_from(n).unwrap();
        // SAFETY: the matrices have the sizes that are said.
        unsafe {
            multiply_rows(
                a.as_ptr(),
                size(blocks),
                size(rows),
                std::ptr::null(),
                b.as_ptr(),
                size(blocks),
                size(columns),
                size(blocks),
                out.as_mut_ptr(),
                size(stride),
            );
        }
        for (i, column) in out.chunks(stride).enumerate() {
            for (j, found) in column[..rows].iter().enumerate() {
                let line = blocks * BLOCK_BYTES;
                let expected = element(&a[j * line..][..line], &b[i * line..][..line]);
                assert_eq!(found.to_bits(), expected.to_bits(), "row {j}, column {i}");
            }
            assert_eq!(column[rows].to_bits(), untouched.to_bits());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn every_element_is_one_chain(
            rows in 1_usize..80,
            columns in 1_usize..40,
            blocks in 1_usize..9,
            seed: u64,
        ) {
            check(rows, columns, blocks, seed);
        }
    }

    /// Around the sizes at which panels, columns and depth end.
    #[test]
    fn the_edges_are_like_the_middle() {
        for rows in [15, 16, 17, 64, 65] {
            for columns in [1, 16, 17] {
                for blocks in [DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + 3] {
                    check(rows, columns, blocks, 7);
                }
            }
        }
    }

    #[test]
    fn the_largest_elements_do_not_overflow() {
        if crate::Kernels::best() != crate::Kernels::Avx512 {
            return;
        }
        let one = [&[0, 0x3c][..], &[0x80; BLOCK]].concat();
        let mut out = 0.0;
        // SAFETY: one block times one block.
        unsafe {
            multiply_rows(one.as_ptr(), 1, 1, one.as_ptr(), one.as_ptr(), 1, 1, 1, &raw mut out, 1)
        };
        assert_eq!(out.to_bits(), (32.0 * 128.0 * 128.0_f32).to_bits());
    }
}
