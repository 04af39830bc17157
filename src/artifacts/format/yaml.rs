//! YAML, as Compose (YAML 1.2) and `PyYAML` (YAML 1.1) both read it.
//!
//! `serde-saphyr` quotes what either of the two would take for something else than a string (`22:22`, `no`, `0755`).
//! It folds long strings unless told otherwise; what is left are quoted scalars and `|` blocks.

use serde::Serialize;

use super::Refused;

/// Writes `value`. Maps keep the order that they have; ours are sorted.
pub(in crate::artifacts) fn to_string(value: &impl Serialize) -> Result<String, Refused> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options).map_err(|error| Refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    /// What the two YAML versions, or a careless writer, would take for something else.
    const AWKWARD: &[&str] = &[
        "",
        " ",
        "~",
        "null",
        "Null",
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "n",
        "true",
        "False",
        "22:22",
        "1:20:30",
        "0755",
        "0o17",
        "0x1f",
        "1_000",
        "1e3",
        "1.",
        ".5",
        "-0",
        "+1",
        ".inf",
        "-.INF",
        ".nan",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        "=",
        "<<",
        "-",
        "- a",
        "?",
        "? a",
        ":",
        "a: b",
        "a :b",
        "#",
        "a #b",
        "&a",
        "*a",
        "!a",
        "!!str a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'",
        "\"",
        "'a'",
        "\"a\"",
        "[",
        "]",
        "[a]",
        "{",
        "}",
        "{a: b}",
        ",",
        "a,b",
        "---",
        "...",
        "--- a",
        " a",
        "a ",
        "\ta",
        "a\t",
        "\\",
        "\\n",
        "a\nb",
        "a\n",
        "\na",
        "a\n\nb\n",
        "a\r\nb",
        "\u{0}",
        "\u{7}",
        "\u{1b}",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}",
        "é",
        "😀",
        "$",
        "${A}",
        "$$",
        "100%",
        "1d",
        "1.2.3",
        "012",
        "08",
        "1,2",
        "0b1",
        "a:",
        "- ",
        "key: [x",
        "/run/x",
        "C:\\x",
        "a\u{301}",
    ];

    #[test]
    fn awkward_strings_are_written_so_that_they_cannot_be_mistaken() {
        let long = "word ".repeat(60);
        let by_key: BTreeMap<&str, usize> = AWKWARD.iter().enumerate().map(|(i, &text)| (text, i)).collect();
        let document = serde_json::json!({ "keys": by_key, "long": long.trim_end(), "values": AWKWARD });
        insta::assert_snapshot!("awkward", super::to_string(&document).unwrap());
    }

    #[test]
    fn text_of_several_lines_is_a_literal_block() {
        let yaml = super::to_string(&serde_json::json!({ "a": "one\ntwo\n" })).unwrap();
        assert_eq!(yaml, "a: |\n  one\n  two\n");
    }
}
