//! Namespaces and the wires between them.
//!
//! ```text
//!   public ── eth0  machine  eth1 ── vpc
//!                     br-app ── container
//! ```

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

/// One network namespace, held by a process that waits for the end of its input.
#[derive(Debug)]
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", "echo; exec cat"]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It has moved when it says something.
        let mut line = [0];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
        let namespace = Self { holder };
        namespace.sh(
            "ip link set lo up; sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
        );
        namespace
    }

    /// Its process.
    fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// The namespace itself, for threads that move in.
    pub(crate) fn open(&self) -> OwnedFd {
        std::fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap().into()
    }

    /// Runs a script in it, which must succeed; gives what it printed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let (ok, said) = self.try_sh(script);
        assert!(ok, "{script}: {said}");
        said
    }

    /// Runs a script in it; gives whether it succeeded, and what it printed.
    pub(crate) fn try_sh(&self, script: &str) -> (bool, String) {
        let net = format!("--net=/proc/{}/ns/net", self.pid());
        let output = Command::new("nsenter").args([&net, "--", "sh", "-euc", script]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
    }
}

/// A machine with all that is around it.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) machine: Namespace,
    pub(crate) public: Namespace,
    pub(crate) vpc: Namespace,
    pub(crate) container: Namespace,
}

/// Where the metadata service answers (DigitalOcean documentation, "Droplet Metadata").
pub(crate) const METADATA: &str = "169.254.169.254";

impl Wires {
    /// Lays the wires. The machine forwards, masquerades what containers send out, and leads its port 8080 to the container's
    /// 80 over both protocols, as Docker does for a port that is published on `0.0.0.0` and `[::]`.
    pub(crate) fn lay() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "tests/packets makes network namespaces, and so runs as root"
        );
        let wires = Self {
            machine: Namespace::new(),
            public: Namespace::new(),
            vpc: Namespace::new(),
            container: Namespace::new(),
        };
        let join = |name: &str, other: &Namespace, there: &str| {
            let pid = other.pid();
            wires.machine.sh(&format!("ip link add {name} type veth peer name {there} netns {pid}"));
        };
        join("eth0", &wires.public, "wire");
        join("eth1", &wires.vpc, "wire");
        join("veth0", &wires.container, "eth0");
        wires.machine.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             ip link add br-app type bridge
             ip link set veth0 master br-app
             for link in br-app veth0 eth0 eth1; do ip link set $link up; done
             ip address add 203.0.113.1/24 dev eth0
             ip address add 2001:db8::1/64 dev eth0 nodad
             ip address add 10.110.0.2/20 dev eth1
             ip address add fd00:110::2/64 dev eth1 nodad
             ip address add 172.20.0.1/24 dev br-app
             ip address add fd00:20::1/64 dev br-app nodad
             ip route add 169.254.169.254 dev eth0
             ip route add default via 203.0.113.254
             ip -6 route add default via 2001:db8::fe");
        // As Docker writes it where it uses nftables; other names, the same hooks and priorities.
        wires.machine.sh(
            "nft -f - <<END
table ip nat {
  chain prerouting { type nat hook prerouting priority dstnat; policy accept; fib daddr type local tcp dport 8080 dnat to 172.20.0.2:80; }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept; ip saddr 172.20.0.0/24 oifname != \"br-app\" masquerade; }
}
table ip6 nat {
  chain prerouting { type nat hook prerouting priority dstnat; policy accept; fib daddr type local tcp dport 8080 dnat to [fd00:20::2]:80; }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept; ip6 saddr fd00:20::/64 oifname != \"br-app\" masquerade; }
}
END",
        );
        // `.10` and `::10` are listed for SSH, `.20` and `::20` are not; `.254` is the world behind the public side.
        wires.public.sh("ip link set wire up
             for last in 10 20 254; do ip address add 203.0.113.$last/24 dev wire; done
             for last in 10 20 fe; do ip address add 2001:db8::$last/64 dev wire nodad; done
             ip address add 169.254.169.254/32 dev wire
             ip route add 172.20.0.0/24 via 203.0.113.1
             ip -6 route add fd00:20::/64 via 2001:db8::1
             sysctl -qw net.ipv4.ping_group_range='0 0'");
        wires.vpc.sh("ip link set wire up
             ip address add 10.110.0.3/20 dev wire
             ip address add fd00:110::3/64 dev wire nodad
             ip route add 172.20.0.0/24 via 10.110.0.2
             sysctl -qw net.ipv4.ping_group_range='0 0'");
        wires.container.sh("ip link set eth0 up
             ip address add 172.20.0.2/24 dev eth0
             ip address add fd00:20::2/64 dev eth0 nodad
             ip route add default via 172.20.0.1
             ip -6 route add default via fd00:20::1");
        wires
    }
}
