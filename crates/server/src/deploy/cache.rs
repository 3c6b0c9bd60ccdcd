//! The build cache: a step with declared inputs is skipped if a kept release has the same inputs. Its outputs are then
//! copied from that release.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use bluegreen_sys::dir::Dir;
use sha2::{Digest, Sha256};

use crate::config::Step;
use crate::deploy::context::DeployContext;
use crate::deploy::steps::PATH;
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::release::{Output, ReleaseName};
use crate::site::LockedSite;
use crate::site::outputs::{self, Fingerprint};
use bluegreen_checkout::listing::Listing;

/// The prefix of every key. Change it whenever the rules for keys or copies change.
const VERSION: &[u8] = b"bluegreen step 1\n";

/// The build steps of one release, and the releases whose outputs can be reused.
#[derive(Debug)]
pub struct StepCache<'a> {
    server: &'a DeployContext<'a>,
    site: &'a LockedSite,
    /// The directory of the release under construction.
    release: &'a Dir,
    /// The contents of its commit.
    listing: &'a Listing,
}

impl<'a> StepCache<'a> {
    /// Creates the cache for a release whose commit is checked out.
    #[must_use]
    pub fn new(
        server: &'a DeployContext<'a>,
        site: &'a LockedSite,
        release: &'a Dir,
        listing: &'a Listing,
    ) -> Self {
        Self { server, site, release, listing }
    }

    /// Copies the outputs of a step from the newest kept release that has the same inputs, and reports that. Returns
    /// false if the step must run.
    pub fn restore(&self, step: &Step) -> Result<bool> {
        if step.outputs.is_empty() || self.server.options.no_cache || self.has_any_output(step) {
            return Ok(false);
        }
        let (key, started) = (self.key(step), Instant::now());
        for release in self.site.releases()?.iter().rev().filter(|release| release.is_good()) {
            let made = release.record.iter().flat_map(|record| &record.outputs).find(|made| made.key == key);
            if let Some(made) = made
                && self.copy(&release.name, step, &made.fingerprint)?
            {
                let (name, from, took) = (&step.name, &release.name, started.elapsed());
                self.server.report.line(Message::StepUnchanged { name, from, took });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the outputs that later releases may copy. A declared output that the step did not create causes a warning.
    #[must_use]
    pub fn outputs<'s>(&self, steps: impl Iterator<Item = &'s Step>) -> Vec<Output> {
        let output = |step: &Step| match self.fingerprint(step) {
            Ok(fingerprint) => Some(Output { key: self.key(step), fingerprint: fingerprint.to_string() }),
            Err((path, error)) => {
                let name = &step.name;
                self.server.report.warning(Message::NoOutput { name, path, error: &error });
                None
            }
        };
        steps.filter(|step| !step.outputs.is_empty()).filter_map(output).collect()
    }

    /// Returns whether the commit or an earlier step already has a file at an output's path.
    fn has_any_output(&self, step: &Step) -> bool {
        let exists = |path: &Path| {
            let name = path.file_name().unwrap_or_default().as_bytes();
            outputs::open_parent(self.release, path, false).is_ok_and(|dir| dir.stat(name).is_ok())
        };
        step.outputs.iter().any(|path| exists(path))
    }

    /// Copies the outputs from one release. Returns false, and leaves no copy, if they were modified or removed.
    fn copy(&self, from: &ReleaseName, step: &Step, expected: &str) -> Result<bool> {
        let stop = self.server.stop();
        let threads = self.threads();
        let copy = || -> io::Result<bool> {
            let from = self.site.open_release(from)?;
            let copied = |path: &Path| outputs::copy(&from, self.release, path, threads, stop);
            Ok(combine(step, copied).map_err(|(_, error)| error)?.to_string() == expected)
        };
        let result = copy();
        if !matches!(result, Ok(true)) {
            self.remove_copies(step).map_err(Error::io("remove a copy in", self.site.releases_path()))?;
        }
        stop.check()?;
        match result {
            Ok(is_unchanged) => Ok(is_unchanged),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Err(Error::io("copy the outputs of a step to", self.site.releases_path())(error))
            }
            Err(error) => {
                log::warn!("cannot copy the outputs of step {} from {from}: {error}", step.name);
                Ok(false)
            }
        }
    }

    fn remove_copies(&self, step: &Step) -> io::Result<()> {
        step.outputs.iter().try_for_each(|path| match outputs::open_parent(self.release, path, false) {
            Ok(dir) => dir.remove(path.file_name().unwrap_or_default().as_bytes()),
            Err(_) => Ok(()),
        })
    }

    fn fingerprint<'s>(&self, step: &'s Step) -> std::result::Result<Fingerprint, (&'s Path, io::Error)> {
        let stop = self.server.stop();
        combine(step, |path| outputs::fingerprint(self.release, path, self.threads(), stop))
    }

    fn threads(&self) -> usize {
        match self.server.config.checkout_threads {
            0 => bluegreen_sys::parallel::available(),
            threads => threads,
        }
    }

    /// Returns a digest of a step's dependencies: its command, the configured environment, and the object ids of its inputs.
    fn key(&self, step: &Step) -> String {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        add(VERSION);
        add(step.run.as_bytes());
        add(PATH.as_bytes());
        for (name, value) in self.server.config.env.iter() {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        for paths in [&step.outputs, &step.inputs] {
            add(&(paths.len() as u64).to_le_bytes());
            for path in paths {
                add(path.as_os_str().as_bytes());
            }
        }
        for path in &step.inputs {
            match self.listing.find(path) {
                Some(entry) => {
                    add(&[self.listing.entries[entry].kind as u8]);
                    add(self.listing.raw_id(entry));
                }
                None => add(b"absent"),
            }
        }
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, digest.finalize())
    }
}

/// Combines the results for all outputs of a step. Returns the first error with its path.
fn combine(
    step: &Step,
    mut of: impl FnMut(&Path) -> io::Result<Fingerprint>,
) -> std::result::Result<Fingerprint, (&Path, io::Error)> {
    step.outputs.iter().try_fold(Fingerprint::default(), |sum, path| match of(path) {
        Ok(fingerprint) => Ok(sum.and(fingerprint)),
        Err(error) => Err((path.as_path(), error)),
    })
}
