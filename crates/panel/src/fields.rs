//! The fields of a form or of a query.

use std::collections::HashMap;

/// The maximum number of fields. Further ones are ignored.
const MAX_FIELDS: usize = 32;

/// The fields of a form or of a query.
#[derive(Debug, Clone, Default)]
pub struct Fields(HashMap<String, String>);

impl Fields {
    /// Parses `application/x-www-form-urlencoded` data.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().take(MAX_FIELDS).collect())
    }

    /// Returns a field's value; the empty string if the field is missing.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}
