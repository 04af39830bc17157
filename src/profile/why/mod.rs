//! Which lines of a profile and of its lock stand behind a generated file.
//!
//! Rendering is a pure function, so the question is put to it: each value of the merged profile is taken out, or given
//! another that would be right too, everything is rendered again, and the file's bytes are compared. So whatever is named
//! has been seen to matter, and this module knows nothing of any artifact kind.

mod trial;
mod vary;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value as Json;
use toml::de::DeValue;

use crate::artifacts::{Kind, RenderError, Tree};
use crate::model::{StorePath, TreePath};

use super::describe::{Form, schema};
use super::diagnostics::{Diagnostics, Place, nearest, place_of};
use super::merge::{merge, ways};
use super::read::key_text;
use super::source::{Sources, Span, Table, Value};
use trial::{Effect, Outcome, Trial};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// The profile is not right.
    #[error("{0}")]
    Profile(Box<Diagnostics>),
    /// Its files cannot be rendered.
    #[error("the files cannot be rendered")]
    Render(#[source] RenderError),
    /// The profile has no such file.
    #[error("the profile makes no file `{path}`")]
    NoFile {
        /// What was asked for.
        path: String,
        /// The file that was probably meant.
        meant: Option<String>,
    },
}

/// What stands behind a file.
#[derive(Debug, Serialize)]
pub struct Why {
    /// The file's place in a generation's view.
    pub path: String,
    /// The kind that makes it.
    pub kind: &'static str,
    /// Where it lives on the machine; two places if the slots have renderings of their own.
    pub store: Vec<String>,
    /// The lines that decide on it, by their places.
    pub lines: Vec<Line>,
    /// Lines of which it is not known, because no other value of theirs would be right by itself.
    pub open: Vec<Line>,
}

/// A line behind a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// The files by which that one came in, the profile first; only itself if it is the profile's own.
    pub way: Vec<String>,
    /// The keys that lead to it, as in `redis.maxmemory`; `[redis]` for a table as a whole.
    pub key: String,
    /// Its value as it is written there, shortened.
    pub value: String,
    /// What it decides.
    pub decides: Decides,
    /// Files of the bundle that this one names, if it is only their contents that the line decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<String>,
    /// What showed it: the value that was tried instead, or that it was left out.
    pub shown_by: String,
}

/// What a line decides of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decides {
    /// That it is there.
    Existence,
    /// What is in it.
    Content,
    /// The address of another file that it names, for addresses are hashes.
    Reference,
    /// Nothing that is known.
    Unknown,
}

/// A value that can be varied, or a table that can be left out.
struct Leaf<'t> {
    keys: Vec<String>,
    at: Span,
    value: &'t Value<'t>,
}

/// What stands behind the file at `path`, which may be a path in a generation's view, or one of the machine: below `/etc`,
/// in the store, or through `current`.
pub fn why(sources: &Sources, kinds: &'static [Kind], path: &str) -> Result<Why, WhyError> {
    let resolved = super::check(sources, kinds).map_err(|faults| WhyError::Profile(Box::new(faults)))?;
    let tree = resolved.render().map_err(WhyError::Render)?;
    let file = find(&tree, path)?;
    let table = merge(sources).map_err(|faults| WhyError::Profile(Box::new(faults)))?;
    let lock = sources.source(&sources.lock_path()).map(|source| source.parse().0).unwrap_or_default();
    let entries: Vec<_> = tree.entries().filter(|entry| entry.path == file).collect();
    let mut why = Why {
        path: file.to_string(),
        kind: entries.first().map_or("", |entry| entry.kind),
        store: entries.iter().map(|entry| entry.store_path().absolute()).collect(),
        lines: Vec::new(),
        open: Vec::new(),
    };
    let ways = ways(sources);
    let trial = Trial::new(sources, kinds, &ways, &table, &lock, &tree, &file);
    let described = schema(kinds, Form::Merged);
    look_at_profile(&trial, &described, &mut why);
    look_at_lock(&trial, &mut why);
    let order = |line: &Line| (line.place.path.clone(), line.place.line, line.place.column, line.key.clone());
    why.lines.sort_by_key(order);
    why.open.sort_by_key(order);
    Ok(why)
}

fn look_at_profile(trial: &Trial<'_>, described: &Json, why: &mut Why) {
    let (mut leaves, mut tables) = (Vec::new(), Vec::new());
    collect(trial.table, &mut Vec::new(), &mut leaves, &mut tables);
    let without: Vec<(&Leaf<'_>, Outcome)> =
        tables.iter().map(|table| (table, trial.without(&table.keys))).collect();
    for (table, outcome) in &without {
        // `[routes.web]` says `[routes]` too.
        let said = |other: &Leaf<'_>| {
            other.keys.len() > table.keys.len()
                && other.keys.starts_with(&table.keys)
                && place_of(trial.sources, &other.at).map(|place| place.line)
                    == place_of(trial.sources, &table.at).map(|place| place.line)
        };
        if let Outcome::Differs(effect @ Effect { absent: true, .. }) = outcome
            && !tables.iter().any(said)
        {
            why.lines.push(line(trial, table, true, effect, "left out"));
        }
    }
    for leaf in &leaves {
        let described = step(described, &leaf.keys);
        let mut outcome = shown(trial, leaf, &vary::others(leaf.value, described, trial));
        if matches!(outcome, Shown::Nothing) {
            outcome = in_other_profiles(trial, leaf, described, &without);
        }
        match outcome {
            Shown::Matters(effect, by) => why.lines.push(line(trial, leaf, false, &effect, &by)),
            Shown::Idle => {}
            Shown::Nothing => why.open.push(line(trial, leaf, false, &Effect::default(), "")),
        }
    }
}

/// What trials have shown of a line.
enum Shown {
    /// The file changes with it, and by which trial.
    Matters(Effect, String),
    /// The file stays the same.
    Idle,
    /// No other value was right.
    Nothing,
}

/// Takes the value out, and gives it others.
fn shown(trial: &Trial<'_>, leaf: &Leaf<'_>, others: &[String]) -> Shown {
    let mut shown = Shown::Nothing;
    let mut right = 0;
    for other in std::iter::once(None).chain(others.iter().map(Some)).take(vary::MOST) {
        let outcome = match other {
            None => trial.without(&leaf.keys),
            Some(text) => trial.instead(&leaf.keys, text),
        };
        if matches!(outcome, Outcome::Wrong) {
            continue;
        }
        right += 1;
        let by = || other.map_or_else(|| "left out".to_owned(), |text| format!("`{text}` instead"));
        match (outcome, &shown) {
            // Nothing says more about a line than that it decides on the content.
            (Outcome::Differs(effect), _) if effect.decides() == Decides::Content => {
                return Shown::Matters(effect, by());
            }
            (Outcome::Differs(effect), Shown::Idle | Shown::Nothing) => shown = Shown::Matters(effect, by()),
            (Outcome::Same, Shown::Nothing) => shown = Shown::Idle,
            _ => {}
        }
        if right == vary::ENOUGH {
            break;
        }
    }
    shown
}

/// A value that others hold in its place may be varied where one of those is not there, and a name where there is
/// another to choose: two profiles that differ in nothing but this value.
fn in_other_profiles(
    trial: &Trial<'_>,
    leaf: &Leaf<'_>,
    described: &Json,
    without: &[(&Leaf<'_>, Outcome)],
) -> Shown {
    let mut answer = Shown::Nothing;
    let named = without.iter().filter(|(table, _)| {
        table.keys.len() > 1 && table.keys.last().is_some_and(|name| vary::names(leaf.value, name))
    });
    let larger = named.filter_map(|(table, _)| {
        let (name, around) = table.keys.split_last()?;
        Some((trial.larger(around, name)?, format!("with `[{}]` twice", path_text(&table.keys))))
    });
    let possible = without
        .iter()
        .filter(|(table, outcome)| !matches!(outcome, Outcome::Wrong) && !leaf.keys.starts_with(&table.keys));
    let smaller = possible.filter_map(|(table, _)| {
        Some((trial.smaller(&table.keys)?, format!("without `[{}]`", path_text(&table.keys))))
    });
    for (other, how) in larger.chain(smaller) {
        let Some(trial) = other.trial(trial) else { continue };
        match shown(&trial, leaf, &vary::others(leaf.value, described, &trial)) {
            Shown::Matters(effect, by) => return Shown::Matters(effect, format!("{by}, {how}")),
            Shown::Idle => answer = Shown::Idle,
            Shown::Nothing => {}
        }
    }
    answer
}

/// The lock's entries: digests of images, addresses of services, the activator.
fn look_at_lock(trial: &Trial<'_>, why: &mut Why) {
    let (mut leaves, mut tables) = (Vec::new(), Vec::new());
    collect(trial.lock, &mut Vec::new(), &mut leaves, &mut tables);
    let addresses = tables.iter().filter(|table| table.keys.len() == 2 && table.keys[0] == "hosts");
    let digests = leaves.iter().filter(|leaf| leaf.keys[0] == "images" || leaf.keys[0] == "activator");
    for leaf in addresses.chain(digests) {
        let whole = leaf.value.get_ref().is_table();
        for other in vary::pins(leaf.value, trial) {
            if let Outcome::Differs(effect) = trial.pinned(&leaf.keys, &other) {
                why.lines.push(line(trial, leaf, whole, &effect, &format!("`{other}` instead")));
                break;
            }
        }
    }
}

/// All leaves of a table, and all tables within it.
fn collect<'t>(
    table: &'t Table<'t>,
    keys: &mut Vec<String>,
    leaves: &mut Vec<Leaf<'t>>,
    tables: &mut Vec<Leaf<'t>>,
) {
    for (key, value) in table {
        keys.push(key.get_ref().to_string());
        let leaf = || Leaf { keys: keys.clone(), at: key.span(), value };
        match value.get_ref() {
            DeValue::Table(inner) => {
                tables.push(leaf());
                // An empty one says something too.
                leaves.extend(inner.is_empty().then(leaf));
                collect(inner, keys, leaves, tables);
            }
            _ => leaves.push(leaf()),
        }
        keys.pop();
    }
}

fn line(trial: &Trial<'_>, leaf: &Leaf<'_>, whole: bool, effect: &Effect, shown_by: &str) -> Line {
    let whole = whole || leaf.value.get_ref().as_table().is_some_and(toml::map::Map::is_empty);
    let place = place_of(trial.sources, &leaf.at).unwrap_or_else(|| Place::of_file(trial.sources.root()));
    let key = path_text(&leaf.keys);
    let written = if whole { String::new() } else { written(trial.sources, leaf.value) };
    Line {
        way: trial.ways.get(&place.path).cloned().unwrap_or_else(|| vec![place.path.clone()]),
        place,
        key: if whole { format!("[{key}]") } else { key },
        value: written,
        decides: effect.decides(),
        through: effect.through.iter().cloned().collect(),
        shown_by: shown_by.to_owned(),
    }
}

fn path_text(keys: &[String]) -> String {
    keys.iter().map(|key| key_text(key)).collect::<Vec<_>>().join(".")
}

/// No value is shown longer than this, in characters.
const LONGEST: usize = 60;

/// A value as its file has it.
fn written(sources: &Sources, value: &Value<'_>) -> String {
    let text = sources.slice(&value.span()).unwrap_or_default();
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// The schema of the value that `keys` lead to.
fn step<'j>(described: &'j Json, keys: &[String]) -> &'j Json {
    keys.iter().fold(described, |schema, key| {
        schema["properties"].get(key).unwrap_or_else(|| &schema["additionalProperties"])
    })
}

/// The file that is meant by a path.
fn find(tree: &Tree, path: &str) -> Result<TreePath, WhyError> {
    let asked = path.trim();
    let in_store = asked.strip_prefix(StorePath::STORE).map(|rest| rest.trim_start_matches('/'));
    let current = "/var/lib/bundle/current/";
    let shown = asked.strip_prefix(current).unwrap_or_else(|| asked.trim_start_matches('/'));
    for entry in tree.entries() {
        let same = match in_store {
            Some(rest) => {
                let stored = entry.store_path().to_string();
                rest == stored || stored.starts_with(&format!("{rest}/"))
            }
            None => entry.path.as_str() == shown,
        };
        if same && !asked.is_empty() {
            return Ok(entry.path.clone());
        }
    }
    let known: BTreeSet<&str> = tree.entries().map(|entry| entry.path.as_str()).collect();
    let name = shown.rsplit('/').next().unwrap_or_default();
    let named: Vec<&str> =
        known.iter().copied().filter(|path| path.rsplit('/').next() == Some(name)).collect();
    let meant = match &named[..] {
        [one] => Some((*one).to_owned()),
        _ => nearest(shown, known.iter().copied()).map(str::to_owned),
    };
    Err(WhyError::NoFile { path: asked.to_owned(), meant })
}

#[cfg(test)]
mod tests;
