//! Commands in which a secret stood: a shell takes it from the environment instead.

use serde_json::{Value, json};

use super::secrets::{Part, Secrets};

/// The variable under which a secret stands in the environment of a command.
pub(super) fn variable(secret: &str) -> String {
    let name: String = secret
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// A command that a shell runs, with secrets as variables; the secrets; and whether somebody should look at the quotes.
pub(super) fn shell(secrets: &Secrets, command: &Value) -> Option<(Vec<String>, Vec<String>, bool)> {
    let words: Vec<&str> = match command {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let mut named = Vec::new();
    let mut doubtful = false;
    // A shell with a script stays what it is.
    let script = match words.as_slice() {
        [shell, flag, script] if flag.ends_with('c') && flag.starts_with('-') && is_shell(shell) => {
            Some((vec![*shell, *flag], *script))
        }
        [script] if command.is_string() => Some((vec!["sh", "-c"], *script)),
        _ => None,
    };
    if let Some((lead, script)) = script {
        let text = plain(secrets, script, &mut named);
        doubtful = script.contains('\'');
        let mut all: Vec<String> = lead.into_iter().map(str::to_owned).collect();
        all.push(text);
        return Some((all, named, doubtful));
    }
    let quoted: Vec<String> = words.iter().map(|word| quote(secrets, word, &mut named)).collect();
    Some((vec!["sh".to_owned(), "-c".to_owned(), format!("exec {}", quoted.join(" "))], named, doubtful))
}

/// The test of a health check, likewise.
pub(super) fn test(secrets: &Secrets, test: &Value) -> Option<(Value, Vec<String>)> {
    let words: Vec<&str> = test.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
    let mut named = Vec::new();
    let script = match words.split_first()? {
        (&"CMD-SHELL", [script]) => plain(secrets, script, &mut named),
        (&"CMD", words) => {
            words.iter().map(|word| quote(secrets, word, &mut named)).collect::<Vec<_>>().join(" ")
        }
        _ => return None,
    };
    Some((json!(["CMD-SHELL", script]), named))
}

fn is_shell(word: &str) -> bool {
    ["sh", "bash", "ash", "dash"].contains(&word.rsplit('/').next().unwrap_or_default())
}

/// `$$` is Compose's spelling of `$`.
fn reference(secret: &str, named: &mut Vec<String>) -> String {
    named.push(secret.to_owned());
    format!("$${{{}}}", variable(secret))
}

fn plain(secrets: &Secrets, script: &str, named: &mut Vec<String>) -> String {
    let Some(parts) = secrets.cut(script) else { return script.to_owned() };
    let text = parts.iter().map(|part| match part {
        Part::Text(text) => (*text).to_owned(),
        Part::Secret(name) => reference(name, named),
    });
    text.collect()
}

/// One word for a shell. What a word needs no quotes for stays readable.
fn quote(secrets: &Secrets, word: &str, named: &mut Vec<String>) -> String {
    let whole = [Part::Text(word)];
    let parts = secrets.cut(word).unwrap_or_else(|| whole.to_vec());
    let mut text = String::new();
    for part in &parts {
        match part {
            Part::Secret(name) => {
                text.push('"');
                text.push_str(&reference(name, named));
                text.push('"');
            }
            Part::Text(plain) => {
                let bare = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b);
                if plain.bytes().all(bare) {
                    text.push_str(plain);
                } else {
                    text.push_str(&format!("'{}'", plain.replace('\'', r"'\''")));
                }
            }
        }
    }
    if text.is_empty() { "''".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::secrets::mark;
    use super::*;

    #[test]
    fn a_secret_in_a_command_becomes_a_variable() {
        let secrets = Secrets::new(&BTreeMap::from([(mark(1), "REDIS_PASSWORD".to_owned())]));
        let command = json!(["redis-server", "--requirepass", mark(1), "--save", "60 1"]);
        let (words, named, _) = shell(&secrets, &command).unwrap();
        assert_eq!(words[2], r#"exec redis-server --requirepass "$${REDIS_PASSWORD}" --save '60 1'"#);
        assert_eq!(named, ["redis_password"]);
        let probe = json!(["CMD", "redis-cli", "-a", mark(1), "ping"]);
        assert_eq!(
            test(&secrets, &probe).unwrap().0,
            json!(["CMD-SHELL", r#"redis-cli -a "$${REDIS_PASSWORD}" ping"#])
        );
        let script = json!(["/bin/sh", "-c", format!("x {}", mark(1))]);
        assert_eq!(shell(&secrets, &script).unwrap().0[2], "x $${REDIS_PASSWORD}");
    }
}
