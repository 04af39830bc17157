//! A compose file as the test reads it: the YAML that our writer writes, which is a small part of YAML.

use serde_json::{Map, Value};

/// The services of a compose file.
pub(crate) fn services(text: &str) -> Map<String, Value> {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        .map(|line| (line.len() - line.trim_start().len(), line.trim_start()))
        .collect();
    let mut rest = Lines { lines: lines.as_slice(), first: None };
    let file = rest.block(0);
    assert!(rest.lines.is_empty(), "not read: {:?}", rest.lines);
    file["services"].as_object().unwrap().clone()
}

/// Lines that are not read yet. `first` stands for what follows a dash on a line that is half read.
struct Lines<'t> {
    lines: &'t [(usize, &'t str)],
    first: Option<(usize, &'t str)>,
}

impl<'t> Lines<'t> {
    fn peek(&self) -> Option<(usize, &'t str)> {
        self.first.or_else(|| self.lines.first().copied())
    }

    fn next(&mut self) {
        if self.first.take().is_none() {
            self.lines = &self.lines[1..];
        }
    }

    /// Everything that is indented like this.
    fn block(&mut self, indent: usize) -> Value {
        match self.peek() {
            Some((at, text)) if at == indent && text.starts_with('-') => self.list(indent),
            _ => self.map(indent),
        }
    }

    fn list(&mut self, indent: usize) -> Value {
        let mut items = Vec::new();
        while let Some((_, text)) = self.peek().filter(|(at, text)| *at == indent && text.starts_with('-')) {
            self.next();
            let text = text[1..].trim_start();
            let is_map = !text.starts_with(['"', '\'']) && (text.contains(": ") || text.ends_with(':'));
            if is_map {
                self.first = Some((indent + 2, text));
                items.push(self.map(indent + 2));
            } else {
                items.push(scalar(text));
            }
        }
        Value::Array(items)
    }

    fn map(&mut self, indent: usize) -> Value {
        let mut map = Map::new();
        while let Some((_, text)) = self.peek().filter(|(at, text)| *at == indent && !text.starts_with("- "))
        {
            self.next();
            let (key, value) = text.split_once(':').unwrap_or_else(|| panic!("no key in {text:?}"));
            let value = value.trim();
            let value = match self.peek() {
                _ if !value.is_empty() => scalar(value),
                Some((at, next)) if at > indent || (at == indent && next.starts_with('-')) => self.block(at),
                _ => Value::Null,
            };
            let key = scalar(key);
            map.insert(key.as_str().map_or_else(|| key.to_string(), str::to_owned), value);
        }
        Value::Object(map)
    }
}

fn scalar(text: &str) -> Value {
    if text.starts_with('"') {
        return serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    }
    if let Some(inner) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return inner.replace("''", "'").into();
    }
    assert!(!text.starts_with(['|', '>', '&', '*', '{']), "this reader does not know {text}");
    if text == "[]" {
        return Value::Array(Vec::new());
    }
    let plain = serde_json::from_str::<Value>(text).ok().filter(|value| value.is_boolean() || value.is_i64());
    plain.unwrap_or_else(|| text.into())
}

#[test]
fn it_reads_what_our_writer_writes() {
    let text = "# by bundle\nname: data\nservices:\n  db:\n    command:\n    - a: b\n      c: 1\n    - \"x: y\"\n    environment:\n      \
                A: \"1\"\n      B: 'it''s'\n    read_only: true\n    cpus: \"1.0\"\n  other:\n    user: 1:2\n";
    let expected = serde_json::json!({
        "db": {
            "command": [{ "a": "b", "c": 1 }, "x: y"],
            "cpus": "1.0",
            "environment": { "A": "1", "B": "it's" },
            "read_only": true,
        },
        "other": { "user": "1:2" },
    });
    assert_eq!(Value::Object(services(text)), expected);
}
