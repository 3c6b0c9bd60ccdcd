//! Applies the deltas of packs. A delta is a list of instructions that copy ranges of a base object or insert literal
//! bytes.
//!
//! The format is described in git's `Documentation/gitformat-pack.adoc`, "Deltified representation".

/// The start of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaHeader {
    /// The size of the base, in bytes.
    pub base_size: u64,
    /// The size of the result, in bytes.
    pub result_size: u64,
    /// The length of this header, in bytes.
    pub len: usize,
}

impl DeltaHeader {
    #[must_use]
    pub fn parse(delta: &[u8]) -> Option<Self> {
        let (base_size, first) = size(delta)?;
        let (result_size, second) = size(&delta[first..])?;
        Some(Self { base_size, result_size, len: first + second })
    }
}

/// Applies a delta to its base and writes the result. Returns `None` if the delta is damaged: a size differs from its
/// header, or it ends too early or too late. The content of `result` is undefined then.
pub fn apply(base: &[u8], delta: &[u8], result: &mut [u8]) -> Option<()> {
    let header = DeltaHeader::parse(delta)?;
    if header.base_size != base.len() as u64 || header.result_size != result.len() as u64 {
        return None;
    }
    let mut at = header.len;
    let mut rest = result;
    while let Some(&op) = delta.get(at) {
        at += 1;
        let from = if op & 0x80 != 0 {
            let offset = operand(delta, &mut at, op & 0x0f, 4)?;
            let len = operand(delta, &mut at, op >> 4 & 0x07, 3)?;
            let len = if len == 0 { 0x1_0000 } else { len };
            base.get(offset..offset.checked_add(len)?)?
        } else {
            let len = usize::from(op);
            let from = delta.get(at..at + len).filter(|_| len > 0)?;
            at += len;
            from
        };
        if from.len() > rest.len() {
            return None;
        }
        let (now, later) = rest.split_at_mut(from.len());
        now.copy_from_slice(from);
        rest = later;
    }
    rest.is_empty().then_some(())
}

/// Parses a little-endian number without its zero bytes. `bits` has a bit for each byte that is present.
fn operand(delta: &[u8], at: &mut usize, bits: u8, bytes: u32) -> Option<usize> {
    let mut number = 0;
    for byte in 0..bytes {
        if bits >> byte & 1 == 1 {
            number |= usize::from(*delta.get(*at)?) << (8 * byte);
            *at += 1;
        }
    }
    Some(number)
}

/// Parses a size in groups of 7 bits, the lowest first. Returns the size and its length in bytes.
fn size(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let group = u64::from(byte & 0x7f);
        let shifted = group << (7 * at);
        if shifted >> (7 * at) != group {
            return None;
        }
        size |= shifted;
        if byte & 0x80 == 0 {
            return Some((size, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(base: &[u8], delta: &[u8], len: usize) -> Option<Vec<u8>> {
        let mut result = vec![0; len];
        apply(base, delta, &mut result).map(|()| result)
    }

    #[test]
    fn copies_and_inserts_are_applied() {
        assert_eq!(applied(b"hello world", &[11, 7, 0x91, 6, 5, 2, b'!', b'?'], 7).unwrap(), b"world!?");
        assert_eq!(applied(b"ab", &[2, 0], 0).unwrap(), b"");
        let base: Vec<u8> = (0..0x1_0000_u32).map(|at| (at % 251) as u8).collect();
        assert_eq!(applied(&base, &[0x80, 0x80, 4, 0x80, 0x80, 4, 0x80], base.len()).unwrap(), base);
    }

    #[test]
    fn hostile_deltas_are_rejected() {
        for delta in [
            &[2, 3, 0x90, 3][..],                 // a copy beyond the end of the base
            &[2, 2, 0x9f, 255, 255, 255, 255, 2], // an offset beyond the end
            &[2, 3, 0x90, 2],                     // a result that is too short
            &[2, 1, 0x90, 2],                     // a result that is too long
            &[2, 1, 0],                           // the reserved operation
            &[2, 4, 4, b'x'],                     // a truncated insert
            &[2, 2, 0x91],                        // a truncated copy
            &[3, 2, 0x90, 2],                     // another size of the base
            &[2],
            &[],
        ] {
            let claimed = DeltaHeader::parse(delta).map_or(0, |header| header.result_size as usize);
            assert_eq!(applied(b"ab", delta, claimed), None, "{delta:?}");
        }
    }

    #[test]
    fn sizes_have_up_to_64_bits() {
        let most = [2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        let header = DeltaHeader { base_size: 2, result_size: u64::MAX, len: 11 };
        assert_eq!(DeltaHeader::parse(&most), Some(header));
        assert_eq!(DeltaHeader::parse(&[2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), None);
        assert_eq!(DeltaHeader::parse(&[255; 20]), None);
    }
}
