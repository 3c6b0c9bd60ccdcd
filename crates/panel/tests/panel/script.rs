//! A simulated promotion.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bluegreen_client::observer::{Event, Step};
use bluegreen_panel::client::{Planned, Problem, Progress, Promotion};
use bluegreen_process::signals::Stop;

use crate::fake::{Fake, problem};

struct Run<'a> {
    fake: &'a Fake,
    stop: &'a Stop,
    progress: &'a Arc<dyn Progress>,
    begun: usize,
}

/// Begins each step once the test allows it, and returns the outcome.
pub fn play(
    fake: &Fake,
    wanted: &Promotion,
    planned: &Planned,
    stop: &Stop,
    progress: &Arc<dyn Progress>,
) -> Result<String, Problem> {
    let mut run = Run { fake, stop, progress, begun: 0 };
    let has_canary = fake.world().has_canary;
    run.prepare();
    if has_canary {
        run.canary();
    }
    run.begin(Step::Set);
    run.set_public(Some(&wanted.side));
    run.watch();
    run.pause(|fake| fake.world().is_blocked);
    if stop.check().is_err() {
        run.set_public(planned.from.as_deref());
        return Err(problem("Not promoted: blue is public again, and healthy. cancelled"));
    }
    run.begin(Step::Mark);
    if has_canary {
        run.drain();
    }
    Ok("green is public instead of blue".into())
}

impl Run<'_> {
    fn begin(&mut self, step: Step) {
        let number = self.begun;
        self.pause(|fake| fake.world().allowed <= number);
        self.begun += 1;
        self.progress.event(Event::Step(step));
    }

    fn pause(&self, holds: impl Fn(&Fake) -> bool) {
        while holds(self.fake) && self.stop.check().is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn respond(&self, milliseconds: u64, is_good: bool, by: Option<&str>) {
        let took = Duration::from_millis(milliseconds);
        self.progress.event(Event::Response { took, is_good, served_by: by.map(str::to_owned) });
    }

    fn set_public(&self, side: Option<&str>) {
        let mut world = self.fake.0.lock().unwrap();
        (world.public, world.percent) = (Ok(side.map(str::to_owned)), 0);
    }

    fn prepare(&mut self) {
        self.begin(Step::Look);
        self.begin(Step::Hold);
        self.begin(Step::Check);
        self.respond(3, true, Some("green"));
        self.progress.line("Checked green: 1 server.");
    }

    fn canary(&mut self) {
        self.begin(Step::Canary);
        self.fake.0.lock().unwrap().percent = 10;
        self.progress.event(Event::Waiting("Giving green 10% of the requests for 2m\u{1b}...".into()));
        self.progress.event(Event::Weight(10));
        self.respond(7, true, Some("blue"));
        self.respond(9, false, Some("green"));
        self.respond(8, true, Some("<b>unknown</b>"));
        self.respond(8, true, None);
    }

    fn watch(&mut self) {
        self.begin(Step::Watch);
        self.respond(5, true, Some("green"));
        self.respond(900, false, Some("green"));
        self.progress.line("  <b>2 requests</b>\u{1b}[2J, 1 failed");
    }

    fn drain(&mut self) {
        self.begin(Step::Drain);
        let what = "Draining blue: 3 requests in flight, 2 s of at most 1m...";
        self.progress.event(Event::Waiting(what.into()));
        self.pause(|fake| fake.world().allowed <= 8);
    }
}
