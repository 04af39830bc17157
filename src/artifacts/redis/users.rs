//! The users of Redis and Valkey: the template of `users.acl` (Redis documentation, "ACL").

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::format::Refused;
use crate::model::SecretName;

/// One user, `[redis.users.NAME]` or `[valkey.users.NAME]`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::artifacts) struct User {
    /// The secret that is the user's password.
    #[schemars(example = &"jobs_password")]
    password: SecretName,
    /// Patterns of the keys that it may read and write, as in `jobs:*`. Default: none.
    #[serde(default)]
    keys: Vec<String>,
    /// Patterns of the keys that it may only read. Default: none.
    #[serde(default)]
    read_keys: Vec<String>,
    /// Patterns of the channels that it may use. Default: none.
    #[serde(default)]
    channels: Vec<String>,
    /// What it may do, in the servers' own rules and their order: `+@read`, `-@dangerous`, `+config|get`.
    #[schemars(example = ["+@read", "+@connection"])]
    commands: Vec<String>,
}

/// A line of the file: a name and everything behind it but the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) password: SecretName,
    rules: Vec<String>,
}

impl User {
    /// The secret that is its password.
    pub(super) fn password(&self) -> &SecretName {
        &self.password
    }

    /// What is wrong with it: the key of the table, and why.
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for (key, patterns) in
            [("keys", &self.keys), ("read_keys", &self.read_keys), ("channels", &self.channels)]
        {
            let wrong = patterns.iter().filter(|pattern| !is_pattern(pattern));
            faults.extend(
                wrong.map(|pattern| (key, format!("`{pattern}` is not a pattern: it has no spaces"))),
            );
        }
        if self.commands.is_empty() {
            faults.push(("commands", "the user may do nothing".to_owned()));
        }
        let wrong = self.commands.iter().filter(|rule| !is_rule(rule));
        faults.extend(wrong.map(|rule| {
            ("commands", format!("`{rule}` is not a rule: `+` or `-`, and a command or an `@category`"))
        }));
        faults
    }

    fn line(&self, name: &str) -> Line {
        let mut rules = vec!["resetkeys".to_owned(), "resetchannels".to_owned()];
        rules.extend(self.keys.iter().map(|pattern| format!("~{pattern}")));
        rules.extend(self.read_keys.iter().map(|pattern| format!("%R~{pattern}")));
        rules.extend(self.channels.iter().map(|pattern| format!("&{pattern}")));
        rules.push("-@all".to_owned());
        rules.extend(self.commands.iter().cloned());
        Line { name: name.to_owned(), password: self.password.clone(), rules }
    }
}

/// What the application may do: its own keys and channels, no command that concerns others. `+info` follows
/// `-@dangerous`, which would take it away again; so would `resetchannels` behind `&`.
pub(super) fn application(password: &SecretName, prefix: &str) -> Line {
    let (keys, channels) = (format!("~{prefix}*"), format!("&{prefix}*"));
    line(
        "app",
        password,
        &[
            &keys,
            "resetchannels",
            &channels,
            "+@read",
            "+@write",
            "+@connection",
            "+@transaction",
            "+@pubsub",
            "+@keyspace",
            "-@dangerous",
            "-@admin",
            "+info",
        ],
    )
}

/// What measures: numbers, no key and no channel.
pub(super) fn monitor(password: &SecretName) -> Line {
    line(
        "monitor",
        password,
        &[
            "resetkeys",
            "resetchannels",
            "-@all",
            "+ping",
            "+info",
            "+client|setname",
            "+latency",
            "+slowlog|get",
            "+slowlog|len",
            "+config|get",
            "+dbsize",
            "+select",
            "+auth",
            "+hello",
        ],
    )
}

/// A person with a problem to solve: everything but what opens the machine below the server.
pub(super) fn operator(password: &SecretName) -> Line {
    line("ops", password, &["~*", "&*", "+@all", "-debug", "-module"])
}

/// The profile's own user.
pub(super) fn own(users: &BTreeMap<String, User>) -> impl Iterator<Item = Line> {
    users.iter().map(|(name, user)| user.line(name))
}

fn line(name: &str, password: &SecretName, rules: &[&str]) -> Line {
    let rules = rules.iter().map(|&rule| rule.to_owned()).collect();
    Line { name: name.to_owned(), password: password.clone(), rules }
}

/// The template. No comment may stand in an ACL file. `resetpass`, not `nopass`: protected mode turns everybody away who
/// is not on the loopback as long as the default user has `nopass`.
pub(super) fn template(lines: &[Line]) -> Result<String, Refused> {
    let mut text = "user default off resetpass -@all\n".to_owned();
    for Line { name, password, rules } in lines {
        if let Some(wrong) = rules.iter().chain([name]).find(|word| !is_word(word)) {
            return Err(Refused(format!("{wrong:?} cannot stand in an ACL file")));
        }
        let rules = rules.join(" ");
        text.extend(["user ", name, " on #{{ ", password.as_str(), " | sha256 }} ", &rules, "\n"]);
    }
    Ok(text)
}

/// A user's name.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    (1..=64).contains(&name.len()) && name != "default" && name.bytes().all(plain)
}

/// Printable, without spaces, and without what would begin a secret's place in the template.
pub(super) fn is_pattern(pattern: &str) -> bool {
    !pattern.is_empty() && is_word(pattern)
}

fn is_word(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_graphic()) && !word.contains("{{")
}

fn is_rule(rule: &str) -> bool {
    let Some(rest) = rule.strip_prefix(['+', '-']) else { return false };
    let name = rest.strip_prefix('@').unwrap_or(rest);
    let (command, sub) = name.split_once('|').map_or((name, None), |(command, sub)| (command, Some(sub)));
    let plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    plain(command) && sub.is_none_or(|sub| !rest.starts_with('@') && plain(sub))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_sign_and_a_command() {
        for right in ["+@all", "-@dangerous", "+get", "+config|get", "+json.get", "-FLUSHALL"] {
            assert!(is_rule(right), "{right}");
        }
        for wrong in
            ["", "+", "get", "+@", "+@read|x", "nopass", ">password", "+get ~*", "allkeys", "+a\nuser x on"]
        {
            assert!(!is_rule(wrong), "{wrong}");
        }
    }

    #[test]
    fn nothing_ends_a_line_or_begins_a_secret() {
        for wrong in ["", "a b", "a\nb", "{{ x }}", "ä"] {
            assert!(!is_pattern(wrong), "{wrong:?}");
        }
        let mut line = monitor(&"p".parse().unwrap());
        line.rules.push("{{ other }}".to_owned());
        assert!(template(&[line]).is_err());
    }
}
