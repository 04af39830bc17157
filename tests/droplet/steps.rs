//! The steps of a running switch, as it tells them on stderr.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

/// The lines of a switch on stderr, each with the moment when it came.
pub(crate) struct Steps {
    lines: Receiver<(Instant, String)>,
    pub(crate) seen: Vec<(Instant, String)>,
}

impl Steps {
    /// Those of a process with this stderr.
    pub(crate) fn of(stderr: impl Read + Send + 'static) -> Self {
        let (sender, lines): (Sender<(Instant, String)>, _) = channel();
        spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Self { lines, seen: Vec::new() }
    }

    /// Waits for the line that says that a step begins, and gives the moment.
    pub(crate) fn await_step(&mut self, step: &str) -> Instant {
        loop {
            if let Some((when, _)) = self.seen.iter().find(|(_, line)| line.contains(step)) {
                return *when;
            }
            let next = self.lines.recv_timeout(Duration::from_secs(120));
            self.seen.push(next.unwrap_or_else(|_| panic!("no step `{step}` in {:#?}", self.seen)));
        }
    }

    /// Waits until there are no more.
    pub(crate) fn to_the_end(&mut self) {
        self.seen.extend(self.lines.iter());
    }
}
