//! Reusable buffers. A new one for each object would have to be allocated and cleared, only to be overwritten.

use std::ops::{Deref, DerefMut};

/// The limits of a pool, in bytes and in buffers.
const SPARE_BYTES: usize = 8 << 20;
const SPARE_BUFFERS: usize = 16;

/// The minimum size of a buffer. Most files of a site fit into it.
const MIN_SIZE: usize = 16 << 10;

/// Bytes with undefined content.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

/// Buffers that are ready for reuse.
#[derive(Debug, Default)]
pub struct Pool {
    spare: Vec<Buffer>,
}

impl Buffer {
    /// Changes the length. The content is undefined afterwards.
    pub fn set_len(&mut self, len: usize) {
        if self.bytes.len() < len {
            // Growing a vector would copy its content.
            self.bytes = Vec::new();
            self.bytes = vec![0; len.next_power_of_two().max(MIN_SIZE)];
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
    /// Returns a buffer of this length: the smallest spare one that is large enough, or a new one.
    pub fn take(&mut self, len: usize) -> Buffer {
        let fits = |(_, buffer): &(usize, &Buffer)| buffer.bytes.len() >= len;
        let found = self.spare.iter().enumerate().filter(fits).min_by_key(|(_, buffer)| buffer.bytes.len());
        let mut buffer =
            found.map(|(at, _)| at).map_or_else(Buffer::default, |at| self.spare.swap_remove(at));
        buffer.set_len(len);
        buffer
    }

    /// Keeps a buffer for reuse, unless the pool is full.
    pub fn put(&mut self, buffer: Buffer) {
        let kept: usize = self.spare.iter().map(|spare| spare.bytes.len()).sum();
        if self.spare.len() < SPARE_BUFFERS && kept + buffer.bytes.len() <= SPARE_BYTES {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_sufficient_buffer_is_reused() {
        let mut pool = Pool::default();
        let (small, large) = (pool.take(10), pool.take(1 << 20));
        let places = [small.as_ptr(), large.as_ptr()];
        pool.put(large);
        pool.put(small);
        let small = pool.take(MIN_SIZE);
        assert_eq!((small.as_ptr(), small.len()), (places[0], MIN_SIZE));
        assert_eq!(pool.take(MIN_SIZE).as_ptr(), places[1]);
        let huge = pool.take(SPARE_BYTES + 1);
        pool.put(huge);
        assert!(pool.spare.is_empty());
    }
}
