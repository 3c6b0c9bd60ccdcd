//! `[app]`: an application with one instance per release, each on its own unix socket.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::values::{duration, text};

/// The `[app]` section. Its presence means that releases have instances.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct AppConfig {
    /// The path that must respond on the release's own socket before activation.
    #[serde(deserialize_with = "path")]
    pub health: String,
    /// The time within which an instance must become healthy.
    #[serde(deserialize_with = "positive")]
    pub within: Duration,
    /// The time for which the old instance keeps running after activation.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
    /// The command line that controls instances. By default, the helper that the installer created for this repository.
    #[serde(deserialize_with = "words")]
    pub control: Option<Vec<String>>,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            health: "/health".into(),
            within: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            control: None,
        }
    }
}

/// Deserializes a request path, which is written to the request line unescaped.
fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, |path| {
        if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(path.to_owned())
        } else {
            Err(format!("`{}` is not a path, expected one like \"/health\"", path.escape_debug()))
        }
    })
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let within = duration(deserializer)?;
    if within.is_zero() { Err(de::Error::custom("a time of 0 leaves no time to start")) } else { Ok(within) }
}

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    text(deserializer, |line| match shlex::split(line) {
        Some(words) if !words.is_empty() => Ok(Some(words)),
        _ => Err(format!("`{}` is not a command", line.escape_debug())),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use std::time::Duration;

    #[test]
    fn the_section_turns_instances_on() {
        assert!(Config::parse("").unwrap().app.is_none());
        let app = Config::parse("[app]").unwrap().app.unwrap();
        assert_eq!((app.health.as_str(), app.within), ("/health", Duration::from_secs(60)));
        assert_eq!((app.drain, app.control), (Duration::from_secs(30), None));
        let app = Config::parse("[app]\ncontrol = 'sudo -n \"/usr/lib/a b\"'").unwrap().app.unwrap();
        assert_eq!(app.control.unwrap(), ["sudo", "-n", "/usr/lib/a b"]);
    }

    #[test]
    fn errors_say_what_was_expected() {
        for (line, message) in [
            ("health = 'health'", "`app.health`: `health` is not a path, expected one like \"/health\""),
            ("health = '/a b'", "`app.health`: `/a b` is not a path"),
            ("health = \"/\\r\\nX: y\"", "`app.health`: `/\\r\\nX: y` is not a path"),
            ("within = '0s'", "`app.within`: a time of 0 leaves no time to start"),
            ("drain = 30", "`app.drain`: the duration `30` needs a unit, as in \"30s\""),
            ("control = \"'\"", "`app.control`: `\\'` is not a command"),
            ("port = 3000", "unknown field `port`, expected one of `health`"),
        ] {
            let (at, error) = Config::parse(&format!("[app]\n{line}")).unwrap_err();
            assert!(at == 2 && error.contains(message), "{line}: {at}: {error}");
        }
    }
}
