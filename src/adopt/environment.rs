//! Variables and commands: what is plain stays so, what is secret is taken out.

use serde_json::Value;

use super::import::Import;
use super::ledger::Path;
use super::secrets::{Part, secret_name, template};
use super::service::Draft;
use super::variables::is_secret;
use super::{report, words};

impl Import<'_> {
    pub(super) fn environment(&mut self, draft: &mut Draft<'_>) {
        let model = draft.model;
        for (key, value) in model["environment"].as_object().into_iter().flatten() {
            let at = draft.at(["environment", key]);
            let text = match value {
                Value::Null => {
                    self.passed_through(draft, key, at);
                    continue;
                }
                Value::String(text) => text.clone(),
                other => report::plain(other),
            };
            if key.starts_with("BUNDLE_") {
                self.ledger.left(at, "such variables tell a service its release and environment", None);
            } else if let Some(parts) = self.secrets.cut(&text) {
                let parts: Vec<Part<'_>> = parts;
                self.seal(draft, key, &parts, at);
            } else {
                let renamed = self.hosts(key, &text);
                if renamed == text {
                    self.ledger.carried(at.clone());
                } else {
                    self.ledger.changed(
                        at.clone(),
                        "names a service by its own name: container names and aliases are gone",
                        None,
                    );
                }
                draft.environment.set(key, renamed).from(at);
            }
        }
    }

    /// A variable without a value: Compose takes it from the shell of whoever starts it.
    fn passed_through(&mut self, draft: &mut Draft<'_>, key: &str, at: Path) {
        if is_secret(key) {
            let name = secret_name(key);
            self.secrets.declare(&name, &format!("`{key}` in the shell that started Compose"), &draft.name);
            self.seal(draft, key, &[Part::Secret(name)], at);
            return;
        }
        self.ledger.left(
            at,
            "its value came from the shell that started Compose",
            Some("write it in `environment`"),
        );
        self.ledger.todo(format!("`{key}` of `{}` came from the shell that started Compose: write its value in `environment`, or take the line out", draft.old));
        draft
            .environment
            .comment
            .push(format!("{key} = \"…\"  (it came from the shell that started Compose)"));
    }

    /// A value with secrets in it: as a file where the image can read one, else in the service's env file.
    fn seal(&mut self, draft: &mut Draft<'_>, key: &str, parts: &[Part<'_>], at: Path) {
        let Some(text) = template(parts) else {
            self.ledger.left(
                at,
                "it has a secret in it, and braces of its own, which a template cannot have",
                None,
            );
            self.ledger.todo(format!(
                "`{key}` of `{}` has a secret in it and was left out: write it in `[env_files]`",
                draft.old
            ));
            return;
        };
        let text = self.hosts(key, &text);
        for part in parts {
            if let Part::Secret(name) = part {
                self.secrets.declare(name, &self.where_from(name), &draft.name);
            }
        }
        let user = draft.user.clone().or_else(|| {
            draft.model["user"]
                .is_null()
                .then(|| draft.known.user_of(&draft.image))
                .flatten()
                .map(str::to_owned)
        });
        if let (Some(variable), Some(user)) = (draft.known.file_variable(key), user) {
            let name = match parts {
                [Part::Secret(name)] => name.clone(),
                _ => {
                    let name = secret_name(&format!("{}_{key}", draft.name));
                    self.secrets.declare(&name, "put together on the droplet", &draft.name);
                    if let Some(secret) = self.secrets.all.get_mut(&name) {
                        secret.template = Some(text);
                    }
                    name
                }
            };
            let file = format!("/run/secrets/{name}");
            self.ledger.changed(
                at.clone(),
                format!("the secret `{name}`, which the image reads from a file: `{variable}`"),
                None,
            );
            self.ledger.added(
                draft.at(["environment", &variable]),
                "the image reads the secret from a file",
                None,
            );
            draft.environment.set(&variable, file).from(at.clone());
            draft.user = Some(user);
            draft.mount(name, at);
            return;
        }
        let names: Vec<String> = parts
            .iter()
            .filter_map(|part| if let Part::Secret(name) = part { Some(format!("`{name}`")) } else { None })
            .collect();
        self.ledger.changed(
            at.clone(),
            format!(
                "put together on the droplet from {}, and handed over in the environment",
                names.join(", ")
            ),
            None,
        );
        draft.sealed.insert(key.to_owned(), (text, at));
    }

    /// Where the value of a secret is today.
    fn where_from(&self, name: &str) -> String {
        let variable = self.project.marks.values().find(|variable| secret_name(variable) == name);
        variable.map_or_else(String::new, |variable| format!("the variable `{variable}`"))
    }

    /// The command, with secrets taken out of it.
    pub(super) fn command(&mut self, draft: &mut Draft<'_>) {
        for key in ["entrypoint", "command"] {
            let value = &draft.model[key];
            let at = draft.at([key]);
            if value.is_null() {
                continue;
            }
            if !self.secrets.in_words(value) {
                draft.table.set(key, value.clone()).from(at.clone());
                self.ledger.carried(at);
                continue;
            }
            let first =
                value.as_array().and_then(|words| words.first()).and_then(Value::as_str).unwrap_or_default();
            let shell =
                words::shell(&self.secrets, value).filter(|_| key == "entrypoint" || !first.starts_with('-'));
            let Some((words, named, doubtful)) = shell else {
                self.ledger.left(
                    at,
                    "it has a secret in it, and begins with an option of a program that only the image knows",
                    None,
                );
                self.ledger.todo(format!("the command of `{}` has a secret in it and was left out: write it as `[\"sh\", \"-c\", \"exec PROGRAM …\"]` with the secret as a variable from `[env_files]`", draft.old));
                continue;
            };
            if key == "command" && !draft.known.state && draft.model["entrypoint"].is_null() {
                self.ledger.todo(format!("`{}` gets its command from a shell now, because a secret stood in it: look whether the image's entrypoint runs whatever it is given", draft.old));
            }
            self.ledger.changed(
                at.clone(),
                "a shell takes the secret from the environment: it stands in no command line of the bundle",
                None,
            );
            if doubtful {
                self.ledger.todo(format!("look at the quotes in `{key}` of `{}`: a secret in it is a variable now, which a shell does not fill in between single quotes", draft.old));
            }
            draft.table.set(key, words).from(at.clone());
            self.expose(draft, named, &at);
            // The entrypoint sees a shell now, and may not step down from root as it does for its own program.
            if draft.model["user"].is_null() && draft.user.is_none() {
                draft.user = draft.known.user_of(&draft.image).map(str::to_owned);
            }
        }
    }

    /// Gives secrets to the environment under their own names.
    pub(super) fn expose(&mut self, draft: &mut Draft<'_>, named: Vec<String>, at: &Path) {
        for name in named {
            self.secrets.declare(&name, &self.where_from(&name), &draft.name);
            draft.sealed.insert(words::variable(&name), (format!("{{{{ {name} }}}}"), at.clone()));
        }
    }

    /// Host names in a value that are other names of services, written as those services are called.
    fn hosts(&self, key: &str, text: &str) -> String {
        let upper = key.to_ascii_uppercase();
        // A value that is nothing but a name is a host only where the variable says so: databases have names, too.
        let names_host =
            ["HOST", "ADDR", "SERVER", "ENDPOINT", "BROKER", "NODE"].iter().any(|word| upper.contains(word));
        let mut result = String::new();
        let mut rest = text;
        let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        while let Some(start) = rest.find(part) {
            result.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            let (token, after) = rest.split_at(end);
            let port =
                after.strip_prefix(':').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            let alone = result.is_empty() && after.is_empty() && names_host;
            let listed = (result.is_empty() || result.ends_with(','))
                && (port || (names_host && after.starts_with(',')));
            let in_url = result.ends_with('@') || result.ends_with("://");
            let host_like = alone || listed || in_url;
            match self.aliases.get(token).filter(|_| host_like) {
                Some(name) => result.push_str(name),
                None => result.push_str(token),
            }
            rest = after;
        }
        result.push_str(rest);
        result
    }
}
