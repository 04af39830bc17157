//! BuildKit through `docker buildx` (docs.docker.com, "docker buildx build"): the only program here that builds images, and
//! only for `bundle lock` of a Dockerfile.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::command::Program;
use crate::activate::HostError;

/// What a large image may take.
const BUILD: Duration = Duration::from_hours(3);
/// What a builder in a container may take to come up, with its own image to be pulled.
const START: Duration = Duration::from_mins(10);
/// The time of everything that a build makes (reproducible-builds.org, `SOURCE_DATE_EPOCH`): the same as in the layers
/// that we make, because no clock and no commit is an input of an image.
const EPOCH: &str = "SOURCE_DATE_EPOCH=0";
/// The first BuildKit that knows `rewrite-timestamp` (its release notes, v0.13.0).
const FIRST: (u64, u64) = (0, 13);
/// How many lines of a build's output are quoted.
const LINES: usize = 25;

/// Why an image could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildxError {
    /// There is no such program.
    #[error("there is no `docker` on this machine")]
    NoDocker,
    /// Docker without its plugin.
    #[error("`docker` has no `buildx`: {0}")]
    NoBuildx(String),
    /// The daemon, or the builder that was chosen, does not answer.
    #[error("no BuildKit answers: {0}")]
    NoDaemon(String),
    /// A builder that keeps to itself what it builds.
    #[error("this builder gives no image out: Docker's own needs the containerd image store for that")]
    NoExport,
    /// One that leaves times in layers.
    #[error(
        "BuildKit {0} leaves the times of files in layers: no two builds would be the same; it needs 0.13"
    )]
    TooOld(String),
    /// What the Dockerfile says does not work out.
    #[error("the build failed:\n{0}")]
    Failed(String),
}

/// What is built.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The Dockerfile's path in the context.
    pub dockerfile: &'a str,
    /// The stage.
    pub target: Option<&'a str>,
    /// Build arguments.
    pub args: &'a BTreeMap<String, String>,
    /// Platforms in the words of OCI, `linux/` in front.
    pub platforms: &'a [String],
    /// Whether nothing may be taken from an earlier build.
    pub renew: bool,
    /// Where the OCI layout is written.
    pub into: &'a Path,
}

/// A builder that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildx {
    /// Its versions, for people.
    pub versions: String,
    /// Whether its version says that it rewrites times; some distributions' do not say which version they are.
    pub known: bool,
}

impl Buildx {
    /// Looks for the builder that `docker buildx` uses, and starts it if need be.
    pub fn find() -> Result<Self, BuildxError> {
        let buildx =
            |args: &[&str]| Program::new("docker").args(["buildx"]).args(args.iter().copied()).limit(START);
        let said = buildx(&["version"]).run().map_err(|error| {
            if error.cause.starts_with("cannot be run") {
                BuildxError::NoDocker
            } else {
                BuildxError::NoBuildx(first_line(said(&error)))
            }
        })?;
        // `github.com/docker/buildx VERSION COMMIT`
        let version = said.split_whitespace().nth(1).unwrap_or("of an unknown version").to_owned();
        let asked = buildx(&["inspect", "--bootstrap"]).run();
        let text = asked.map_err(|error| BuildxError::NoDaemon(first_line(self::said(&error))))?;
        let builder = Inspected::of(&text);
        if let Some(error) = builder.error {
            return Err(BuildxError::NoDaemon(error));
        }
        let number = builder.version.as_deref().and_then(number);
        if number.is_some_and(|number| number < FIRST) {
            return Err(BuildxError::TooOld(builder.version.unwrap_or_default()));
        }
        let of_docker = || {
            let version = Program::new("docker").args(["version", "--format", "{{.Server.Version}}"]).run();
            version.map_or_else(
                |_| "of an unknown version".to_owned(),
                |text| format!("of Docker {}", text.trim()),
            )
        };
        let kit = builder.version.filter(|_| number.is_some()).unwrap_or_else(of_docker);
        Ok(Self { versions: format!("buildx {version}, BuildKit {kit}"), known: number.is_some() })
    }

    /// Builds what `context` writes, a tar archive, into a layout.
    pub fn build(
        &self,
        order: &Order<'_>,
        context: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), BuildxError> {
        let program = Program::new("docker").args(arguments(order)).limit(BUILD).with_us();
        program.feed(context).map(drop).map_err(|error| {
            let said = said(&error);
            if said.contains("OCI exporter is not supported") {
                BuildxError::NoExport
            } else {
                BuildxError::Failed(tail(said))
            }
        })
    }
}

fn arguments(order: &Order<'_>) -> Vec<String> {
    let Order { dockerfile, target, args, platforms, renew, into } = *order;
    // A layout and no archive: each blob has its name before anybody has read it. Attestations would have the time and
    // the machine in them, and stand in an index around the image.
    let output =
        format!("type=oci,tar=false,rewrite-timestamp=true,{}", csv(&format!("dest={}", into.display())));
    let platforms: Vec<_> = platforms.iter().map(|one| format!("linux/{one}")).collect();
    let mut all = ["buildx", "build", "--progress=plain", "--provenance=false", "--sbom=false"]
        .map(str::to_owned)
        .to_vec();
    all.extend(["--file".to_owned(), dockerfile.to_owned()]);
    all.extend(["--platform".to_owned(), platforms.join(",")]);
    all.extend(["--output".to_owned(), output]);
    all.extend(target.into_iter().flat_map(|target| ["--target".to_owned(), target.to_owned()]));
    // Of two the last one counts, so that a Dockerfile's own time can be had.
    all.extend(["--build-arg".to_owned(), EPOCH.to_owned()]);
    for (name, value) in args {
        all.extend(["--build-arg".to_owned(), format!("{name}={value}")]);
    }
    if renew {
        all.extend(["--pull", "--no-cache"].map(str::to_owned));
    }
    all.push("-".to_owned());
    all
}

/// A field of the list that `--output` is (RFC 4180).
fn csv(field: &str) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// What `docker buildx inspect` says of a builder.
#[derive(Debug, Default, PartialEq, Eq)]
struct Inspected {
    version: Option<String>,
    error: Option<String>,
}

impl Inspected {
    fn of(text: &str) -> Self {
        let mut found = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim().to_owned();
            match key.trim() {
                // The first word until buildx 0.12.
                "Buildkit" | "BuildKit version" => drop(found.version.get_or_insert(value)),
                "Error" => drop(found.error.get_or_insert(value)),
                _ => {}
            }
        }
        found
    }
}

/// Major and minor number of `v0.13.2-desktop`; nothing where a distribution left `v0.0.0`.
fn number(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    let number = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (number != (0, 0)).then_some(number)
}

/// What the program itself said.
fn said(error: &HostError) -> &str {
    let cause = error.cause.as_str();
    let Some((_, rest)) = cause.split_once("exit status: ") else { return cause };
    rest.split_once(": ").map_or(cause, |(_, said)| said)
}

fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.trim_start_matches("ERROR: ").to_owned()
}

/// The last lines, in which BuildKit quotes the Dockerfile and what went wrong in it.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(LINES);
    lines[from..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_the_bytes_is_said_to_buildkit() {
        let args = BTreeMap::from([("VERSION".to_owned(), "1 4".to_owned())]);
        let order = Order {
            dockerfile: "docker/Dockerfile",
            target: Some("runtime"),
            args: &args,
            platforms: &["amd64".to_owned(), "arm64".to_owned()],
            renew: false,
            into: Path::new("/tmp/x"),
        };
        let expected = [
            "buildx build --progress=plain --provenance=false --sbom=false --file docker/Dockerfile",
            "--platform linux/amd64,linux/arm64",
            "--output type=oci,tar=false,rewrite-timestamp=true,dest=/tmp/x",
            "--target runtime --build-arg SOURCE_DATE_EPOCH=0 --build-arg VERSION=1 4 -",
        ];
        assert_eq!(arguments(&order).join(" "), expected.join(" "));
        let renewed = arguments(&Order { renew: true, target: None, ..order }).join(" ");
        assert!(renewed.ends_with("--build-arg VERSION=1 4 --pull --no-cache -"), "{renewed}");
        let odd = arguments(&Order { into: Path::new("/a,\"b"), ..order }).join(" ");
        assert!(odd.contains(r#"timestamp=true,"dest=/a,""b" --"#), "{odd}");
    }

    #[test]
    fn a_builder_is_understood_whatever_its_age() {
        let new = "Name:   default\nDriver: docker\n\nNodes:\nName:             default\nStatus:           running\n\
                   BuildKit version: v0.0.0+unknown\nPlatforms:        linux/amd64\n";
        assert_eq!(Inspected::of(new).version.as_deref(), Some("v0.0.0+unknown"));
        assert_eq!(Inspected::of("Nodes:\nBuildkit:  v0.12.5\n").version.as_deref(), Some("v0.12.5"));
        let dead = "Name:          default\nDriver:        \nError:         Cannot connect to the Docker daemon at \
                    unix:///var/run/docker.sock. Is the docker daemon running?\n";
        assert!(Inspected::of(dead).error.unwrap().ends_with("docker.sock. Is the docker daemon running?"));
        for (text, expected) in [
            ("v0.13.2", Some((0, 13))),
            ("v0.12.5-desktop", Some((0, 12))),
            ("1.2", Some((1, 2))),
            ("v0.0.0+unknown", None),
            ("unknown", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn only_the_end_of_what_a_build_said_is_quoted() {
        let long = (0..100).map(|nth| format!("#4 line {nth}\n\n")).collect::<Vec<_>>().concat();
        let error = HostError::new("`docker`", format!("ended with exit status: 1: {long}ERROR: failed: no"));
        let tail = tail(said(&error));
        assert!(tail.starts_with("    #4 line 76\n") && tail.ends_with("ERROR: failed: no"), "{tail}");
        let plugin =
            "ended with exit status: 1: docker: 'buildx' is not a docker command.\nSee 'docker --help'";
        assert_eq!(
            first_line(said(&HostError::new("", plugin))),
            "docker: 'buildx' is not a docker command."
        );
        assert_eq!(said(&HostError::new("", "did not end within 3 s")), "did not end within 3 s");
    }
}
