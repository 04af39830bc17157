//! Images of Dockerfiles, built by a real BuildKit: the same digest from empty caches, what is locked, what is sent, and
//! what is said where there is nothing to build with.

use std::fs;

use tempfile::TempDir;

use crate::droplet::Droplet;
use crate::image;
use crate::registry::Registry;
use crate::seed::Options;
use crate::site::program;

const PROFILE: &str = concat!(
    include_str!("../support/web.toml"),
    r#"
[images.web]
dockerfile = "docker/Dockerfile"
context = { from = "app", exclude = ["**/*.log"] }
target = "runtime"
args = { GREETING = "good morning" }
[images.tool]
dockerfile = "tool/Dockerfile"
platforms = ["linux/amd64", "linux/arm64"]
"#
);

/// A stage that runs something with the machine's clock, and another that takes files from it and from the context.
const DOCKERFILE: &str = r#"
FROM HOST/base@DIGEST AS build
ARG GREETING
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox mkdir -p /made && echo $GREETING >/made/greeting"]
FROM HOST/base@DIGEST AS runtime
COPY --from=build /made /made
COPY . /app
ENTRYPOINT ["/bin/busybox", "cat", "/made/greeting", "/app/page", "/app/sub/more"]
CMD []
FROM scratch AS other
"#;

/// A machine with Docker, its containerd image store on, and a project whose image is built on one of a registry.
struct Room {
    droplet: Droplet,
    registry: Registry,
    _dir: TempDir,
}

impl Room {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("registry")).unwrap();
        let registry = Registry::start(&dir.path().join("registry"));
        let base = registry.push_image(&image::tiny(dir.path(), "1", &["true"]), "1", "base");
        let filled = |text: &str| text.replace("HOST", &registry.host_port()).replace("DIGEST", &base);
        let options = Options::default()
            .seeds(registry.seeds())
            .seed("/etc/docker/daemon.json", 0o644, r#"{"features":{"containerd-snapshotter":true}}"#)
            .seed("/root/shop/p.toml", 0o644, filled(PROFILE))
            .seed("/root/shop/docker/Dockerfile", 0o644, filled(DOCKERFILE))
            .seed("/root/shop/tool/Dockerfile", 0o644, "FROM scratch\nCOPY Dockerfile /\n")
            .seed("/root/shop/app/page", 0o644, "hello\n")
            .seed("/root/shop/app/sub/more", 0o644, "more\n");
        let droplet = Droplet::boot(&options);
        let program = program();
        println!("dockerfile: the program is {}", program.display());
        droplet.copy_in(&program, "/usr/local/bin/bundle");
        let room = Self { droplet, registry, _dir: dir };
        room.docker();
        room
    }

    /// Waits for Docker, which may give up on a busy machine and is started again then.
    fn docker(&self) {
        let wait = "for i in $(seq 300); do docker info >/dev/null 2>&1 && exit; sleep 0.2; done
                    journalctl --no-pager -u docker -u containerd; exit 1";
        self.droplet.sh(wait);
    }

    /// What a person types in the project, with a cache of this name: exit code, result, what was said.
    fn bundle(&self, cache: &str, words: &str) -> (i32, String, String) {
        let script = format!("cd /root/shop; exec bundle --root /root/{cache} {words}");
        let output = self.droplet.run(&["sh", "-c", &script]);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout).trim().to_owned(), text(output.stderr))
    }

    #[track_caller]
    fn done(&self, cache: &str, words: &str) -> (String, String) {
        let (code, result, said) = self.bundle(cache, words);
        assert_eq!(code, 0, "{words}: {result}\n{said}");
        (result, said)
    }

    #[track_caller]
    fn refused(&self, cache: &str, words: &str, expected: &[&str]) {
        let (code, result, said) = self.bundle(cache, words);
        assert!(code != 0 && result.is_empty(), "{words}: {result}\n{said}");
        for expected in expected {
            assert!(said.contains(expected), "{words}: no `{expected}` in\n{said}");
        }
    }

    fn locked(&self, key: &str) -> String {
        let lock = self.droplet.sh("cat /root/shop/bundle.lock");
        let (_, entry) = lock.split_once("[dockerfiles.web]\n").unwrap();
        let line = entry.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
        line.unwrap_or_else(|| panic!("{lock}")).trim_matches('"').to_owned()
    }
}

#[test]
fn an_image_of_a_dockerfile_is_the_same_from_empty_caches_and_goes_where_its_bundle_goes() {
    let room = Room::open();
    let (said, told) = room.done("one", "lock p.toml");
    assert!(!told.contains("note: "), "times are rewritten, whatever the version is: {told}");
    let (digest, inputs) = (room.locked("digest"), room.locked("inputs"));
    assert!(said.contains(&format!("web {digest}")), "{said}");
    println!("dockerfile: built by {}", room.locked("builder"));
    let (code, _, _) = room.bundle("one", "lock p.toml");
    assert_eq!(code, 10, "nothing to do");
    let (tool, _) = room.done("one", "image p.toml tool --layout /root/tool");
    assert!(said.contains(&format!("tool {tool}")), "{said}");
    let index = room.droplet.sh(&format!("cat /root/tool/blobs/sha256/{}", &tool["sha256:".len()..]));
    assert!(index.contains("amd64") && index.contains("arm64"), "an index of two: {index}");
    room.done("one", "verify oci:/root/tool:tool");

    // Other times and modes on disk, another time of day, nothing left of the first build.
    room.droplet.sh(
        "docker builder prune --all --force; cp /root/shop/bundle.lock /root/first.lock; rm /root/shop/bundle.lock
         touch -d 2001-02-03 /root/shop/app/page; chmod 600 /root/shop/app/sub/more; echo noise >/root/shop/app/a.log",
    );
    room.done("two", "lock p.toml");
    assert_eq!(room.droplet.sh("cat /root/shop/bundle.lock"), room.droplet.sh("cat /root/first.lock"));

    // From here on nothing is built: a build, a push and all that comes after need no Docker.
    room.droplet.sh("systemctl stop docker.service docker.socket");
    let (bundle, _) = room.done("two", "build --check p.toml");
    assert_eq!(room.done("three", "build p.toml").0, bundle, "the cache is not an input");
    let nowhere = format!("the image `web` ({digest}) is neither in the cache here nor in");
    room.refused("three", "push p.toml", &[&nowhere, "bundle lock PROFILE --update web"]);
    let (_, said) = room.done("two", "push p.toml");
    assert!(said.contains("image web: "), "{said}");
    let (_, said) = room.done("three", "push p.toml --again");
    assert!(said.contains("image web is already in"), "{said}");
    assert_eq!(room.done("three", "image p.toml web --layout /root/fetched").0, digest);
    let (_, said) = room.done("three", "verify p.toml --rebuild");
    assert!(said.contains("compared with the lock and not built again"), "{said}");

    // A change of the sources is nobody's surprise.
    room.droplet.sh("echo changed >/root/shop/app/page");
    room.refused("two", "build p.toml", &["the image `web` is not what the lock says", "run `bundle lock"]);
    room.refused("two", "push p.toml", &["has changed since it was locked"]);
    room.droplet.sh("systemctl start --no-block docker.socket docker.service");
    room.docker();
    let reference = format!("{}/team/app@{digest}", room.registry.host_port());
    let runs = format!("docker run --rm --network none {reference}");
    assert_eq!(room.droplet.sh(&runs), "good morning\nhello\nmore\n");
    room.done("two", "lock p.toml");
    assert!(room.locked("digest") != digest && room.locked("inputs") != inputs);
    assert_ne!(room.done("two", "build p.toml").0, bundle);
    room.droplet.sh("echo hello >/root/shop/app/page");
    room.done("two", "lock p.toml");
    assert_eq!(room.locked("digest"), digest, "and back again");
}

#[test]
fn whoever_cannot_build_is_told_why_and_what_to_do() {
    let room = Room::open();
    room.droplet.sh("sed -i 's|^COPY . /app|COPY nothing /app|' /root/shop/docker/Dockerfile");
    let words = ["the image `web` cannot be built", ">>> COPY nothing /app", "\"/nothing\": not found"];
    room.refused("one", "lock p.toml", &words);
    room.droplet.sh("sed -i 's|^target = .*|target = \"away\"|' /root/shop/p.toml");
    room.refused("one", "lock p.toml", &["target stage \"away\" could not be found"]);

    room.droplet.sh("echo '{}' >/etc/docker/daemon.json; systemctl stop docker.service");
    room.droplet.sh("systemctl start --no-block docker.service");
    room.docker();
    room.refused(
        "one",
        "lock p.toml",
        &["containerd image store", "containerd-snapshotter", "buildx create"],
    );
    room.droplet.sh("systemctl stop docker.service docker.socket");
    room.refused("one", "lock p.toml", &["no BuildKit answers", "systemctl start docker"]);
    room.droplet.sh("rm /usr/libexec/docker/cli-plugins/docker-buildx");
    room.refused("one", "lock p.toml", &["`docker` has no `buildx`", "apt-get install docker-buildx"]);
    room.droplet.sh("rm /usr/bin/docker");
    room.refused(
        "one",
        "lock p.toml",
        &["there is no `docker` on this machine", "apt-get install docker.io"],
    );
    assert!(!room.droplet.run(&["test", "-e", "/root/shop/bundle.lock"]).status.success());
}
