//! `gix-checkout REPOSITORY DIRECTORY THREADS`: writes the branch master into an empty directory, with an
//! index, as `git checkout` does.

use std::sync::atomic::AtomicBool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let repository = gix::open(&arguments[1])?;
    let tree = repository.rev_parse_single("refs/heads/master^{tree}")?;
    let mut index = repository.index_from_tree(&tree)?;
    let mut options = repository.checkout_options(gix::worktree::stack::state::attributes::Source::IdMapping)?;
    options.destination_is_initially_empty = true;
    options.thread_limit = Some(arguments[3].parse()?);
    let outcome = gix::worktree::state::checkout(
        &mut index,
        std::path::Path::new(&arguments[2]),
        repository.objects.clone().into_arc()?,
        &gix::progress::Discard,
        &gix::progress::Discard,
        &AtomicBool::new(false),
        options,
    )?;
    assert!(outcome.errors.is_empty() && outcome.collisions.is_empty(), "{outcome:?}");
    index.set_path(std::path::Path::new(&arguments[2]).with_extension("index"));
    index.write(Default::default())?;
    Ok(())
}
