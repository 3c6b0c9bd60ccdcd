//! What a push does, ref by ref, and what the pusher reads.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use support::Sandbox;

#[test]
fn the_first_push_goes_into_an_empty_site() {
    let sandbox = Sandbox::new();
    sandbox
        .commit("index.html", "v1")
        .push()
        .ok()
        .says_only(&[
            "Master ref received.  Deploying master branch to blue...",
            "Release <release> is live: 1 file changed, <time>",
            "Git hooks deploy complete.",
        ])
        .serves("index.html", "v1")
        .serves_checkout("master");
    sandbox.is_tidy();
}
