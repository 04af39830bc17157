//! The harness itself: what it promises to the other tests.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::droplet::Droplet;
use crate::image;
use crate::machine::{Machine, Size, Snapshot, boot};
use crate::registry::Registry;
use crate::seed::Options;
use crate::slot::{describe, output, owner, places, stdout, sweep};
use crate::traces::{Traces, namespaces, namespaces_of_this_test};

#[test]
fn a_droplet_keeps_its_disk_and_its_containers_through_a_loss_of_power() {
    let dir = tempfile::tempdir().unwrap();
    let layout = image::tiny(dir.path(), "1", &["sleep", "1000000"]);
    let mut droplet = Droplet::boot(&Options::default().seed("/root/seed", 0o640, "seeded"));
    eprintln!("booted in {:?}", droplet.boot_time());
    assert!(droplet.boot_time() < Duration::from_secs(30), "booting took {:?}", droplet.boot_time());

    assert_eq!(droplet.sh("cat /root/seed; stat -c %a,%U /root/seed /root"), "seeded640,root\n700,root\n");
    assert_eq!(
        droplet.run_ok(&["docker", "info", "--format", "{{.Driver}} {{.CgroupVersion}}"]),
        "overlay2 2\n"
    );
    droplet.sh("echo 1 >/proc/sys/net/ipv4/ip_forward; systemctl is-active docker haproxy ssh; docker compose version");
    droplet.feed(&["docker", "load"], &image::archive(&layout, "1", "tiny:1"));
    droplet.sh("docker run -d --name kept --restart unless-stopped tiny:1");
    droplet.sh("docker run -d --name lost tiny:1");
    droplet.sh("sync");

    droplet.kill();
    droplet.boot_again();
    eprintln!("booted again in {:?}", droplet.boot_time());
    let running =
        "for i in $(seq 100); do docker ps --format '{{.Names}}' | grep . && exit; sleep 0.1; done; exit 1";
    assert_eq!(droplet.sh(running), "kept\n");

    droplet.sh("systemctl reboot");
    droplet.wait_down();
    droplet.boot_again();
    assert_eq!(droplet.sh(running), "kept\n");
}

#[test]
fn a_droplet_pulls_from_the_registry_by_digest_and_only_with_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let layout = image::tiny(dir.path(), "1", &["echo", "hello"]);
    let store = tempfile::tempdir().unwrap();
    let mut registry = Registry::start(store.path());
    let digest = registry.push_image(&layout, "1", "team/tiny");
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(index.contains(&digest), "{digest} is not in {index}");

    let droplet = Droplet::boot(&Options::default().seeds(registry.seeds()));
    let reference = format!("{}/team/tiny@{digest}", registry.host_port());
    droplet.run_ok(&["docker", "pull", &reference]);
    assert_eq!(droplet.run_ok(&["docker", "run", "--rm", &reference]), "hello\n");

    droplet.sh("docker system prune -af; mv /root/.docker/config.json /root/config.json");
    let refused = droplet.run(&["docker", "pull", &reference]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no basic auth credentials"), "{refused:?}");

    droplet.sh("mv /root/config.json /root/.docker/");
    registry.stop();
    let refused = droplet.run(&["docker", "pull", &reference]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("connection refused"), "{refused:?}");
    registry.start_again();
    droplet.run_ok(&["docker", "pull", &reference]);

    // The registry's authority is one that curl can be given, and the name in its certificate is right.
    droplet.write_file("/root/ca.pem", registry.ca_pem().as_bytes(), 0o600);
    let login = format!("{}:{}", registry.user(), registry.password());
    let url = format!("https://{}/v2/team/tiny/tags/list", registry.host_port());
    let tags = droplet.run_ok(&["curl", "-sSf", "--cacert", "/root/ca.pem", "-u", &login, &url]);
    assert_eq!(tags.trim(), r#"{"name":"team/tiny","tags":["1"]}"#);
}

#[test]
fn a_registry_may_be_open_to_all_and_its_certificate_may_be_of_another_year() {
    let dir = tempfile::tempdir().unwrap();
    let layout = image::tiny(dir.path(), "1", &["true"]);
    let store = tempfile::tempdir().unwrap();
    let mut registry = Registry::start_open(store.path());
    registry.push_image(&layout, "1", "team/tiny");
    registry.age("+2 years");
    let ca = store.path().join("trust/ca.crt");
    let url = format!("https://{}/v2/team/tiny/tags/list", registry.loopback());
    let curl = |program: &mut Command| output(program.args(["-sSf", "--cacert"]).arg(&ca).arg(&url));
    let now = curl(&mut Command::new("curl"));
    assert!(String::from_utf8_lossy(&now.stderr).contains("not yet valid"), "{now:?}");
    let then = curl(Command::new("faketime").args(["-f", "+731d", "curl"]));
    assert!(then.status.success(), "{then:?}");
    registry.age("-1 days");
    assert_eq!(
        registry.get("/v2/team/tiny/tags/list").unwrap().trim(),
        r#"{"name":"team/tiny","tags":["1"]}"#
    );
}

#[test]
fn a_droplet_obeys_its_user_data() {
    let seed = "/var/lib/cloud/seed/nocloud";
    let user_data = "#cloud-config\nwrite_files: [{path: /srv/written, content: by cloud-init}]\nruncmd: [touch /srv/ran]\n";
    let options = Options::default().seed(format!("{seed}/meta-data"), 0o644, "instance-id: one\n").seed(
        format!("{seed}/user-data"),
        0o644,
        user_data,
    );
    let droplet = Droplet::boot(&options);
    eprintln!("booted in {:?}", droplet.boot_time());
    droplet.run(&["cloud-init", "status", "--wait"]);
    let said = droplet.sh("cloud-init status; cat /srv/written; test -e /srv/ran");
    assert_eq!(said, "status: done\nby cloud-init");
}

#[test]
fn a_droplet_gives_services_what_they_have_on_a_machine() {
    let droplet = Droplet::boot(&Options::default().seed("/etc/secret", 0o600, "hush"));
    assert_eq!(droplet.sh("systemctl is-system-running"), "running\n");
    let service = "systemd-run --quiet --wait --pipe -p DynamicUser=yes -p ProtectSystem=strict -p PrivateDevices=yes \
                   -p PrivateTmp=yes -p SystemCallFilter=@system-service -p LoadCredential=secret:/etc/secret \
                   cat '${CREDENTIALS_DIRECTORY}/secret'";
    assert_eq!(droplet.sh(service), "hush");
    droplet.sh("nft add table inet own; nft list tables | grep -x 'table inet own'");
    droplet.sh("mkdir /run/secrets; mount -t ramfs -o mode=700 ramfs /run/secrets");
    // Nothing of the host's is to be had.
    droplet.sh("! date --set 2020-01-01 && ! sysctl -w kernel.pid_max=1000 && ! test -e /dev/kmsg");
    assert!(droplet.run_ok(&["date", "+%Y"]).trim() > "2020");
}

#[test]
fn packets_reach_a_droplet_over_both_protocols_and_files_arrive_whole() {
    let droplet = Droplet::boot(&Options::default());
    assert!(accepts((droplet.addr(), 22).into()));
    assert!(accepts((droplet.addr6(), 22).into()));
    assert!(!accepts((droplet.addr(), 23).into()));
    droplet.sh("ping -c1 -W2 registry.test");

    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    fs::create_dir(dir.path().join("below")).unwrap();
    fs::write(dir.path().join("below/file"), &bytes).unwrap();
    droplet.copy_in(dir.path(), "/srv/whole");
    droplet.copy_in(&dir.path().join("below/file"), "/srv/deep/er/one");
    droplet.write_file("/srv/other", &bytes, 0o640);
    droplet.sh("cmp /srv/whole/below/file /srv/deep/er/one; cmp /srv/other /srv/deep/er/one");
    assert_eq!(droplet.sh("stat -c %a /srv/other"), "640\n");

    let failed = droplet.run(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(
        (failed.status.code(), &*failed.stdout, &*failed.stderr),
        (Some(3), &b"out\n"[..], &b"err\n"[..])
    );
}

#[test]
fn a_droplet_leaves_no_trace_when_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let layout = image::tiny(dir.path(), "1", &["sleep", "1000000"]);
    let droplet = Droplet::boot(&Options::default());
    droplet.feed(&["docker", "load"], &image::archive(&layout, "1", "tiny:1"));
    droplet.sh("docker run -d tiny:1");
    // One that was not started by systemd, hence is not in the droplet's cgroup.
    droplet.sh("setsid sleep 1000000 >/dev/null 2>&1 &");
    let traces = Traces::of(&droplet);
    assert!(traces.found().len() > 10, "the droplet is not seen: {:?}", traces.found());
    drop(droplet);
    traces.are_gone();
}

#[test]
fn a_droplet_leaves_no_trace_when_its_test_is_killed() {
    let name = "selftest::a_droplet_leaves_no_trace_when_its_test_is_killed";
    if std::env::var_os("BUNDLE_TEST_VICTIM").is_some() {
        let droplet = Droplet::boot(&Options::default());
        droplet.sh("setsid sleep 1000000 >/dev/null 2>&1 &");
        let slot = droplet.slot();
        // In the slot's directory, for the warden to remove.
        let store = slot.state.join("registry");
        fs::create_dir(&store).unwrap();
        let registry = Registry::start(&store);
        let (number, warden, pid) = (slot.number, slot.warden_pid(), droplet.pid());
        println!("\nbooted {number} {warden} {pid} {} {}", slot.state.display(), registry.loopback());
        sleep(Duration::from_mins(10));
        panic!("nobody killed this test");
    }
    for with_warden in [false, true] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env("BUNDLE_TEST_VICTIM", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.into_iter().find(|line| line.starts_with("booted ")).expect("the victim boots");
        let words: Vec<&str> = line.split(' ').collect();
        let number: u8 = words[1].parse().unwrap();
        let init = words[3];
        let traces = Traces {
            number,
            owner: owner(number),
            state: words[4].into(),
            cgroup: cgroup_of(init),
            wire: format!("bundle{number}"),
            namespaces: namespaces(init).difference(&namespaces_of_this_test()).cloned().collect(),
        };
        assert!(traces.found().len() > 10, "the droplet is not seen: {:?}", traces.found());
        let registry: SocketAddr = words[5].parse().unwrap();
        assert!(accepts(registry));
        if with_warden {
            kill_process(Pid::from_raw(words[2].parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        if with_warden {
            // Any test that boots a droplet just now may get there first.
            sweep();
        }
        traces.are_gone();
        assert!(!accepts(registry), "the registry outlives its test");
    }
}

fn accepts(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, Duration::from_secs(2)).is_ok()
}

/// The directory of the slot's cgroup, two levels above PID 1's own (`init.scope`).
fn cgroup_of(pid: &str) -> PathBuf {
    let found =
        output(Command::new("find").args(["/sys/fs/cgroup", "-maxdepth", "2", "-name", "bundle-test-*"]));
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let all = String::from_utf8_lossy(&found.stdout).into_owned();
    let own = all
        .lines()
        .find(|dir| cgroups.contains(&format!("{}/", Path::new(dir).file_name().unwrap().display())));
    PathBuf::from(own.expect("the droplet has a cgroup"))
}

const USER_DATA: &str = "#cloud-config\npackages: [nftables]\nruncmd: [echo ran >/srv/ran]\n";

/// What every size of machine does with a first boot.
fn installs_from_the_mirror_alone(machine: &dyn Machine) {
    let began = Instant::now();
    let ended = machine.first_boot(machine.patience(120));
    println!("answers after {:.1?}, first boot done {:.1?} later", machine.boot_time(), began.elapsed());
    assert!(ended.status.success(), "{}\n{}", describe("cloud-init", &ended), machine.complaints());
    assert_eq!(machine.sh("nft --version | cut -d' ' -f1; cat /srv/ran; hostname"), {
        format!("nftables\nran\ndroplet-{}\n", machine.slot().number)
    });
    // The signatures were checked, and there is no other way out.
    machine.sh(
        "apt-get update --error-on=any && ! ping -c1 -W1 1.1.1.1 && ! curl -sS --max-time 5 http://1.1.1.1/",
    );
    let other_key = "sed -i 's,^deb ,deb [signed-by=/dev/null] ,' /etc/apt/sources.list";
    machine.sh(&format!("{other_key}; ! apt-get update --error-on=any"));
}

/// A real `ssh` gets in with the key, as root and as the account with `sudo`.
fn lets_in_by_ssh(machine: &dyn Machine) {
    for user in ["root", machine.account()] {
        let said = stdout(&mut machine.login(user).command("sudo -n id -un; id -un"));
        assert_eq!(said, format!("root\n{user}\n"));
    }
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(config.path(), machine.login("root").config("web1")).unwrap();
    assert_eq!(
        stdout(Command::new("ssh").arg("-F").arg(config.path()).args(["web1", "id", "-un"])),
        "root\n"
    );
}

/// A machine that starts from a snapshot is a new one, with the disk of the old.
fn starts_again_from(snapshot: &Snapshot, size: Size) {
    let user_data = "#cloud-config\nruncmd: [date +%Y >/srv/ran]\n";
    let again =
        boot(size, &Options::stock(user_data).from(snapshot).memory(1024).clock("2030-01-01T00:00:00"));
    println!("answers, from the snapshot, after {:.1?}", again.boot_time());
    assert!(again.first_boot(again.patience(120)).status.success(), "{}", again.complaints());
    let ran = again.sh("command -v nft; cat /srv/ran");
    // Namespaces have no clock of their own.
    assert_eq!(ran.contains("2030"), size == Size::Virtual, "{ran}");
    assert!(ran.starts_with("/usr/sbin/nft\n2"), "{ran}");
}

#[test]
fn a_stock_droplet_installs_packages_from_the_mirror_at_its_first_boot() {
    let mut droplet = boot(Size::Namespaces, &Options::stock(USER_DATA));
    installs_from_the_mirror_alone(&*droplet);
    lets_in_by_ssh(&*droplet);
    let snapshot = droplet.snapshot();
    starts_again_from(&snapshot, Size::Namespaces);
    droplet.boot_again();
    droplet.reboot();
    assert_eq!(droplet.sh("cat /srv/ran"), "ran\n");
}

#[test]
fn a_virtual_machine_is_a_droplet_with_a_kernel_of_its_own() {
    let mut vm = boot(Size::Virtual, &Options::stock(USER_DATA));
    installs_from_the_mirror_alone(&*vm);
    lets_in_by_ssh(&*vm);
    let controllers = vm.sh("cat /sys/fs/cgroup/cgroup.controllers");
    for controller in ["cpu", "memory", "pids"] {
        assert!(controllers.split_whitespace().any(|word| word == controller), "{controllers}");
    }
    assert!(accepts((vm.addr(), 22).into()) && accepts((vm.addr6(), 22).into()));

    vm.sh("echo synced >/srv/synced; sync");
    vm.cut_power();
    vm.boot_again();
    println!("answers, after a loss of power, after {:.1?}", vm.boot_time());
    assert_eq!(vm.sh("cat /srv/synced /srv/ran"), "synced\nran\n");
    let snapshot = vm.snapshot();
    drop(vm);
    starts_again_from(&snapshot, Size::Virtual);
}

#[test]
fn a_virtual_machine_leaves_no_trace_when_its_test_is_killed() {
    let name = "selftest::a_virtual_machine_leaves_no_trace_when_its_test_is_killed";
    if std::env::var_os("BUNDLE_TEST_VICTIM").is_some() {
        let vm = boot(Size::Virtual, &Options::stock("#cloud-config\n{}\n"));
        panic!("nobody killed this test within {:?}", vm.boot_time());
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("BUNDLE_TEST_VICTIM", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line =
        lines.into_iter().find(|line| line.contains(": disk ready")).expect("the victim says its number");
    let number: u8 = line.rsplit("vm ").next().unwrap().split(':').next().unwrap().parse().unwrap();
    let (state, cgroup) = places(number);
    let console = state.join("serial.log");
    // The kernel has spoken.
    while fs::metadata(&console).map_or(0, |log| log.len()) == 0 {
        sleep(Duration::from_millis(100));
    }
    let traces = Traces {
        number,
        owner: owner(number),
        state,
        cgroup,
        wire: format!("bundle{number}"),
        namespaces: BTreeSet::new(),
    };
    let found = traces.found().join("\n");
    for part in ["directory", "link", "qemu-system-x86", "busybox"] {
        assert!(found.contains(part), "{part} is not seen: {found}");
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    traces.are_gone();
}
