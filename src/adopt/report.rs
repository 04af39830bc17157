//! The report: for a terminal what to do, and as Markdown beside the profile everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::import::Import;
use super::ledger::{Finding, Outcome};
use super::roles::Role;

/// A plain value as text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Findings that say the same, with the services they are about.
type Groups<'f> = BTreeMap<(&'f str, Option<&'f str>), BTreeSet<String>>;

/// The summary and the Markdown.
pub(super) fn write(import: &Import<'_>, faults: &str) -> (String, String) {
    let mut text = String::new();
    let findings = &import.ledger.findings;
    let files = import.project.files.join("`, `");
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "# What became of `{files}`\n");
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let _ = writeln!(
        text,
        "{} services of {} stand in the profile. {} keys were carried as they are, {} changed, {} left behind; nothing else was in there.\n",
        import.roles.values().filter(|role| !role.is_out()).count(),
        import.roles.len(),
        count(Outcome::Carried),
        count(Outcome::Changed),
        count(Outcome::Left),
    );
    if !faults.is_empty() {
        let _ = writeln!(text, "## The profile does not build yet\n\n```text\n{}\n```\n", faults.trim_end());
    }
    let _ = writeln!(text, "## What to do\n");
    for (nth, todo) in import.ledger.todo.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", nth + 1, sentence(todo));
    }
    let _ = writeln!(
        text,
        "\nThen:\n\n    bundle check production\n    bundle lock production --update\n    bundle build production\n    bundle push production\n    bundle cloud-init production > user-data\n"
    );
    roles(import, &mut text);
    secrets(import, &mut text);
    section(&mut text, "What was hardened, and how to undo it", findings, |finding| {
        finding.outcome == Outcome::Added && finding.instead.is_some()
    });
    section(&mut text, "What the bundle adds", findings, |finding| {
        finding.outcome == Outcome::Added && finding.instead.is_none()
    });
    section(&mut text, "What was changed", findings, |finding| finding.outcome == Outcome::Changed);
    section(&mut text, "What stays behind, and why", findings, |finding| finding.outcome == Outcome::Left);
    let _ = writeln!(text, "## What was carried as it is\n");
    let carried = findings.iter().filter(|finding| finding.outcome == Outcome::Carried);
    for finding in carried {
        let _ = writeln!(text, "- `{}`", shown(finding));
    }
    (summary(import, faults), text)
}

fn roles(import: &Import<'_>, text: &mut String) {
    let _ = writeln!(
        text,
        "## What each service is to the bundle\n\nAll of this is guessed; `stateful`, `singletons` and `migrations` at the top of `base.toml` change it.\n"
    );
    for (old, role) in &import.roles {
        let what = match role {
            Role::State(why) => format!("stateful: {why}"),
            Role::Slot => "a part of every release".to_owned(),
            Role::Singleton(why) => format!("a singleton: {why}"),
            Role::Migrations(why) => format!("the migrations: {why}"),
            Role::Out(why, instead) => match instead {
                Some(instead) => format!("not in the profile: {why}; {instead}"),
                None => format!("not in the profile: {why}"),
            },
        };
        let _ = writeln!(text, "- `{old}` is {what}");
    }
    text.push('\n');
}

fn secrets(import: &Import<'_>, text: &mut String) {
    if import.secrets.all.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "## Secrets\n\nNo value is in the profile or in this report. Send each to the droplet with `bundle secrets set NAME`, or write\n`generate = \"password\"` into its table where a new value will do.\n"
    );
    for (name, secret) in &import.secrets.all {
        let readers: Vec<String> = secret.readers.iter().map(|reader| format!("`{reader}`")).collect();
        let from = if secret.from.is_empty() { "the operator" } else { &secret.from };
        let _ = writeln!(text, "- `{name}`: {from}; read by {}", readers.join(", "));
    }
    text.push('\n');
}

fn section(text: &mut String, heading: &str, findings: &[Finding], want: impl Fn(&Finding) -> bool) {
    let mut groups = Groups::new();
    for finding in findings.iter().filter(|finding| want(finding)) {
        groups.entry((&finding.text, finding.instead.as_deref())).or_default().insert(shown(finding));
    }
    if groups.is_empty() {
        return;
    }
    let _ = writeln!(text, "## {heading}\n");
    for ((what, instead), keys) in groups {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        let instead = instead.map(|instead| format!(" ({instead})")).unwrap_or_default();
        let _ = writeln!(text, "- {what}{instead}:\n  {}", keys.join(", "));
    }
    text.push('\n');
}

/// `web.ports.8080:80/tcp`.
fn shown(finding: &Finding) -> String {
    let parts = finding.path.strip_prefix(&["services".to_owned()]).unwrap_or(&finding.path);
    parts.join(".").replace(['`', '\n'], "'")
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn summary(import: &Import<'_>, faults: &str) -> String {
    let mut text = String::new();
    let of = |want: fn(&Role) -> bool| -> Vec<String> {
        import.roles.iter().filter(|(_, role)| want(role)).map(|(old, _)| format!("`{old}`")).collect()
    };
    let mut line = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            let _ = writeln!(text, "{what:<14} {}", names.join(", "));
        }
    };
    line("stateful", of(Role::is_state));
    line("releases", of(|role| matches!(role, Role::Slot)));
    line("singletons", of(|role| matches!(role, Role::Singleton(_))));
    line("migrations", of(|role| matches!(role, Role::Migrations(_))));
    line("left out", of(Role::is_out));
    line("secrets", import.secrets.all.keys().map(|name| format!("`{name}`")).collect());
    let hardened = import
        .ledger
        .findings
        .iter()
        .filter(|finding| finding.outcome == Outcome::Added && finding.instead.is_some());
    let hardened: BTreeSet<&str> = hardened.map(|finding| finding.text.as_str()).collect();
    let _ = writeln!(text, "\nhardened");
    for what in hardened {
        let _ = writeln!(text, "  - {what}");
    }
    let _ = writeln!(text, "\nto do");
    for (nth, todo) in import.ledger.todo.iter().enumerate() {
        let _ = writeln!(text, "  {:>2}. {todo}", nth + 1);
    }
    if !faults.is_empty() {
        let _ = writeln!(text, "\nthe profile does not build yet\n\n{}", faults.trim_end());
    }
    text
}
