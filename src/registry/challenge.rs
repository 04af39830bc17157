//! `WWW-Authenticate` (RFC 9110, section 11.6.1), as registries write it.

use std::collections::BTreeMap;

/// One challenge of a 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from somewhere else (distribution's "Token Authentication Specification").
    Bearer {
        /// Where tokens are.
        realm: String,
        /// What the token service calls the registry.
        service: Option<String>,
    },
}

/// The challenges of a header's value that we can answer, in order.
pub(super) fn parse(value: &str) -> Vec<Challenge> {
    let mut schemes: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() && after.is_empty() {
            break;
        }
        rest = after;
        match (after.strip_prefix('='), schemes.last_mut()) {
            (Some(after), Some((_, parameters))) => {
                let (text, after) = parameter(after);
                parameters.insert(word.to_ascii_lowercase(), text);
                rest = after;
            }
            (Some(after), None) => rest = after,
            (None, _) => schemes.push((word.to_ascii_lowercase(), BTreeMap::new())),
        }
    }
    schemes
        .into_iter()
        .filter_map(|(scheme, mut parameters)| match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => parameters
                .remove("realm")
                .map(|realm| Challenge::Bearer { realm, service: parameters.remove("service") }),
            _ => None,
        })
        .collect()
}

/// A token or a quoted string, in which commas are text, and what comes after it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quoted_commas_are_text() {
        let value =
            r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull,push""#;
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("r.example".to_owned()),
        };
        assert_eq!(parse(value), [bearer]);
    }

    #[test]
    fn several_challenges_in_one_header_are_all_seen() {
        let value = r#"Negotiate abc==, Basic realm="a \"b\", c", bearer realm=https://x.example/t"#;
        let bearer = Challenge::Bearer { realm: "https://x.example/t".to_owned(), service: None };
        assert_eq!(parse(value), [Challenge::Basic, bearer]);
        assert_eq!(parse("Bearer service=x"), []);
        assert_eq!(parse(""), []);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_hang(value in "[ -~é]{0,80}") {
            parse(&value);
        }
    }
}
