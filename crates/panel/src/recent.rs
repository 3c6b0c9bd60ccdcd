//! The newest items of a growing sequence.

use std::collections::VecDeque;

/// The maximum number of items that are kept.
const MAX_ITEMS: usize = 2000;

/// The newest items. Each has a number, so that a reader can continue after the last item that it has read.
#[derive(Debug)]
pub struct Recent<T> {
    items: VecDeque<T>,
    first: u64,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), first: 0 }
    }
}

impl<T> Recent<T> {
    /// Adds an item, and drops the oldest one if there are too many.
    pub fn push(&mut self, item: T) {
        if self.items.len() >= MAX_ITEMS {
            self.items.pop_front();
            self.first += 1;
        }
        self.items.push_back(item);
    }

    /// Removes all items. The numbers continue.
    pub fn clear(&mut self) {
        self.first = self.next();
        self.items.clear();
    }

    /// Returns the number that the next item gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Returns the items from a number on, and whether items after that number have already been dropped.
    pub fn since(&self, number: u64) -> (impl Iterator<Item = &T>, bool) {
        let skipped = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        (self.items.iter().skip(skipped), number < self.first)
    }

    /// Returns all items.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_a_reader_continues_where_it_was() {
        let mut recent = Recent::default();
        let read = |recent: &Recent<usize>, from| {
            let (items, is_cut) = recent.since(from);
            (items.copied().collect::<Vec<_>>(), is_cut)
        };
        recent.push(7);
        recent.push(8);
        assert_eq!(read(&recent, 1), (vec![8], false));
        (0..MAX_ITEMS).for_each(|number| recent.push(number));
        let (items, is_cut) = read(&recent, 1);
        assert_eq!((items.len(), items[0], is_cut), (MAX_ITEMS, 0, true));
        let next = recent.next();
        recent.clear();
        assert_eq!((recent.next(), read(&recent, next)), (next, (vec![], false)));
    }
}
