//! Credentials as `docker login`, `podman login` and `skopeo login` leave them (containers-auth.json(5)).
#![expect(clippy::disallowed_methods, reason = "credential files are read here")]

use std::collections::BTreeMap;
use std::ffi::OsString;
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
    /// `PATH`, in which credential helpers are looked for.
    pub path: Option<OsString>,
}

/// What one registry knows somebody by.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Password {
        /// The user's name.
        user: String,
        /// The password, or a token in its place.
        password: String,
    },
    /// A token that only the registry's `OAuth2` service takes, as `az acr login` leaves one.
    Identity {
        /// The token.
        token: String,
    },
}

/// The user of identity tokens, in files and in what helpers say.
pub(super) const TOKEN_USER: &str = "<token>";

impl Credentials {
    pub(super) fn new(user: String, password: String) -> Self {
        if user == TOKEN_USER {
            Self::Identity { token: password }
        } else {
            Self::Password { user, password }
        }
    }

    /// `base64(user:password)`, as the Basic scheme has it (RFC 7617). An identity token is no password.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => Some(STANDARD.encode(format!("{user}:{password}"))),
            Self::Identity { .. } => None,
        }
    }

    /// For a sentence that ends in "refused".
    pub(super) fn whose(&self) -> String {
        match self {
            Self::Password { user, .. } => format!("those of user `{user}` were"),
            Self::Identity { .. } => "the identity token that is stored for it was".to_owned(),
        }
    }
}

/// Never the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::Identity { .. } => f.debug_struct("Identity").finish_non_exhaustive(),
        }
    }
}

/// What the files say about one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing: anonymous.
    Nothing,
    /// These.
    Found(Credentials),
    /// Ask a program.
    Helper {
        /// What comes after `docker-credential-` in its name.
        name: String,
        /// The file that says so.
        file: PathBuf,
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
    /// A credential helper failed.
    #[error("`docker-credential-{name}`, which `{}` names, gives no credentials for `{host}`: {why}", file.display())]
    Helper {
        /// The helper's name.
        name: String,
        /// The file.
        file: PathBuf,
        /// The registry.
        host: String,
        /// What it says. Never what it prints on stdout.
        why: String,
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
        for path in self.files() {
            match lookup_in(&path, repository, self.registry_auth_file.is_some())? {
                Lookup::Nothing => {}
                found => return Ok(found),
            }
        }
        Ok(Lookup::Nothing)
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
    let helper = |name: &str| Ok(Lookup::Helper { name: name.to_owned(), file: path.to_owned() });
    for wanted in scopes(repository) {
        if let Some((_, name)) = file.cred_helpers.iter().find(|(key, _)| normal(key) == wanted) {
            return helper(name);
        }
        let Some((key, entry)) = file.auths.iter().find(|(key, _)| normal(key) == wanted) else { continue };
        if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Lookup::Found(Credentials::Identity { token: token.clone() }));
        }
        if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let error = || AuthError::Entry { path: path.to_owned(), key: key.clone() };
            return decode(auth).map(Lookup::Found).ok_or_else(error);
        }
    }
    match &file.creds_store {
        Some(store) if !store.is_empty() => helper(store),
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
    Some(Credentials::new(user.to_owned(), password.trim_end_matches('\0').to_owned()))
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
            Lookup::Found(Credentials::Password { user, .. }) => Some(user),
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
    fn helpers_are_named_and_tokens_are_found() {
        for (text, expected) in [
            (r#"{"credsStore": "desktop"}"#, Some("desktop")),
            (r#"{"credsStore": "desktop", "auths": {"r.example": {}}}"#, Some("desktop")),
            (r#"{"credHelpers": {"r.example": "ecr-login"}, "credsStore": "desktop"}"#, Some("ecr-login")),
            (r#"{"credHelpers": {"other.example": "ecr-login"}}"#, None),
        ] {
            let found = match lookup(text, "r.example/app").unwrap() {
                Lookup::Helper { name, .. } => Some(name),
                _ => None,
            };
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        for text in [
            r#"{"auths": {"r.example": {"identitytoken": "x"}}}"#,
            r#"{"auths": {"r.example": {"auth": "PHRva2VuPjp4"}}}"#,
        ] {
            let token = Credentials::Identity { token: "x".to_owned() };
            assert_eq!(lookup(text, "r.example/app").unwrap(), Lookup::Found(token));
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
            path: None,
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
