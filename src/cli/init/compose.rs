//! A Compose project, read by the Compose plugin: `docker compose config`. Nothing of the operator's own shell gets into
//! it, so that the same files give the same profile everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::super::report::{Code, Failure};
use super::disk;
use crate::adopt::{self, Project, Variable};

/// What is to be read.
pub(super) struct Request {
    pub(super) files: Vec<PathBuf>,
    /// The same as the operator named them.
    pub(super) named: Vec<String>,
    pub(super) directory: PathBuf,
    pub(super) profiles: BTreeSet<String>,
    pub(super) env_files: Vec<PathBuf>,
    /// Where the profile will stand.
    pub(super) target: PathBuf,
}

/// A run of the plugin.
struct Output {
    ok: bool,
    text: Vec<u8>,
    said: String,
}

/// The project; the plugin's own words if it refuses it.
pub(super) fn read(request: &Request) -> Result<Project, Failure> {
    for file in &request.files {
        if let Err(error) = fs::metadata(file) {
            return Err(Failure::new(Code::Input, format!("`{}` cannot be read: {error}", file.display())));
        }
    }
    let mut run = Run {
        program: program()?,
        request,
        overlay: None,
        name: None,
        environment: BTreeMap::new(),
        overlaid: BTreeSet::new(),
        env_files: request.env_files.clone(),
    };
    let usual = request.directory.join(".env");
    let instead = example(&usual).filter(|found| request.env_files.is_empty() && *found != usual);
    run.env_files.extend(instead.clone());
    let mut raw = run.config(&["--no-interpolate"]);
    if !raw.ok && raw.said.contains("project name must not be empty") {
        run.name = Some("app".to_owned());
        raw = run.config(&["--no-interpolate"]);
    }
    let raw: Value = if raw.ok { serde_json::from_slice(&raw.text).unwrap_or_default() } else { Value::Null };
    let mut project = Project {
        directory: request.directory.display().to_string(),
        above: disk::relative(&request.target, &request.directory).display().to_string(),
        files: request.named.clone(),
        chosen: request.profiles.clone(),
        ..Project::default()
    };
    if let Some(found) = instead {
        let shown = found.strip_prefix(&request.directory).unwrap_or(&found).display().to_string();
        project
            .notes
            .push(format!("`.env` is not here: `{shown}` was read in its place; look at the values"));
    }
    let directory = tempfile::tempdir().map_err(|error| {
        Failure::new(Code::Refused, format!("there is no room for a file in between: {error}"))
    })?;
    run.missing_env_files(&raw, directory.path(), &mut project.notes)?;
    run.mark(&variables(request, &raw), &mut project.marks);
    let mut output = run.filled(&mut project, directory.path(), &raw)?;
    // Nothing where a number or a version is wanted. Compose says of one after another that it has no value.
    for _ in 0..100 {
        let blank = unset(&output.said);
        let wanted = if output.ok { in_images(&raw, &blank) } else { blank };
        if !run.fill(&mut project, wanted) {
            break;
        }
        output = run.filled(&mut project, directory.path(), &raw)?;
    }
    if !output.ok && run.numbers(&mut project) {
        output = run.filled(&mut project, directory.path(), &raw)?;
    }
    if !output.ok && !project.marks.is_empty() {
        // A number is wanted where a mark stands.
        for variable in std::mem::take(&mut project.marks).values() {
            run.environment.remove(variable);
        }
        output = run.filled(&mut project, directory.path(), &raw)?;
        if output.ok {
            project.notes.push("a secret variable stands where a number is wanted, so that secrets could not be followed: look for values in `base.toml` that should not be there".to_owned());
        }
    }
    if !output.ok {
        let cause =
            output.said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
        return Err(Failure::new(Code::Input, format!("Compose does not accept the project: {cause}"))
            .hint(format!("`{} config` in its directory must work first", run.program.join(" "))));
    }
    let model: Value = serde_json::from_slice(&output.text)
        .map_err(|error| Failure::new(Code::Input, format!("Compose's own model cannot be read: {error}")))?;
    let marked: BTreeSet<&String> = project.marks.values().collect();
    project.unset = unset(&output.said).into_iter().filter(|name| !marked.contains(name)).collect();
    project.found =
        adopt::places(&model).into_iter().map(|path| (path.clone(), disk::probe(Path::new(&path)))).collect();
    (project.model, project.raw) = (model, raw);
    Ok(project)
}

struct Run<'r> {
    program: Vec<String>,
    request: &'r Request,
    /// Where variables come from, if not from `.env`.
    env_files: Vec<PathBuf>,
    /// A file laid over the others.
    overlay: Option<PathBuf>,
    /// The variables that the plugin is given.
    environment: BTreeMap<String, String>,
    /// The project's name, where its directory does not give one.
    name: Option<String>,
    /// The services whose env files the overlay replaces.
    overlaid: BTreeSet<String>,
}

impl Run<'_> {
    fn config(&self, options: &[&str]) -> Output {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]);
        for file in self.request.files.iter().chain(&self.overlay) {
            command.arg("-f").arg(file);
        }
        for file in &self.env_files {
            command.arg("--env-file").arg(file);
        }
        command.args(self.name.iter().flat_map(|name| ["--project-name", name.as_str()]));
        command.arg("--project-directory").arg(&self.request.directory);
        command.args(["--profile", "*", "config", "--format", "json"]).args(options);
        command.current_dir(&self.request.directory).stdin(Stdio::null()).env_clear();
        for name in ["PATH", "HOME", "DOCKER_CONFIG"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        match command.envs(&self.environment).output() {
            Ok(output) => Output {
                ok: output.status.success(),
                text: output.stdout,
                said: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Err(error) => Output { ok: false, text: Vec::new(), said: error.to_string() },
        }
    }

    /// Runs it, and gives a value to each variable that it asks for.
    fn filled(&mut self, project: &mut Project, directory: &Path, raw: &Value) -> Result<Output, Failure> {
        for _ in 0..300 {
            let output = self.config(&[]);
            if output.ok {
                return Ok(output);
            }
            if let Some(name) = wanted(&output.said).filter(|name| !self.environment.contains_key(name)) {
                if adopt::is_secret(&name) {
                    let mark = adopt::mark(project.marks.len() + 1);
                    project.marks.insert(mark.clone(), name.clone());
                    self.environment.insert(name, mark);
                } else {
                    let value = filler(&name);
                    project.filled.insert(name.clone(), value.clone());
                    self.environment.insert(name, value);
                }
            } else if let Some(path) = absent(&output.said)
                && self.without_env_file(raw, &path, directory, &mut project.notes)?
            {
            } else {
                return Ok(output);
            }
        }
        Ok(self.config(&[]))
    }

    /// Gives values to variables that have none; whether there were such.
    fn fill(&mut self, project: &mut Project, names: BTreeSet<String>) -> bool {
        let before = self.environment.len();
        for name in names {
            if !self.environment.contains_key(&name) {
                let value = filler(&name);
                project.filled.insert(name.clone(), value.clone());
                self.environment.insert(name, value);
            }
        }
        self.environment.len() > before
    }

    /// Puts numbers where words were put in; whether there were such.
    fn numbers(&mut self, project: &mut Project) -> bool {
        let mut some = false;
        for (name, value) in project.filled.iter_mut().filter(|(_, value)| value.starts_with("write-")) {
            "1".clone_into(value);
            self.environment.insert(name.clone(), value.clone());
            some = true;
        }
        some
    }

    /// Gives marks to the variables of secrets that have, or must have, a value.
    fn mark(&mut self, variables: &BTreeMap<String, Variable>, marks: &mut BTreeMap<String, String>) {
        let mut set = BTreeMap::new();
        let usual = [self.request.directory.join(".env")];
        let files = if self.env_files.is_empty() { &usual[..] } else { &self.env_files };
        for file in files {
            set.extend(disk::variables(file));
        }
        for (name, variable) in variables.iter().filter(|(name, _)| adopt::is_secret(name)) {
            let value = set.get(name).filter(|value| !value.is_empty());
            let can_be = match value {
                Some(value) => adopt::can_be_secret(value) || value.contains("${"),
                None if variable.bare || variable.required => true,
                // A default with a variable of its own is followed through that one.
                None => variable
                    .defaults
                    .iter()
                    .any(|default| adopt::can_be_secret(default) && !default.starts_with("${")),
            };
            if can_be {
                let mark = adopt::mark(marks.len() + 1);
                marks.insert(mark.clone(), name.clone());
                self.environment.insert(name.clone(), mark);
            }
        }
    }

    /// Env files that are not there: an example beside them is read instead.
    fn missing_env_files(
        &mut self,
        raw: &Value,
        directory: &Path,
        notes: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let mut services = BTreeMap::new();
        for (service, path) in env_files(raw) {
            if !path.contains('$') && fs::metadata(&path).is_err() {
                services.entry(service).or_insert_with(Vec::new).push(path);
            }
        }
        if services.is_empty() {
            return Ok(());
        }
        self.overlaid = services.keys().cloned().collect();
        self.lay_over(raw, directory, notes)
    }

    /// Takes out an env file that turned out to be missing; whether somebody names it.
    fn without_env_file(
        &mut self,
        raw: &Value,
        path: &str,
        directory: &Path,
        notes: &mut Vec<String>,
    ) -> Result<bool, Failure> {
        let before = self.overlaid.len();
        let named = env_files(raw).into_iter().filter(|(_, named)| named == path || named.contains('$'));
        self.overlaid.extend(named.map(|(service, _)| service));
        if self.overlaid.len() == before {
            return Ok(false);
        }
        self.lay_over(raw, directory, notes)?;
        Ok(true)
    }

    /// Writes the overlay: the env files of the services concerned, as far as they are there.
    fn lay_over(&mut self, raw: &Value, directory: &Path, notes: &mut Vec<String>) -> Result<(), Failure> {
        let mut text = String::from("services:\n");
        for service in &self.overlaid {
            // JSON is YAML. Writing to a `String` cannot fail.
            let _ = writeln!(text, "  {}:", Value::from(service.as_str()));
            let mut list = String::new();
            for (_, path) in env_files(raw).into_iter().filter(|(name, _)| name == service) {
                let shown = |path: &Path| {
                    path.strip_prefix(&self.request.directory).unwrap_or(path).display().to_string()
                };
                if path.contains('$') {
                    notes.push(format!("the env file `{}` of `{service}` is named by a variable and was not read: write its variables into `environment`", shown(Path::new(&path))));
                    continue;
                }
                let found = example(Path::new(&path));
                match &found {
                    Some(found) if *found == Path::new(&path) => {}
                    Some(found) => notes.push(format!("`{}` is not here: `{}` was read in its place; look at the values", shown(Path::new(&path)), shown(found))),
                    None => notes.push(format!("the env file `{}` of `{service}` is not here: write its variables into `environment`, and what is secret into `[env_files]`", shown(Path::new(&path)))),
                }
                if let Some(found) = found {
                    let _ = writeln!(list, "      - {}", Value::from(found.display().to_string()));
                }
            }
            if list.is_empty() {
                text.push_str("    env_file: !reset []\n");
            } else {
                let _ = write!(text, "    env_file: !override\n{list}");
            }
        }
        notes.sort();
        notes.dedup();
        let path = directory.join("overlay.yaml");
        fs::write(&path, text).map_err(|error| {
            Failure::new(Code::Refused, format!("`{}` cannot be written: {error}", path.display()))
        })?;
        self.overlay = Some(path);
        Ok(())
    }
}

/// The env files that services name, with their paths as Compose sees them.
fn env_files(raw: &Value) -> Vec<(String, String)> {
    let services = raw["services"].as_object().into_iter().flatten();
    let files = services.flat_map(|(name, service)| {
        let listed = match &service["env_file"] {
            Value::Array(items) => items.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        listed.into_iter().filter_map(move |item| {
            let path = item["path"].as_str().or(item.as_str())?;
            (item["required"] != false).then(|| (name.clone(), path.to_owned()))
        })
    });
    files.collect()
}

/// The file itself, or the example that its project ships.
fn example(path: &Path) -> Option<PathBuf> {
    if fs::metadata(path).is_ok() {
        return Some(path.to_owned());
    }
    let name = path.file_name()?.to_str()?;
    let plain = name.trim_start_matches('.');
    let endings = ["example", "sample", "dist", "template", "default", "defaults"];
    let names = endings.iter().flat_map(|ending| {
        [
            format!("{name}.{ending}"),
            format!("{plain}.{ending}"),
            format!("{ending}.{plain}"),
            format!(".{ending}.{plain}"),
        ]
    });
    names.map(|name| path.with_file_name(name)).find(|path| path.is_file())
}

/// All variables of the project: of the merged model, and of the files themselves, whose short forms the model takes
/// apart.
fn variables(request: &Request, raw: &Value) -> BTreeMap<String, Variable> {
    let mut found = BTreeMap::new();
    strings(raw, &mut |text| adopt::find_variables(text, &mut found));
    for file in &request.files {
        if let Ok(text) = fs::read_to_string(file) {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            for line in lines {
                adopt::find_variables(line, &mut found);
            }
        }
    }
    found
}

fn strings(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, see)),
        Value::Object(object) => object.values().for_each(|value| strings(value, see)),
        _ => {}
    }
}

/// `required variable NAME is missing a value: …`
fn wanted(said: &str) -> Option<String> {
    let rest = said.split_once("required variable ")?.1;
    rest.split_once(" is missing a value").map(|(name, _)| name.to_owned())
}

/// `env file PATH not found: …`
fn absent(said: &str) -> Option<String> {
    let rest = said.split_once("env file ")?.1;
    rest.split_once(" not found").map(|(path, _)| path.to_owned())
}

/// `The "NAME" variable is not set. …`, in a log line with its quotes escaped.
fn unset(said: &str) -> BTreeSet<String> {
    let names = said.split("The \\\"").skip(1).filter_map(|rest| rest.split_once("\\\" variable is not set"));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Those of the variables that images are named by: an image without its version is none.
fn in_images(raw: &Value, blank: &BTreeSet<String>) -> BTreeSet<String> {
    let mut named = BTreeMap::new();
    for (_, service) in raw["services"].as_object().into_iter().flatten() {
        adopt::find_variables(service["image"].as_str().unwrap_or_default(), &mut named);
    }
    blank.iter().filter(|name| named.contains_key(*name)).cloned().collect()
}

/// What stands in the place of a value that nobody has said: of the kind that the name speaks of.
fn filler(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let has = |words: &[&str]| upper.split('_').any(|word| words.contains(&word));
    if has(&["PORT"]) {
        "8080".to_owned()
    } else if has(&["COUNT", "REPLICAS", "WORKERS", "SIZE", "MB", "TIMEOUT", "UID", "GID", "PUID", "PGID"]) {
        "1000".to_owned()
    } else if has(&["DOMAIN", "HOST", "HOSTNAME", "FQDN"]) {
        "app.example.com".to_owned()
    } else if has(&["EMAIL", "MAIL"]) {
        "admin@example.com".to_owned()
    } else if has(&["CPU", "CPUS", "N"]) {
        "1".to_owned()
    } else if has(&["MEM", "MEMORY", "RAM", "SHM"]) {
        "512m".to_owned()
    } else if has(&["LOCATION", "PATH", "DIR", "DIRECTORY", "DATA", "VOLUME", "ROOT", "FOLDER", "STORAGE"]) {
        format!("./{}", upper.to_ascii_lowercase().replace('_', "-"))
    } else if has(&["REGISTRY"]) {
        "registry.example.com".to_owned()
    } else if has(&["VERSION", "TAG", "RELEASE"]) {
        "1.0.0".to_owned()
    } else {
        format!("write-{}", upper.to_ascii_lowercase().replace('_', "-"))
    }
}

/// The plugin, or a program of its own that is one.
fn program() -> Result<Vec<String>, Failure> {
    let named = std::env::var("BUNDLE_COMPOSE").ok().filter(|text| !text.trim().is_empty());
    let candidates: Vec<Vec<String>> = match &named {
        Some(text) => vec![text.split_whitespace().map(str::to_owned).collect()],
        None => vec![vec!["docker".to_owned(), "compose".to_owned()], vec!["docker-compose".to_owned()]],
    };
    let mut old = None;
    for candidate in candidates {
        let Ok(output) = Command::new(&candidate[0])
            .args(&candidate[1..])
            .args(["version", "--short"])
            .stdin(Stdio::null())
            .output()
        else {
            continue;
        };
        let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_owned();
        match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(major) if output.status.success() && major >= 2 => return Ok(candidate),
            Some(_) if output.status.success() => {
                old = Some(format!("`{}` is {version}", candidate.join(" ")))
            }
            _ => {}
        }
    }
    let message = match (old, named) {
        (Some(old), _) => format!("Compose of version 2 or later is needed to read the file, and {old}"),
        (None, Some(named)) => format!("`{named}` is not Compose, or does not run"),
        (None, None) => {
            "neither `docker compose` nor `docker-compose` runs here, which reads the file".to_owned()
        }
    };
    Err(Failure::new(Code::Refused, message).hint(
        "install the Compose plugin (docs.docker.com/compose/install); no Docker daemon is needed. `BUNDLE_COMPOSE` names another program",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugins_words_are_understood() {
        let said =
            "error while interpolating services.web.image: required variable TAG is missing a value: say it";
        assert_eq!(wanted(said).as_deref(), Some("TAG"));
        assert_eq!(absent("env file /a/.env not found: stat /a/.env: no such").as_deref(), Some("/a/.env"));
        let said = r#"level=warning msg="The \"D2\" variable is not set. Defaulting to a blank string.""#;
        assert_eq!(unset(said), BTreeSet::from(["D2".to_owned()]));
    }
}
