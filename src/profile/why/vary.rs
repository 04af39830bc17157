//! Other values for a value: of the same type and form, so that most of them are right where the first one is.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use toml::de::DeValue;

use super::super::describe::in_toml;
use super::super::source::{Table, Value};
use super::trial::Trial;

/// So many values are tried, right or not.
pub(super) const MOST: usize = 24;

/// What none of so many right ones shows is not there to be shown.
pub(super) const ENOUGH: usize = 6;

/// Of a list, so many items are varied by themselves.
const MOST_ITEMS: usize = 4;

/// Other values, written in TOML, those that are most likely to be right first.
pub(super) fn others(value: &Value<'_>, described: &Json, trial: &Trial<'_>) -> Vec<String> {
    let mut others: Vec<String> = said(described);
    match value.get_ref() {
        DeValue::String(text) => others.extend(texts(text, trial).iter().map(|text| quoted(text))),
        DeValue::Integer(number) => {
            if let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) {
                others.extend(numbers(number, described));
            }
        }
        DeValue::Float(number) => {
            if let Ok(number) = number.as_str().parse::<f64>() {
                others.extend([number / 2.0, number + 1.0].iter().map(|number| format!("{number:?}")));
            }
        }
        DeValue::Boolean(flag) => others.push((!flag).to_string()),
        DeValue::Array(items) => {
            let items: Vec<&Value<'_>> = items.iter().collect();
            others.extend(lists(&items, &described["items"], trial));
        }
        // An empty table.
        DeValue::Table(_) => {
            for (key, value) in described["properties"].as_object().into_iter().flatten() {
                others.extend(said(value).into_iter().map(|value| format!("{{ {key} = {value} }}")));
            }
        }
        DeValue::Datetime(_) => {}
    }
    let own = trial.sources.slice(&value.span()).unwrap_or_default();
    let mut seen = BTreeSet::from([own.to_owned()]);
    others.retain(|other| seen.insert(other.clone()));
    others
}

/// The values that the schema knows.
fn said(described: &Json) -> Vec<String> {
    let lists =
        ["enum", "examples"].iter().flat_map(|word| described[*word].as_array().into_iter().flatten());
    lists.chain(described.get("default")).map(in_toml).collect()
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// Other texts of the same form: names for names, other numbers for the numbers in it, a letter more.
fn texts(text: &str, trial: &Trial<'_>) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    siblings(trial.table, text, &mut texts);
    let bytes = text.as_bytes();
    let mut at = bytes.len();
    while at > 0 {
        let end = at;
        while at > 0 && bytes[at - 1].is_ascii_digit() {
            at -= 1;
        }
        if at == end {
            at -= 1;
            continue;
        }
        // Digits are ASCII, so these are boundaries of characters.
        let (before, number, after) = (&text[..at], &text[at..end], &text[end..]);
        if let Ok(value) = number.parse::<u64>() {
            let width = if number.starts_with('0') { number.len() } else { 0 };
            let near = [value.checked_add(1), value.checked_sub(1), value.checked_mul(2), Some(value / 2)];
            texts.extend(near.into_iter().flatten().map(|value| format!("{before}{value:0width$}{after}")));
        }
    }
    texts.extend([
        format!("{text}x"),
        format!("x{text}"),
        format!("{text}/x"),
        format!("{text} x"),
        String::new(),
    ]);
    // A template has a place in its middle.
    if let Some((before, after)) = text.split_once("{{") {
        texts.push(format!("{before}x{{{{{after}"));
    }
    texts
}

/// Wherever the text is the name of a table, the other names beside it.
fn siblings(table: &Table<'_>, text: &str, names: &mut Vec<String>) {
    if table.contains_key(text) {
        names.extend(table.keys().map(|key| key.get_ref().to_string()).filter(|name| name != text));
    }
    for value in table.values() {
        if let DeValue::Table(inner) = value.get_ref() {
            siblings(inner, text, names);
        }
    }
}

/// Whether the value is this name, or has it among its items.
pub(super) fn names(value: &Value<'_>, name: &str) -> bool {
    match value.get_ref() {
        DeValue::String(text) => text == name,
        DeValue::Array(items) => items.iter().any(|item| names(item, name)),
        _ => false,
    }
}

fn numbers(number: i64, described: &Json) -> Vec<String> {
    let bounds = ["minimum", "maximum"].iter().filter_map(|bound| described[*bound].as_i64());
    let near = [number.checked_add(1), number.checked_sub(1), number.checked_mul(2), Some(number / 2)];
    near.into_iter()
        .flatten()
        .chain(bounds)
        .filter(|other| *other != number)
        .map(|other| other.to_string())
        .collect()
}

/// The list without one item, with another one, and with one more.
fn lists(items: &[&Value<'_>], described: &Json, trial: &Trial<'_>) -> Vec<String> {
    let written: Vec<&str> =
        items.iter().map(|item| trial.sources.slice(&item.span()).unwrap_or_default()).collect();
    let list = |items: Vec<&str>| format!("[{}]", items.join(", "));
    let mut lists = Vec::new();
    let ends: BTreeSet<usize> = (0..items.len().min(MOST_ITEMS)).chain(items.len().checked_sub(1)).collect();
    for &nth in &ends {
        let without = written.iter().enumerate().filter(|(other, _)| *other != nth).map(|(_, text)| *text);
        lists.push(list(without.collect()));
    }
    for &nth in &ends {
        for other in self::others(items[nth], described, trial).iter().take(MOST_ITEMS) {
            let mut changed = written.clone();
            changed[nth] = other;
            lists.push(list(changed));
        }
    }
    let more = match items.last() {
        Some(item) => self::others(item, described, trial),
        None => said(described).into_iter().chain([quoted("x"), "1".to_owned()]).collect(),
    };
    lists.extend(more.iter().take(MOST_ITEMS).map(|other| list([written.clone(), vec![other]].concat())));
    lists
}

/// Other values for an entry of the lock: another digest, addresses that nobody has.
pub(super) fn pins(value: &Value<'_>, trial: &Trial<'_>) -> Vec<String> {
    match value.get_ref() {
        DeValue::String(digest) => {
            let Some((last, rest)) =
                digest.char_indices().next_back().map(|(at, last)| (last, &digest[..at]))
            else {
                return Vec::new();
            };
            vec![quoted(&format!("{rest}{}", if last == '0' { '1' } else { '0' }))]
        }
        DeValue::Integer(size) => i64::from_str_radix(size.as_str(), size.radix())
            .map(|size| (size + 1).to_string())
            .into_iter()
            .collect(),
        DeValue::Table(hosts) => {
            let number = |table: &Table<'_>, key: &str| {
                let value = table.get(key)?.get_ref().as_integer()?;
                i64::from_str_radix(value.as_str(), value.radix()).ok()
            };
            let all = trial.lock.get("hosts").and_then(|hosts| hosts.get_ref().as_table());
            let keys = ["data_blue", "data_green", "slot"];
            let used =
                all.into_iter().flat_map(|all| all.values()).filter_map(|hosts| hosts.get_ref().as_table());
            let most = used.flat_map(|hosts| keys.map(|key| number(hosts, key))).flatten().max().unwrap_or(1);
            let one = number(hosts, "data_blue") == number(hosts, "data_green");
            let [blue, green] = if one { [most + 1, most + 1] } else { [most + 1, most + 2] };
            vec![format!("{{ data_blue = {blue}, data_green = {green}, slot = {blue} }}")]
        }
        _ => Vec::new(),
    }
}
