//! The types for git that the client and the server share. The client needs no others, so it builds without the
//! object store and without the code that receives pushes.

mod object_id;

pub use self::object_id::{InvalidObjectId, ObjectFormat, ObjectId, ObjectKind};

/// The environment that prevents git from fetching missing objects of a partial clone, which would run the repository's
/// `core.sshCommand`, and from prompting for a password.
pub const RUN_NOTHING: [(&str, &str); 2] = [("GIT_NO_LAZY_FETCH", "1"), ("GIT_TERMINAL_PROMPT", "0")];

/// Returns whether a text is the short name of a branch. Checks those rules of `git check-ref-format --branch` that keep it from
/// being parsed as another refspec, such as `a:refs/replace/...`, a pattern, or an option.
#[must_use]
pub fn is_branch_name(name: &str) -> bool {
    let is_bad = |character: char| character.is_control() || " ~^:?*[\\".contains(character);
    !name.is_empty() && !name.contains(is_bad) && !name.contains("..") && !name.starts_with('-')
}
