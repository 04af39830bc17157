//! `allow = [{ lint = "NAME", at = "services.redis", reason = "…" }]`: what the writer of a profile knows and means.

use std::collections::BTreeSet;

use super::super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::super::read::{Fields, as_array, as_table, unknown};
use super::super::source::{Span, Table};
use super::{Lint, Look, lints};

pub(super) const LINTS: super::Table = &[Lint {
    name: UNUSED,
    level: Severity::Warning,
    reason: "an exception that has outlived its cause would hide the next mistake of its kind",
    look: Look::Allows,
}];

const UNUSED: &str = "unused-allow";

/// One exception.
#[derive(Debug, Clone)]
pub(crate) struct Allow {
    span: Span,
    lint: &'static str,
    at: Option<String>,
}

impl Allow {
    /// Whether it is about this finding: the whole profile, or `at` and everything below it.
    pub(super) fn covers(&self, lint: &str, subject: &str) -> bool {
        let below =
            |at: &str| subject.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.lint == lint && self.at.as_deref().is_none_or(below)
    }
}

/// Reads the key `allow`.
pub(crate) fn read(top: &mut Fields<'_, '_>) -> Vec<Allow> {
    let Some(value) = top.get("allow") else { return Vec::new() };
    let items = as_array(top.faults, "`allow`", value).unwrap_or_default();
    let mut allows = Vec::new();
    for item in items {
        let Some(table) = as_table(top.faults, "an item of `allow`", item) else { continue };
        allows.extend(one(table, item.span(), top.faults));
    }
    allows
}

fn one(table: &Table<'_>, span: Span, faults: &mut Diagnostics) -> Option<Allow> {
    let mut fields = Fields::new("`allow`", table, faults);
    fields.require("lint", Some(span.clone()), "`lint = \"NAME\"`; `bundle lint --list` shows them");
    fields.require(
        "reason",
        Some(span),
        "`reason = \"…\"`: why it is right here, for whoever reads it in a year",
    );
    let name = fields.string("lint");
    let at = fields.string("at");
    let reason = fields.string("reason");
    fields.finish();
    let name = name?;
    let known = lints();
    let lint = known.iter().find(|lint| lint.name == name.get_ref()).map(|lint| lint.name);
    if lint.is_none() {
        let names: BTreeSet<&str> = known.iter().map(|lint| lint.name).collect();
        let message = format!("there is no lint `{}`", name.get_ref());
        unknown(faults, name.span(), &message, name.get_ref(), &names);
    }
    if let Some(reason) = &reason
        && reason.get_ref().trim().is_empty()
    {
        faults
            .error(reason.span(), "the reason is empty")
            .help("say why it is right here, for whoever reads it in a year");
        return None;
    }
    if let Some(at) = &at
        && at.get_ref().is_empty()
    {
        faults
            .error(at.span(), "`allow.at` is empty")
            .help("name what it is about, such as `at = \"services.redis\"`, or leave it out");
        return None;
    }
    reason?;
    Some(Allow { span: name.span(), lint: lint?, at: at.map(toml::Spanned::into_inner) })
}

/// Reports what is not among the `used`, but for the lints that `elsewhere` looks at.
pub(super) fn unused(
    allows: &[Allow],
    used: &BTreeSet<usize>,
    elsewhere: impl Fn(&str) -> bool,
    faults: &mut Diagnostics,
) {
    for (nth, allow) in allows.iter().enumerate() {
        if used.contains(&nth) || elsewhere(allow.lint) {
            continue;
        }
        let place = allow.at.as_ref().map(|at| format!(" at `{at}`")).unwrap_or_default();
        let message = format!("`{}` finds nothing{place}", allow.lint);
        let mut finding = Diagnostic::of_lint(UNUSED, Severity::Warning, allow.span.clone(), message);
        finding.help("take the exception out");
        faults.adopt(finding);
    }
}
