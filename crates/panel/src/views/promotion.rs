//! What a promotion would change for visitors.

use askama::Template;

use super::{render, words};
use crate::job::Job;
use crate::state::State;
use bluegreen_client::changes::Change;
use bluegreen_text::count;

/// The maximum number of commits of each kind that are listed.
const MAX_CHANGES: usize = 20;

#[derive(Template)]
#[template(path = "promotion.html")]
struct Promotion {
    title: String,
    words: String,
    targets: Vec<String>,
    changes: String,
}

#[derive(Template)]
#[template(path = "changes.html")]
struct Changes {
    gained: Vec<Change>,
    gained_count: String,
    lost: Vec<Change>,
    lost_count: String,
}

/// Returns the part of the page.
pub(super) fn part(state: &State) -> String {
    let (public, other) = (state.public_side(), state.other_side());
    // During a promotion, the public side changes.
    if state.job.as_ref().is_some_and(|job| job.is_running() && job.is_promotion())
        || state.has_foreign_promotion()
    {
        return "<section id=\"promotion\" hidden></section>".into();
    }
    let is_free = !state.job.as_ref().is_some_and(Job::is_running);
    let targets = match (&other, state.front.good()) {
        _ if !is_free || state.problem.is_some() => Vec::new(),
        (Some(_), Some(front)) if front.split.is_some() => state.sides(),
        (Some(other), _) => vec![other.clone()],
        (None, Some(_)) => state.sides(),
        (None, None) => Vec::new(),
    };
    let (title, words, changes) = match public.zip(other) {
        Some((public, other)) => {
            (format!("If you promote {other}"), difference(state, public, &other), changes(state))
        }
        None => ("No side is known to be public".into(), unknown(state), String::new()),
    };
    render(&Promotion { title, words, targets, changes })
}

fn unknown(state: &State) -> String {
    match state.front.good().map(|front| &front.public) {
        Some(Some(side)) => {
            format!("The front end shows {}, which is not a side of the config.", words(side))
        }
        Some(None) => "The front end shows no side. Promote a side to send visitors to it.".into(),
        None => "The front end has not reported which side is public.".into(),
    }
}

fn difference(state: &State, public: &str, other: &str) -> String {
    let Some((old, new)) = state.ends() else {
        return format!("Visitors get {other} instead of {public}. The commits are not known yet.");
    };
    if old == new {
        return format!("Visitors see no change: both sides serve {}.", old.short());
    }
    let words = format!("Visitors get {other} at {} instead of {public} at {}.", new.short(), old.short());
    let is_listed = state.changes.as_ref().is_none_or(|(.., changes)| !changes.is_empty());
    let fetch = " The clone does not contain both commits. Run `git fetch` to see what changes.";
    words + if is_listed { "" } else { fetch }
}

/// Returns the commits that visitors gain and lose, for what both sides serve now.
pub(super) fn changes(state: &State) -> String {
    let known = state.changes.as_ref().filter(|(old, new, _)| state.ends() == Some((*old, *new)));
    known.map_or_else(String::new, |(.., changes)| list(changes))
}

fn list(changes: &[Change]) -> String {
    let of = |is_gained: bool| changes.iter().filter(move |change| change.is_gained == is_gained);
    let list = |is_gained| of(is_gained).take(MAX_CHANGES).map(shown).collect::<Vec<_>>();
    let number = |is_gained| {
        let all = of(is_gained).count();
        let newest = format!(", of which the newest {MAX_CHANGES} are listed");
        count(all as u64, "commit") + if all > MAX_CHANGES { &newest } else { "" }
    };
    render(&Changes {
        gained: list(true),
        gained_count: number(true),
        lost: list(false),
        lost_count: number(false),
    })
}

fn shown(change: &Change) -> Change {
    Change {
        is_gained: change.is_gained,
        commit: words(&change.commit),
        subject: words(&change.subject),
        author: words(&change.author),
    }
}
