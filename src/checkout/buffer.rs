//! Buffers that are used again and again: a new one for each object would have to be taken from the system and cleared,
//! only to be overwritten.

use std::ops::{Deref, DerefMut};

/// The most bytes and the most buffers that a pool keeps for later.
const SPARE_BYTES: usize = 8 << 20;
const SPARE: usize = 16;

/// The size of the smallest buffer: most files of a site fit into it.
const LEAST: usize = 16 << 10;

/// Bytes whose content is left from their last use.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

/// Buffers that wait for their next use.
#[derive(Debug, Default)]
pub struct Pool {
    spare: Vec<Buffer>,
}

impl Buffer {
    /// Changes the length. The content is undefined.
    pub fn set_len(&mut self, len: usize) {
        if self.bytes.len() < len {
            // Growing a vector would copy its content.
            self.bytes = Vec::new();
            self.bytes = vec![0; len.next_power_of_two().max(LEAST)];
        }
        self.len = len;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Pool {
    /// Takes a buffer of this length: the smallest that is long enough, or a new one.
    pub fn take(&mut self, len: usize) -> Buffer {
        let fits = |(_, buffer): &(usize, &Buffer)| buffer.bytes.len() >= len;
        let found = self.spare.iter().enumerate().filter(fits).min_by_key(|(_, buffer)| buffer.bytes.len());
        let mut buffer =
            found.map(|(at, _)| at).map_or_else(Buffer::default, |at| self.spare.swap_remove(at));
        buffer.set_len(len);
        buffer
    }

    /// Keeps a buffer for later, unless there are enough.
    pub fn give(&mut self, buffer: Buffer) {
        let kept: usize = self.spare.iter().map(|spare| spare.bytes.len()).sum();
        if self.spare.len() < SPARE && kept + buffer.bytes.len() <= SPARE_BYTES {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_buffer_that_fits_is_used_again() {
        let mut pool = Pool::default();
        let (small, large) = (pool.take(10), pool.take(1 << 20));
        let places = [small.as_ptr(), large.as_ptr()];
        pool.give(large);
        pool.give(small);
        let small = pool.take(LEAST);
        assert_eq!((small.as_ptr(), small.len()), (places[0], LEAST));
        assert_eq!(pool.take(LEAST).as_ptr(), places[1]);
        let huge = pool.take(SPARE_BYTES + 1);
        pool.give(huge);
        assert!(pool.spare.is_empty());
    }
}
