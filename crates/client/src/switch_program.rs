//! The program of a switch, and the settings that it declares.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::{Public, invalid};
use crate::error::Result;
use bluegreen_text::{MAX_NAME_CHARS, truncated};

const SHIPPED: [(&str, &str); 11] = [
    ("address", include_str!("../switches/address")),
    ("apache", include_str!("../switches/apache")),
    ("aws", include_str!("../switches/aws")),
    ("aws-alb", include_str!("../switches/aws-alb")),
    ("caddy", include_str!("../switches/caddy")),
    ("digitalocean", include_str!("../switches/digitalocean")),
    ("digitalocean-lb", include_str!("../switches/digitalocean-lb")),
    ("haproxy", include_str!("../switches/haproxy")),
    ("hetzner", include_str!("../switches/hetzner")),
    ("hetzner-lb", include_str!("../switches/hetzner-lb")),
    ("nginx", include_str!("../switches/nginx")),
];

/// The comment in which a switch declares its settings: their names, `SIDE` for the name of each side, and a `!` after those
/// that name a file to write or a host that receives secrets.
const DECLARATION: &str = "# settings: ";

/// The number of bytes at the beginning of a program that are searched for a declaration.
const MAX_HEADER: u64 = 4096;

/// The program of a switch.
#[derive(Debug)]
pub enum Program {
    /// A shipped one, by name and text.
    Shipped(&'static str, &'static str),
    /// The user's own program.
    Own(PathBuf),
    /// The program that the account on the front end's machine runs, with its own settings.
    Installed,
}

impl Program {
    /// Finds the program of the config. A relative path starts at the config's folder.
    pub fn find(public: &Public, folder: &Path) -> Result<Self> {
        let is_elsewhere = public.host.is_some();
        let Some(name) = &public.switch else {
            return if is_elsewhere && public.settings.is_empty() {
                Ok(Self::Installed)
            } else if is_elsewhere {
                Err(invalid(
                    "`[public.settings]` needs `switch`",
                    "the account of the front end has settings of its own: remove these",
                ))
            } else {
                Err(invalid("`switch` is missing in `[public]`", "docs/reference/switches.md lists them"))
            };
        };
        if let Some((name, text)) = SHIPPED.iter().find(|(shipped, _)| shipped == name) {
            return Ok(Self::Shipped(name, text));
        }
        if !name.contains('/') {
            let names = SHIPPED.map(|(name, _)| name).join(", ");
            return Err(invalid(
                format!("unknown switch `{}`", truncated(name, MAX_NAME_CHARS)),
                format!("use one of {names}, or a path with a slash"),
            ));
        }
        if is_elsewhere && !name.starts_with('/') {
            return Err(invalid(
                "with `host`, the path of a switch must begin with a slash",
                "write the path of the program on that machine",
            ));
        }
        let path = folder.join(name);
        Ok(Self::Own(if is_elsewhere { path } else { path.canonicalize().unwrap_or(path) }))
    }

    /// Returns the settings that the switch declares; `None` if the user's own program declares none.
    pub fn declaration(&self) -> Option<String> {
        let text = match self {
            Self::Installed => return None,
            Self::Shipped(_, text) => (*text).to_owned(),
            Self::Own(path) => {
                let mut header = Vec::new();
                File::open(path).ok()?.take(MAX_HEADER).read_to_end(&mut header).ok()?;
                String::from_utf8_lossy(&header).into_owned()
            }
        };
        text.lines().find_map(|line| line.strip_prefix(DECLARATION)).map(str::to_owned)
    }
}

/// Checks the settings against the switch's declaration. Returns those that must be trusted.
pub fn check(public: &Public, declared: Option<&str>, sides: &[&str]) -> Result<Vec<String>> {
    let is_name = |key: &str| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let mut known: Vec<(&str, bool)> = Vec::new();
    for word in declared.unwrap_or_default().split_whitespace() {
        match word.strip_suffix('!') {
            Some(name) => known.push((name, true)),
            None if word == "SIDE" => known.extend(sides.iter().map(|side| (*side, false))),
            None => known.push((word, false)),
        }
    }
    let mut sensitive = Vec::new();
    for (key, value) in &public.settings {
        let found = known.iter().find(|(name, _)| name == key);
        // A user's own switch without a declaration accepts everything except the setting that `--force` stands for.
        if !is_name(key) || key == "force" || (declared.is_some() && found.is_none()) {
            let problem = format!(
                "unknown setting `{}` of the switch `{}`",
                truncated(key, MAX_NAME_CHARS),
                public.switch.as_deref().unwrap_or_default()
            );
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let hint = if names.is_empty() {
                "use lower-case letters, digits, and hyphens".into()
            } else {
                format!("`[public.settings]` takes {}", names.join(", "))
            };
            return Err(invalid(problem, hint));
        }
        let text = value.to_string();
        if text.contains('\0') || value.as_str().is_some_and(|text| text.contains('\0')) {
            return Err(invalid(format!("the setting `{key}` contains a NUL"), "remove it"));
        }
        if found.is_some_and(|(_, is_sensitive)| *is_sensitive) {
            sensitive.push(format!("{key} = {text}"));
        }
    }
    Ok(sensitive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::Client;
    use crate::switch::Switch;
    use bluegreen_text::explain::Explain;

    fn public(switch: &str, settings: &str) -> Public {
        let text = format!("url = 'http://x/'\nswitch = '{switch}'\n[settings]\n{settings}\n");
        toml::from_str(&text).unwrap()
    }

    fn client() -> Client {
        Client::find(Some("ssh".into()), None)
    }

    fn problem(switch: &str, settings: &str) -> String {
        let switch =
            Switch::new(&public(switch, settings), Path::new("/nowhere"), &["blue", "green"], &client());
        let error = switch.err().map(|error| format!("{error}; {}", error.hint().unwrap()));
        error.unwrap_or_default()
    }

    #[test]
    fn every_shipped_switch_declares_its_settings() {
        for (name, text) in SHIPPED {
            let declared = Program::Shipped(name, text).declaration().unwrap();
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                for (at, _) in line.match_indices("${SWITCH_") {
                    let key = line[at + 9..].split(['-', ':', '}']).next().unwrap();
                    let key = key.to_lowercase().replace('_', "-");
                    let is_known = declared.split(' ').any(|word| word.trim_end_matches('!') == key);
                    assert!(is_known || key == "force", "{name}: {key}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_setting_is_an_error_that_lists_the_known_ones() {
        assert_eq!(
            problem("haproxy", "sockett = '/run/x'"),
            "unknown setting `sockett` of the switch `haproxy`; `[public.settings]` takes socket, master, map, key"
        );
        assert_eq!(problem("haproxy", "socket = '/run/x'\nkey = 'a'"), "");
        assert_eq!(problem("hetzner", "floating-ip = 1\nblue = 2\ngreen = 3"), "");
        assert!(problem("hetzner", "red = 2").contains("blue, green"));
        for balancer in ["hetzner-lb", "digitalocean-lb"] {
            assert_eq!(problem(balancer, "load-balancer = 1\nblue = '2 3'\ngreen = '4 5'\nwithin = 80"), "");
            assert!(problem(balancer, "loadbalancer = 1").starts_with("unknown setting `loadbalancer`"));
        }
        assert_eq!(problem("aws-alb", "listener = 'arn:x'\nblue = 'arn:y'"), "");
        assert!(problem("aws-alb", "listner = 'arn:x'").starts_with("unknown setting `listner`"));
        assert_eq!(problem("./own", "anything = 1"), "");
        for key in ["force = 1", "\"a=b\" = 1", "\"\" = 1"] {
            assert!(problem("./own", key).starts_with("unknown setting"), "{key}");
        }
        assert!(problem("./own", "a = \"\\u0000\"").contains("contains a NUL"));
    }

    #[test]
    fn settings_that_write_files_or_receive_secrets_need_trust() {
        let sensitive = |switch: &str, settings: &str| {
            let public = public(switch, settings);
            let declared = Program::find(&public, Path::new("/")).unwrap().declaration();
            check(&public, declared.as_deref(), &["blue", "green"]).unwrap()
        };
        assert_eq!(sensitive("hetzner", "api = 'https://evil'\nblue = 1"), ["api = \"https://evil\""]);
        for balancer in ["aws-alb", "hetzner-lb", "digitalocean-lb"] {
            assert_eq!(sensitive(balancer, "api = 'https://evil'").len(), 1, "{balancer}");
        }
        assert_eq!(sensitive("nginx", "flag = '/home/me/.ssh-is-green'").len(), 1);
        assert_eq!(sensitive("haproxy", "map = '/etc/passwd'").len(), 1);
        assert!(sensitive("haproxy", "socket = '/run/x'").is_empty());
    }
}
