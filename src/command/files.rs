//! `generate files`: the installer, and the files that it lays or that an admin copies, as a clone holds them.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::table::print_text;
use crate::error::{Error, Result};

macro_rules! files {
    ($($path:literal)*) => { &[$(($path, include_str!(concat!("../../", $path)))),*] };
}

/// The files, by their path in a clone.
const FILES: &[(&str, &str)] = files![
    "install.sh"
    "packaging/building.sh"
    "packaging/setup/account.sh"
    "packaging/setup/boot.sh"
    "packaging/setup/ledger.sh"
    "packaging/setup/preflight.sh"
    "packaging/setup/program.sh"
    "packaging/setup/repository.sh"
    "packaging/setup/site.sh"
    "packaging/setup/sudo.sh"
    "packaging/setup/system.sh"
    "packaging/setup/uninstall.sh"
    "packaging/setup/web.sh"
    "hooks/README.md"
    "hooks/bluegreen.toml"
    "hooks/node.toml"
    "hooks/php.toml"
    "hooks/python.toml"
    "hooks/rails.toml"
    "hooks/static.toml"
    "hooks/ci/github.yml"
    "hooks/ci/gitlab.yml"
    "hooks/switches/Caddyfile"
    "hooks/switches/address"
    "hooks/switches/address.service"
    "hooks/switches/aws"
    "hooks/switches/caddy"
    "hooks/switches/digitalocean"
    "hooks/switches/haproxy"
    "hooks/switches/haproxy.cfg"
    "hooks/switches/hetzner"
    "hooks/switches/nginx"
    "hooks/switches/nginx.conf"
    "hooks/systemd/bluegreen@.service"
    "hooks/web/apache.conf"
    "hooks/web/nginx.conf"
];

/// Writes the files into a directory that is not there yet, and prints the line that installs from it.
pub fn run(directory: &Path) -> Result<()> {
    let make = |path: &Path, recursive| {
        let made = DirBuilder::new().mode(0o755).recursive(recursive).create(path);
        made.map_err(Error::io("create", path))
    };
    make(directory, false)?;
    for (path, text) in FILES {
        let path = directory.join(path);
        path.parent().map_or(Ok(()), |parent| make(parent, true))?;
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        open.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io("write", &path))?;
    }
    let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let install = directory.join("install.sh");
    print_text(&format!(
        "To set up this server, as root: {} --binary {} --key FILE",
        install.display(),
        program.display()
    ))
}
