//! The order of a deployment, and nothing else: how each step is done is said where it is done.

pub mod publish;
pub mod rollback;
pub mod server;
pub mod session;
pub mod steps;

use std::time::SystemTime;

use git2::Oid;

use self::server::Server;
use self::session::Attempt;
use crate::checkout::monitor::{Monitor, Notice};
use crate::checkout::objects::Objects;
use crate::checkout::{self, Checkout, listing::Listing, manifest::Manifest};
use crate::config::{Phase, Submodules};
use crate::deploy::publish::Publication;
use crate::deploy::steps::Steps;
use crate::error::{Error, Result};
use crate::git::id::CommitId;
use crate::git::push::RefUpdate;
use crate::pusher::message::Message;
use crate::release::{Record, ReleaseName, State, recyclable, surplus};
use crate::shared;
use crate::site::history::Action;
use crate::site::{Live, LockedSite, Recycled, Staged};
use crate::text::timestamp;

/// The commit that is to be deployed.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The tip of the branch, read under the lock; a push has just moved it to this commit.
    Tip(CommitId),
    /// Just this commit, even where it is live.
    Commit(CommitId),
    /// The gate: the commit to which a push wants to move the branch, which has not moved yet.
    Gate(&'a RefUpdate),
}

impl<'a> Target<'a> {
    /// The move of a ref that is part of the deployment.
    fn push(self) -> Option<&'a RefUpdate> {
        if let Self::Gate(push) = self { Some(push) } else { None }
    }
}

/// Deploys, and reports the result to the pusher.
pub fn deploy(server: &Server, target: Target<'_>) -> Result<()> {
    let branch = &server.config.branch;
    server.report.line(Message::Received { branch, server: &server.name });
    server.change_site(Action::Deploy, |site, attempt| run(server, site, target, attempt))?;
    server.report.line(Message::Complete);
    Ok(())
}

fn run(server: &Server, site: &mut LockedSite, target: Target<'_>, attempt: &mut Attempt) -> Result<()> {
    let Server { config, report, repository, .. } = server;
    let live = site.live()?;
    let Some(commit) = choose(server, site, target, &live)? else { return Ok(()) };
    attempt.new = Some(commit);

    shared::require(site, &config.shared)?;
    let releases = site.releases()?;
    let name = ReleaseName::next(SystemTime::now(), commit, releases.last().map(|newest| &newest.name));
    let objects = Objects::new(repository, commit.format());
    let contents = objects.open()?.commit(commit.oid()?)?;
    let recycled = recyclable(&releases, live.release(), config.site.keep)
        .into_iter()
        .find_map(|name| site.recycle(name));
    let (mut staged, manifest) = match recycled {
        None => fill(server, site, &objects, contents.tree, None)?,
        Some(recycled) => match fill(server, site, &objects, contents.tree, Some(recycled)) {
            // The old release may hold another user's files, for instance: a new directory will do.
            Err(Error::Io { .. }) => fill(server, site, &objects, contents.tree, None)?,
            filled => filled?,
        },
    };
    warn_of_submodules(server, &manifest.listing);
    let changed = checkout::changed(&objects, attempt.old, contents.tree, &manifest.listing);
    let (files, size) = (manifest.listing.files(), manifest.listing.size());
    let mut record = Record::new(commit, contents.subject, files);
    staged.place(&name, &record, &manifest)?;
    attempt.release = Some(name.clone());

    let steps = Steps::new(server, site, &name, live.release());
    steps.run(Phase::Build, Some(server.stop()))?;
    steps.run(Phase::Check, Some(server.stop()))?;

    record.state = State::Ready;
    record.sealed = Some(timestamp(SystemTime::now()));
    staged.seal(&name, &record)?;
    Publication { server, site, release: &name, previous: &live, is_new: true, push: target.push() }
        .publish(Some(staged))?;
    report.line(Message::Live { release: &name, changed, files, size, took: attempt.took() });
    prune(server, site, &name);
    Ok(())
}

/// Checks the tree out into a new or a recycled release, which is nobody's yet.
fn fill<'a>(
    server: &Server,
    site: &'a LockedSite,
    objects: &Objects,
    tree: Oid,
    recycled: Option<Recycled>,
) -> Result<(Staged<'a>, Manifest)> {
    let Server { config, report, .. } = server;
    server.phase(site, "read the commit");
    let manifest = recycled.as_ref().map(|old| &old.manifest);
    let scratch = site.scratch_path();
    let checkout = Checkout::plan(objects, tree, manifest, config, &scratch)?;
    site.refuse_full_disk(checkout.plan.new_sizes())?;
    server.phase(site, "check out");
    let staged = site.stage(recycled)?;
    let listener = |notice: &Notice| report.notice(notice);
    let manifest =
        checkout.write(objects, &staged.destination(), config, &Monitor::new(server.stop(), &listener))?;
    shared::link(site, &config.shared, staged.dir(), report)?;
    Ok((staged, manifest))
}

/// Reports what a deployment would do. It changes nothing and needs no lock.
pub fn dry_run(server: &Server, commit: CommitId) -> Result<()> {
    let site = crate::site::Site::open(&server.config.site)?;
    let live = site.live()?;
    shared::require(&site, &server.config.shared)?;
    let objects = Objects::new(&server.repository, commit.format());
    let contents = objects.open()?.commit(commit.oid()?)?;
    let mut config = server.config.clone();
    if config.site.submodules == Submodules::Fetch {
        // A dry run fetches nothing.
        config.site.submodules = Submodules::Warn;
    }
    let checkout = Checkout::plan(&objects, contents.tree, None, &config, &std::env::temp_dir())?;
    let listing = &checkout.plan.listing;
    warn_of_submodules(server, listing);
    server.report.line(Message::DryRun {
        commit: commit.short(),
        subject: &contents.subject,
        files: listing.files(),
        changed: checkout::changed(&objects, site.commit(&live), contents.tree, listing),
        site: site.root(),
        recycled: recyclable(&site.releases()?, live.release(), server.config.site.keep).into_iter().next(),
    });
    Ok(())
}

/// The commit to deploy. A lock is no queue, so whoever gets it deploys the tip, and whoever finds the
/// tip live has nothing left to do.
fn choose(server: &Server, site: &LockedSite, target: Target<'_>, live: &Live) -> Result<Option<CommitId>> {
    let pushed = match target {
        Target::Commit(commit) => return Ok(Some(commit)),
        Target::Gate(push) => return choose_pushed(server, site, push, live),
        Target::Tip(pushed) => pushed,
    };
    let branch = &server.config.branch;
    let Some(tip) = server.repository.tip(branch)? else {
        server.report.line(Message::Deleted { branch, serving: &server.serving() });
        return Ok(None);
    };
    if tip != pushed {
        server.report.line(Message::Superseded { commit: pushed.short(), tip: tip.short() });
    }
    match live.release() {
        Some(release) if site.is_good(live) && site.commit(live) == Some(tip) => {
            server.report.line(Message::AlreadyLive { commit: tip.short(), release });
            Ok(None)
        }
        _ => Ok(Some(tip)),
    }
}

/// The commit that a push through the gate wants to have live; none, and the branch moved, if it is.
fn choose_pushed(
    server: &Server,
    site: &LockedSite,
    push: &RefUpdate,
    live: &Live,
) -> Result<Option<CommitId>> {
    // Long before the branch is moved, so that nothing is built in vain.
    if server.repository.id_of(&push.name)? != Some(push.old).filter(|old| !old.is_none()) {
        return Err(Error::RefMoved(push.name.clone()));
    }
    match live.release() {
        Some(release) if site.is_good(live) && site.commit(live) == Some(push.new) => {
            server.repository.move_ref(push, "push")?;
            server.report.line(Message::AlreadyLive { commit: push.new.short(), release });
            Ok(None)
        }
        _ => Ok(Some(push.new)),
    }
}

fn warn_of_submodules(server: &Server, listing: &Listing) {
    let submodules = listing.submodules();
    if server.config.site.submodules == Submodules::Warn && !submodules.is_empty() {
        server.report.warning(Message::EmptySubmodules(&submodules));
    }
}

/// Removes what is more than `keep`, once the pusher knows the result. What cannot be removed is no
/// reason to call a deployment failed.
fn prune(server: &Server, site: &mut LockedSite, live: &ReleaseName) {
    server.phase(site, "prune");
    let surplus = site.releases().map(|releases| surplus(&releases, live, server.config.site.keep));
    let results = match surplus {
        Ok(names) => names.iter().map(|name| site.remove(name)).collect(),
        Err(error) => vec![Err(error)],
    };
    for error in results.into_iter().filter_map(Result::err) {
        server.report.warning(error);
    }
}
