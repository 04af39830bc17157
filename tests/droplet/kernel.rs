//! What only a machine with a kernel of its own can show: the first boot with nothing of this machine in it, the limits
//! of containers, a disk that keeps what was written when the power goes.

use crate::builder::Builder;
use crate::first_boot::{boot_to_generation_one, posts};
use crate::life::{a_reboot_changes_nothing, killed_services_come_back};
use crate::machine::{Machine, Size};
use crate::outside::{DECLARED, all_ports, publish_by_mistake};
use crate::power::{Releases, cuts};
use crate::serving::{await_healthy, release};

/// Containers of the shipped production profile in the first slot: memory in bytes, processor time in microseconds of
/// every 100,000, processes.
const LIMITS: &[(&str, u64, u64, u64)] = &[
    ("postgres", 1280 << 20, 100_000, 256),
    ("redis", 448 << 20, 50_000, 64),
    ("backend-blue", 512 << 20, 100_000, 256),
    ("worker-blue", 384 << 20, 50_000, 128),
];

#[test]
fn a_virtual_machine_boots_by_itself_and_keeps_its_promises() {
    let builder = Builder::new(Size::Virtual);
    let (mut machine, start) = boot_to_generation_one(&builder, Size::Virtual);
    posts(&*machine, 1);
    start.tell("what was posted through 443 is in Postgres");
    limits_are_the_kernels(&*machine);
    start.tell("every container has its limits");
    killed_services_come_back(&*machine);
    start.tell("every service that was killed is back");
    a_reboot_changes_nothing(&mut *machine);
    start.tell("rebooted");
    // What follows takes an emulated machine longer than all before: three minutes for each loss of power. Namespaces show
    // the ports, and losses of all processes, in every run.
    if std::env::var_os("BUNDLE_EXHAUSTIVE").is_some() {
        seen_from_outside(&*machine);
        start.tell("seen from outside");
        let first = builder.publish("");
        let releases = Releases { digests: [first, builder.publish(&release("b", ""))], options: Vec::new() };
        cuts(&mut *machine, releases, 10, false);
        start.tell("robbed of its power");
    }
}

/// What the profile declares is open and nothing else, although containers publish ports by mistake.
fn seen_from_outside(machine: &dyn Machine) {
    publish_by_mistake(machine);
    all_ports(machine, DECLARED, "with mistakes");
    machine.sh("systemctl restart docker");
    all_ports(machine, DECLARED, "after a restart of Docker");
    await_healthy(machine, machine.patience(30));
    machine.sh("docker rm --force mistake mistaken; docker network rm six");
}

/// The limits of the profile are those of the kernel, and they hold.
fn limits_are_the_kernels(machine: &dyn Machine) {
    for (container, memory, cpu, processes) in LIMITS {
        let script = format!(
            "cd /sys/fs/cgroup/bundle.slice/bundle-app.slice/docker-$(docker inspect --format '{{{{.Id}}}}' {container}).scope; \
             cat memory.max cpu.max pids.max"
        );
        let found = machine.sh(&script);
        assert_eq!(found, format!("{memory}\n{cpu} 100000\n{processes}\n"), "{container}");
    }
    let python = |container: &str, program: &str| {
        machine.run(&["docker", "exec", container, "python3", "-c", program]).status.code()
    };
    // 137: killed by the kernel; whoever wants too much is the one that dies.
    assert_eq!(python("backend-blue", "bytearray(700 << 20)"), Some(137));
    let forks = "import os, time\ntry:\n  for _ in range(200):\n    if os.fork() == 0: time.sleep(5); os._exit(0)\n\
                 except BlockingIOError: os._exit(7)";
    assert_eq!(python("worker-blue", forks), Some(7));
}
