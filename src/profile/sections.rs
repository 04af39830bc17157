//! The tables that belong to artifact kinds. Only the kind knows what is in them, so this is serde's business; its
//! errors come one at a time, and here they are collected.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::DeValue;

use crate::artifacts::{Artifact, Kind, Problem};

use super::describe::{in_toml, of_kind};
use super::diagnostics::{Diagnostics, nearest};
use super::read::{as_table, key_text, unknown};
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
    let mut complete = true;
    // Every round takes something out, or ends; the bound only guards that claim.
    for _ in 0..MOST_ROUNDS {
        let error = match (kind.parse)(rest.clone()) {
            Ok(artifact) => return complete.then_some(artifact),
            Err(error) => error,
        };
        let described = of_kind(kind);
        if complete {
            missing(&described, name, key, value, faults);
        }
        complete = false;
        let message = error.message().trim();
        let span = error.span().unwrap_or_else(|| key.clone());
        // Only what is missing in a table within leaves something to read.
        let absent = quoted_after(message, "missing field ").is_some();
        if absent && (span.is_empty() || span == value.span()) {
            return None;
        }
        let Some(taken) = take_out(&mut rest, &span) else {
            let message = format!("wrong value in `{name}`: {}", message.replace('\n', "; "));
            faults.error(span, message);
            return None;
        };
        if !absent {
            wrong(&step(&described, &taken), name, message, span, faults);
        }
    }
    None
}

/// Says what serde says of one value, with what the schema knows of it.
fn wrong(described: &Described<'_>, name: &str, message: &str, span: Span, faults: &mut Diagnostics) {
    if let Some(field) = quoted_after(message, "unknown field ") {
        unknown(faults, span, &format!("unknown key `{field}` in `{name}`"), field, &known_fields(message));
    } else if let Some(value) = quoted_after(message, "unknown variant ") {
        let message_of = format!("unknown value `{value}` in `{name}`");
        unknown(faults, span, &message_of, value, &known_fields(message));
    } else {
        let message = format!("wrong value in `{name}`: {}", message.replace('\n', "; "));
        let such = described.example().map(|example| format!("write it as in `{example}`"));
        faults.error(span, message).maybe_help(such);
    }
}

/// A key of a table and its schema.
struct Described<'j> {
    key: &'j str,
    schema: &'j Json,
}

impl Described<'_> {
    /// `key = value`, if the schema has a value to show.
    fn example(&self) -> Option<String> {
        let schema = self.schema;
        let shown =
            schema["examples"].get(0).or_else(|| schema.get("default")).or_else(|| schema["enum"].get(0))?;
        Some(format!("{} = {}", key_text(self.key), in_toml(shown)))
    }
}

/// The schema of what `keys` lead to.
fn step<'j>(described: &'j Json, keys: &'j [String]) -> Described<'j> {
    let schema = keys.iter().fold(described, |schema, key| {
        schema["properties"].get(key).unwrap_or_else(|| &schema["additionalProperties"])
    });
    Described { key: keys.last().map_or("", String::as_str), schema }
}

/// Reports every key that must be in a table, or in a table within it, and is not; unless one that is there looks like a
/// misspelling of it.
fn missing(described: &Json, name: &str, key: &Span, value: &Value<'_>, faults: &mut Diagnostics) {
    let table = match value.get_ref() {
        DeValue::Table(table) => table,
        DeValue::Array(items) => {
            for item in items {
                missing(&described["items"], name, &item.span(), item, faults);
            }
            return;
        }
        _ => return,
    };
    let known = |name: &str| described["properties"].get(name);
    for field in described["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        let strangers = table.keys().map(|key| &**key.get_ref()).filter(|name| known(name).is_none());
        if table.contains_key(field) || strangers.into_iter().any(|name| nearest(name, [field]).is_some()) {
            continue;
        }
        let schema = known(field).unwrap_or(&Json::Null);
        let such = Described { key: field, schema }.example().map(|example| format!("write `{example}`"));
        faults.error(key.clone(), format!("`{field}` is missing in `{name}`")).maybe_help(such);
    }
    for (key, value) in table {
        let inner = known(key.get_ref()).unwrap_or(&described["additionalProperties"]);
        missing(inner, &format!("{name}.{}", key_text(key.get_ref())), &key.span(), value, faults);
    }
}

/// `x` of `` unknown field `x`, expected … ``.
fn quoted_after<'m>(message: &'m str, lead: &str) -> Option<&'m str> {
    message.strip_prefix(lead)?.strip_prefix('`')?.split_once('`').map(|(name, _)| name)
}

/// The names that serde lists after `expected`: every second piece between backticks, the first being the wrong one.
fn known_fields(message: &str) -> BTreeSet<&str> {
    message.split('`').skip(3).step_by(2).collect()
}

/// Removes the entry whose key or value, or the innermost one whose value, holds `span`; the keys to it are returned.
fn take_out(value: &mut Value<'_>, span: &Span) -> Option<Vec<String>> {
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
                return Some([vec![hit], taken].concat());
            }
            table.remove(hit.as_str());
            Some(vec![hit])
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
