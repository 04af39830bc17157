//! Secrets: values root-only on disk outside every generation, and one copy per consumer in a ramfs.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::mount::{MountFlags, mount};

use super::{Doing, Store, StoreError, durable};
use crate::bundle::Manifest;
use crate::model::template::{ParseTemplateError, Template};
use crate::model::{Generator, SecretFile, SecretName, SecretOrigin, SecretSource};

/// A secret's value. Never printed, never logged: it has no `Display`, and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// Takes a value as the operator sends it. One line break at the end is the terminal's, not the secret's.
    pub fn new(text: &str) -> Self {
        Self(text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)).to_owned())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Why the secrets' files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Values that only the operator has are not there.
    #[error("the machine does not have {}", list(.0))]
    Missing(Vec<SecretName>),
    /// A template does not fit its secrets.
    #[error("the secret file `{path}` cannot be put together")]
    Template {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: ParseTemplateError,
    },
    /// A file or template names a secret that the manifest does not have, or templates name each other in a circle.
    /// A build refuses both.
    #[error("the secret `{0}` has no value that could be put together")]
    NoOrigin(SecretName),
    /// The kernel's random numbers are not to be had.
    #[error("no random numbers for a new password: {0}")]
    Random(getrandom::Error),
    /// The disk said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(names: &[SecretName]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("the {} {}", if names.len() == 1 { "secret" } else { "secrets" }, names.join(", "))
}

impl Store {
    fn secret_path(&self, name: &SecretName) -> PathBuf {
        self.at("secrets").join(name.as_str())
    }

    /// Keeps a value, replacing an earlier one.
    pub fn set_secret(&self, name: &SecretName, value: &SecretValue) -> Result<(), StoreError> {
        durable::write(&self.secret_path(name), value.expose().as_bytes(), 0o600)
    }

    /// A value, if the machine has it.
    pub fn secret(&self, name: &SecretName) -> Result<Option<SecretValue>, StoreError> {
        let path = self.secret_path(name);
        let Some(bytes) = durable::read(&path)? else { return Ok(None) };
        String::from_utf8(bytes)
            .map(|text| Some(SecretValue(text)))
            .map_err(|_| StoreError::damaged(&path, "not UTF-8"))
    }

    /// The names of the values that the machine has, sorted.
    pub fn secret_names(&self) -> Result<Vec<SecretName>, StoreError> {
        let paths = entries(&self.at("secrets"))?;
        // A value on its way in has a name that no secret has.
        let names = paths.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok());
        Ok(names.collect())
    }

    /// A text without the values of `manifest`'s secrets, plain or percent-encoded: programs print what they fail with.
    pub fn redact(&self, manifest: Option<&Manifest>, mut text: String) -> String {
        for name in manifest.into_iter().flat_map(|manifest| manifest.secrets.keys()) {
            let Ok(Some(value)) = self.secret(name) else { continue };
            let encoded = utf8_percent_encode(value.expose(), NON_ALPHANUMERIC).to_string();
            for form in [value.expose(), encoded.as_str()] {
                // Shorter ones would black out half of the language and protect nothing.
                if form.len() >= 6 {
                    text = text.replace(form, "…");
                }
            }
        }
        text
    }

    /// The secrets that only an operator has and that nobody sent.
    pub fn missing_secrets(&self, manifest: &Manifest) -> Result<Vec<SecretName>, StoreError> {
        let operators = manifest.secrets.iter().filter(|(_, origin)| **origin == SecretOrigin::Operator);
        self.still_missing(&operators.map(|(name, _)| name.clone()).collect::<Vec<_>>())
    }

    /// Makes the values that the machine makes itself, once.
    pub fn generate_secrets(&self, manifest: &Manifest) -> Result<(), SecretsError> {
        for (name, origin) in &manifest.secrets {
            if let SecretOrigin::Generate(Generator::Password) = origin
                && self.secret(name)?.is_none()
            {
                self.set_secret(name, &password()?)?;
            }
        }
        Ok(())
    }

    /// Writes the files of `manifest` into the ramfs, 0400, each owned by its consumer. A file that already says the
    /// same is left alone: a running container has it mounted.
    pub fn write_secret_files(&self, manifest: &Manifest) -> Result<(), SecretsError> {
        let missing = self.missing_secrets(manifest)?;
        if !missing.is_empty() {
            return Err(SecretsError::Missing(missing));
        }
        self.generate_secrets(manifest)?;
        self.mount_ramfs()?;
        for file in &manifest.secret_files {
            let content = self.content(manifest, file)?;
            self.write_secret_file(file, content.as_bytes())?;
        }
        Ok(())
    }

    /// Removes the files in the ramfs that `manifest` does not name.
    pub fn drop_secret_files_except(&self, manifest: Option<&Manifest>) -> Result<(), StoreError> {
        let keep: Vec<_> =
            manifest.iter().flat_map(|m| &m.secret_files).map(|f| self.below(&f.absolute())).collect();
        let directory = self.below(SecretFile::DIRECTORY);
        for consumer in directories(&directory)? {
            for file in entries(&consumer)? {
                if !keep.contains(&file) {
                    durable::remove_if_there(&file)?;
                }
            }
        }
        Ok(())
    }

    fn write_secret_file(&self, file: &SecretFile, content: &[u8]) -> Result<(), StoreError> {
        let path = self.below(&file.absolute());
        // 0711: a consumer may reach its file, nobody may list them.
        durable::make_dir(durable::parent(&path), 0o711)?;
        let (uid, gid) = if rustix::process::geteuid().is_root() {
            (file.owner.uid, file.owner.gid)
        } else {
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        };
        let owner = fs::metadata(&path).ok().map(|meta| (meta.uid(), meta.gid()));
        if owner == Some((uid, gid)) && durable::read(&path)?.as_deref() == Some(content) {
            return Ok(());
        }
        let beside = durable::beside(&path);
        durable::write_new(&beside, content, 0o400)?;
        chown(&beside, Some(uid), Some(gid)).doing("changing the owner of", &beside)?;
        fs::rename(&beside, &path).doing("replacing", &path)
    }

    /// On the running system the directory is a ramfs, which is never written to swap. Elsewhere it is a directory.
    fn mount_ramfs(&self) -> Result<(), StoreError> {
        let path = self.below(SecretFile::DIRECTORY);
        durable::make_dir(durable::parent(&path), 0o755)?;
        durable::make_dir(&path, 0o711)?;
        if !self.is_running_system() {
            return Ok(());
        }
        let statfs = rustix::fs::statfs(&path).doing("looking at", &path)?;
        // RAMFS_MAGIC of linux/magic.h.
        if statfs.f_type == 0x8584_58f6 {
            return Ok(());
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("ramfs", &path, "ramfs", flags, Some(c"mode=0711")).doing("mounting a ramfs at", &path)
    }

    fn content(&self, manifest: &Manifest, file: &SecretFile) -> Result<String, SecretsError> {
        match &file.source {
            SecretSource::Value(name) => self.value(manifest, name, manifest.secrets.len()),
            SecretSource::Template(path) => {
                let object = self.object(path);
                let text = fs::read_to_string(&object).doing("reading the template", &object)?;
                self.fill(manifest, &text, file.path.as_str(), manifest.secrets.len())
            }
        }
    }

    /// The value of a secret, put together if it is a template. `depth` bounds templates that name templates.
    fn value(&self, manifest: &Manifest, name: &SecretName, depth: usize) -> Result<String, SecretsError> {
        match manifest.secrets.get(name) {
            Some(SecretOrigin::Template(text)) if depth > 0 => {
                self.fill(manifest, text, name.as_str(), depth - 1)
            }
            Some(SecretOrigin::Template(_)) | None => Err(SecretsError::NoOrigin(name.clone())),
            Some(_) => match self.secret(name)? {
                Some(value) => Ok(value.expose().to_owned()),
                None => Err(SecretsError::Missing(vec![name.clone()])),
            },
        }
    }

    fn fill(
        &self,
        manifest: &Manifest,
        text: &str,
        path: &str,
        depth: usize,
    ) -> Result<String, SecretsError> {
        let template = Template::parse(text)
            .map_err(|source| SecretsError::Template { path: path.to_owned(), source })?;
        template.render(|name| self.value(manifest, name, depth))
    }
}

/// 256 bits from the kernel, in base64url: safe in URLs, ACL files and shells.
fn password() -> Result<SecretValue, SecretsError> {
    use base64::Engine as _;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(SecretsError::Random)?;
    Ok(SecretValue(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}

fn directories(path: &std::path::Path) -> Result<Vec<PathBuf>, StoreError> {
    Ok(entries(path)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn entries(path: &std::path::Path) -> Result<Vec<PathBuf>, StoreError> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let mut paths = Vec::new();
            for entry in entries.doing("listing", path)? {
                paths.push(entry.doing("listing", path)?.path());
            }
            paths.sort();
            Ok(paths)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_for_root_alone_and_never_shown() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let name: SecretName = "token".parse().unwrap();
        store.set_secret(&name, &SecretValue::new("s3cret\r\n")).unwrap();
        assert_eq!(store.secret(&name).unwrap().unwrap().expose(), "s3cret");
        let mode = fs::metadata(store.secret_path(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{:?}", store.secret(&name)).contains("s3cret"));
        assert_ne!(password().unwrap(), password().unwrap());
    }
}
