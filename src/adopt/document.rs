//! A profile while it is being written: tables in their order, and of every line the key of the Compose file that it
//! comes from, so that a line which the profile's own reader refuses can be taken out again and reported.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use toml_writer::{ToTomlKey as _, ToTomlValue as _};

use super::ledger::Path;

/// One TOML file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    /// Comment lines at the top.
    pub(crate) head: Vec<String>,
    pub(crate) tables: Vec<Table>,
}

/// `[a.b]` and what stands in it. The first table may have no name: the top of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) name: Vec<String>,
    pub(crate) comment: Vec<String>,
    pub(crate) entries: Vec<Entry>,
    /// A comment that makes a heading of it.
    pub(crate) heading: Option<String>,
}

/// One key.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) comment: Vec<String>,
    /// Where it comes from; of a list, where each item does. Empty for what the importer says by itself.
    pub(crate) origins: Vec<Path>,
    /// One line for each item of a list.
    pub(crate) tall: bool,
}

/// What was taken out.
#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) what: String,
    pub(crate) origins: Vec<Path>,
}

impl Table {
    pub(crate) fn new(name: &[&str]) -> Self {
        Self { name: name.iter().map(|&part| part.to_owned()).collect(), ..Self::default() }
    }

    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Entry {
        self.entries.retain(|entry| entry.key != key);
        let new = Entry {
            key: key.to_owned(),
            value: value.into(),
            comment: Vec::new(),
            origins: Vec::new(),
            tall: false,
        };
        let at = self.entries.len();
        self.entries.push(new);
        &mut self.entries[at]
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }
}

impl Entry {
    pub(crate) fn from(&mut self, origin: Path) -> &mut Self {
        self.origins.push(origin);
        self
    }

    pub(crate) fn note(&mut self, text: &str) -> &mut Self {
        self.comment.push(text.to_owned());
        self
    }
}

/// A place in the document, for a line of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Table(usize),
    Entry(usize, usize),
    Item(usize, usize, usize),
}

/// No longer than this on one line.
const WIDTH: usize = 100;

impl Document {
    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        self.write().0
    }

    fn write(&self) -> (String, Vec<Option<Place>>) {
        let mut out = Out::default();
        for line in &self.head {
            out.comment(line);
        }
        for (nth, table) in self.tables.iter().enumerate() {
            if table.entries.is_empty() && table.comment.is_empty() && !table.stands_empty() {
                continue;
            }
            out.line("", None);
            if let Some(heading) = &table.heading {
                out.line(&format!("# --- {heading} ---"), None);
                out.line("", None);
            }
            for line in &table.comment {
                out.comment(line);
            }
            if !table.name.is_empty() {
                let name: Vec<String> = table.name.iter().map(|part| part.to_toml_key()).collect();
                out.line(&format!("[{}]", name.join(".")), Some(Place::Table(nth)));
            }
            for (number, entry) in table.entries.iter().enumerate() {
                for line in &entry.comment {
                    out.comment(line);
                }
                entry.write(&mut out, nth, number);
            }
        }
        (out.text, out.places)
    }

    /// Takes out what stands on a line (from 1), or says that there is nothing to take out.
    /// Of a list it is the item that `message` has in backticks, if there is one.
    pub(crate) fn take_out(&mut self, line: usize, message: &str) -> Option<Removed> {
        let (_, places) = self.write();
        let place = (*places.get(line.checked_sub(1)?)?)?;
        let place = self.named(place, message).unwrap_or(place);
        match place {
            Place::Table(nth) => {
                let gone = self.tables.get(nth)?.name.clone();
                let (taken, kept) = std::mem::take(&mut self.tables)
                    .into_iter()
                    .partition(|table| !gone.is_empty() && table.name.starts_with(&gone));
                self.tables = kept;
                let taken: Vec<Table> = taken;
                let origins =
                    taken.into_iter().flat_map(|table| table.entries).flat_map(|entry| entry.origins);
                Some(Removed { what: format!("[{}]", gone.join(".")), origins: origins.collect() })
            }
            Place::Entry(table, number) => {
                let table = self.tables.get_mut(table)?;
                let entry = table.entries.get_mut(number)?;
                let items = entry.value.as_array().map_or(0, Vec::len);
                if items > 1 && !entry.tall {
                    // Which item it is shows when each has a line.
                    entry.tall = true;
                    return Some(Removed { what: String::new(), origins: Vec::new() });
                }
                let entry = table.entries.remove(number);
                Some(Removed {
                    what: format!("{} in [{}]", entry.key, table.name.join(".")),
                    origins: entry.origins,
                })
            }
            Place::Item(table, number, item) => {
                let table = self.tables.get_mut(table)?;
                let entry = table.entries.get_mut(number)?;
                let items = entry.value.as_array_mut()?;
                let gone = (item < items.len()).then(|| items.remove(item))?;
                let per_item = entry.origins.len() == items.len() + 1;
                let origins = if per_item { vec![entry.origins.remove(item)] } else { entry.origins.clone() };
                let what = format!("{} in {} of [{}]", inline(&gone), entry.key, table.name.join("."));
                if items.is_empty() {
                    table.entries.remove(number);
                }
                Some(Removed { what, origins })
            }
        }
    }
}

impl Document {
    /// The item of a list that a message has in backticks.
    fn named(&self, place: Place, message: &str) -> Option<Place> {
        let Place::Entry(table, number) = place else { return None };
        let items = self.tables.get(table)?.entries.get(number)?.value.as_array()?;
        let named = |item: &Value| item.as_str().is_some_and(|text| message.contains(&format!("`{text}`")));
        Some(Place::Item(table, number, items.iter().position(named)?))
    }
}

impl Table {
    /// A secret that the operator sends has nothing in its table.
    fn stands_empty(&self) -> bool {
        self.name.first().is_some_and(|first| first == "secrets")
    }
}

impl Entry {
    fn write(&self, out: &mut Out, table: usize, number: usize) {
        let key = self.key.as_str().to_toml_key();
        let here = Some(Place::Entry(table, number));
        let flat = format!("{key} = {}", inline(&self.value));
        match &self.value {
            Value::Array(items) if items.len() > 1 && (self.tall || flat.len() > WIDTH) => {
                out.line(&format!("{key} = ["), here);
                for (nth, item) in items.iter().enumerate() {
                    out.line(&format!("    {},", inline(item)), Some(Place::Item(table, number, nth)));
                }
                out.line("]", here);
            }
            _ => out.line(&flat, here),
        }
    }
}

#[derive(Default)]
struct Out {
    text: String,
    /// One for each line.
    places: Vec<Option<Place>>,
}

impl Out {
    /// A text may have several lines, as a string in TOML may.
    fn line(&mut self, text: &str, place: Option<Place>) {
        if text.is_empty() && self.text.is_empty() {
            return;
        }
        for line in text.split('\n') {
            self.text.push_str(line);
            self.text.push('\n');
            self.places.push(place);
        }
    }

    fn comment(&mut self, text: &str) {
        for line in text.lines() {
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            self.line(format!("# {line}").trim_end(), None);
        }
    }
}

/// A value on one line, but for texts of several lines. There is no `null` in TOML: it is left out.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.as_str().to_toml_value(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter(|item| !item.is_null()).map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(table) => object(table),
    }
}

fn object(table: &Map<String, Value>) -> String {
    let mut text = String::from("{");
    for (key, value) in table.iter().filter(|(_, value)| !value.is_null()) {
        let lead = if text.len() > 1 { ", " } else { " " };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{lead}{} = {}", key.as_str().to_toml_key(), inline(value));
    }
    text.push_str(if text.len() > 1 { " }" } else { "}" });
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn document() -> Document {
        let mut top = Table::new(&[]);
        top.set("stateful", json!(["db"]));
        let mut web = Table::new(&["services", "web"]);
        web.set("volumes", json!(["a:/a", "b:/b"])).from(vec!["0".into()]).from(vec!["1".into()]);
        web.set("image", "x");
        let mut environment = Table::new(&["services", "web", "environment"]);
        environment.set("A", "1\n2").from(vec!["A".into()]);
        let head = vec!["Two\nlines.".to_owned()];
        Document { head, tables: vec![top, web, environment, Table::new(&["secrets", "x"])] }
    }

    #[test]
    fn it_reads_well() {
        let text = document().text();
        let expected = "# Two\n# lines.\n\nstateful = [\"db\"]\n\n[services.web]\nvolumes = [\"a:/a\", \"b:/b\"]\n\
                        image = \"x\"\n\n[services.web.environment]\nA = \"\"\"\n1\n2\"\"\"\n\n[secrets.x]\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_line_is_taken_out_with_where_it_comes_from() {
        let mut document = document();
        assert_eq!(document.take_out(7, "").unwrap().what, "");
        let removed = document.take_out(9, "").unwrap();
        assert_eq!(removed.origins, [vec!["1".to_owned()]]);
        assert!(document.text().contains("volumes = [\"a:/a\"]"), "{}", document.text());
        assert_eq!(document.take_out(13, "").unwrap().origins, [vec!["A".to_owned()]]);
        let removed = document.take_out(6, "").unwrap();
        assert_eq!(removed.what, "[services.web]");
        assert!(!document.text().contains("web"));
        assert!(document.take_out(1, "").is_none() && document.take_out(99, "").is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(key in ".*", text in ".*", words in prop::collection::vec(".*", 0..4)) {
            let mut table = Table::new(&["services", "x"]);
            table.name.push(key.clone());
            table.set(&key, json!({ "a": text, "b": words }));
            let written = Document { head: vec![text.clone()], tables: vec![table] }.text();
            let read: toml::Table = written.parse().unwrap();
            let value = &read["services"]["x"][&key][&key];
            prop_assert_eq!(value["a"].as_str().unwrap(), text);
            let back: Vec<_> = value["b"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
            prop_assert_eq!(back, words);
        }
    }
}
