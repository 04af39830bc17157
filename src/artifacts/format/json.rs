//! JSON for programs that are not ours: Docker's `daemon.json`, and user-data, which is YAML's subset.

use std::fmt::Write as _;

use serde_json::Value;

use super::Refused;

/// Indented, with sorted keys and a line break at the end.
pub(in crate::artifacts) fn pretty(value: &Value) -> Result<String, Refused> {
    let mut text =
        serde_json::to_string_pretty(&sorted(value)).map_err(|error| Refused(error.to_string()))?;
    text.push('\n');
    Ok(text)
}

/// On one line, with sorted keys and everything beyond printable ASCII as `\uXXXX` (RFC 8259, section 7). U+007F is
/// among it: raw, it is no YAML.
pub(in crate::artifacts) fn ascii(value: &Value) -> Result<String, Refused> {
    let text = serde_json::to_string(&sorted(value)).map_err(|error| Refused(error.to_string()))?;
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_ascii() && char != '\u{7f}' {
            out.push(char);
        } else {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                write!(out, "\\u{unit:04x}").map_err(|error| Refused(error.to_string()))?;
            }
        }
    }
    Ok(out)
}

/// `serde_json`'s maps keep the order of insertion if any crate in the build asks for that; ours are sorted either way.
pub(in crate::artifacts) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn what_is_not_printable_ascii_is_escaped() {
        let text = super::ascii(&json!({ "b": "é😀\u{7f}\n", "a": 1 })).unwrap();
        assert_eq!(text, r#"{"a":1,"b":"\u00e9\ud83d\ude00\u007f\n"}"#);
    }
}
