//! A container image small enough for tests: one static busybox, nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::slot::stdout;

/// Makes an OCI image layout in `dir/layout` with one image under `tag`, which runs `cmd` (a program of busybox
/// and its arguments), and gives the layout's path. Layers and times are umoci's: two calls give two digests.
pub(crate) fn tiny(dir: &Path, tag: &str, cmd: &[&str]) -> PathBuf {
    let layout = dir.join("layout");
    let image = format!("{}:{tag}", layout.display());
    let busybox = stdout(Command::new("sh").args(["-c", "command -v busybox"]));
    if !layout.exists() {
        stdout(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    }
    stdout(Command::new("umoci").args(["new", "--image", &image]));
    stdout(Command::new("umoci").args(["insert", "--image", &image, busybox.trim(), "/bin/busybox"]));
    let mut config = Command::new("umoci");
    config.args(["config", "--image", &image, "--config.entrypoint", "/bin/busybox"]);
    for word in cmd {
        config.args(["--config.cmd", word]);
    }
    stdout(&mut config);
    layout
}

/// The image `tag` of an OCI layout as `docker load` wants it, under the name `name`.
pub(crate) fn archive(layout: &Path, tag: &str, name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image.tar");
    let to = format!("docker-archive:{}:{name}", file.display());
    let from = format!("oci:{}:{tag}", layout.display());
    stdout(Command::new("skopeo").args(["copy", "--quiet", "--insecure-policy", &from, &to]));
    fs::read(file).unwrap()
}
