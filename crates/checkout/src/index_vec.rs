//! [`IndexVec`]: a vector with its own index type, so that the index of a directory never selects an entry.

use std::marker::PhantomData;
use std::num::NonZero;
use std::ops::{Deref, DerefMut, Index, IndexMut};

use serde::{Deserialize, Serialize};

/// The index of an entry of a listing.
pub type EntryIndex = VecIndex<Entries>;

/// The index of a directory of a listing.
pub type DirectoryIndex = VecIndex<Directories>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entries {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Directories {}

/// A position in a vector, plus 1, so that an `Option` needs no more space. It is serialized as a `u32`, without the 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32", bound = "Kind: Copy")]
pub struct VecIndex<Kind>(NonZero<u32>, PhantomData<Kind>);

/// A vector that is indexed by `I`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IndexVec<I, T>(Vec<T>, PhantomData<I>);

/// The indices from `start` up to, but not including, `end`.
#[derive(Debug, Clone)]
pub struct IndexRange<I> {
    pub start: I,
    pub end: I,
}

impl<Kind> VecIndex<Kind> {
    pub const FIRST: Self = Self(NonZero::<u32>::MIN, PhantomData);

    /// The maximum length of a vector.
    pub const MAX_LEN: usize = u32::MAX as usize - 1;

    /// Creates the index of a position up to [`MAX_LEN`](Self::MAX_LEN).
    #[must_use]
    pub fn new(position: usize) -> Self {
        Self(NonZero::<u32>::MIN.saturating_add(position as u32), PhantomData)
    }

    #[must_use]
    pub fn position(self) -> usize {
        self.0.get() as usize - 1
    }

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1), PhantomData)
    }

    #[must_use]
    pub fn previous(self) -> Option<Self> {
        Some(Self(NonZero::new(self.0.get() - 1)?, PhantomData))
    }
}

impl DirectoryIndex {
    pub const ROOT: Self = Self::FIRST;
}

impl<Kind> From<VecIndex<Kind>> for u32 {
    fn from(index: VecIndex<Kind>) -> Self {
        index.0.get() - 1
    }
}

impl<Kind> TryFrom<u32> for VecIndex<Kind> {
    type Error = &'static str;

    fn try_from(position: u32) -> Result<Self, Self::Error> {
        let plus_one = position.checked_add(1).and_then(NonZero::new).ok_or("an index is too large")?;
        Ok(Self(plus_one, PhantomData))
    }
}

impl<Kind: Copy + Ord> IndexRange<VecIndex<Kind>> {
    #[must_use]
    pub fn contains(&self, index: VecIndex<Kind>) -> bool {
        self.start <= index && index < self.end
    }

    /// Returns the index in the middle, unless the range is empty.
    #[must_use]
    pub fn middle(&self) -> Option<VecIndex<Kind>> {
        let middle = self.start.0.midpoint(self.end.0);
        (self.start < self.end).then_some(VecIndex(middle, PhantomData))
    }
}

impl<Kind: Copy + Ord> Iterator for IndexRange<VecIndex<Kind>> {
    type Item = VecIndex<Kind>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.start;
        if first >= self.end {
            return None;
        }
        self.start = first.next();
        Some(first)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.end.position().saturating_sub(self.start.position());
        (len, Some(len))
    }
}

impl<Kind: Copy + Ord> ExactSizeIterator for IndexRange<VecIndex<Kind>> {}

impl<Kind: Copy + Ord> DoubleEndedIterator for IndexRange<VecIndex<Kind>> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let last = self.end.previous().filter(|last| self.start <= *last)?;
        self.end = last;
        Some(last)
    }
}

impl<Kind, T> IndexVec<VecIndex<Kind>, T> {
    /// Returns all indices.
    #[must_use]
    pub fn indices(&self) -> IndexRange<VecIndex<Kind>> {
        self.indices_from(VecIndex::FIRST)
    }

    /// Returns the indices from this one on.
    #[must_use]
    pub fn indices_from(&self, start: VecIndex<Kind>) -> IndexRange<VecIndex<Kind>> {
        IndexRange { start, end: self.next_index() }
    }

    /// Returns the index of the next value that is pushed.
    #[must_use]
    pub fn next_index(&self) -> VecIndex<Kind> {
        VecIndex::new(self.0.len())
    }

    pub fn push(&mut self, value: T) {
        self.0.push(value);
    }
}

impl<Kind: Copy + Ord, T> IndexVec<VecIndex<Kind>, T> {
    #[must_use]
    pub fn iter_enumerated(&self) -> impl DoubleEndedIterator<Item = (VecIndex<Kind>, &T)> {
        self.indices().zip(&self.0)
    }
}

impl<I, T> Default for IndexVec<I, T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<I, T> From<Vec<T>> for IndexVec<I, T> {
    fn from(values: Vec<T>) -> Self {
        Self(values, PhantomData)
    }
}

impl<I, T> Extend<T> for IndexVec<I, T> {
    fn extend<V: IntoIterator<Item = T>>(&mut self, values: V) {
        self.0.extend(values);
    }
}

impl<I, T> Deref for IndexVec<I, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<I, T> DerefMut for IndexVec<I, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<Kind, T> Index<VecIndex<Kind>> for IndexVec<VecIndex<Kind>, T> {
    type Output = T;

    fn index(&self, index: VecIndex<Kind>) -> &T {
        &self.0[index.position()]
    }
}

impl<Kind, T> IndexMut<VecIndex<Kind>> for IndexVec<VecIndex<Kind>, T> {
    fn index_mut(&mut self, index: VecIndex<Kind>) -> &mut T {
        &mut self.0[index.position()]
    }
}

impl<Kind, T> Index<IndexRange<VecIndex<Kind>>> for IndexVec<VecIndex<Kind>, T> {
    type Output = [T];

    fn index(&self, range: IndexRange<VecIndex<Kind>>) -> &[T] {
        &self.0[range.start.position()..range.end.position()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_index_takes_4_bytes() {
        assert_eq!(size_of::<Option<EntryIndex>>(), 4);
        assert_eq!(size_of::<Option<DirectoryIndex>>(), 4);
    }

    #[test]
    fn a_range_is_iterated_from_both_ends() {
        let vec: IndexVec<EntryIndex, char> = vec!['a', 'b', 'c'].into();
        let mut indices = vec.indices();
        assert_eq!(indices.len(), 3);
        assert_eq!(indices.next_back().map(|last| vec[last]), Some('c'));
        assert_eq!(indices.next().map(|first| vec[first]), Some('a'));
        assert_eq!(vec[indices.clone()], ['b']);
        assert_eq!(indices.by_ref().map(EntryIndex::position).collect::<Vec<_>>(), [1]);
        assert_eq!((indices.len(), indices.next(), indices.next_back()), (0, None, None));
    }

    #[test]
    fn an_index_is_stored_as_its_position() {
        let stored = |position: u32| postcard::to_stdvec(&position).unwrap();
        for position in [0, 1, 300, u32::MAX - 1] {
            let index = EntryIndex::new(position as usize);
            assert_eq!(postcard::to_stdvec(&index).unwrap(), stored(position));
            assert_eq!(postcard::from_bytes(&stored(position)), Ok(index));
        }
        assert!(postcard::from_bytes::<EntryIndex>(&stored(u32::MAX)).is_err());
    }
}
