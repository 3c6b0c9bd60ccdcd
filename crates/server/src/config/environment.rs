//! `[env]`: environment variables of steps and of `[notify]`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The `[env]` section: environment variables in addition to those that steps always have.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Environment(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for Environment {
    type Error = String;

    fn try_from(variables: BTreeMap<String, String>) -> Result<Self, String> {
        for (name, value) in &variables {
            let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || value.contains('\0') {
                return Err(format!(
                    "invalid variable name `{}`, expected one like RAILS_ENV = \"production\"",
                    name.escape_debug()
                ));
            }
            if name.starts_with("BLUEGREEN_") {
                return Err(format!("`{name}` is reserved: bluegreen sets it"));
            }
        }
        Ok(Self(variables))
    }
}

impl Environment {
    /// Iterates over names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
