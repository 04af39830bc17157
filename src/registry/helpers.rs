//! Credentials that a program keeps: `docker-credential-NAME`, the host on its stdin, JSON on its stdout
//! (docker/docker-credential-helpers, "Development").
#![expect(clippy::disallowed_methods, reason = "a credential helper is a program")]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::auth::{AuthError, Credentials, Environment, Lookup};
use super::reference::DOCKER_HUB;

/// What a helper may take: it may ask a person.
const PATIENCE: Duration = Duration::from_mins(1);
const MAX_SAID: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    username: String,
    secret: String,
}

impl Environment {
    /// What the helper has for a registry. `file` says that it is to be asked.
    pub(super) async fn ask(&self, name: &str, file: &Path, host: &str) -> Result<Lookup, AuthError> {
        let fail = |why: String| {
            let (name, file, host) = (name.to_owned(), file.to_owned(), host.to_owned());
            AuthError::Helper { name, file, host, why }
        };
        let program = self.find(name).ok_or_else(|| fail("there is no such program in `PATH`".to_owned()))?;
        let mut child = Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| fail(format!("it cannot be started: {error}")))?;
        // Docker keeps its own registry under the address of an API that is gone.
        let server = if host == DOCKER_HUB { "https://index.docker.io/v1/" } else { host };
        let talk = talk(&mut child, server.to_owned());
        let said = tokio::time::timeout(PATIENCE, talk).await;
        if said.is_err() {
            // It may be over by now; then there is nothing to end.
            drop(child.kill());
        }
        let status = child.wait().map_err(|error| fail(error.to_string()))?;
        let (out, err) = said.map_err(|_| fail(format!("it takes longer than {} s", PATIENCE.as_secs())))?;
        if !status.success() {
            let words = format!("{} {}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
            // This is how a helper says that it has none.
            if words.contains("credentials not found in native keychain") {
                return Ok(Lookup::Nothing);
            }
            let words: String = words.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(fail(format!("{status}: {words}")));
        }
        let said: Said = serde_json::from_slice(&out)
            .map_err(|_| fail("its answer is not as such programs write it".to_owned()))?;
        Ok(Lookup::Found(Credentials::new(said.username, said.secret)))
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(word) {
            return None;
        }
        let file = format!("docker-credential-{name}");
        std::env::split_paths(self.path.as_ref()?).map(|at| at.join(&file)).find(|at| at.is_file())
    }
}

/// Says it to the helper and hears it out, both its streams.
async fn talk(child: &mut Child, server: String) -> (Vec<u8>, Vec<u8>) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = move || {
        if let Some(mut stdin) = stdin {
            // One that hangs up without listening says why, or its answer does.
            drop(stdin.write_all(server.as_bytes()));
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        // stdout first: what comes on stderr is short, or the helper is not one.
        drop(stdout.map(|stdout| stdout.take(MAX_SAID).read_to_end(&mut out)));
        drop(stderr.map(|stderr| stderr.take(MAX_SAID).read_to_end(&mut err)));
        (out, err)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn ask(script: &str, host: &str) -> Result<Lookup, String> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker-credential-test");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let environment = Environment { path: Some(dir.path().into()), ..Environment::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = environment.ask("test", Path::new("/config.json"), host);
        runtime.block_on(asked).map_err(|error| error.to_string())
    }

    #[test]
    fn a_helper_is_asked_by_host_and_its_words_are_taken() {
        let script = r#"read -r host || true; [ "$1" = get ] && printf '{"ServerURL":"x","Username":"u-%s","Secret":"s"}' "$host""#;
        let found = |host: &str| match ask(script, host).unwrap() {
            Lookup::Found(Credentials::Password { user, .. }) => user,
            other => panic!("{other:?}"),
        };
        assert_eq!(found("r.example"), "u-r.example");
        assert_eq!(found("docker.io"), "u-https://index.docker.io/v1/");
        let token = ask(r#"echo '{"Username":"<token>","Secret":"t"}'"#, "r.example").unwrap();
        assert_eq!(token, Lookup::Found(Credentials::Identity { token: "t".to_owned() }));
    }

    #[test]
    fn a_helper_that_has_nothing_is_no_failure_and_one_that_fails_says_why() {
        let none = ask("echo credentials not found in native keychain; exit 1", "r.example");
        assert_eq!(none, Ok(Lookup::Nothing));
        let failed = ask("echo the keychain is locked >&2; exit 3", "r.example").unwrap_err();
        for words in ["docker-credential-test", "/config.json", "r.example", "the keychain is locked"] {
            assert!(failed.contains(words), "{failed}");
        }
        let nonsense = ask("echo hunter2", "r.example").unwrap_err();
        assert!(nonsense.contains("not as such programs write it") && !nonsense.contains("hunter2"));
        let environment = Environment { path: Some("/nonexistent".into()), ..Environment::default() };
        for name in ["missing", "", "../x", "a b"] {
            assert_eq!(environment.find(name), None);
        }
    }
}
