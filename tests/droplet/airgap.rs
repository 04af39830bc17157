//! A machine that reaches no registry at all: bundle, activator and images come in a directory, and real Docker loads them.

use std::time::Duration;

use crate::serving::{TOKEN, await_processed, circumstances, post};
use crate::site::Site;

const OUT: &str = "/root/out";

#[test]
fn a_directory_with_everything_in_it_is_released_without_any_registry() {
    let mut site = Site::open();
    let digest = site.publish("");
    let pushed = site.bundle(&[
        "--root",
        "/root/builder",
        "push",
        "/root/site/droplet.toml",
        "--layout",
        OUT,
        "--with-images",
    ]);
    assert_eq!(pushed.code, 0, "{pushed:?}");
    site.registry.stop();
    assert_eq!(site.droplet.sh("docker images --quiet"), "", "nothing is there beforehand");
    site.droplet.feed(&["bundle", "secrets", "set", "telegram_bot_token"], TOKEN.as_bytes());
    let switched = site.bundle(&["switch", &format!("oci:{OUT}")]);
    assert_eq!(switched.code, 0, "{switched:?}\n{}", circumstances(&site.droplet));
    let current = site.bundle(&["status", "--json"]);
    assert!(current.out.contains(digest.strip_prefix("sha256:").unwrap_or(&digest)), "{}", current.out);
    let door = site.door();
    let message = post(&door, 1).unwrap();
    await_processed(&door, message, Duration::from_mins(1));
    println!("{}", site.droplet.sh("docker images --digests; du -sh /root/out"));
}
