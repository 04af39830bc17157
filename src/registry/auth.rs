//! Credentials as `docker login`, `podman login` and `skopeo login` leave them (containers-auth.json(5)).
#![expect(clippy::disallowed_methods, reason = "credential files are read here")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::reference::{DOCKER_HUB, Repository};

/// The variables that say where credentials are. Read once, by the caller.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `REGISTRY_AUTH_FILE`. If it is set, nothing else is read.
    pub registry_auth_file: Option<PathBuf>,
    /// The machine's own login, asked before those of its users.
    pub machine: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `DOCKER_CONFIG`.
    pub docker_config: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

/// User name and password for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    password: String,
}

impl Credentials {
    /// `base64(user:password)`, as the Basic scheme has it (RFC 7617).
    pub(super) fn basic(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.user, self.password))
    }
}

/// Never the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the files say about one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing: anonymous.
    Nothing,
    /// These.
    Found(Credentials),
    /// Something that we cannot use. It matters only if the registry asks for credentials.
    Unusable {
        /// The file.
        file: PathBuf,
        /// What stands in it, as the middle of a sentence.
        what: String,
    },
}

/// Why a credential file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It cannot be read.
    #[error("cannot read the credentials in `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not such a file. What stands in it is not repeated.
    #[error("`{}` is not a credential file: line {line} is not as `docker login` writes it", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An entry that is not `base64(user:password)`.
    #[error("the entry for `{key}` in `{}` is not base64 of `user:password`; log in again", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The registry.
        key: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

impl Environment {
    /// The files, in the order in which they are asked.
    pub fn files(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.registry_auth_file {
            return vec![file.clone()];
        }
        let below = |directory: &Option<PathBuf>, rest: &str| directory.as_ref().map(|path| path.join(rest));
        [
            self.machine.clone(),
            below(&self.xdg_runtime_dir, "containers/auth.json"),
            below(&self.home, ".config/containers/auth.json"),
            below(&self.docker_config, "config.json").or_else(|| below(&self.home, ".docker/config.json")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The first thing that the files say about `repository`.
    pub fn lookup(&self, repository: &Repository) -> Result<Lookup, AuthError> {
        let mut unusable = Lookup::Nothing;
        for path in self.files() {
            match lookup_in(&path, repository, self.registry_auth_file.is_some())? {
                Lookup::Nothing => {}
                found @ Lookup::Found(_) => return Ok(found),
                other => unusable = if unusable == Lookup::Nothing { other } else { unusable },
            }
        }
        Ok(unusable)
    }
}

fn lookup_in(path: &Path, repository: &Repository, must_exist: bool) -> Result<Lookup, AuthError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(Lookup::Nothing),
        Err(source) => return Err(AuthError::Read { path: path.to_owned(), source }),
        Ok(bytes) => bytes,
    };
    let file: AuthFile = serde_json::from_slice(&bytes)
        .map_err(|error| AuthError::Form { path: path.to_owned(), line: error.line() })?;
    let unusable = |what| Ok(Lookup::Unusable { file: path.to_owned(), what });
    for wanted in scopes(repository) {
        let entry = file.auths.iter().find(|(key, _)| normal(key) == wanted);
        match entry {
            Some((key, Entry { auth: Some(auth), .. })) if !auth.is_empty() => {
                let error = || AuthError::Entry { path: path.to_owned(), key: key.clone() };
                let credentials = decode(auth).ok_or_else(error)?;
                // Docker writes this user for tokens that only its OAuth endpoint takes.
                return if credentials.user == "<token>" {
                    unusable("an identity token".to_owned())
                } else {
                    Ok(Lookup::Found(credentials))
                };
            }
            Some((_, Entry { identitytoken: Some(_), .. })) => {
                return unusable("an identity token".to_owned());
            }
            _ => {}
        }
        if let Some((_, helper)) = file.cred_helpers.iter().find(|(key, _)| normal(key) == wanted) {
            return unusable(format!("the credential helper `docker-credential-{helper}`"));
        }
    }
    match &file.creds_store {
        Some(store) if !store.is_empty() => {
            unusable(format!("the credential store `docker-credential-{store}`"))
        }
        _ => Ok(Lookup::Nothing),
    }
}

/// `host/team/app`, `host/team`, `host`: the keys that may hold for a repository, the closest first.
fn scopes(repository: &Repository) -> Vec<String> {
    let full = repository.to_string();
    let mut ends: Vec<usize> = full.match_indices('/').map(|(at, _)| at).collect();
    ends.push(full.len());
    ends.iter().rev().map(|&end| full[..end].to_owned()).collect()
}

/// Docker's keys may be URLs: `https://index.docker.io/v1/`.
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let bare = bare.trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

fn decode(auth: &str) -> Option<Credentials> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(text: &str, repository: &str) -> Result<Lookup, AuthError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth.json");
        fs::write(&file, text).unwrap();
        let environment = Environment { registry_auth_file: Some(file), ..Environment::default() };
        environment.lookup(&repository.parse().unwrap())
    }

    fn user(text: &str, repository: &str) -> Option<String> {
        match lookup(text, repository).unwrap() {
            Lookup::Found(credentials) => Some(credentials.user),
            _ => None,
        }
    }

    #[test]
    fn the_closest_entry_is_taken() {
        // base64 of a:x, b:x, c:x.
        let text = r#"{"auths": {"r.example": {"auth": "YTp4"}, "r.example/team": {"auth": "Yjp4"},
                       "https://index.docker.io/v1/": {"auth": "Yzp4"}}}"#;
        assert_eq!(user(text, "r.example/app").as_deref(), Some("a"));
        assert_eq!(user(text, "r.example/team/app").as_deref(), Some("b"));
        assert_eq!(user(text, "r.example/teams/app").as_deref(), Some("a"));
        assert_eq!(user(text, "postgres").as_deref(), Some("c"));
        assert_eq!(user(text, "r.example:5000/app"), None);
    }

    #[test]
    fn helpers_and_tokens_are_named_not_run() {
        for (text, words) in [
            (r#"{"credsStore": "desktop"}"#, "docker-credential-desktop"),
            (r#"{"credHelpers": {"r.example": "ecr-login"}}"#, "docker-credential-ecr-login"),
            (r#"{"auths": {"r.example": {"identitytoken": "x"}}}"#, "identity token"),
            (r#"{"auths": {"r.example": {"auth": "PHRva2VuPjp4"}}}"#, "identity token"),
        ] {
            let Lookup::Unusable { what, .. } = lookup(text, "r.example/app").unwrap() else {
                panic!("{text}")
            };
            assert!(what.contains(words), "{what}");
        }
    }

    #[test]
    fn a_broken_file_is_reported_without_its_content() {
        for text in
            [r#"{"auths": {"r.example": {"auth": "hunter2!"}}}"#, r#"{"auths": "hunter2!"}"#, "hunter2!"]
        {
            let message = lookup(text, "r.example/app").unwrap_err().to_string();
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(!format!("{:?}", decode("YTpodW50ZXIy").unwrap()).contains("hunter2"));
    }

    #[test]
    fn files_are_asked_in_the_order_of_the_tools() {
        let environment = Environment {
            registry_auth_file: None,
            machine: Some("/run/bundle/registry/r.example/config.json".into()),
            xdg_runtime_dir: Some("/run/user/1".into()),
            docker_config: None,
            home: Some("/home/a".into()),
        };
        let expected = [
            "/run/bundle/registry/r.example/config.json",
            "/run/user/1/containers/auth.json",
            "/home/a/.config/containers/auth.json",
            "/home/a/.docker/config.json",
        ];
        assert_eq!(environment.files(), expected.map(PathBuf::from));
        let only = Environment { registry_auth_file: Some("/x".into()), ..environment };
        assert_eq!(only.files(), [PathBuf::from("/x")]);
        assert!(
            only.lookup(&"r.example/app".parse().unwrap()).is_err(),
            "a file that was named must be there"
        );
    }
}
