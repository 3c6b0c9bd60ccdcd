//! Deserializers that validate single values. Their errors name the expected value.

use std::fmt::{self, Display};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use bluegreen_git_types::is_branch_name;
use bluegreen_text::MAX_NAME_CHARS;

/// The maximum number of threads in a config.
const MAX_THREADS: usize = 1024;

/// The maximum duration in a config: 10 years.
const MAX_DURATION: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Deserializes a string and passes it to `rule`, whose error names the expected value.
pub(super) fn text<'de, D: Deserializer<'de>, T, E: Display>(
    deserializer: D,
    rule: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    rule(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor)
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

struct DurationVisitor;

impl de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a duration like \"90s\", \"10m\", or \"1h 30m\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        let duration: Duration = humantime::Duration::from_str(text).map(Into::into).map_err(|_| {
            E::custom(format!("invalid duration `{text}`, expected one like \"90s\", \"10m\", or \"1h 30m\""))
        })?;
        // A deadline must be representable as a time.
        if duration > MAX_DURATION {
            return Err(E::custom(format!("invalid duration `{text}`, expected at most 10 years")));
        }
        Ok(duration)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
        Err(E::custom(format!("the duration `{number}` needs a unit, as in \"{number}s\"")))
    }
}

/// Deserializes a size with a decimal unit: "10 GB" is 10,000,000,000 bytes.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    text(deserializer, |text| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let units = ["", "kB", "MB", "GB", "TB"];
        let power = units.iter().position(|known| unit.trim_start().eq_ignore_ascii_case(known));
        let bytes = number.parse::<u64>().ok().zip(power);
        bytes.and_then(|(number, power)| number.checked_mul(1000_u64.pow(power as u32))).ok_or_else(|| {
            format!("invalid size `{text}`, expected one like \"500 MB\" or \"10 GB\", or a number of bytes")
        })
    })
}

/// Deserializes a number of threads.
pub(super) fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = i64::deserialize(deserializer)?;
    usize::try_from(number).ok().filter(|&threads| threads <= MAX_THREADS).ok_or_else(|| {
        de::Error::custom(format!(
            "invalid number `{number}`, expected a whole number from 0 to {MAX_THREADS}"
        ))
    })
}

pub(super) fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    text(deserializer, |text| {
        let path = PathBuf::from(text);
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if path.is_absolute() && plain && path != Path::new("/") {
            Ok(path)
        } else {
            Err(format!("invalid path `{text}`, expected an absolute one like \"/var/www/html\""))
        }
    })
}

/// Deserializes the normalized path of a folder in a commit: not `a//b`, `./a`, or `a/`.
pub(super) fn folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    text(deserializer, |text| {
        let path: PathBuf = Path::new(text).components().collect();
        let is_plain = |part| matches!(part, Component::Normal(name) if !name.eq_ignore_ascii_case(".git"));
        if path.as_os_str() == text
            && path.components().all(is_plain)
            && !text.is_empty()
            && !text.contains('\0')
        {
            Ok(Some(path))
        } else {
            let text = text.escape_debug();
            Err(format!(
                "invalid folder `{text}`, expected one in the repository like \"web\" or \"apps/web\""
            ))
        }
    })
}

pub(super) fn server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, |name| {
        if name.trim().is_empty() || name.contains(char::is_control) || name.chars().count() > MAX_NAME_CHARS
        {
            Err(format!("invalid name `{}`, expected one like \"blue\"", name.escape_debug()))
        } else {
            Ok(Some(name.to_owned()))
        }
    })
}

/// Deserializes a branch name.
pub(super) fn branch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, |name| {
        if !is_branch_name(name) {
            Err(format!("invalid branch name `{name}`, expected one like \"master\""))
        } else if name.starts_with("refs/") {
            Err(format!("invalid branch name `{name}`, expected the short name like \"master\""))
        } else {
            Ok(name.to_owned())
        }
    })
}
