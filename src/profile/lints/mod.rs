//! What is allowed and still probably wrong: traps that somebody has fallen into. A lint has a name, a level and a
//! reason; a profile that knows better says so: `allow = [{ lint = "NAME", at = "services.redis", reason = "…" }]`.
//!
//! To add one, write a function in the file of its subject and add a line to that file's table; a new file's table is
//! added to [`LINTS`]. What can never be right is not a lint but an error of [`checks`](super::checks) or of the schema,
//! which nothing allows.

mod allow;
mod clear;
mod databases;
mod dockerfiles;
mod door;
mod files;
mod firewall;
mod images;
mod limits;
mod mounts;
mod privileges;
mod queues;
mod running;
mod view;

use std::collections::BTreeSet;

use crate::artifacts::Tree;

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::source::Span;

pub(crate) use allow::{Allow, read};
pub(crate) use view::Seen;
use view::View;

/// One lint.
#[derive(Debug)]
pub struct Lint {
    /// Its name: what messages show and `allow` takes.
    pub name: &'static str,
    /// How bad it is. An error too can be allowed.
    pub level: Severity,
    /// Why it is there: what happens to those who do it.
    pub reason: &'static str,
    look: Look,
}

/// What a lint looks at.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// The profile, merged and read.
    Profile(fn(&View<'_>, &mut Report)),
    /// The rendered files.
    Files(fn(&Tree, &mut Report)),
    /// Nothing: the reader of `allow` reports it itself.
    Allows,
}

/// The lints of one subject.
type Table = &'static [Lint];

/// All lints, by subject.
const LINTS: &[Table] = &[
    allow::LINTS,
    clear::LINTS,
    databases::LINTS,
    dockerfiles::LINTS,
    door::LINTS,
    files::LINTS,
    firewall::LINTS,
    images::LINTS,
    limits::LINTS,
    mounts::LINTS,
    privileges::LINTS,
    queues::LINTS,
    running::LINTS,
];

/// Every lint there is, in order of name.
pub fn lints() -> Vec<&'static Lint> {
    let mut all: Vec<&Lint> = LINTS.iter().copied().flatten().collect();
    all.sort_by_key(|lint| lint.name);
    all
}

const fn error(name: &'static str, reason: &'static str, look: fn(&View<'_>, &mut Report)) -> Lint {
    Lint { name, level: Severity::Error, reason, look: Look::Profile(look) }
}

const fn warning(name: &'static str, reason: &'static str, look: fn(&View<'_>, &mut Report)) -> Lint {
    Lint { name, level: Severity::Warning, reason, look: Look::Profile(look) }
}

/// What one lint has found.
#[derive(Debug)]
struct Report {
    lint: &'static str,
    level: Severity,
    root: String,
    /// Each with what it is about, as `at` of an `allow` names it: `services.redis.volumes`.
    found: Vec<(String, Diagnostic)>,
}

impl Report {
    /// Adds a finding about `subject`.
    fn at(&mut self, span: Span, subject: impl Into<String>, message: impl Into<String>) -> &mut Diagnostic {
        self.push(subject.into(), Diagnostic::of_lint(self.lint, self.level, span, message.into()))
    }

    /// Adds a finding about the profile as a whole.
    fn whole(&mut self, subject: impl Into<String>, message: impl Into<String>) -> &mut Diagnostic {
        let finding = Diagnostic::of_lint_in(self.lint, self.level, &self.root, message.into());
        self.push(subject.into(), finding)
    }

    fn push(&mut self, subject: String, finding: Diagnostic) -> &mut Diagnostic {
        let nth = self.found.len();
        self.found.push((subject, finding));
        &mut self.found[nth].1
    }
}

/// Runs every lint that looks at the profile.
pub(crate) fn look(seen: &Seen<'_>, faults: &mut Diagnostics) {
    let view = View::new(seen);
    let used = run(&seen.profile.allows, faults, |look, report| {
        if let Look::Profile(look) = look {
            look(&view, report);
        }
    });
    // Where something could not be read, a lint may have missed what an `allow` is about.
    if !faults.has_errors() {
        allow::unused(&seen.profile.allows, &used, of_files, faults);
    }
}

/// Runs every lint that looks at the rendered files.
pub(crate) fn look_at_files(tree: &Tree, allows: &[Allow], faults: &mut Diagnostics) {
    let used = run(allows, faults, |look, report| {
        if let Look::Files(look) = look {
            look(tree, report);
        }
    });
    allow::unused(allows, &used, |lint| !of_files(lint), faults);
}

fn of_files(lint: &str) -> bool {
    LINTS.iter().copied().flatten().any(|known| known.name == lint && matches!(known.look, Look::Files(_)))
}

/// Takes over what is found and not allowed; which of the exceptions have matched something.
fn run(allows: &[Allow], faults: &mut Diagnostics, look: impl Fn(Look, &mut Report)) -> BTreeSet<usize> {
    let mut used = BTreeSet::new();
    for lint in LINTS.iter().copied().flatten() {
        let root = faults.sources().root().to_owned();
        let mut report = Report { lint: lint.name, level: lint.level, root, found: Vec::new() };
        look(lint.look, &mut report);
        for (subject, finding) in report.found {
            let covering = |(nth, allow): (usize, &Allow)| allow.covers(lint.name, &subject).then_some(nth);
            let matched: Vec<usize> = allows.iter().enumerate().filter_map(covering).collect();
            if matched.is_empty() {
                faults.adopt(finding);
            }
            used.extend(matched);
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_each_is_there_once() {
        let mut seen = BTreeSet::new();
        for lint in lints() {
            let word = |word: &str| {
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            };
            assert!(lint.name.split('-').all(word), "{}", lint.name);
            assert!(seen.insert(lint.name), "{} twice", lint.name);
        }
    }

    #[test]
    fn a_reason_is_a_sentence_without_full_stop() {
        for lint in lints() {
            assert!(lint.reason.len() > 30, "{}", lint.name);
            assert!(!lint.reason.ends_with('.'), "{}", lint.name);
            assert!(lint.reason.len() < 180, "{}: {}", lint.name, lint.reason.len());
        }
    }
}
