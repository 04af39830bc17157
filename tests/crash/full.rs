//! The disk runs full in the middle of a switch: going back needs no byte and no inode.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::machine::{Machine, Run, program};
use crate::scene::Scene;
use crate::settled::assert_settled;

/// Runs the arguments with the machine on a small file system of its own, in a mount namespace that ends with it; what
/// is on it afterwards is copied to where it was before. `run` is another file system, as it is on every machine.
const ON_A_SMALL_DISK: &str = r#"
set -eu
root=$1; small=$2; program=$3; shift 3
mount -t tmpfs -o size=72m,nr_inodes=4096 small "$small"
cp -a "$root/." "$small"
rm -rf "$root" "$small/run"
mkdir "$small/run"
mount -t tmpfs run "$small/run"
cp -a "$small/../run/." "$small/run"
if [ -n "${FULL:-}" ]; then
    mkdir "$small/fill"
    dd if=/dev/zero of="$small/fill/bytes" bs=4096 2>/dev/null || :
fi
code=0
"$program" --root "$small" "$@" || code=$?
rm -rf "$small/fill"
cp -a "$small" "$root"
exit $code
"#;

fn on_a_small_disk(machine: &Machine, arguments: &[&str]) -> Run {
    Run::of(&mut small_disk(machine, arguments))
}

fn small_disk(machine: &Machine, arguments: &[&str]) -> Command {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root may mount: run this test as root, or in a namespace"
    );
    let beside = machine.root().parent().unwrap();
    let small = beside.join("small");
    std::fs::create_dir(&small).unwrap();
    let copied = Command::new("cp").args(["-a"]).arg(machine.path("run")).arg(beside.join("run")).status();
    assert!(copied.unwrap().success());
    let script = |path: &Path| path.display().to_string();
    let words = ["--mount", "--propagation", "private", "sh", "-c", ON_A_SMALL_DISK, "sh"].map(str::to_owned);
    let places = [script(machine.root()), script(&small), script(&program())];
    let mut command = Command::new("unshare");
    command.args(words).args(places).args(arguments);
    command
}

#[test]
fn going_back_needs_no_byte_and_no_inode() {
    let scene = Scene::switch();
    // What fills the disk only after the ballast was given back is not withstood.
    let effects = scene.effects_before_commit();
    let mut noticed = 0;
    for number in 1..=effects {
        let machine = scene.machine();
        machine.script(&json!({ "fill_at": number, "red": ["service clock in green"] }));
        let run = on_a_small_disk(&machine, &scene.arguments());
        machine.mend();
        noticed += usize::from(run.stderr.contains("No space left"));
        assert_eq!(run.code, 30, "full at effect {number}: {}", run.stderr);
        assert_settled(&machine, &format!("full at effect {number}"));
        assert_eq!(machine.bundle(), scene.old);
    }
    println!("full disk: went back {effects} times, {noticed} times for want of space");
    assert!(noticed > 5, "{noticed}");
}

#[test]
fn without_what_was_set_aside_that_test_would_fail() {
    let scene = Scene::switch();
    let machine = scene.machine();
    machine.script(&json!({ "fill_at": 5, "take_ballast": true, "red": ["service clock in green"] }));
    let run = on_a_small_disk(&machine, &scene.arguments()).ends(31).says(&["No space left"]);
    machine.mend();
    scene.settles(&machine, &run, "once there is room again");
}

#[test]
fn an_operator_can_go_back_on_a_disk_that_was_full_before() {
    let scene = Scene::rollback();
    let machine = scene.machine();
    Run::of(small_disk(&machine, &scene.arguments()).env("FULL", "1")).ends(0);
    assert_settled(&machine, "gone back on a full disk");
    assert_eq!(machine.bundle(), scene.new);
}

#[test]
fn nobody_goes_forward_on_a_full_disk() {
    let scene = Scene::switch();
    let machine = scene.machine();
    Run::of(small_disk(&machine, &scene.arguments()).env("FULL", "1")).ends(20);
    assert_eq!(machine.bundle(), scene.old);
}
