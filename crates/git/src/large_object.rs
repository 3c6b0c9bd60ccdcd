//! Copies objects that are too large for memory, with `git cat-file`.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;

use bluegreen_object_store::{CopyError, Error, Fallback, LargeObject};

use super::{Repository, reason};

impl Fallback for Repository {
    fn copy(
        &self,
        object: &LargeObject,
        alternates: &[PathBuf],
        to: &mut dyn Write,
    ) -> Result<(), CopyError> {
        let &LargeObject { id, kind, size } = object;
        let failed = |problem: String| CopyError::Read(Error::Object { kind, id, problem });
        let not_started = |error: io::Error| failed(format!("cannot run `git`: {error}"));
        let mut git = self
            .command(&["cat-file", kind.name(), &id.to_string()])
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", std::env::join_paths(alternates).unwrap_or_default())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_started)?;
        // Read one byte more than the size, to detect a larger object.
        let limit = size.saturating_add(1);
        let copied = git.stdout.take().map_or(Ok(0), |stdout| io::copy(&mut stdout.take(limit), to));
        let output = git.wait_with_output().map_err(not_started)?;
        match copied {
            Ok(copied) if copied == size && output.status.success() => Ok(()),
            Ok(_) => Err(failed(format!("`git cat-file` failed: {}", reason(&output)))),
            Err(error) => Err(CopyError::Write(error)),
        }
    }
}
