//! `bundle init`

mod compose;
mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::adopt;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the directory `profiles` is made; with `--from-compose` the project's own directory, else this one
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Make the profile of these Compose files, each laid over the one before
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from_compose: Vec<PathBuf>,
    /// The directory that paths in the Compose files start from; without it that of the first file
    #[arg(long, value_name = "DIR", requires = "from_compose")]
    project_directory: Option<PathBuf>,
    /// Take in the services of this Compose profile
    #[arg(long, value_name = "NAME", requires = "from_compose")]
    profile: Vec<String>,
    /// Read variables from this file instead of `.env`
    #[arg(long, value_name = "FILE", requires = "from_compose")]
    env_file: Vec<PathBuf>,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    if arguments.from_compose.is_empty() {
        return start(context, arguments);
    }
    let first = absolute(&arguments.from_compose[0])?;
    let project = match &arguments.project_directory {
        Some(directory) => absolute(directory)?,
        None => first.parent().map(Path::to_owned).unwrap_or_default(),
    };
    let target = match &arguments.directory {
        Some(directory) => absolute(directory)?,
        None => project.clone(),
    }
    .join("profiles");
    refuse_to_overwrite(&target, ["base.toml", "production.toml", "bundle.lock", "IMPORT.md"])?;
    let request = compose::Request {
        files: arguments.from_compose.iter().map(|file| absolute(file)).collect::<Result<_, _>>()?,
        named: arguments.from_compose.iter().map(|file| file.display().to_string()).collect(),
        directory: project,
        profiles: arguments.profile.iter().cloned().collect(),
        env_files: arguments.env_file.iter().map(|file| absolute(file)).collect::<Result<_, _>>()?,
        target: target.clone(),
    };
    let project = compose::read(&request)?;
    let adoption = adopt::adopt(&project);
    write(&target, &adoption.files)?;
    tell(adoption.summary.trim_end());
    let builds = adoption.faults.is_empty();
    let json = json!({
        "profile": target.join("production.toml"),
        "files": adoption.files.keys().collect::<Vec<_>>(),
        "builds": builds,
        "filled": project.filled,
        "findings": adoption.findings,
        "todo": adoption.todo,
    });
    print(context, json, || written(&target, &adoption.files));
    Ok(if builds { Code::Done } else { Code::Input })
}

/// A profile from nothing.
fn start(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let target = arguments.directory.clone().unwrap_or_default().join("profiles");
    let files = adopt::starter();
    refuse_to_overwrite(&target, files.keys().map(String::as_str))?;
    write(&target, &files)?;
    tell(
        "It builds at once: `bundle build production`. Before it can be deployed, write into `production.toml` your own\n\
         `domain`, `repository` and `ssh_from`, and into `base.toml` your own image, port and `health`; then\n\
         `bundle lock production --update`.",
    );
    let json =
        json!({ "profile": target.join("production.toml"), "files": files.keys().collect::<Vec<_>>() });
    print(context, json, || written(&target, &files));
    Ok(Code::Done)
}

fn written(target: &Path, files: &BTreeMap<String, String>) -> String {
    let paths: Vec<String> = files.keys().map(|name| target.join(name).display().to_string()).collect();
    paths.join("\n")
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| Failure::new(Code::Input, format!("`{}`: {error}", path.display()));
    Ok(disk::clean(&std::path::absolute(path).map_err(failed)?))
}

/// Nothing of somebody's work is lost.
fn refuse_to_overwrite<'n>(target: &Path, names: impl IntoIterator<Item = &'n str>) -> Result<(), Failure> {
    let taken: Vec<String> = names
        .into_iter()
        .map(|name| target.join(name))
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| format!("`{}`", path.display()))
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Refused, format!("there is something already: {}", taken.join(", ")))
        .hint("move it away, or name another directory: `bundle init DIR`"))
}

fn write(target: &Path, files: &BTreeMap<String, String>) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(Code::Refused, format!("`{}` cannot be written: {error}", path.display()))
    };
    fs::create_dir_all(target).map_err(|error| failed(target, error))?;
    for (name, text) in files {
        let path = target.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
