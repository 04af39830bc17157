//! What a Dockerfile is built from: its context as a tar archive in our one form, so that the same files are the same
//! bytes on every machine, and one digest for that and all else that decides the image.

use std::io::{self, Write};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::build::BuildError;
use super::entry::{Entry, EntryPath};
use super::files;
use super::layer::{self, Lower};
use super::write::{Hashing, Stop, WriteError, lay_out};
use crate::model::Digest;
use crate::model::json::to_vec;
use crate::spec::{Copy, DockerfileRecipe};

/// The form of what is hashed. Another one would make every lock's entry another one.
const FORM: u32 = 1;

/// The files that a build sees.
#[derive(Debug)]
pub struct Context {
    entries: Vec<Entry>,
}

impl Context {
    /// Finds the files of a recipe's context, and its Dockerfile, which is in it whatever is left out.
    pub fn gather(recipe: &DockerfileRecipe) -> Result<Self, BuildError> {
        let mut entries = files::gather(&recipe.context)?;
        let dockerfile = EntryPath::new(recipe.inside.as_str())?;
        if !entries.iter().any(|entry| entry.path == dockerfile) {
            let alone = Copy {
                from: recipe.dockerfile.clone(),
                to: format!("/{}", recipe.inside),
                ..Copy::default()
            };
            entries.extend(files::gather(&alone)?);
        }
        Ok(Self { entries: layer::arrange(entries, Some(&mut Lower::default()))? })
    }

    /// Writes the archive, and says its digest.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<Digest> {
        let mut hasher = Sha256::new();
        let written = lay_out(&self.entries, &mut Hashing { out, hasher: &mut hasher });
        written.map_err(|stop| match stop {
            Stop::Out(error) => error,
            Stop::Read(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                io::Error::other(format!("{error}{}", source.unwrap_or_default()))
            }
        })?;
        Ok(Digest::from_hasher(hasher))
    }

    /// The digest of the archive, which is written nowhere.
    pub fn digest(&self) -> Result<Digest, WriteError> {
        let mut hasher = Sha256::new();
        match lay_out(&self.entries, &mut Hashing { out: &mut io::sink(), hasher: &mut hasher }) {
            // Nothing is refused there.
            Ok(()) | Err(Stop::Out(_)) => Ok(Digest::from_hasher(hasher)),
            Err(Stop::Read(error)) => Err(error),
        }
    }
}

/// The digest of all that decides what a Dockerfile comes to, apart from what its build fetches and who builds: its
/// context, where it is in that, the stage, the arguments, the platforms.
pub fn inputs(recipe: &DockerfileRecipe, context: Digest) -> Result<Digest, BuildError> {
    let DockerfileRecipe { inside, target, args, architectures, dockerfile: _, context: _ } = recipe;
    let document = json!({
        "args": args,
        "context": context,
        "dockerfile": inside,
        "form": FORM,
        "platforms": architectures,
        "target": target,
    });
    Ok(Digest::of(&to_vec(&document)?))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a context is files")]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn project() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("app/sub")).unwrap();
        for (name, text) in [("app/Dockerfile", "FROM scratch"), ("app/a", "a"), ("app/sub/b", "b")] {
            fs::write(root.path().join(name), text).unwrap();
        }
        root
    }

    fn recipe(root: &Path) -> DockerfileRecipe {
        DockerfileRecipe {
            dockerfile: root.join("app/Dockerfile"),
            inside: "Dockerfile".to_owned(),
            context: Copy { from: root.join("app"), to: "/".to_owned(), ..Copy::default() },
            target: None,
            args: BTreeMap::new(),
            architectures: vec!["amd64".to_owned()],
        }
    }

    fn of(recipe: &DockerfileRecipe) -> Digest {
        inputs(recipe, Context::gather(recipe).unwrap().digest().unwrap()).unwrap()
    }

    fn names(recipe: &DockerfileRecipe) -> Vec<String> {
        let mut bytes = Vec::new();
        let context = Context::gather(recipe).unwrap();
        assert_eq!(context.write(&mut bytes).unwrap(), context.digest().unwrap());
        assert_eq!(Digest::of(&bytes), context.digest().unwrap());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            entry.path().unwrap().display().to_string()
        });
        entries.collect()
    }

    #[test]
    fn the_same_files_are_the_same_inputs_wherever_and_whenever_they_were_written() {
        let (one, other) = (project(), project());
        fs::set_permissions(other.path().join("app/a"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(of(&recipe(one.path())), of(&recipe(other.path())));
        assert_eq!(names(&recipe(one.path())), ["Dockerfile", "a", "sub/", "sub/b"]);
    }

    #[test]
    fn everything_that_decides_the_image_is_in_the_inputs() {
        let root = project();
        let plain = recipe(root.path());
        let mut seen = vec![of(&plain)];
        let mut other = |recipe: &DockerfileRecipe| {
            let inputs = of(recipe);
            assert!(!seen.contains(&inputs), "{recipe:?}");
            seen.push(inputs);
        };
        other(&DockerfileRecipe { target: Some("x".to_owned()), ..plain.clone() });
        other(&DockerfileRecipe {
            args: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            ..plain.clone()
        });
        other(&DockerfileRecipe { architectures: vec!["arm64".to_owned()], ..plain.clone() });
        other(&DockerfileRecipe { inside: "a".to_owned(), ..plain.clone() });
        fs::write(root.path().join("app/a"), "A").unwrap();
        other(&plain);
        fs::set_permissions(root.path().join("app/a"), fs::Permissions::from_mode(0o755)).unwrap();
        other(&plain);
        fs::write(root.path().join("app/Dockerfile"), "FROM scratch\n").unwrap();
        other(&plain);
    }

    #[test]
    fn the_dockerfile_is_there_whatever_is_left_out_and_wherever_it_lies() {
        let root = project();
        let mut recipe = recipe(root.path());
        recipe.context.exclude = vec!["Dockerfile".parse().unwrap(), "sub".parse().unwrap()];
        assert_eq!(names(&recipe), ["Dockerfile", "a"]);
        recipe.context.exclude.clear();
        recipe.context.from = root.path().join("app/sub");
        recipe.inside = ".bundle.dockerfile".to_owned();
        assert_eq!(names(&recipe), [".bundle.dockerfile", "b"]);
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_seen() {
        let root = project();
        let context = Context::gather(&recipe(root.path())).unwrap();
        fs::write(root.path().join("app/a"), "longer").unwrap();
        assert!(context.write(&mut Vec::new()).unwrap_err().to_string().contains("changed while"));
        assert!(matches!(context.digest(), Err(WriteError::Changed { .. })));
    }
}
