//! The steps of a plan. Each can be done twice without harm.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bundle::Network;
use crate::model::{RouteName, ServiceName, Slot, StorePath, UnitName};

/// One step: on our own disk, on the machine, or a wait for health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Something the [`Host`](super::Host) does.
    Effect(Effect),
    /// Waits until the slot's services are ready, or gives up.
    AwaitSlot {
        /// Which slot.
        slot: Slot,
    },
    /// Writes the target's secret files into the ramfs.
    WriteSecrets,
    /// Makes the `/etc` links that the target has and the machine has not.
    AddLinks,
    /// The rename of `current`.
    Flip,
    /// Removes the `/etc` links that the target does not have.
    DropLinks,
    /// Watches the new generation while the last good one stands by.
    Trial {
        /// For how long, in seconds.
        seconds: u64,
    },
    /// Goes on watching until `bundle confirm` is said over another connection; else the switch goes back.
    AwaitConfirmation {
        /// For how long, in seconds.
        seconds: u64,
    },
    /// Makes the new generation the last good one.
    Commit,
}

/// What is done to the machine outside our directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Makes a container network, unless it is there.
    EnsureNetwork {
        /// Which.
        network: Network,
    },
    /// Brings the project `data` to what its file says, and waits until it is healthy.
    DataUp {
        /// The compose file.
        file: StorePath,
        /// Its services.
        services: Vec<ServiceName>,
    },
    /// Runs the migrations to their end.
    Migrate {
        /// The slot in whose project they run.
        slot: Slot,
        /// The compose file.
        file: StorePath,
        /// The service.
        service: ServiceName,
    },
    /// Brings services of a slot to what its file says. Does not wait for their health.
    SlotUp {
        /// The slot.
        slot: Slot,
        /// The compose file.
        file: StorePath,
        /// The services, by the profile's names.
        services: Vec<ServiceName>,
    },
    /// Stops containers, each within its own grace period. They stay, stopped. One that is not there is no error.
    Stop {
        /// By name.
        containers: Vec<String>,
    },
    /// Gives or takes the restart policy: what has none does not come back by itself after a crash of the machine.
    /// One that is not there is no error when taking.
    KeepRunning {
        /// By name.
        containers: Vec<String>,
        /// `unless-stopped`, or `no`.
        keep: bool,
    },
    /// Has systemd know units before their links in `/etc` are there, and starts some of them, until it reads `/etc` anew.
    UnitsAhead {
        /// The units' files.
        files: Vec<StorePath>,
        /// Those that are started.
        start: Vec<UnitName>,
    },
    /// `systemctl daemon-reload`.
    DaemonReload,
    /// `systemctl VERB UNIT`.
    Unit {
        /// What.
        verb: UnitVerb,
        /// To which.
        unit: UnitName,
    },
    /// Has the proxy send new requests to this slot.
    Route {
        /// Its backends.
        routes: Vec<RouteName>,
        /// The slot.
        to: Slot,
    },
    /// Lets requests under way on a slot come to their end. Returns when there are none, or when the time is up.
    Drain {
        /// The backends.
        routes: Vec<RouteName>,
        /// The slot that no longer gets new ones.
        slot: Slot,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// Loads the firewall that the first boot laid down, if it did: what a machine without a generation has.
    Ground,
    /// Has the first boot go on, by itself and after this process: what it waited for is there.
    ResumeFirstBoot,
    /// Has PID 1 call `bundle recover` later, so that going back does not depend on this process.
    ArmTrial {
        /// The transaction that it is for.
        transaction: u64,
        /// When, in seconds from now.
        seconds: u64,
    },
    /// Takes that back.
    DisarmTrial {
        /// The transaction.
        transaction: u64,
    },
}

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitVerb {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Have it read its configuration again.
    Reload,
}

impl UnitVerb {
    /// As `systemctl` calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Effect(effect) => effect.fmt(f),
            Self::AwaitSlot { slot } => write!(f, "wait for health         {slot}"),
            Self::WriteSecrets => f.write_str("write                   secret files"),
            Self::AddLinks => f.write_str("add links               /etc"),
            Self::Flip => f.write_str("flip                    current"),
            Self::DropLinks => f.write_str("drop links              /etc"),
            Self::Trial { seconds } => write!(f, "trial                   {seconds} s"),
            Self::AwaitConfirmation { seconds } => {
                write!(f, "wait for confirmation   up to {seconds} s, else go back")
            }
            Self::Commit => f.write_str("commit                  last-good"),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnsureNetwork { network } => {
                write!(f, "ensure network          {} {}", network.name, network.subnet)
            }
            Self::DataUp { services, .. } => write!(f, "bring up                data: {}", list(services)),
            Self::Migrate { slot, service, .. } => write!(f, "run to its end          {service}-{slot}"),
            Self::SlotUp { slot, services, .. } => {
                write!(f, "bring up                {slot}: {}", list(services))
            }
            Self::Stop { containers } => write!(f, "stop                    {}", containers.join(", ")),
            Self::KeepRunning { containers, keep: true } => {
                write!(f, "restart when they die   {}", containers.join(", "))
            }
            Self::KeepRunning { containers, keep: false } => {
                write!(f, "no longer restart       {}", containers.join(", "))
            }
            Self::UnitsAhead { files, .. } => {
                let names: Vec<_> = files.iter().map(StorePath::name).collect();
                write!(f, "make known              {}", names.join(", "))
            }
            Self::DaemonReload => f.write_str("daemon-reload           systemd"),
            Self::Unit { verb, unit } => write!(f, "{:<23} {unit}", verb.as_str()),
            Self::Route { routes, to } => write!(f, "route to {to:<14} {}", list(routes)),
            Self::Drain { slot, seconds, .. } => {
                write!(f, "drain                   {slot}, up to {seconds} s")
            }
            Self::Ground => f.write_str("load                    the first boot's firewall"),
            Self::ResumeFirstBoot => f.write_str("go on with              the first boot"),
            Self::ArmTrial { seconds, .. } => {
                write!(f, "arm going back          in {seconds} s, unless settled")
            }
            Self::DisarmTrial { .. } => f.write_str("disarm going back"),
        }
    }
}

fn list<T: fmt::Display>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
