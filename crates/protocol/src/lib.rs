//! Everything that client and server exchange, and the records that both of them read: the types, and their bounds.
//!
//! The other side may run another version of the program, or be hostile. Every text is truncated when it is parsed.
//! Control characters are escaped where a text is printed.

pub mod freeze;
pub mod history;
pub mod hold;
pub mod role;
pub mod status;

use serde::{Deserialize, Deserializer};

use bluegreen_text::{MAX_MESSAGE_CHARS, MAX_NAME_CHARS, truncated};

/// The maximum length of a commit's subject or of a path, in characters.
pub const MAX_SUBJECT_CHARS: usize = 200;

fn text<'de, D: Deserializer<'de>>(from: D, max: usize) -> Result<String, D::Error> {
    Ok(truncated(&String::deserialize(from)?, max).into_owned())
}

fn optional<'de, D: Deserializer<'de>>(from: D, max: usize) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(|text| truncated(&text, max).into_owned()))
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, MAX_NAME_CHARS)
}

fn optional_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    optional(from, MAX_NAME_CHARS)
}

fn subject<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, MAX_SUBJECT_CHARS)
}

fn optional_subject<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    optional(from, MAX_SUBJECT_CHARS)
}

fn message<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, MAX_MESSAGE_CHARS)
}

fn optional_message<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    optional(from, MAX_MESSAGE_CHARS)
}
