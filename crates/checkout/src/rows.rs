//! The lists in a manifest, as rows of a fixed width: each push reads and writes all entries, 50,000 for a site of
//! 50,000 files.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};
use serde_bytes::Bytes;

use super::index_vec::IndexVec;

/// A value with a fixed number of bytes.
pub trait Row<const WIDTH: usize>: Sized {
    /// Serializes the value.
    fn to_row(&self) -> [u8; WIDTH];

    /// Deserializes a value. Returns `None` for bytes that [`Row::to_row`] does not produce.
    fn from_row(row: &[u8; WIDTH]) -> Option<Self>;
}

/// Serializes a list, for `#[serde(with = "rows")]`.
pub fn serialize<S: Serializer, R: Row<WIDTH>, const WIDTH: usize>(
    list: &[R],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(list.len() * WIDTH);
    for value in list {
        bytes.extend_from_slice(&value.to_row());
    }
    serializer.serialize_bytes(&bytes)
}

/// Deserializes a list, for `#[serde(with = "rows")]`.
pub fn deserialize<'de, D: Deserializer<'de>, I, R: Row<WIDTH>, const WIDTH: usize>(
    deserializer: D,
) -> Result<IndexVec<I, R>, D::Error> {
    let error = || D::Error::custom("not a list of rows");
    let (rows, rest) = <&Bytes>::deserialize(deserializer)?.as_chunks();
    if !rest.is_empty() {
        return Err(error());
    }
    let mut list = Vec::with_capacity(rows.len());
    for row in rows {
        list.push(R::from_row(row).ok_or_else(error)?);
    }
    Ok(list.into())
}
