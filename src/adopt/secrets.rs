//! Where secrets flow. Compose fills variables in, so the variables of secrets are given marks instead of their values
//! before it does: wherever a mark comes out, a secret would have gone. What stands in the file in clear gets a mark
//! here. Values themselves are only compared, never written anywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::roles::words;
use super::variables::{can_be_secret, is_secret};

const LEAD: &str = "bndlsecret";
const LENGTH: usize = LEAD.len() + 5;

/// The mark with this number: a word that survives URLs, shells and YAML.
pub fn mark(number: usize) -> String {
    format!("{LEAD}{number:04}x")
}

/// A secret of the profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret {
    /// Where its value is found today.
    pub(crate) from: String,
    /// What it is put together from, if it is.
    pub(crate) template: Option<String>,
    /// Who reads it.
    pub(crate) readers: BTreeSet<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    pub(crate) all: BTreeMap<String, Secret>,
    marks: BTreeMap<String, String>,
    /// Values in clear, and the mark that stands for each.
    clear: BTreeMap<String, String>,
}

/// A text cut at its marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Text(&'t str),
    /// The mark of this secret.
    Secret(String),
}

/// The name of the secret behind a variable.
pub(crate) fn secret_name(variable: &str) -> String {
    let plain =
        |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c) { c } else { '_' };
    let name: String = variable.to_ascii_lowercase().chars().map(plain).take(60).collect();
    let name = name.trim_start_matches(['_', '-', '.']);
    if name.is_empty() { "secret".to_owned() } else { name.to_owned() }
}

impl Secrets {
    /// `tainted` says which variable each mark stands for.
    pub(crate) fn new(tainted: &BTreeMap<String, String>) -> Self {
        let mut secrets = Self::default();
        for (mark, variable) in tainted {
            secrets.marks.insert(mark.clone(), secret_name(variable));
        }
        secrets
    }

    /// The secret `name`, with where its value comes from if nobody has said so yet.
    pub(crate) fn declare(&mut self, name: &str, from: &str, reader: &str) {
        let secret = self.all.entry(name.to_owned()).or_default();
        if secret.from.is_empty() {
            from.clone_into(&mut secret.from);
        }
        secret.readers.insert(reader.to_owned());
    }

    /// The text cut at its marks; `None` if there is none in it.
    pub(crate) fn cut<'t>(&self, text: &'t str) -> Option<Vec<Part<'t>>> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, name)) = self.next(rest) {
            if at > 0 {
                parts.push(Part::Text(&rest[..at]));
            }
            parts.push(Part::Secret(name));
            rest = &rest[at + LENGTH..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest));
        }
        parts.iter().any(|part| matches!(part, Part::Secret(_))).then_some(parts)
    }

    fn next(&self, text: &str) -> Option<(usize, String)> {
        let found = text.match_indices(LEAD).find_map(|(at, _)| {
            let name = self.marks.get(text.get(at..at + LENGTH)?)?;
            Some((at, name.clone()))
        });
        found
    }

    /// Whether a value has a mark anywhere in it.
    pub(crate) fn flows_into(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.next(text).is_some(),
            Value::Array(items) => items.iter().any(|item| self.flows_into(item)),
            Value::Object(object) => object.values().any(|value| self.flows_into(value)),
            _ => false,
        }
    }

    /// Puts marks in the places of secrets that stand in clear.
    pub(crate) fn mark_clear(&mut self, model: &mut Value) {
        let names: Vec<String> = keys(&model["services"]);
        for service in &names {
            for key in keys(&model["services"][service]["environment"]) {
                let value = &mut model["services"][service]["environment"][&key];
                let Some(text) = value.as_str().filter(|text| self.cut(text).is_none()) else { continue };
                if is_secret(&key) && can_be_secret(text) && !text.contains("://") {
                    let mark = self.clear_mark(text, &key, service);
                    *value = mark.into();
                }
            }
        }
        // Twice: what follows a flag names the secret, and what an address then shows to be one may stand in a command.
        self.mark_commands(model, &names);
        for service in &names {
            for key in keys(&model["services"][service]["environment"]) {
                let value = &mut model["services"][service]["environment"][&key];
                if let Some(text) = value.as_str() {
                    let marked = self.mark_urls(text, &key, service);
                    *value = marked.into();
                }
            }
        }
        self.mark_commands(model, &names);
    }

    fn mark_commands(&mut self, model: &mut Value, services: &[String]) {
        for service in services {
            for pointer in ["command", "entrypoint", "healthcheck/test"] {
                let pointer =
                    format!("/services/{}/{pointer}", service.replace('~', "~0").replace('/', "~1"));
                if let Some(words) = model.pointer_mut(&pointer) {
                    self.mark_words(words, service);
                }
            }
        }
    }

    /// The mark of a value in clear: the same value is the same secret.
    fn clear_mark(&mut self, value: &str, key: &str, service: &str) -> String {
        if let Some(mark) = self.clear.get(value) {
            return mark.clone();
        }
        let short = secret_name(key);
        // A variable of the same name is taken for the same secret; another value in clear is another one.
        let taken =
            |name: &str, secrets: &Self| secrets.clear.values().any(|mark| secrets.marks[mark] == name);
        let mut name = short.clone();
        let mut nth = 2;
        while taken(&name, self) {
            name = if nth == 2 { secret_name(&format!("{service}_{key}")) } else { format!("{short}_{nth}") };
            nth += 1;
        }
        let mark = mark(5000 + self.clear.len());
        self.marks.insert(mark.clone(), name.clone());
        self.clear.insert(value.to_owned(), mark.clone());
        self.declare(&name, &format!("`{key}` of service `{service}`, in clear"), service);
        mark
    }

    /// Marks the passwords of URLs: `scheme://user:PASSWORD@host` (RFC 3986, section 3.2.1).
    fn mark_urls(&mut self, text: &str, key: &str, service: &str) -> String {
        let mut marked = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("://") {
            let (before, after) = rest.split_at(at + 3);
            marked.push_str(before);
            let authority = &after[..after.find(['/', '?', '#', ',', ' ', '"']).unwrap_or(after.len())];
            rest = after;
            let Some((user, password)) =
                authority.rsplit_once('@').and_then(|(info, _)| info.split_once(':'))
            else {
                continue;
            };
            if password.is_empty() || self.cut(password).is_some() {
                continue;
            }
            let mark = self.clear_mark(password, &format!("{key}_password"), service);
            marked.push_str(user);
            marked.push(':');
            marked.push_str(&mark);
            rest = &after[user.len() + 1 + password.len()..];
        }
        marked.push_str(rest);
        marked
    }

    /// Marks what is known to be a secret among the words of a command, and what follows `--requirepass`.
    fn mark_words(&mut self, value: &mut Value, service: &str) {
        let Value::Array(items) = value else { return };
        let mut after_flag = false;
        for item in items {
            let Some(text) = item.as_str() else { continue };
            let mut marked: Vec<String> = Vec::new();
            for word in text.split(' ') {
                let bare = word.trim_matches(['"', '\'']);
                let flag = ["--requirepass", "--masterauth"].contains(&bare);
                let known = self.clear.get(bare).filter(|_| bare.len() >= 4).cloned();
                let mark = if after_flag && can_be_secret(bare) && self.cut(bare).is_none() {
                    Some(self.clear_mark(bare, &format!("{service}_password"), service))
                } else {
                    known
                };
                marked.push(mark.map_or_else(|| word.to_owned(), |mark| word.replace(bare, &mark)));
                after_flag = flag;
            }
            let marked = marked.join(" ");
            if marked != text {
                *item = marked.into();
            }
        }
    }

    /// Whether the words of a command name a secret.
    pub(crate) fn in_words(&self, value: &Value) -> bool {
        self.cut(&words(value)).is_some()
    }
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

/// The template of a text with marks, `$$` of Compose made into `$`. `None` if the text has braces of its own.
pub(crate) fn template(parts: &[Part<'_>]) -> Option<String> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(plain) if plain.contains("{{") => return None,
            Part::Text(plain) => text.push_str(&plain.replace("$$", "$")),
            Part::Secret(name) => {
                text.push_str("{{ ");
                text.push_str(name);
                text.push_str(" }}");
            }
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_in_clear_are_marked_and_the_same_value_is_the_same_secret() {
        let mut model = json!({"services": {
            "db": {"environment": {"POSTGRES_PASSWORD": "hunter2", "POSTGRES_USER": "app"}},
            "web": {"environment": {"DATABASE_URL": "postgres://app:hunter2@db:5432/app?x=1", "A_TOKEN": "true",
                                     "BROKER": "amqp://u:other@mq"},
                    "command": ["redis-server", "--requirepass", "third"]},
        }});
        let mut secrets = Secrets::new(&BTreeMap::new());
        secrets.mark_clear(&mut model);
        let names: Vec<&str> = secrets.all.keys().map(String::as_str).collect();
        assert_eq!(names, ["broker_password", "postgres_password", "web_password"]);
        let url = model["services"]["web"]["environment"]["DATABASE_URL"].as_str().unwrap();
        let parts = secrets.cut(url).unwrap();
        assert_eq!(template(&parts).unwrap(), "postgres://app:{{ postgres_password }}@db:5432/app?x=1");
        assert!(secrets.in_words(&model["services"]["web"]["command"]));
        assert_eq!(model["services"]["web"]["environment"]["A_TOKEN"], "true");
        assert!(!model.to_string().contains("hunter2"));
    }

    #[test]
    fn a_mark_is_found_in_the_middle_of_a_text() {
        let secrets = Secrets::new(&BTreeMap::from([(mark(1), "DB_PASSWORD".to_owned())]));
        let text = format!("a$${}b", mark(1));
        let parts = secrets.cut(&text).unwrap();
        assert_eq!(template(&parts).unwrap(), "a${{ db_password }}b");
        assert_eq!(secrets.cut(&mark(2)), None);
        assert_eq!(secrets.cut("bndlsecret"), None);
        assert_eq!(secrets.cut("bndlsecret00é"), None);
    }
}
