//! Templates of secrets: text with `{{ name }}` or `{{ name | filter }}` in it. The build side checks them, the droplet
//! fills them in; no value is ever known here.

use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Digest, SecretName};

/// Everything but the unreserved characters of RFC 3986 §2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Secret { name: SecretName, filters: Vec<Filter>, at: Range<usize> },
}

/// What is done to a value before it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    /// Percent-encoding of all but unreserved characters, for URLs.
    UrlEncode,
    /// The 64 lower-case hex digits of the SHA-256, as Redis' ACL files take passwords (`#<hash>`).
    Sha256,
    /// Escaped for a double-quoted value of an env file, as Compose reads it.
    Dotenv,
}

/// A text that is not a template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseTemplateError {
    /// The bytes of the text that are at fault.
    pub at: Range<usize>,
    message: String,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, ParseTemplateError> {
        let mut parts = Vec::new();
        let mut position = 0;
        while let Some(open) = text[position..].find("{{").map(|at| position + at) {
            if open > position {
                parts.push(Part::Literal(text[position..open].to_owned()));
            }
            let close = text[open..].find("}}").map(|at| open + at).ok_or_else(|| ParseTemplateError {
                at: open..open + 2,
                message: "`{{` is never closed by `}}`".to_owned(),
            })?;
            parts.push(reference(&text[open + 2..close], open..close + 2)?);
            position = close + 2;
        }
        if position < text.len() {
            parts.push(Part::Literal(text[position..].to_owned()));
        }
        Ok(Self(parts))
    }

    /// The secrets that it names, in order, each with its place in the text. One named twice comes twice.
    pub fn references(&self) -> impl Iterator<Item = (&SecretName, Range<usize>)> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Secret { name, at, .. } => Some((name, at.clone())),
        })
    }

    /// The same template, to stand between double quotes in an env file.
    pub fn in_env_file(&self) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(&dotenv(literal)),
                Part::Secret { name, filters, .. } => {
                    text.extend(["{{ ", name.as_str()]);
                    for filter in filters.iter().chain([&Filter::Dotenv]) {
                        text.extend([" | ", filter.as_str()]);
                    }
                    text.push_str(" }}");
                }
            }
        }
        text
    }

    /// Fills it in. `lookup` gives the value of a secret; its error ends the work.
    pub fn render<E>(&self, mut lookup: impl FnMut(&SecretName) -> Result<String, E>) -> Result<String, E> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Secret { name, filters, .. } => {
                    let value = lookup(name)?;
                    text.push_str(&filters.iter().fold(value, |value, filter| filter.apply(&value)));
                }
            }
        }
        Ok(text)
    }
}

impl Filter {
    fn apply(self, value: &str) -> String {
        match self {
            Self::UrlEncode => utf8_percent_encode(value, RESERVED).to_string(),
            Self::Sha256 => Digest::of(value.as_bytes()).hex(),
            Self::Dotenv => dotenv(value),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::UrlEncode => "urlencode",
            Self::Sha256 => "sha256",
            Self::Dotenv => "dotenv",
        }
    }
}

/// What stands between double quotes in an env file for this text (docs.docker.com, "Syntax for environment files").
fn dotenv(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' | '$' => quoted.extend(['\\', c]),
            _ => quoted.push(c),
        }
    }
    quoted
}

/// Reads what stands between the braces.
fn reference(inner: &str, at: Range<usize>) -> Result<Part, ParseTemplateError> {
    let mut words = inner.split('|').map(str::trim);
    let name = words.next().unwrap_or_default();
    let name = name.parse().map_err(|error: super::ParseNameError| ParseTemplateError {
        at: at.clone(),
        message: error.to_string(),
    })?;
    let mut filters = Vec::new();
    for word in words {
        filters.push(match word {
            "urlencode" => Filter::UrlEncode,
            "sha256" => Filter::Sha256,
            "dotenv" => Filter::Dotenv,
            other => {
                let message =
                    format!("unknown filter `{other}`: there are `urlencode`, `sha256` and `dotenv`");
                return Err(ParseTemplateError { at, message });
            }
        });
    }
    Ok(Part::Secret { name, filters, at })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn render(template: &str, value: &str) -> String {
        let lookup = |_: &SecretName| Ok::<_, Infallible>(value.to_owned());
        Template::parse(template).unwrap().render(lookup).unwrap()
    }

    #[test]
    fn a_value_is_filtered_and_the_rest_is_left_alone() {
        assert_eq!(render("a {{x}} } b", "1"), "a 1 } b");
        assert_eq!(render("u:{{ x | urlencode }}@h", "a/b:ü~"), "u:a%2Fb%3A%C3%BC~@h");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(render("#{{ x|sha256 }}", ""), format!("#{empty}"));
    }

    #[test]
    fn a_value_is_never_read_as_a_template() {
        assert_eq!(render("{{ x }}", "{{ y }}"), "{{ y }}");
    }

    #[test]
    fn faults_have_a_place() {
        assert_eq!(Template::parse("ab{{ x").unwrap_err().at, 2..4);
        assert_eq!(Template::parse("a{{ x | rot13 }}").unwrap_err().at, 1..16);
        assert!(Template::parse("{{ }}").is_err());
        assert!(Template::parse("{{ ../x }}").is_err());
    }

    #[test]
    fn references_come_in_order_with_their_places() {
        let template = Template::parse("{{ a }}-{{ b | sha256 }}").unwrap();
        let found: Vec<_> = template.references().map(|(name, at)| (name.as_str(), at)).collect();
        assert_eq!(found, [("a", 0..7), ("b", 8..24)]);
    }
}
