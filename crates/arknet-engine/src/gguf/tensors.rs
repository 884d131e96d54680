use std::{collections::BTreeSet, io::Read};

use super::{GgufError, reader::Reader};

/// Tensors in one file; the largest models have a few thousand.
pub(super) const TENSORS_MAX: u64 = 65_536;
/// Bytes of a tensor's name, as the native loader has it, without its closing zero.
const NAME_BYTES_MAX: u64 = 63;
const DIMENSIONS_MAX: u32 = 4;

/// All tensors together.
pub(super) struct Sizes {
    pub elements: u64,
    pub bytes: u64,
}

/// Checks that every tensor lies inside the file and gives the sizes of all of them.
pub(super) fn check<R: Read>(
    reader: &mut Reader<R>,
    tensors: u64,
    alignment: u64,
) -> Result<Sizes, GgufError> {
    let mut names = BTreeSet::new();
    // Where the last byte of the tensors is, counted from where they begin.
    let mut end = 0_u64;
    let mut total = Sizes { elements: 0, bytes: 0 };
    for _ in 0..tensors {
        let name = reader.text("a tensor's name", NAME_BYTES_MAX)?;
        let Sizes { elements, bytes } = size(reader)?;
        let offset = reader.u64()?;
        if offset % alignment != 0 {
            return Err(GgufError::Absurd { what: "a tensor's place", found: offset });
        }
        end = end.max(offset.saturating_add(bytes));
        total.bytes = total.bytes.saturating_add(bytes);
        total.elements = total.elements.saturating_add(elements);
        if !names.insert(name) {
            return Err(GgufError::Absurd {
                what: "the list of tensors, which has a name twice,",
                found: tensors,
            });
        }
    }
    let begin = reader.position().next_multiple_of(alignment);
    // Without tensors nothing needs to be aligned.
    let needed = if end > 0 { begin.saturating_add(end) } else { reader.position() };
    if needed > reader.length() {
        return Err(GgufError::Truncated { length: reader.length(), needed });
    }
    Ok(total)
}

/// The size of one tensor, from its dimensions and its type.
fn size<R: Read>(reader: &mut Reader<R>) -> Result<Sizes, GgufError> {
    let dimensions = reader.u32()?;
    if dimensions > DIMENSIONS_MAX {
        return Err(GgufError::Absurd {
            what: "a tensor's number of dimensions",
            found: u64::from(dimensions),
        });
    }
    let absurd = |found| GgufError::Absurd { what: "a tensor's size", found };
    let mut row = 1;
    let mut elements = 1_u64;
    for dimension in 0..dimensions {
        let length = reader.u64()?;
        if dimension == 0 {
            row = length;
        }
        elements = elements
            .checked_mul(length)
            .filter(|n| i64::try_from(*n).is_ok())
            .ok_or_else(|| absurd(length))?;
    }
    let number = reader.u32()?;
    let (block, bytes) =
        block_of(number).ok_or(GgufError::Unsupported { what: "tensor type", found: number })?;
    if row % block != 0 {
        return Err(absurd(row));
    }
    let bytes = (elements / block).checked_mul(bytes).ok_or_else(|| absurd(elements))?;
    Ok(Sizes { elements, bytes })
}

/// Elements and bytes of one block of a tensor type, by its number in the file.
pub(super) const fn block_of(number: u32) -> Option<(u64, u64)> {
    Some(match number {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        24 => (1, 1),
        27 | 28 => (1, 8),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        40 => (64, 36),
        41 => (128, 18),
        42 => (64, 18),
        _ => return None,
    })
}
