//! The words of `[images.NAME]` and `[debian]`, as [`words`](super::words) has the others.
#![expect(dead_code, reason = "described, not read")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::spec::{DEBIAN_MIRROR, DEBIAN_SECURITY};

/// An image of the project's own: what is in it and how containers of it run. A service runs it as `image = "NAME"`. It is
/// pushed to `registry.repository`.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    /// What it is built on: an image of a registry (`NAME:TAG`, pinned by `bundle lock`), `scratch`, an OCI layout on disk
    /// (`layout:DIRECTORY`, `layout:DIRECTORY:TAG`), or a tarball of a root file system (`rootfs:FILE`).
    #[serde(default = "scratch")]
    #[schemars(example = &"debian:13-slim")]
    base: String,
    /// Debian packages by name, with all that they depend on. `bundle lock` resolves and verifies them.
    #[serde(default)]
    #[schemars(example = ["python3", "python3-redis"])]
    packages: Vec<String>,
    /// Packages of which the maintainer scripts may be left out although they are not known to be dispensable.
    #[serde(default)]
    #[schemars(example = ["some-package"])]
    accept_scripts: Vec<String>,
    /// Patterns of paths that the packages have and the image has not.
    #[serde(default)]
    #[schemars(example = ["usr/share/doc/**"])]
    exclude: Vec<String>,
    /// Files of the project, each copy a layer of its own.
    #[serde(default)]
    #[schemars(example = copies())]
    layers: Vec<Copy>,
    /// Users besides those that packages bring.
    #[serde(default)]
    #[schemars(example = json!([{ "name": "app", "uid": 10001 }]))]
    users: Vec<User>,
    /// Directories with an owner or a mode of their own.
    #[serde(default)]
    #[schemars(example = json!([{ "path": "/data", "owner": "999:999" }]))]
    directories: Vec<Directory>,
    /// Symbolic links.
    #[serde(default)]
    #[schemars(example = json!([{ "path": "/usr/bin/tool", "target": "../lib/tool/main" }]))]
    links: Vec<Link>,
    /// The user and group that containers run as.
    #[schemars(example = &"10001:10001")]
    user: Option<String>,
    /// Variables, besides the base's.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// What containers run. The base's arguments go with the base's own.
    #[schemars(example = ["docker-entrypoint.sh"])]
    entrypoint: Option<Vec<String>>,
    /// Arguments of `entrypoint`, or what is run if there is none.
    #[schemars(example = ["python3", "-m", "app"])]
    cmd: Option<Vec<String>>,
    /// The directory in which that happens.
    #[schemars(example = &"/app")]
    workdir: Option<String>,
    /// The ports that it listens on, for people: nothing is published.
    #[serde(default)]
    #[schemars(example = ["8000/tcp"])]
    ports: Vec<String>,
    /// Directories that are volumes even if nobody mounts one there.
    #[serde(default)]
    #[schemars(example = ["/data"])]
    volumes: Vec<String>,
    /// The signal that asks it to end.
    #[schemars(example = &"SIGINT")]
    stop_signal: Option<String>,
    /// Labels, besides the base's.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// What it is made for. Of several comes an index.
    #[serde(default = "amd64")]
    platforms: Vec<Platform>,
    /// The Dockerfile that makes it, relative to the file that says it; besides it there are `context`, `target`, `args` and
    /// `platforms`, and no other key. `bundle lock` has it built by BuildKit (`docker buildx`) and locks what it came to; no
    /// other command builds it, and all refuse to go on when its sources have changed since.
    #[schemars(example = &"app/Dockerfile")]
    dockerfile: Option<String>,
    /// The files that its build sees: a directory, or which files of one. Without it the folder of the Dockerfile, without
    /// `.git`. The Dockerfile itself is always there, as `.bundle.dockerfile` if it lies elsewhere. Owners, times and modes
    /// are as in `layers` without `owner` and modes. A `.dockerignore` is not read: what is left out is said here.
    #[serde(default)]
    #[schemars(schema_with = "context", example = &"app", example = json!({ "from": "app", "exclude": ["**/tests"] }))]
    context: Option<String>,
    /// The stage of the Dockerfile that is the image. Without it the last one.
    #[schemars(example = &"runtime")]
    target: Option<String>,
    /// Values of its `ARG`s. They stand in the image's history: no secrets here. `SOURCE_DATE_EPOCH` is 0 unless it is given.
    #[serde(default)]
    #[schemars(example = json!({ "VERSION": "1.4" }))]
    args: BTreeMap<String, String>,
}

fn context(generator: &mut SchemaGenerator) -> Schema {
    let table = Context::json_schema(generator);
    let mut schema = json_schema!({ "type": ["string", "object"] });
    for key in ["properties", "additionalProperties"] {
        if let Some(value) = table.get(key) {
            schema.insert(key.to_owned(), value.clone());
        }
    }
    schema
}

/// The context of a Dockerfile.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Context {
    /// A directory, relative to the file that says it. Without it the folder of the Dockerfile.
    #[schemars(example = &"app")]
    from: Option<String>,
    /// Patterns of what is in it, as in `layers`.
    #[serde(default)]
    #[schemars(example = ["src/**"])]
    include: Vec<String>,
    /// Patterns of what is not.
    #[serde(default)]
    #[schemars(example = ["**/tests"])]
    exclude: Vec<String>,
}

fn scratch() -> String {
    "scratch".to_owned()
}

fn amd64() -> Vec<Platform> {
    vec![Platform::Amd64]
}

fn copies() -> Value {
    json!([{ "from": "app", "to": "/app", "exclude": ["**/tests"] }])
}

/// A platform.
#[derive(JsonSchema, serde::Serialize)]
enum Platform {
    #[serde(rename = "linux/amd64")]
    Amd64,
    #[serde(rename = "linux/arm64")]
    Arm64,
}

/// Files of the project that are copied.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Copy {
    /// A directory, of which the content is copied, or a file; relative to the file that says it.
    #[schemars(example = &"app")]
    from: String,
    /// Where the content of the directory, or the file, goes.
    #[schemars(regex(pattern = "^/"), example = &"/app")]
    to: String,
    /// Patterns of what is copied, relative to `from`: `*` stops at a slash, `**` does not. Without any: everything but
    /// `.git`.
    #[serde(default)]
    #[schemars(example = ["**/*.py"])]
    include: Vec<String>,
    /// Patterns of what is not.
    #[serde(default)]
    #[schemars(example = ["**/tests"])]
    exclude: Vec<String>,
    /// `UID:GID` in numbers, or `keep` for the owners on disk.
    #[serde(default = "root")]
    owner: String,
    /// The mode of files in octal digits, or `keep`. Without it `0755` for what its owner may run and `0644` for the rest:
    /// what version control keeps.
    #[schemars(example = &"0644")]
    file_mode: Option<String>,
    /// The mode of directories, or `keep`. Without it `0755`.
    #[schemars(example = &"0755")]
    dir_mode: Option<String>,
}

fn root() -> String {
    "0:0".to_owned()
}

/// A user, and the group of the same name.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct User {
    /// The name of both.
    #[schemars(regex(pattern = "^[a-z_][a-z0-9_-]{0,31}$"), example = &"app")]
    name: String,
    /// The user's number.
    #[schemars(example = 10001)]
    uid: u32,
    /// The group's number; the user's if nothing is said.
    #[schemars(example = 10001)]
    gid: Option<u32>,
    /// Home directory.
    #[serde(default = "nonexistent")]
    home: String,
    /// Login shell.
    #[serde(default = "nologin")]
    shell: String,
}

fn nonexistent() -> String {
    "/nonexistent".to_owned()
}

fn nologin() -> String {
    "/usr/sbin/nologin".to_owned()
}

/// A directory.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Directory {
    /// Where it is.
    #[schemars(regex(pattern = "^/"), example = &"/data")]
    path: String,
    /// `UID:GID` in numbers.
    #[serde(default = "root")]
    owner: String,
    /// Its mode in octal digits.
    #[serde(default = "open")]
    mode: String,
}

fn open() -> String {
    "0755".to_owned()
}

/// A symbolic link.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Link {
    /// Where it is.
    #[schemars(regex(pattern = "^/"), example = &"/usr/bin/tool")]
    path: String,
    /// What it says.
    #[schemars(example = &"../lib/tool/main")]
    target: String,
}

/// Where the Debian packages of images come from.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Debian {
    /// The release. Its updates and its security updates are asked, too.
    suite: String,
    /// The mirror of the release and of its updates. What is fetched is verified, whoever sends it.
    mirror: String,
    /// The mirror of its security updates.
    security: String,
    /// The archive as it was at this time, from snapshot.debian.org unless `mirror` says otherwise.
    #[schemars(regex(pattern = "^[0-9]{8}T[0-9]{6}Z$"), example = &"20261101T000000Z")]
    snapshot: Option<String>,
    /// Its components.
    components: Vec<String>,
    /// A file of the keys that may sign it, relative to the file that says it. Without it Debian's own, of the package
    /// `debian-archive-keyring`.
    #[schemars(example = &"keys.asc")]
    keyring: Option<String>,
}

impl Default for Debian {
    fn default() -> Self {
        Self {
            suite: "trixie".to_owned(),
            mirror: DEBIAN_MIRROR.to_owned(),
            security: DEBIAN_SECURITY.to_owned(),
            snapshot: None,
            components: vec!["main".to_owned()],
            keyring: None,
        }
    }
}
