//! Applies the deltas of packs. A delta makes a new object of parts that it copies from a base and of bytes that it inserts.
//!
//! The format is that of git's `Documentation/gitformat-pack.adoc`, "Deltified representation".

/// Parses the sizes of base and result that a delta claims, and gives the length of both numbers in bytes too.
#[must_use]
pub fn sizes(delta: &[u8]) -> Option<(u64, u64, usize)> {
    let (base, first) = size(delta)?;
    let (result, second) = size(&delta[first..])?;
    Some((base, result, first + second))
}

/// Applies a delta to its base and writes into `result`. Gives `None` if the delta is damaged: the sizes differ from those
/// that it claims, or it ends too early or too late. The content of `result` is undefined then.
pub fn apply(base: &[u8], delta: &[u8], result: &mut [u8]) -> Option<()> {
    let (base_size, result_size, mut at) = sizes(delta)?;
    if base_size != base.len() as u64 || result_size != result.len() as u64 {
        return None;
    }
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

/// Parses a number of which only some bytes are stored: those whose bits are set in `bits`.
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

/// Parses a size, coded in groups of 7 bits with the lowest first, and gives its length in bytes too.
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
    fn copies_and_inserts_make_the_result() {
        assert_eq!(applied(b"hello world", &[11, 7, 0x91, 6, 5, 2, b'!', b'?'], 7).unwrap(), b"world!?");
        assert_eq!(applied(b"ab", &[2, 0], 0).unwrap(), b"");
        let base: Vec<u8> = (0..0x1_0000_u32).map(|at| (at % 251) as u8).collect();
        assert_eq!(applied(&base, &[0x80, 0x80, 4, 0x80, 0x80, 4, 0x80], base.len()).unwrap(), base);
    }

    #[test]
    fn hostile_deltas_are_refused() {
        for delta in [
            &[2, 3, 0x90, 3][..],                 // a copy beyond the base
            &[2, 2, 0x9f, 255, 255, 255, 255, 2], // an offset beyond it
            &[2, 3, 0x90, 2],                     // less than claimed
            &[2, 1, 0x90, 2],                     // more than claimed
            &[2, 1, 0],                           // the reserved operation
            &[2, 4, 4, b'x'],                     // an insertion that is cut off
            &[2, 2, 0x91],                        // a copy that is cut off
            &[3, 2, 0x90, 2],                     // of another base
            &[2],
            &[],
        ] {
            let claimed = sizes(delta).map_or(0, |(_, result, _)| result as usize);
            assert_eq!(applied(b"ab", delta, claimed), None, "{delta:?}");
        }
    }

    #[test]
    fn sizes_are_read_up_to_64_bits() {
        let most = [2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(sizes(&most), Some((2, u64::MAX, 11)));
        assert_eq!(sizes(&[2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), None);
        assert_eq!(sizes(&[255; 20]), None);
    }
}
