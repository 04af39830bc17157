//! The tables that belong to artifact kinds. Only the kind knows what is in them, so this is serde's business; its
//! errors come one at a time, and here they are collected.

use std::collections::BTreeSet;
use std::fmt;

use toml::Spanned;
use toml::de::DeValue;

use crate::artifacts::{Artifact, Kind, Problem};

use super::diagnostics::{Diagnostics, nearest};
use super::read::{as_table, unknown};
use super::source::{Span, Table, Value};

/// A kind that the profile uses.
pub(crate) struct Section {
    pub(crate) artifact: Box<dyn Artifact>,
    table: Option<&'static str>,
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.artifact.fmt(f)
    }
}

/// Reads the table of every kind, in the order of `kinds`.
pub(crate) fn read(kinds: &[Kind], table: &Table<'_>, faults: &mut Diagnostics) -> Vec<Section> {
    let mut sections = Vec::new();
    for kind in kinds {
        let artifact = match kind.table.and_then(|name| Some((name, table.get_key_value(name)?))) {
            Some((name, (key, value))) => section(kind, name, &key.span(), value, faults),
            None => (kind.absent)(),
        };
        sections.extend(artifact.map(|artifact| Section { artifact, table: kind.table }));
    }
    sections
}

/// Reports what a kind finds wrong between its table and the rest.
pub(crate) fn report(section: &Section, problem: Problem, table: &Table<'_>, faults: &mut Diagnostics) {
    let own = section.table.and_then(|name| table.get_key_value(name));
    let fault = if let Some((key, value)) = own {
        faults.error(place(key.span(), value, &problem.at), problem.message)
    } else {
        let root = faults.sources().root().to_owned();
        faults.error_in(&root, problem.message)
    };
    fault.maybe_help(problem.hint);
}

/// The place of the value that `keys` lead to, as far as they lead.
fn place(key: Span, value: &Value<'_>, keys: &[String]) -> Span {
    let mut place = key;
    let mut value = value;
    for step in keys {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.get(step.as_str()),
            DeValue::Array(items) => step.parse().ok().and_then(|nth: usize| items.get(nth)),
            _ => None,
        };
        let Some(next) = next else { break };
        place = next.span();
        value = next;
    }
    place
}

/// So many mistakes of one table are said at once; each costs another reading of all of it.
const MOST_ROUNDS: u32 = 64;

/// Reads one kind's table. After an error the value at fault is taken out and the table is read again, so that the
/// next error shows itself; a key that is missing only because it was taken out is none.
fn section(
    kind: &Kind,
    name: &str,
    key: &Span,
    value: &Value<'_>,
    faults: &mut Diagnostics,
) -> Option<Box<dyn Artifact>> {
    as_table(faults, &format!("`{name}`"), value)?;
    let mut rest = value.clone();
    let mut removed: BTreeSet<String> = BTreeSet::new();
    // Every round takes something out, or ends; the bound only guards that claim.
    for _ in 0..MOST_ROUNDS {
        let error = match (kind.parse)(rest.clone()) {
            Ok(artifact) => return removed.is_empty().then_some(artifact),
            Err(error) => error,
        };
        let message = error.message().trim();
        let span = error.span().unwrap_or_else(|| key.clone());
        if let Some(field) = quoted_after(message, "missing field ") {
            let misspelt = || nearest(field, removed.iter().map(String::as_str)).is_some();
            if !removed.contains(field) && !misspelt() {
                let place = if span.is_empty() || span == value.span() { key.clone() } else { span };
                faults.error(place, format!("`{field}` is missing in `{name}`"));
            }
            return None;
        }
        if let Some(field) = quoted_after(message, "unknown field ") {
            let known = known_fields(message);
            unknown(faults, span.clone(), &format!("unknown key `{field}` in `{name}`"), field, &known);
        } else {
            faults.error(span.clone(), format!("wrong value in `{name}`: {}", message.replace('\n', "; ")));
        }
        match take_out(&mut rest, &span) {
            Some(key) => drop(removed.insert(key)),
            None => return None,
        }
    }
    None
}

/// `x` of `` unknown field `x`, expected … ``.
fn quoted_after<'m>(message: &'m str, lead: &str) -> Option<&'m str> {
    message.strip_prefix(lead)?.strip_prefix('`')?.split_once('`').map(|(name, _)| name)
}

/// The names that serde lists after `expected`: every second piece between backticks, the first being the wrong one.
fn known_fields(message: &str) -> BTreeSet<&str> {
    message.split('`').skip(3).step_by(2).collect()
}

/// Removes the entry whose key or value, or the innermost one whose value, holds `span`; its key is returned.
fn take_out(value: &mut Value<'_>, span: &Span) -> Option<String> {
    let holds = |outer: &Span| outer.start <= span.start && span.end <= outer.end;
    match value.get_mut() {
        DeValue::Table(table) => {
            let hit = table
                .iter()
                .find(|(key, value)| holds(&key.span()) || holds(&value.span()) || within(value, span))
                .map(|(key, _)| key.get_ref().to_string())?;
            let exact = table
                .get_key_value(hit.as_str())
                .is_some_and(|(key, value)| holds(&key.span()) || value.span() == *span);
            if !exact
                && let Some(inner) = table.get_mut(hit.as_str())
                && inner.get_ref().is_table()
                && let Some(taken) = take_out(inner, span)
            {
                return Some(taken);
            }
            table.remove(hit.as_str());
            Some(hit)
        }
        _ => None,
    }
}

/// Whether a value inside has this place: the span of a table header does not cover what stands below it.
fn within(value: &Spanned<DeValue<'_>>, span: &Span) -> bool {
    match value.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .any(|(key, value)| key.span() == *span || value.span() == *span || within(value, span)),
        DeValue::Array(items) => items.iter().any(|item| item.span() == *span || within(item, span)),
        _ => false,
    }
}
