//! Mounts: volumes keep their names; files of the project travel in the bundle; directories that a container writes to
//! become volumes; source code and Docker's socket stay behind.

use serde_json::Value;

use super::import::Import;
use super::ledger::{Path, path};
use super::{Found, Project};

/// What becomes of a mount.
pub(super) enum Mount {
    /// A volume of this name.
    Volume(String),
    /// A path of the droplet.
    Host(String),
    /// A file or directory that travels; the paths below it.
    Files {
        executable: bool,
        below: Vec<String>,
    },
    Tmpfs(String),
    /// Nothing, and why; what to do.
    Nothing(String, Option<String>),
}

/// More than this is not configuration.
const MOST_FILES: usize = 100;
const MOST_BYTES: u64 = 2 << 20;

const SOCKETS: &[&str] =
    &["/var/run/docker.sock", "/run/docker.sock", "/var/run/docker", "/run/podman/podman.sock"];

/// Where configuration is, in containers.
const CONFIGURATION: &[&str] = &[
    "/etc/",
    "/docker-entrypoint-initdb.d",
    "/docker-entrypoint.d",
    "/usr/local/etc",
    "/usr/share/nginx",
    "/opt/bitnami",
    "/var/www/html",
    "/usr/src/app/config",
    "/usr/share/elasticsearch/config",
    "/usr/local/tomcat/conf",
    "/conf",
    "/provisioning",
    "/dashboards",
];

/// Whether a service may write to a volume through this mount.
pub(super) fn writes(project: &Project, service: &Value, mount: &Value) -> bool {
    match (&mount["read_only"], decide(project, service, mount, "x")) {
        (Value::Bool(true), _) => false,
        (_, Mount::Volume(_) | Mount::Host(_)) => {
            !mount["target"].as_str().is_some_and(|target| target.starts_with("/etc/"))
        }
        _ => false,
    }
}

/// Decides about one mount of the normalized model.
pub(super) fn decide(project: &Project, service: &Value, mount: &Value, name: &str) -> Mount {
    let text = |key: &str| mount[key].as_str().unwrap_or_default();
    let (source, target) = (text("source"), text("target"));
    match text("type") {
        "volume" if source.is_empty() => Mount::Volume(anonymous(name, target)),
        "volume" => volume(project, source),
        "bind" => bind(project, service, source, target, mount["read_only"] == true, name),
        "tmpfs" => {
            let size = match &mount["tmpfs"]["size"] {
                Value::Number(size) => format!(":size={size}"),
                Value::String(size) => format!(":size={size}"),
                _ => String::new(),
            };
            Mount::Tmpfs(format!("{target}{size}"))
        }
        other => Mount::Nothing(format!("a profile has no mounts of type `{other}`"), None),
    }
}

fn anonymous(name: &str, target: &str) -> String {
    let tail: String = target.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{name}{}", tail.trim_end_matches('-'))
}

/// A named volume: its own name if the file gives one, else the key.
fn volume(project: &Project, source: &str) -> Mount {
    let declared = &project.model["volumes"][source];
    if let Some(options) = declared["driver_opts"].as_object()
        && options.get("type").is_some_and(|kind| kind != "none" && kind != "tmpfs")
    {
        return Mount::Nothing(
            format!("the volume `{source}` is mounted by options, which a profile does not have"),
            Some("mount it on the droplet, and name the path in `volumes`".to_owned()),
        );
    }
    if let (Some(device), Some("none")) =
        (declared["driver_opts"]["device"].as_str(), declared["driver_opts"]["type"].as_str())
        && device.starts_with('/')
    {
        return Mount::Host(device.to_owned());
    }
    let project_name = project.model["name"].as_str().unwrap_or_default();
    let named = declared["name"].as_str().filter(|name| *name != format!("{project_name}_{source}"));
    Mount::Volume(named.unwrap_or(source).to_owned())
}

fn bind(
    project: &Project,
    service: &Value,
    source: &str,
    target: &str,
    read_only: bool,
    name: &str,
) -> Mount {
    let nothing = |why: &str, instead: &str| Mount::Nothing(why.to_owned(), Some(instead.to_owned()));
    if SOCKETS.contains(&source) || source.starts_with("/var/lib/docker") {
        return nothing(
            "who holds Docker's socket or its data owns the machine",
            "do without it, or run this on a machine of its own",
        );
    }
    if ["/etc/timezone", "/etc/localtime"].contains(&source) {
        return Mount::Nothing(
            "it belongs to the droplet's own system, whose clock runs in UTC: `TZ` in the environment says another zone".to_owned(),
            None,
        );
    }
    if source.contains('$') || source.contains(':') {
        return Mount::Nothing(format!("`{source}` is not a path"), None);
    }
    let Some(below) = project.within(source) else {
        return Mount::Host(source.to_owned());
    };
    let shown = if below.is_empty() { "." } else { below.as_str() };
    let last = target.rsplit('/').next().unwrap_or_default();
    let as_volume = || {
        let base = shown.trim_start_matches("../").replace(['/', ' '], "-");
        let base: String = base.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        let base = base.trim_matches(['.', '-', '_']);
        let named = if base.is_empty() { format!("{name}-data") } else { base.to_owned() };
        // A directory and a volume of one name are two things.
        let volumes = project.model["volumes"].as_object().into_iter().flatten();
        let taken =
            volumes.into_iter().any(|(key, volume)| *key == named || volume["name"] == named.as_str());
        Mount::Volume(if taken { format!("{named}-directory") } else { named })
    };
    let config = CONFIGURATION.iter().any(|lead| target.starts_with(lead));
    match project.found.get(source).unwrap_or(&Found::Missing) {
        Found::Missing if last.contains('.') && !last.starts_with('.') && !last.ends_with(".d") => {
            Mount::Nothing(
                format!("`{shown}` is not here, and looks like a file"),
                Some(format!("put it there and add `[files.\"{name}:{target}\"]` with its `source`")),
            )
        }
        Found::Missing => as_volume(),
        Found::Other => Mount::Nothing(format!("`{shown}` is neither a file nor a directory"), None),
        Found::File { bytes, executable, text } => {
            if *bytes > MOST_BYTES || (!*text && !read_only) {
                return Mount::Nothing(
                    format!("`{shown}` looks like data, not like configuration"),
                    Some("copy it to the droplet and name its path, or put it into the image".to_owned()),
                );
            }
            Mount::Files { executable: *executable, below: Vec::new() }
        }
        Found::Directory { files, .. } if files.is_empty() => as_volume(),
        Found::Directory { files, bytes, executable } => {
            let context = service["build"]["context"].as_str();
            let code = context.is_some_and(|context| {
                within(context, source).is_some() || within(source, context).is_some()
            });
            if code && !(config && read_only) {
                return nothing(
                    "it lays the source code over what the image has",
                    "leave it out: the image has its own copy",
                );
            }
            if project.directory == source {
                return nothing(
                    "it lays the whole project into the container",
                    "name the files that it needs in `[files]`",
                );
            }
            let small = files.len() <= MOST_FILES && *bytes <= MOST_BYTES;
            if (read_only || config) && small {
                return Mount::Files { executable: *executable, below: files.clone() };
            }
            if read_only {
                return Mount::Nothing(
                    format!(
                        "`{shown}` has {} files with {bytes} bytes: too much to travel in a bundle",
                        files.len()
                    ),
                    Some(
                        "put it into the image, or copy it to the droplet and name its path in `volumes`"
                            .to_owned(),
                    ),
                );
            }
            as_volume()
        }
    }
}

/// `path` as seen from `directory`, if it is in there.
fn within(directory: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(directory.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest.to_owned()),
        None => rest.is_empty().then(String::new),
    }
}

impl Project {
    /// The path as seen from the project's directory, with `..` where it is beside it. `None`: it is a path of the
    /// machine itself.
    pub(crate) fn within(&self, source: &str) -> Option<String> {
        if let Some(below) = within(&self.directory, source) {
            return Some(below);
        }
        // Siblings of the project: up to two levels, and never up to the root or a home.
        let mut up = self.directory.as_str();
        for climbed in 1..=2 {
            up = up.rsplit_once('/')?.0;
            if up.matches('/').count() < 2 {
                return None;
            }
            if let Some(below) = within(up, source) {
                return Some(format!("{}{below}", "../".repeat(climbed)));
            }
        }
        None
    }

    /// The path as the profile names it.
    pub(crate) fn from_profile(&self, below: &str) -> String {
        let joined = format!("{}/{below}", self.above);
        joined.trim_end_matches('/').to_owned()
    }
}

impl Import<'_> {
    /// The volumes of a service, as its profile table has them.
    pub(super) fn mounts(&mut self, service: &str, name: &str) -> (Vec<(String, Path)>, Vec<(String, Path)>) {
        let model = self.model["services"][service].clone();
        let (mut volumes, mut tmpfs) = (Vec::new(), Vec::new());
        for (nth, mount) in model["volumes"].as_array().into_iter().flatten().enumerate() {
            let item = super::ledger::item_name(mount, nth);
            let at = path(["services", service, "volumes", &item]);
            let target = mount["target"].as_str().unwrap_or_default().to_owned();
            let read_only = mount["read_only"] == true;
            let ending = if read_only { ":ro" } else { "" };
            let decided = decide(self.project, &model, mount, name);
            self.mount_options(&at, mount);
            match decided {
                Mount::Volume(volume) => {
                    let source = mount["source"].as_str().unwrap_or_default();
                    if mount["type"] == "bind" {
                        let below = self.project.within(source).unwrap_or_else(|| source.to_owned());
                        let has_files = matches!(self.project.found.get(source), Some(Found::Directory { files, .. }) if !files.is_empty());
                        self.ledger.changed(at.clone(), format!("the directory `{below}`, to which the service writes, is the volume `{volume}` on the droplet"), None);
                        if has_files {
                            self.ledger.todo(format!("copy what is in `{below}` into the volume `{volume}` once: it is data, and stays behind"));
                        }
                    } else if source == volume {
                        self.ledger.carried(at.clone());
                    } else {
                        self.ledger.changed(at.clone(), format!("the volume is called `{volume}`"), None);
                    }
                    volumes.push((format!("{volume}:{target}{ending}"), at));
                }
                Mount::Host(source) => {
                    self.ledger.changed(
                        at.clone(),
                        format!(
                            "a path of the droplet, `{source}`: it must be there, Docker does not make it"
                        ),
                        None,
                    );
                    volumes.push((format!("{source}:{target}{ending}"), at));
                }
                Mount::Tmpfs(text) => {
                    self.ledger.changed(at.clone(), "it stands in `tmpfs`", None);
                    tmpfs.push((text, at));
                }
                Mount::Files { executable, below } => {
                    let source = mount["source"].as_str().unwrap_or_default();
                    let shown = self.project.within(source).unwrap_or_default();
                    self.file(name, &target, &shown, executable, &at);
                    let what = if below.is_empty() {
                        format!("`{shown}` travels in the bundle and is mounted by content, read-only")
                    } else {
                        format!(
                            "the files in `{shown}` travel in the bundle and are mounted one by one, read-only: what the image has beside them stays visible"
                        )
                    };
                    self.ledger.changed(at.clone(), what, None);
                    for file in below {
                        self.ledger.added(
                            path(["services", service, "volumes", &format!("{target}/{file}")]),
                            "a file of a mounted directory",
                            None,
                        );
                    }
                }
                Mount::Nothing(why, instead) => {
                    if let Some(instead) = &instead {
                        let source = mount["source"].as_str().unwrap_or_default();
                        let below = self.project.within(source).filter(|_| mount["type"] == "bind");
                        let shown = below.unwrap_or_else(|| source.to_owned());
                        let shown = if shown.is_empty() { "." } else { &shown };
                        self.ledger
                            .todo(format!("`{service}` mounts `{shown}` at `{target}`: {why}; {instead}"));
                    }
                    self.ledger.left(at, why, instead.as_deref());
                }
            }
        }
        (volumes, tmpfs)
    }

    /// Options of a mount that a profile cannot say.
    fn mount_options(&mut self, at: &Path, mount: &Value) {
        let volume = &mount["volume"];
        for (key, text) in [
            ("subpath", "a profile mounts whole volumes"),
            ("nocopy", "a new volume always gets what the image has there"),
        ] {
            if !volume[key].is_null() && volume[key] != false {
                let mut at = at.clone();
                at.extend(["volume".to_owned(), key.to_owned()]);
                self.ledger.left(at, text, None);
            }
        }
        for key in ["propagation", "selinux", "recursive"] {
            if !mount["bind"][key].is_null() {
                let mut at = at.clone();
                at.extend(["bind".to_owned(), key.to_owned()]);
                self.ledger.left(at, "a profile has no such option for mounts", None);
            }
        }
        if !mount["consistency"].is_null() {
            let mut at = at.clone();
            at.push("consistency".to_owned());
            self.ledger.left(at, "it means something on a developer's machine only", None);
        }
    }
}
