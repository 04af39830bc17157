//! The variables of a Compose file, found in its text as it was written (Compose specification, "Interpolation"), and
//! which names are those of secrets.

use std::collections::BTreeMap;

/// What the expressions of a project say about one variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variable {
    /// Somewhere it stands without a default.
    pub bare: bool,
    /// Somewhere it must have a value.
    pub required: bool,
    /// Every default that is not empty, in order of appearance.
    pub defaults: Vec<String>,
}

/// Adds the variables that `text` names to `found`.
pub fn find(text: &str, found: &mut BTreeMap<String, Variable>) {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let (name, tail) = inner.split_at(name_length(inner));
            rest = inner;
            if name.is_empty() {
                continue;
            }
            expression(name, tail, found);
        } else {
            let (name, tail) = rest.split_at(name_length(rest));
            if !name.is_empty() {
                found.entry(name.to_owned()).or_default().bare = true;
            }
            rest = tail;
        }
    }
}

/// What stands behind the name in `${NAME…}`. Nested expressions in a default are found because the search goes on
/// behind the name.
fn expression(name: &str, tail: &str, found: &mut BTreeMap<String, Variable>) {
    let variable = found.entry(name.to_owned()).or_default();
    let operator = tail.strip_prefix(':').unwrap_or(tail);
    match operator.chars().next() {
        Some('-') => {
            let default = closed(&operator[1..]);
            if !default.is_empty() {
                variable.defaults.push(default.to_owned());
            }
        }
        Some('?') => variable.required = true,
        Some('+') => {}
        _ => variable.bare = true,
    }
}

/// The text up to the brace that closes the expression.
fn closed(text: &str) -> &str {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => return &text[..at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    text
}

fn name_length(text: &str) -> usize {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if first { end } else { 0 }
}

/// Parts of names that say that the value is a secret.
const SECRET: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "ENCRYPTION_KEY",
    "MASTER_KEY",
    "SIGNING_KEY",
    "AUTH_KEY",
    "APP_KEY",
    "LICENSE_KEY",
    "SALT",
    "CREDENTIALS",
    "OTP",
    "PEPPER",
    "KEY_BASE",
    "DEPLOY_KEY",
    "SERVICE_KEY",
    "ANON_KEY",
    "JWT_KEY",
    "WEBHOOK_KEY",
];

/// Ends of names that say something about a secret, and are none.
const ABOUT: &[&str] = &[
    "_FILE",
    "_PATH",
    "_DIR",
    "_URL",
    "_URI",
    "_HOST",
    "_PORT",
    "_EXPIRES",
    "_EXPIRY",
    "_EXPIRE",
    "_EXPIRATION",
    "_TTL",
    "_LENGTH",
    "_SIZE",
    "_ALGORITHM",
    "_ALG",
    "_HEADER",
    "_NAME",
    "_ID",
    "_ENABLED",
    "_DISABLED",
    "_TYPE",
    "_ISSUER",
    "_AUDIENCE",
    "_LIFETIME",
    "_TIMEOUT",
    "_AGE",
    "_IN",
    "_MINUTES",
    "_SECONDS",
    "_HOURS",
    "_DAYS",
    "_POLICY",
    "_REQUIRED",
    "_LIFESPAN",
    "_DURATION",
    "_LIMIT",
    "_FORMAT",
    "_PREFIX",
    "_VERSION",
    "_PROVIDER",
    "_METHOD",
];

/// Whether a variable of this name holds a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.replace(['.', '-'], "_").replace("__", "_").to_ascii_uppercase();
    if name.contains("PUBLIC")
        || ["ALLOW_", "ENABLE_", "DISABLE_", "REQUIRE_"].iter().any(|lead| name.starts_with(lead))
    {
        return false;
    }
    let name = name.strip_suffix("_FILE").map_or(name.as_str(), |_| "");
    if ABOUT.iter().any(|end| name.ends_with(end)) {
        return false;
    }
    SECRET.iter().any(|part| name.contains(part))
        || name.split('_').any(|word| matches!(word, "PASS" | "PW" | "PWD" | "PSK"))
}

/// Whether a text under the name of a secret can be one: switches and numbers are settings.
pub fn can_be_secret(value: &str) -> bool {
    let word = value.to_ascii_lowercase();
    !value.is_empty()
        && !["true", "false", "yes", "no", "on", "off", "none", "null", "enabled", "disabled"]
            .contains(&word.as_str())
        && !(value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit()))
        && !(value.starts_with('/') && !value.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_with_nested_defaults_and_required_ones() {
        let mut found = BTreeMap::new();
        find("a $$NO ${A:-${B:-x}} ${C:?say} ${D+x} $E ${F} ${G-} $1 ${", &mut found);
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "B", "C", "D", "E", "F", "G"]);
        assert_eq!(found["A"].defaults, ["${B:-x}"]);
        assert_eq!(found["B"].defaults, ["x"]);
        assert!(found["C"].required && !found["C"].bare);
        assert!(found["E"].bare && found["F"].bare && !found["G"].bare);
    }

    #[test]
    fn a_secret_is_known_by_its_name() {
        for name in [
            "POSTGRES_PASSWORD",
            "SECRET_KEY_BASE",
            "DB_PASS",
            "gf_security_admin_password",
            "BOT_TOKEN",
            "APP_KEY",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "POSTGRES_USER",
            "TOKEN_EXPIRY",
            "POSTGRES_PASSWORD_FILE",
            "BYPASS",
            "KEYCLOAK_URL",
            "PUBLIC_KEY",
        ] {
            assert!(!is_secret(name), "{name}");
        }
        assert!(!can_be_secret("true") && !can_be_secret("3600") && can_be_secret("hunter2"));
    }
}
