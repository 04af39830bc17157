//! Names that end up in paths, container names and commands: checked once, then trusted.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {rule}")]
pub struct ParseNameError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

const PLAIN: &str = "a name starts with a lower-case letter or a digit, goes on with those, `-`, `_` or `.`, \
                     and has at most 63 characters";
const UNIT: &str = "a unit name has letters, digits and `:_.@-`, a type such as `.service`, and at most 255 characters \
                    (systemd.unit(5))";

/// The same rules for a JSON schema.
const PLAIN_PATTERN: &str = "^[a-z0-9][a-z0-9_.-]{0,62}$";
const UNIT_PATTERN: &str =
    r"^[A-Za-z0-9:_@][A-Za-z0-9:_.@-]*\.(service|timer|mount|socket|target|slice|path)$";

fn is_plain(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 63
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

fn is_unit(text: &str) -> bool {
    text.len() <= 255
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.@-".contains(&b))
        && text.rsplit_once('.').is_some_and(|(stem, kind)| {
            !stem.is_empty()
                && ["service", "timer", "mount", "socket", "target", "slice", "path"].contains(&kind)
        })
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $is:ident, $rule:ident, $pattern:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if $is(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(ParseNameError { text: text.to_owned(), what: $what, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// The name of a profile: the stem of its file.
    ProfileName, "profile name", is_plain, PLAIN, PLAIN_PATTERN;
    /// The name of a Compose service.
    ServiceName, "service name", is_plain, PLAIN, PLAIN_PATTERN;
    /// The name of a secret. Never its value.
    SecretName, "secret name", is_plain, PLAIN, PLAIN_PATTERN;
    /// The name of an HTTP route; HAProxy's backend is called so.
    RouteName, "route name", is_plain, PLAIN, PLAIN_PATTERN;
    /// The last part of an image's repository, under which it stands locally as `bundle.local/NAME`.
    ImageName, "image name", is_plain, PLAIN, PLAIN_PATTERN;
    /// The name of a Docker network.
    NetworkName, "network name", is_plain, PLAIN, PLAIN_PATTERN;
    /// The name of a systemd unit (systemd.unit(5)).
    UnitName, "unit name", is_unit, UNIT, UNIT_PATTERN;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_climb_out_of_a_directory() {
        for wrong in ["", ".", "..", "a/b", "../x", "A", "-a", "a\0", "é", &"a".repeat(64)] {
            assert!(wrong.parse::<ServiceName>().is_err(), "{wrong:?}");
        }
        assert!("postgres_16.2-x".parse::<ServiceName>().is_ok());
    }

    #[test]
    fn a_unit_name_has_a_type() {
        assert!("bundle-late.service".parse::<UnitName>().is_ok());
        for wrong in ["bundle", "a/b.service", ".service", "x.conf", "-x.service"] {
            assert!(wrong.parse::<UnitName>().is_err(), "{wrong:?}");
        }
    }
}
