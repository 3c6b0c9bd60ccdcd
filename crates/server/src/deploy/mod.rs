//! The order of a deployment ([`deploy`]), and the dry run. The other files of this module implement the parts.

pub mod app;
mod cache;
pub mod context;
mod decide;
mod failure;
pub mod folder;
pub mod freeze;
mod journal;
mod journald;
pub mod notify;
pub mod options;
pub mod pending;
pub mod publish;
pub mod resume;
pub mod role;
pub mod rollback;
pub mod session;
pub mod steps;
mod timing;

use std::cell::Cell;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::SystemTime;

use bluegreen_object_store::{ObjectId, ObjectStore};

use self::app::{App, Started};
use self::cache::StepCache;
use self::decide::Decision;
pub use self::decide::Target;
use bluegreen_text::timestamp;

use self::context::DeployContext;
use self::session::Attempt;
use crate::config::{Config, Phase, WhenPublic};
use crate::deploy::publish::Publication;
use crate::deploy::steps::Steps;
use crate::error::{Error, Result};
use crate::pusher::message::Message;
use crate::pusher::print_notice;
use crate::release::{Record, ReleaseName, State, next_number, recyclable, surplus};
use crate::shared;
use crate::site::history::Action;
use crate::site::{INCOMING, Live, LockedSite, Site, Staged, Withdrawn};
use bluegreen_checkout::monitor::{Monitor, Notice};
use bluegreen_checkout::{self as checkout, Checkout, Options, Submodules, Written, listing::Listing};

/// Deploys a commit, and reports the result to the pusher.
pub fn deploy(server: &DeployContext, target: Target<'_>) -> Result<()> {
    let branch = &server.config.branch;
    server.report.line(Message::Received { branch, server: &server.name });
    server.change_site(Action::Deploy, |site, attempt| {
        if let Target::Tip(pushed) = target {
            // Its earlier outcome no longer matters.
            site.forget_tip(pushed)?;
        }
        run(server, site, target, attempt)
    })?;
    server.report.line(Message::Complete);
    Ok(())
}

fn run(
    server: &DeployContext,
    site: &mut LockedSite,
    target: Target<'_>,
    attempt: &mut Attempt,
) -> Result<()> {
    let DeployContext { config, report, repository, .. } = server;
    let live = attempt.live.clone();
    let Some(commit) = choose(server, site, target, attempt)? else { return Ok(()) };
    attempt.new = Some(commit);
    server.refuse_frozen(site, target.refused())?;
    refuse_public(server, site, target)?;

    shared::require(site, &config.shared)?;
    let releases = site.releases()?;
    let name = ReleaseName::next(SystemTime::now(), commit, &releases);
    let objects = repository.objects(commit.format());
    let contents = objects.reader().commit(commit)?;
    let withdrawn = recyclable(&releases, live.release(), config.site.keep)
        .into_iter()
        .filter(|name| is_free(server, site, name))
        .find_map(|name| site.withdraw_to_recycle(name));
    let Filled { mut staged, written, withdrawn } =
        fill_recycled_or_new(server, site, &name, &objects, contents.tree, withdrawn)?;
    let listing = &written.manifest.listing;
    warn_of_submodules(server, listing);
    let changed = changed(attempt.old.as_ref(), &objects, listing);
    let (files, size) = (listing.files(), listing.size());
    let mut record = Record::new(commit, contents.subject, files);
    record.number = Some(next_number(&releases));
    record.subdirectory.clone_from(&config.site.subdirectory);
    server.timing.begin("place the release");
    staged.place(&name, &record, &written.manifest)?;
    attempt.release = Some(name.clone());

    let cache = StepCache::new(server, site, staged.dir(), listing);
    let started = build_and_check(server, site, &name, &live, &cache)?;
    pool_assets(server, site, &name);
    record.outputs = cache.outputs(config.steps.of(Phase::Build).iter());
    record.state = State::Ready;
    record.sealed = Some(timestamp(SystemTime::now()));
    server.timing.begin("flush to the disk");
    staged.seal(&name, &record, &written)?;

    if let Target::Commit(_) = target {
        server.set_tip_aside(site, Some(commit), "another commit was deployed instead");
    }
    let (push, is_stuck) = (target.push(), Cell::default());
    Publication { server, site, release: &name, previous: &live, is_new: true, push, is_stuck }
        .publish(Some(staged), started)?;
    report.line(Message::Live { release: &name, changed, files, size, took: attempt.took() });
    drop(withdrawn);
    prune(server, site, &name);
    Ok(())
}

/// Runs `build`, starts the application's instance, and runs `check`.
fn build_and_check<'a>(
    server: &'a DeployContext,
    site: &'a LockedSite,
    name: &ReleaseName,
    live: &Live,
    cache: &StepCache,
) -> Result<Option<Started<'a>>> {
    let steps = Steps::new(server, site, name, live.release());
    steps.build(|step| cache.restore(step))?;
    let started = App::of(server, site).map(|app| app.start(name)).transpose()?;
    steps.run(Phase::Check, Some(server.stop()))?;
    Ok(started)
}

/// Adds the release's assets to the pool, where pages that visitors have already loaded still find them. A failure is
/// only a warning.
fn pool_assets(server: &DeployContext, site: &LockedSite, release: &ReleaseName) {
    if let Err(error) = site.pool_assets(release, &server.config.site) {
        server.report.warning(error);
    }
}

/// Refuses a deployment to the public side, or warns about it, as configured by `when-public`. A manual deployment is
/// never refused: its operator works on this very server.
fn refuse_public(server: &DeployContext, site: &LockedSite, target: Target<'_>) -> Result<()> {
    let is_allowed = server.options.public || matches!(target, Target::Commit(_));
    let is_refused = server.config.site.when_public == WhenPublic::Refuse && !is_allowed;
    match site.public_mark() {
        Ok(mark) if !mark.as_ref().is_some_and(|mark| mark.public) => {}
        Ok(_) if is_refused => return Err(Error::Public(server.name.clone())),
        // A side whose mark cannot be read may be public.
        Err(error) if is_refused => return Err(error),
        Ok(_) if server.config.site.when_public == WhenPublic::Deploy => {}
        Ok(_) => server.report.warning(Message::PublicSide(&server.name)),
        Err(error) => server.report.warning(error),
    }
    Ok(())
}

/// A release that is filled but does not have its final path yet.
struct Filled<'a> {
    staged: Staged<'a>,
    written: Written,
    /// The rest of the recycled release. It is removed once the new release is live.
    withdrawn: Option<Withdrawn<'a>>,
}

/// Checks out the tree into a new directory, reusing the unchanged files of a recycled release where possible.
fn fill_recycled_or_new<'a>(
    server: &DeployContext,
    site: &'a LockedSite,
    name: &ReleaseName,
    objects: &ObjectStore,
    tree: ObjectId,
    withdrawn: Option<Withdrawn<'a>>,
) -> Result<Filled<'a>> {
    let is_recycled = withdrawn.is_some();
    match fill(server, site, name, objects, tree, withdrawn) {
        // The old release may contain another user's files, for instance.
        Ok(None) => {}
        Err(Error::Io(_)) if is_recycled => {}
        Ok(Some(filled)) => return Ok(filled),
        Err(error) => return Err(error),
    }
    let filled = fill(server, site, name, objects, tree, None)?;
    filled.ok_or_else(|| Error::io("fill", site.releases_path())(ErrorKind::Other.into()))
}

/// Checks out the tree into one directory. Returns `None` if a process still uses the release to be recycled.
fn fill<'a>(
    server: &DeployContext,
    site: &'a LockedSite,
    name: &ReleaseName,
    objects: &ObjectStore,
    tree: ObjectId,
    withdrawn: Option<Withdrawn<'a>>,
) -> Result<Option<Filled<'a>>> {
    let DeployContext { config, report, .. } = server;
    server.phase(site, "read the commit");
    let options = checkout_options(config, site.releases_path());
    let plan = || {
        let manifest = withdrawn.as_ref().map(Withdrawn::manifest).transpose()?;
        let stop = Some(server.stop());
        let checkout = Checkout::plan(&server.repository, objects, tree, manifest.as_ref(), &options, stop)?;
        site.refuse_full_disk(checkout.plan.new_sizes())?;
        Ok((checkout, manifest))
    };
    let (planned, is_in_use) = match &withdrawn {
        Some(withdrawn) => withdrawn.search_users_during(plan),
        None => (plan(), false),
    };
    let (checkout, manifest) = match planned {
        Ok(planned) => planned,
        Err(error) => {
            withdrawn.into_iter().for_each(Withdrawn::put_back);
            return Err(error);
        }
    };
    let recycled = withdrawn.as_ref().zip(manifest.as_ref());
    let source = recycled.map(|(old, manifest)| old.take_over(manifest)).transpose()?;
    if is_in_use {
        return Ok(None);
    }
    server.phase(site, "check out");
    let staged = site.stage()?;
    let listener = |notice: &Notice| print_notice(report, notice);
    let monitor = Monitor::new(server.stop(), &listener);
    let mut written = checkout.write(objects, &staged.destination(source), &options, &monitor)?;
    drop(monitor);
    shared::link(site, &config.shared, name, staged.dir(), report)?;
    if writes_more(config) || withdrawn.as_ref().is_some_and(|withdrawn| !withdrawn.is_flushed()) {
        written.unflushed = None;
    }
    Ok(Some(Filled { staged, written, withdrawn }))
}

/// Returns whether a deployment may write more files than those of the commit.
fn writes_more(config: &Config) -> bool {
    let has_steps = [Phase::Build, Phase::Check].iter().any(|phase| !config.steps.of(*phase).is_empty());
    has_steps || !config.shared.is_empty() || !config.site.assets.is_empty()
}

fn checkout_options(config: &Config, scratch: PathBuf) -> Options {
    let site = &config.site;
    Options {
        threads: config.checkout_threads,
        max_files: site.max_files,
        max_size: site.max_size,
        subdirectory: site.subdirectory.clone().unwrap_or_default(),
        symlinks: site.symlinks,
        replaced: config.shared.iter().map(|shared| shared.path.clone()).collect(),
        submodules: site.submodules,
        submodule_timeout: site.submodule_timeout,
        lfs: site.lfs,
        filter_timeout: site.filter_timeout,
        scratch,
        scratch_prefix: INCOMING,
    }
}

/// Reports what a deployment would do, without changing anything or taking the lock.
pub fn dry_run(server: &DeployContext, commit: ObjectId) -> Result<()> {
    let site = Site::open(&server.config.site)?;
    let live = site.live()?;
    if let Some(freeze) = site.freeze()? {
        server.report.warning(format_args!("{} is {freeze}", server.name));
    }
    shared::require(&site, &server.config.shared)?;
    let objects = server.repository.objects(commit.format());
    let contents = objects.reader().commit(commit)?;
    let mut options = checkout_options(&server.config, std::env::temp_dir());
    if options.submodules == Submodules::Fetch {
        // A dry run fetches nothing.
        options.submodules = Submodules::Warn;
    }
    let checkout = Checkout::plan(&server.repository, &objects, contents.tree, None, &options, None)?;
    let listing = &checkout.plan.listing;
    warn_of_submodules(server, listing);
    server.report.line(Message::DryRun {
        commit: &commit.short(),
        subject: &contents.subject,
        files: listing.files(),
        changed: changed(site.live_record(&live).as_ref(), &objects, listing),
        site: site.root(),
        recycled: recyclable(&site.releases()?, live.release(), server.config.site.keep).into_iter().next(),
    });
    Ok(())
}

/// Counts the files that differ from those of the live release.
fn changed(live: Option<&Record>, objects: &ObjectStore, listing: &Listing) -> u64 {
    let folder = |record: &Record| record.subdirectory.clone().unwrap_or_default();
    let old = live.map(|record| (record.commit, folder(record)));
    checkout::changed(objects, old.as_ref().map(|(commit, folder)| (*commit, folder.as_path())), listing)
}

/// Decides under the lock which commit to deploy. If there is none, reports the reason and returns `None`.
fn choose(
    server: &DeployContext,
    site: &LockedSite,
    target: Target<'_>,
    attempt: &Attempt,
) -> Result<Option<ObjectId>> {
    let DeployContext { config, report, repository, .. } = server;
    let branch = match target {
        Target::Commit(_) => None,
        Target::Tip(_) => repository.tip(&config.branch)?,
        Target::Gate(push) => repository.id_of(&push.name)?,
    };
    if let (Target::Tip(pushed), Some(tip)) = (target, branch)
        && tip != pushed
    {
        report.line(Message::Superseded { commit: &pushed.short(), tip: &tip.short() });
    }
    let good = attempt.old.as_ref().filter(|record| record.is_good()).map(|record| record.commit);
    match target.decide(branch, good)? {
        Decision::Deploy(commit) => {
            let is_complete = folder::complete_unchanged(server, site, target, attempt, commit)?;
            return Ok(Some(commit).filter(|_| !is_complete));
        }
        Decision::AlreadyLive(commit) => {
            target.push().map_or(Ok(()), |push| repository.move_ref(push, "push", Some(server.stop())))?;
            if let Some(release) = attempt.live.release() {
                report.line(Message::AlreadyLive { commit: &commit.short(), release });
            }
        }
        Decision::NoBranch => {
            report.line(Message::Deleted { branch: &config.branch, live_line: &server.live_line() });
        }
    }
    Ok(None)
}

fn warn_of_submodules(server: &DeployContext, listing: &Listing) {
    let submodules = listing.submodules();
    if server.config.site.submodules == Submodules::Warn && !submodules.is_empty() {
        server.report.warning(Message::EmptySubmodules(&submodules));
    }
}

/// Removes the releases beyond `keep`, except for the one that the next deployment recycles. A release that cannot be
/// removed causes only a warning.
fn prune(server: &DeployContext, site: &mut LockedSite, live: &ReleaseName) {
    server.phase(site, "prune");
    let keep = server.config.site.keep;
    let surplus = site.releases().map(|releases| {
        let spare = recyclable(&releases, Some(live), keep)
            .into_iter()
            .find(|name| is_free(server, site, name) && site.is_recyclable(name));
        let mut names = surplus(&releases, live, keep);
        names.retain(|name| spare.as_ref() != Some(name));
        names
    });
    let results = match surplus {
        // A release whose instance still drains, or which visitors had until now, is removed by a later deployment.
        Ok(names) => names
            .iter()
            .map(|name| if is_in_use(server, site, name)? { Ok(()) } else { remove(server, site, name) })
            .collect(),
        Err(error) => vec![Err(error)],
    };
    for error in results.into_iter().filter_map(Result::err) {
        server.report.warning(error);
    }
}

/// Returns whether a release can be recycled: its instance is not running, and it contains no uploads.
fn is_free(server: &DeployContext, site: &LockedSite, name: &ReleaseName) -> bool {
    matches!(is_in_use(server, site, name), Ok(false))
        && matches!(shared::own_files(site, &server.config.shared, name), Ok(None))
}

/// Returns whether something may still use a release: its instance, or a visitor whose side is no longer public.
fn is_in_use(server: &DeployContext, site: &LockedSite, name: &ReleaseName) -> Result<bool> {
    Ok(site.is_settling(name, server.config.public.settle) || site.may_run(name)?)
}

/// Removes a release, unless it contains files that may be uploads.
fn remove(server: &DeployContext, site: &LockedSite, name: &ReleaseName) -> Result<()> {
    match shared::own_files(site, &server.config.shared, name)? {
        Some(path) => {
            let shared = site.shared_path().join(&path);
            Err(Error::OwnFiles { release: name.to_string(), path, shared })
        }
        None => site.remove(name),
    }
}
