//! `generate files`: the installer, the files that it installs, and the files that an admin copies, laid out as in a clone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Error, Result};

macro_rules! files {
    ($($path:literal)*) => { &[$(($path, include_str!(concat!("../../../", $path)))),*] };
}

/// The files, by their paths in a clone.
const FILES: &[(&str, &str)] = files![
    "install.sh"
    "packaging/building.sh"
    "packaging/setup/account.sh"
    "packaging/setup/boot.sh"
    "packaging/setup/front.sh"
    "packaging/setup/ledger.sh"
    "packaging/setup/pair.sh"
    "packaging/setup/preflight.sh"
    "packaging/setup/program.sh"
    "packaging/setup/repository.sh"
    "packaging/setup/site.sh"
    "packaging/setup/stack.sh"
    "packaging/setup/sudo.sh"
    "packaging/setup/system.sh"
    "packaging/setup/tls.sh"
    "packaging/setup/uninstall.sh"
    "packaging/setup/web.sh"
    "hooks/README.md"
    "hooks/post-receive"
    "hooks/pre-push"
    "hooks/proc-receive"
    "share/README.md"
    "share/bluegreen.toml"
    "share/front-end/login.sh"
    "share/ci/github-build.yml"
    "share/ci/github.yml"
    "share/ci/gitlab.yml"
    "share/pair/apache.conf"
    "share/pair/caddy.conf"
    "share/pair/nginx.conf"
    "share/pair/promote.toml"
    "share/stacks/app/apache.conf"
    "share/stacks/app/boot.service"
    "share/stacks/app/caddy.conf"
    "share/stacks/app/control.sh"
    "share/stacks/app/instance.service"
    "share/stacks/app/nginx.conf"
    "share/stacks/app/proxy.sh"
    "share/stacks/app/run.sh"
    "share/stacks/app/sudoers"
    "share/stacks/app/worker.service"
    "share/stacks/node/bluegreen.toml"
    "share/stacks/node/env"
    "share/stacks/node/settings"
    "share/stacks/php/apache.conf"
    "share/stacks/php/bluegreen.toml"
    "share/stacks/php/caddy.conf"
    "share/stacks/php/env"
    "share/stacks/php/nginx.conf"
    "share/stacks/php/pool.conf"
    "share/stacks/php/settings"
    "share/stacks/python/bluegreen.toml"
    "share/stacks/python/env"
    "share/stacks/python/settings"
    "share/stacks/rails/bluegreen.toml"
    "share/stacks/rails/env"
    "share/stacks/rails/settings"
    "share/stacks/static/apache.conf"
    "share/stacks/static/bluegreen.toml"
    "share/stacks/static/caddy.conf"
    "share/stacks/static/nginx.conf"
    "share/stacks/static/settings"
    "share/checks/prometheus"
    "share/switches/Caddyfile"
    "share/switches/address"
    "share/switches/address.service"
    "share/switches/apache"
    "share/switches/apache.conf"
    "share/switches/aws"
    "share/switches/aws-alb"
    "share/switches/caddy"
    "share/switches/digitalocean"
    "share/switches/digitalocean-lb"
    "share/switches/haproxy"
    "share/switches/haproxy.cfg"
    "share/switches/hetzner"
    "share/switches/hetzner-lb"
    "share/switches/nginx"
    "share/switches/nginx.conf"
    "share/systemd/bluegreen@.service"
    "share/web/apache.conf"
    "share/web/listen/apache.conf"
    "share/web/listen/nginx.conf"
    "share/web/nginx.conf"
    "share/web/redirect/apache.conf"
    "share/web/redirect/nginx.conf"
];

/// Writes the files to a new or empty directory, and returns the command that installs from it.
pub fn write_files(directory: &Path) -> Result<String> {
    let invalid = |problem| Error::InvalidDirectory(directory.into(), problem);
    make_empty(directory).map_err(invalid)?;
    FILES.iter().try_for_each(|(path, text)| write(&directory.join(path), text)).map_err(invalid)?;
    let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let install = directory.join("install.sh");
    Ok(format!(
        "To set up this server, as root: {} --binary {} --key FILE",
        install.display(),
        program.display()
    ))
}

fn make_empty(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match fs::read_dir(directory)?.next() {
            None => Ok(()),
            Some(_) => Err(ErrorKind::DirectoryNotEmpty.into()),
        },
        made => made,
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| DirBuilder::new().mode(0o755).recursive(true).create(parent))?;
    let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
