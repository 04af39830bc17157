//! The values of secrets that a deploy brings along: read once, sent on stdin, shown nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::bundle::Manifest;
use crate::cli::report::{Code, Failure};
use crate::cli::secrets::LONGEST;
use crate::cli::tell;
use crate::model::{SecretName, SecretOrigin};
use crate::store::secrets::SecretValue;

/// `NAME=FILE` on the command line.
#[derive(Debug, Clone)]
pub(super) struct Named {
    name: SecretName,
    file: PathBuf,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Not quoted back: somebody may have written the value itself.
        let (name, file) =
            text.split_once('=').ok_or("it is `NAME=FILE`, where the file holds the value".to_owned())?;
        let name =
            name.parse().map_err(|_| "what stands before `=` is not the name of a secret".to_owned())?;
        match file {
            "" | "-" => Err("a file is named, which holds the value; `-` is none".to_owned()),
            file => Ok(Self { name, file: file.into() }),
        }
    }
}

/// The values to send, by name; their `Debug` says nothing of them.
pub(super) type Values = BTreeMap<SecretName, SecretValue>;

/// What is sent of a value so that the droplet, which takes one line break off its end, keeps just this value.
pub(super) fn as_sent(value: &SecretValue) -> String {
    let value = value.expose();
    // Nothing is added where nothing is taken off: a carriage return before a line break would go with it.
    if value.ends_with('\n') { format!("{value}\n") } else { value.to_owned() }
}

/// The secrets of a bundle that only an operator has.
pub(super) fn of_operator(manifest: &Manifest) -> impl Iterator<Item = &SecretName> {
    let secrets = manifest.secrets.iter();
    secrets.filter(|(_, origin)| **origin == SecretOrigin::Operator).map(|(name, _)| name)
}

/// Reads what was named one by one, and of a directory the files that have a name of a secret of the bundle.
pub(super) fn read(
    manifest: &Manifest,
    named: &[Named],
    directory: Option<&Path>,
) -> Result<Values, Failure> {
    let mut values = Values::new();
    if let Some(directory) = directory {
        for name in of_operator(manifest) {
            let file = directory.join(name.as_str());
            if file.try_exists().unwrap_or(true) {
                let shown = format!("of `{name}` in `{}`", file.display());
                values.insert(name.clone(), value(&shown, &file)?);
            }
        }
        others(manifest, directory)?;
    }
    for Named { name, file } in named {
        if !of_operator(manifest).any(|known| known == name) {
            let message = format!("the bundle has no secret `{name}` that an operator sends");
            return Err(Failure::new(Code::Input, message).hint("`bundle show PROFILE` lists its secrets"));
        }
        // Not quoted either: somebody may have written the value where a file is named.
        let shown = format!("in the file that is named for `{name}`");
        values.insert(name.clone(), value(&shown, file)?);
    }
    Ok(values)
}

/// Says which files of the directory are left alone.
fn others(manifest: &Manifest, directory: &Path) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(Code::Input, format!("the directory `{}` cannot be read: {error}", directory.display()))
    };
    let mut others = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !of_operator(manifest).any(|known| known.as_str() == name) {
            others.push(name);
        }
    }
    others.sort();
    if !others.is_empty() {
        tell(&format!("note: not a secret that the bundle takes, and not sent: `{}`", others.join("`, `")));
    }
    Ok(())
}

/// The value that a file holds; `shown` says which, in a failure.
fn value(shown: &str, path: &Path) -> Result<SecretValue, Failure> {
    let refuse = |why: &str| Failure::new(Code::Input, format!("the value {shown} {why}"));
    let file = fs::File::open(path).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let meta = file.metadata().map_err(|error| refuse(&format!("cannot be looked at: {error}")))?;
    if meta.is_dir() {
        return Err(refuse("is a directory"));
    }
    // A pipe of the shell's is nobody else's to open.
    if meta.is_file() && meta.permissions().mode() & 0o004 != 0 {
        return Err(refuse("can be read by everybody").hint("`chmod 600` makes it yours alone"));
    }
    let mut text = String::new();
    let read = file.take(LONGEST + 1).read_to_string(&mut text);
    read.map_err(|error| refuse(&format!("cannot be read as text: {error}")))?;
    let value = SecretValue::new(&text);
    if text.len() as u64 > LONGEST {
        return Err(refuse("is longer than 64 KiB"));
    }
    if value.expose().is_empty() { Err(refuse("is empty")) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_arrives_as_it_was_read() {
        for text in ["x", "x\n", "x\n\n", "x\n\n\n", "x\r\n", "x\r", "x\r\r\n", "x\r\n\n", "\n\n", "x\ny\n"] {
            let value = SecretValue::new(text);
            assert!(SecretValue::new(&as_sent(&value)) == value, "{text:?}");
        }
    }

    fn manifest() -> Manifest {
        let mut manifest = crate::bundle::sample::bundle().manifest().clone();
        manifest.secrets.insert("token".parse().unwrap(), SecretOrigin::Operator);
        manifest.secrets.insert("other".parse().unwrap(), SecretOrigin::Operator);
        manifest
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn files_become_values_and_what_the_bundle_does_not_take_stays_here() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("token"), "from the directory\n", 0o600);
        write(&dir.path().join("notes.txt"), "mine", 0o644);
        write(&dir.path().join("elsewhere"), "one by one", 0o640);
        let values = read(&manifest(), &[], Some(dir.path())).unwrap();
        assert_eq!(values.keys().map(SecretName::as_str).collect::<Vec<_>>(), ["token"]);
        assert_eq!(values.values().next().unwrap().expose(), "from the directory");
        let named: Named = format!("token={}", dir.path().join("elsewhere").display()).parse().unwrap();
        let values = read(&manifest(), &[named], Some(dir.path())).unwrap();
        assert_eq!(values.values().next().unwrap().expose(), "one by one", "what is named counts");
        assert!(!format!("{values:?}").contains("one by one"));
    }

    #[test]
    fn a_value_that_anybody_could_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for (text, mode, words) in [
            ("hunter2hunter2", 0o644, "everybody"),
            ("\n", 0o600, "empty"),
            (&"x".repeat(70_000), 0o600, "64 KiB"),
        ] {
            write(&file, text, mode);
            let failure = read(&manifest(), &[], Some(dir.path())).unwrap_err().render();
            assert!(failure.contains(words) && !failure.contains("hunter2"), "{failure}");
        }
        for (text, words) in
            [("hunter2", "NAME=FILE"), ("token=-", "`-` is none"), ("token=", "a file"), ("A=b", "name")]
        {
            let error = text.parse::<Named>().unwrap_err();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
        let mistaken: Named = "token=hunter2".parse().unwrap();
        let failure = read(&manifest(), &[mistaken], None).unwrap_err().render();
        assert!(
            failure.contains("named for `token` cannot be read") && !failure.contains("hunter2"),
            "{failure}"
        );
        let unknown: Named = "postgres=/dev/null".parse().unwrap();
        assert!(read(&manifest(), &[unknown], None).unwrap_err().render().contains("no secret `postgres`"));
    }
}
