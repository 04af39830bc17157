//! Secrets that are not secret, and secrets that nobody reads.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::DeValue;

use super::view::{View, Word};
use super::{Report, Table, error, warning};

pub(super) const LINTS: Table = &[
    error(
        "secret-in-clear",
        "the profile is in a repository, the bundle in a registry, the environment in `docker inspect`: all of them would have it",
        secret_in_clear,
    ),
    error(
        "trusts-everybody",
        "a database without passwords belongs to whatever reaches its network, a compromised container first",
        trusts_everybody,
    ),
    warning("unused-secret", "a secret that nobody reads is most often a misspelt one", unused_secret),
    warning(
        "unused-env-file",
        "an env file that no service names is most often a misspelt one, and its variables are missing somewhere",
        unused_env_file,
    ),
];

/// How the names of variables end that hold a secret.
const ENDINGS: [&str; 14] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PWD",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "SECRET_KEY",
    "ENCRYPTION_KEY",
    "SIGNING_KEY",
    "CREDENTIALS",
];

/// How values begin that their makers recognise as secrets (each one's documentation).
const BEGINNINGS: [&str; 13] = [
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "dop_v1_",
    "doo_v1_",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "sk_live_",
    "rk_live_",
    "sk-proj-",
    "glpat-",
];

const HELP: &str = "declare it as `[secrets.NAME]`, name it in the service's `secrets`, and let the program read \
                    `/run/secrets/NAME`; many images take `…_FILE`";

fn secret_in_clear(view: &View<'_>, report: &mut Report) {
    secret_in_env_file(view, report);
    for name in view.profile.services.keys() {
        // Env files are looked at once each, above.
        for word in view.words(name).into_iter().filter(|word| !word.subject.starts_with("env_files.")) {
            let Some(what) = secret(&word) else { continue };
            report
                .at(word.span, word.subject, format!("service `{name}` has {what} in clear"))
                .hide()
                .help(HELP);
        }
    }
}

/// What a template names is not in clear: only the text around it is looked at.
fn secret_in_env_file(view: &View<'_>, report: &mut Report) {
    for name in view.profile.env_files.keys() {
        for word in view.env_file(name) {
            let mut text = word.text.to_owned();
            while let (Some(open), Some(close)) = (text.find("{{"), text.find("}}"))
                && open < close
            {
                text.replace_range(open..close + 2, "");
            }
            let Some(what) = secret(&Word { text: &text, ..word.clone() }) else { continue };
            report
                .at(word.span, word.subject, format!("the env file `{name}` has {what} in clear"))
                .hide()
                .help("declare it as `[secrets.NAME]`, and write `{{ NAME }}` in its place");
        }
    }
}

/// What is secret in it, if something is.
fn secret(word: &Word<'_>) -> Option<String> {
    let text = word.text.trim();
    if let Some(key) = word.key {
        let upper = key.to_ascii_uppercase();
        let named = ENDINGS.iter().any(|ending| {
            upper.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with(['_', '-', '.']))
                || (*ending == "PASSWORD" && upper.ends_with(ending))
        });
        // What a browser is sent is public by its name, and a number of tokens is a number.
        let public = upper.contains("PUBLIC");
        let count = upper.ends_with("TOKEN") && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
        let flag = ["true", "false", "yes", "no", "on", "off", "none"].contains(&&*text.to_ascii_lowercase());
        let path = text.starts_with('/');
        if named && !text.is_empty() && !public && !count && !flag && !path {
            return Some(format!("`{key}`"));
        }
    }
    if text.contains("PRIVATE KEY-----") {
        return Some("a private key".to_owned());
    }
    if text.split_whitespace().any(|part| BEGINNINGS.iter().any(|beginning| part.starts_with(beginning))) {
        return Some("a token or key".to_owned());
    }
    if text.split_whitespace().any(is_bot_token) {
        return Some("the token of a Telegram bot".to_owned());
    }
    text.split_whitespace().any(has_password).then(|| "a URL with a password".to_owned())
}

/// `123456:` and 35 characters (core.telegram.org/bots/api, "Authorizing your bot").
fn is_bot_token(text: &str) -> bool {
    text.split_once(':').is_some_and(|(id, rest)| {
        (6..=12).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_digit())
            && rest.len() == 35
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    })
}

/// `scheme://user:password@host` (RFC 3986 §3.2.1).
fn has_password(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let password = user.and_then(|user| Some(user.split_once(':')?.1));
    scheme.ends_with(|c: char| c.is_ascii_alphanumeric())
        && password.is_some_and(|password| !password.is_empty())
}

fn trusts_everybody(view: &View<'_>, report: &mut Report) {
    for name in view.profile.services.keys() {
        for word in view.environment(name) {
            let trusts = match word.key {
                Some("POSTGRES_HOST_AUTH_METHOD") => word.text == "trust",
                Some(
                    "ALLOW_EMPTY_PASSWORD"
                    | "MYSQL_ALLOW_EMPTY_PASSWORD"
                    | "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD",
                ) => !["", "0", "no", "false"].contains(&word.text),
                _ => false,
            };
            if trusts {
                report
                    .at(word.span, word.subject, format!("service `{name}` lets everybody in without a password"))
                    .help("take it out, and give it a generated one: `[secrets.NAME]` with `generate = \"password\"`");
            }
        }
    }
}

/// Which tables of artifact kinds name secrets only the kinds know, so any string in them that is the name of one counts.
fn unused_secret(view: &View<'_>, report: &mut Report) {
    let profile = view.profile;
    let mut used: BTreeSet<&str> = BTreeSet::new();
    used.extend(
        profile.services.values().flat_map(|service| &service.secrets).map(|name| name.get_ref().as_str()),
    );
    used.extend(
        profile.secrets.values().flat_map(|secret| &secret.references).map(|(name, _)| name.as_str()),
    );
    used.extend(
        profile.env_files.values().flat_map(|placed| &placed.references).map(|(name, _)| name.as_str()),
    );
    let login = profile.registry.as_ref().and_then(|placed| placed.registry.login.as_ref());
    used.extend(login.map(|login| login.token.as_str()));
    for kind in profile.kinds {
        let value = kind.table.and_then(|name| view.value(&[name]));
        if let Some(value) = value {
            strings(value, &mut used);
        }
    }
    for (name, secret) in profile.secrets.iter().filter(|(name, _)| !used.contains(name.as_str())) {
        report
            .at(secret.span.clone(), format!("secrets.{name}"), format!("nobody reads the secret `{name}`"))
            .help("name it in the `secrets` of a service, or take it out");
    }
}

fn unused_env_file(view: &View<'_>, report: &mut Report) {
    let profile = view.profile;
    let used: BTreeSet<&str> = profile
        .services
        .values()
        .flat_map(|service| &service.env_files)
        .map(|name| name.get_ref().as_str())
        .collect();
    for (name, placed) in profile.env_files.iter().filter(|(name, _)| !used.contains(name.as_str())) {
        report
            .at(
                placed.span.clone(),
                format!("env_files.{name}"),
                format!("nobody reads the env file `{name}`"),
            )
            .help("name it in the `env_file` of a service, or take it out");
    }
}

fn strings<'t>(value: &'t Spanned<DeValue<'_>>, found: &mut BTreeSet<&'t str>) {
    found.extend(value.get_ref().as_str());
    if let Some(table) = value.get_ref().as_table() {
        table.values().for_each(|value| strings(value, found));
    }
    if let Some(items) = value.get_ref().as_array() {
        items.iter().for_each(|item| strings(item, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(key: Option<&str>, text: &str) -> bool {
        secret(&Word { subject: String::new(), span: 0..0, key, text }).is_some()
    }

    #[test]
    fn what_is_secret_is_seen() {
        for (key, text) in [
            ("POSTGRES_PASSWORD", "hunter2"),
            ("PGPASSWORD", "x"),
            ("api_key", "x"),
            ("STRIPE", "sk_live_abc"),
            ("BOT", "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1"),
            ("DATABASE_URL", "postgres://app:pw@db:5432/app"),
            ("REDIS_URL", "redis://:pw@redis"),
        ] {
            assert!(says(Some(key), text), "{key}");
        }
        assert!(says(None, "curl https://a:b@example.com/"));
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for (key, text) in [
            ("POSTGRES_PASSWORD_FILE", "/run/secrets/p"),
            ("POSTGRES_PASSWORD", "/run/secrets/p"),
            ("TOKEN_TTL", "3600"),
            ("REQUIRE_PASSWORD", "true"),
            ("DATABASE_URL", "postgres://app@db:5432/app"),
            ("URL", "https://example.com:8443/a@b:c"),
            ("PATH", "/usr/bin:/bin"),
            ("TOKENS", "5"),
            ("MAX_TOKEN", "4096"),
            ("NEXT_PUBLIC_MAP_TOKEN", "pk.abc"),
        ] {
            assert!(!says(Some(key), text), "{key}");
        }
    }
}
