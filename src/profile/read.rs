//! Reading one TOML table key by key: a wrong value is reported and read as absent, so that one mistake hides no other,
//! and what nobody asked for is an unknown key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostics::{Diagnostics, did_you_mean, nearest};
use super::source::{Span, Table, Value};

/// A table while it is being read.
#[derive(Debug)]
pub(crate) struct Fields<'t, 'd> {
    /// As messages call it: `` `routes.web` ``, or `the profile`.
    what: String,
    table: &'t Table<'t>,
    asked: BTreeSet<&'static str>,
    missing: Vec<Missing>,
    pub(crate) faults: &'d mut Diagnostics,
}

/// A key that must be there and is not.
#[derive(Debug)]
struct Missing {
    key: &'static str,
    place: Option<Span>,
    example: &'static str,
}

/// `a string`, `an integer` …: what a value is, for messages.
pub(crate) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// `name`, or `"name"` where TOML asks for quotes.
pub(crate) fn key_text(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("\"{name}\"") }
}

/// Reports a value of the wrong type.
pub(crate) fn wrong_type<'d>(
    faults: &'d mut Diagnostics,
    what: &str,
    value: &Value<'_>,
    expected: &str,
) -> &'d mut super::diagnostics::Diagnostic {
    let found = kind_of(value.get_ref());
    faults
        .error(value.span(), format!("{what} must be {expected}, not {found}"))
        .label(format!("expected {expected}"))
}

/// The value as a table, or a report.
pub(crate) fn as_table<'t>(
    faults: &mut Diagnostics,
    what: &str,
    value: &'t Value<'t>,
) -> Option<&'t Table<'t>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        wrong_type(faults, what, value, "a table");
    }
    table
}

/// The value as a string, or a report.
pub(crate) fn as_string(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Spanned<String>> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        wrong_type(faults, what, value, "a string");
    }
    text.map(|text| Spanned::new(value.span(), text.to_owned()))
}

/// The value as an array, or a report.
pub(crate) fn as_array<'t>(
    faults: &mut Diagnostics,
    what: &str,
    value: &'t Value<'t>,
) -> Option<&'t [Value<'t>]> {
    let array = value.get_ref().as_array();
    if array.is_none() {
        wrong_type(faults, what, value, "an array");
    }
    array.map(|items| &**items)
}

/// The value as an integer, or a report.
pub(crate) fn as_integer(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Spanned<i64>> {
    let Some(integer) = value.get_ref().as_integer() else {
        wrong_type(faults, what, value, "an integer");
        return None;
    };
    let parsed = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
    if parsed.is_none() {
        faults.error(value.span(), format!("{what} is out of range"));
    }
    parsed.map(|number| Spanned::new(value.span(), number))
}

/// A string parsed by its type's own rule, or a report in that rule's words.
pub(crate) fn parse<T>(faults: &mut Diagnostics, text: &Spanned<String>) -> Option<Spanned<T>>
where
    T: FromStr,
    T::Err: Display,
{
    match text.get_ref().parse() {
        Ok(parsed) => Some(Spanned::new(text.span(), parsed)),
        Err(error) => {
            faults.error(text.span(), error.to_string());
            None
        }
    }
}

impl<'t, 'd> Fields<'t, 'd> {
    pub(crate) fn new(what: impl Into<String>, table: &'t Table<'t>, faults: &'d mut Diagnostics) -> Self {
        Self { what: what.into(), table, asked: BTreeSet::new(), missing: Vec::new(), faults }
    }

    /// What messages call a key of this table.
    pub(crate) fn name_of(&self, key: &str) -> String {
        match self.what.strip_prefix('`').and_then(|what| what.strip_suffix('`')) {
            Some(what) => format!("`{what}.{key}`"),
            None => format!("`{key}`"),
        }
    }

    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'t Value<'t>> {
        self.asked.insert(key);
        self.table.get(key)
    }

    /// The table under `key`.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<&'t Table<'t>> {
        let value = self.get(key)?;
        let what = self.name_of(key);
        as_table(self.faults, &what, value)
    }

    /// The string under `key`.
    pub(crate) fn string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let value = self.get(key)?;
        let what = self.name_of(key);
        as_string(self.faults, &what, value)
    }

    /// The string under `key`, parsed.
    pub(crate) fn parsed<T>(&mut self, key: &'static str) -> Option<Spanned<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.string(key)?;
        parse(self.faults, &text)
    }

    /// The integer under `key`.
    pub(crate) fn integer(&mut self, key: &'static str) -> Option<Spanned<i64>> {
        let value = self.get(key)?;
        let what = self.name_of(key);
        as_integer(self.faults, &what, value)
    }

    /// The boolean under `key`.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            let what = self.name_of(key);
            wrong_type(self.faults, &what, value, "a boolean");
        }
        flag
    }

    /// The array of strings under `key`, each parsed.
    pub(crate) fn list<T>(&mut self, key: &'static str) -> Vec<Spanned<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(value) = self.get(key) else { return Vec::new() };
        let what = self.name_of(key);
        let items = as_array(self.faults, &what, value).unwrap_or_default();
        let texts: Vec<_> = items
            .iter()
            .filter_map(|item| as_string(self.faults, &format!("an item of {what}"), item))
            .collect();
        let mut list: Vec<Spanned<T>> = Vec::new();
        let mut seen: BTreeMap<&str, &Spanned<String>> = BTreeMap::new();
        for text in &texts {
            if let Some(first) = seen.insert(text.get_ref(), text) {
                self.faults
                    .error(text.span(), format!("{what} names `{}` twice", text.get_ref()))
                    .label("here again")
                    .also(first.span(), "first here");
                continue;
            }
            list.extend(parse(self.faults, text));
        }
        list
    }

    /// Says that `key` must be there. If it is not, [`Fields::finish`] reports it, at `place` if the table has one of
    /// its own, unless an unknown key looks like a misspelling of it.
    pub(crate) fn require(&mut self, key: &'static str, place: Option<Span>, example: &'static str) {
        if !self.table.contains_key(key) {
            self.missing.push(Missing { key, place, example });
        }
    }

    /// Reports every key that was not asked for.
    pub(crate) fn finish(self) {
        self.finish_with("key", &[]);
    }

    /// The same; a key is called `noun`, and `more` are known too.
    pub(crate) fn finish_with(self, noun: &str, more: &[&str]) {
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.entry(self.what.clone()).or_default().extend(&self.asked));
        let known: BTreeSet<&str> = self.asked.iter().copied().chain(more.iter().copied()).collect();
        let mut meant: BTreeSet<&str> = BTreeSet::new();
        let mut strangers = self.table.keys().filter(|key| !known.contains(&**key.get_ref()));
        for key in strangers.by_ref().take(MOST_UNKNOWN) {
            let name: &str = key.get_ref();
            unknown(
                self.faults,
                key.span(),
                &format!("unknown {noun} `{name}` in {}", self.what),
                name,
                &known,
            );
            meant.extend(nearest(name, known.iter().copied()));
        }
        if let Some(key) = strangers.next() {
            let message = format!("and {} more unknown {noun}s in {}", 1 + strangers.count(), self.what);
            self.faults.error(key.span(), message);
        }
        for Missing { key, place, example } in &self.missing {
            if meant.contains(key) {
                continue;
            }
            let message = format!("{} is missing", self.name_of(key));
            let root = self.faults.sources().root().to_owned();
            let fault = match place {
                Some(span) => self.faults.error(span.clone(), message),
                None => self.faults.error_in(&root, message),
            };
            fault.help(format!("write {example}"));
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Every key that was asked for in this thread, by the table's name in messages: what the schema must describe.
    pub(crate) static ASKED: std::cell::RefCell<BTreeMap<String, BTreeSet<&'static str>>> =
        const { std::cell::RefCell::new(BTreeMap::new()) };
}

/// A table with more unknown keys is not what somebody meant to write, and looking for what they meant takes time.
const MOST_UNKNOWN: usize = 100;

/// A longer list helps nobody.
const LONGEST_LIST: usize = 16;

/// Reports an unknown name: with what was probably meant, else with what there is.
pub(crate) fn unknown(
    faults: &mut Diagnostics,
    span: Span,
    message: &str,
    name: &str,
    known: &BTreeSet<&str>,
) {
    let list = || {
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        (1..=LONGEST_LIST).contains(&known.len()).then(|| format!("known here: {}", known.join(", ")))
    };
    let help = did_you_mean(name, known.iter().copied()).or_else(list);
    faults.error(span, message).maybe_help(help);
}
