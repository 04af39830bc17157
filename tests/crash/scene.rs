//! What is killed: a switch that touches everything there is, a rollback of it, and a first generation.

use crate::machine::{Built, Machine, Profiles, Run, WIDER, differences};
use crate::settled::assert_settled;

/// A command that changes a machine, and the machines that it is tried on.
pub struct Scene {
    pub name: &'static str,
    base: Machine,
    pub arguments: Vec<String>,
    /// The bundle before and after; none is the bare machine.
    pub old: Option<String>,
    pub new: Option<String>,
    next: Built,
    _profiles: Profiles,
}

impl Scene {
    /// From the shipped profile to a wider one: other data, other slot, other firewall, more services.
    pub fn switch() -> Self {
        let (profiles, base, first, wider) = machine_and_bundles();
        let arguments = vec!["switch".to_owned(), "--confirmed".to_owned(), wider.reference()];
        let (old, new) = (Some(first.digest), Some(wider.digest.clone()));
        Self { name: "switch", base, arguments, old, new, next: wider, _profiles: profiles }
    }

    /// The way back from there: services go.
    pub fn rollback() -> Self {
        let (profiles, base, first, wider) = machine_and_bundles();
        base.switch(&wider).ends(0);
        let (old, new) = (Some(wider.digest.clone()), Some(first.digest));
        let arguments = vec!["rollback".to_owned()];
        Self { name: "rollback", base, arguments, old, new, next: wider, _profiles: profiles }
    }

    /// One setting of Redis: the slot stays where it is.
    pub fn setting() -> Self {
        let (profiles, base, first, wider) = machine_and_bundles();
        let other = profiles.built("other", "[redis]\nmaxmemory = \"199mb\"\n");
        let arguments = vec!["switch".to_owned(), other.reference()];
        let (old, new) = (Some(first.digest), Some(other.digest));
        Self { name: "setting", base, arguments, old, new, next: wider, _profiles: profiles }
    }

    /// Everything is taken down.
    pub fn down() -> Self {
        let (profiles, base, first, wider) = machine_and_bundles();
        let arguments = ["switch", "--generation", "0"].map(str::to_owned).to_vec();
        let (old, new) = (Some(first.digest), None);
        Self { name: "down", base, arguments, old, new, next: wider, _profiles: profiles }
    }

    /// The first generation of a machine.
    pub fn first() -> Self {
        let (profiles, _, first, wider) = machine_and_bundles();
        let base = Machine::with_secrets();
        let arguments = vec!["switch".to_owned(), first.reference()];
        Self {
            name: "first",
            base,
            arguments,
            old: None,
            new: Some(first.digest),
            next: wider,
            _profiles: profiles,
        }
    }

    /// A machine for one try.
    pub fn machine(&self) -> Machine {
        self.base.copy()
    }

    pub fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    /// How many effects a whole run has.
    pub fn effects(&self) -> u64 {
        self.effects_of_a_run().len().try_into().unwrap()
    }

    /// How many of them come before the commit, after which the timer is the first to go.
    pub fn effects_before_commit(&self) -> u64 {
        let effects = self.effects_of_a_run();
        effects.iter().position(|effect| effect.starts_with("disarm")).unwrap().try_into().unwrap()
    }

    fn effects_of_a_run(&self) -> Vec<String> {
        let machine = self.machine();
        let effects = |machine: &Machine| -> Vec<String> {
            serde_json::from_value(machine.state()["effects"].clone()).unwrap_or_default()
        };
        let before = effects(&machine).len();
        machine.run(&self.arguments()).ends(0);
        assert_settled(&machine, "a run that nobody disturbed");
        effects(&machine).split_off(before)
    }

    /// After `interrupted`: what `recover` leaves is old or new, complete; a second one changes nothing; and the next
    /// switch works. Says which it was.
    #[track_caller]
    pub fn settles(&self, machine: &Machine, interrupted: &Run, when: &str) -> bool {
        let recover = machine.run(&["recover"]);
        assert!(
            matches!(recover.code, 0 | 10),
            "{when}: recover ended with {}\n{}",
            recover.code,
            recover.stderr
        );
        self.is_settled(machine, interrupted, when)
    }

    #[track_caller]
    pub fn is_settled(&self, machine: &Machine, interrupted: &Run, when: &str) -> bool {
        let when = format!("{}, {when}", self.name);
        assert_settled(machine, &when);
        let bundle =
            machine.path("var/lib/bundle/current").symlink_metadata().ok().and_then(|_| machine.bundle());
        let is_new = bundle == self.new;
        assert!(is_new || bundle == self.old, "{when}: {bundle:?} is current");
        if interrupted.stdout.contains("is current") {
            assert!(is_new, "{when}: what was reported is not there");
        }
        let before = machine.snapshot();
        machine.run(&["recover"]).ends(10);
        let changed = differences(&before, &machine.snapshot());
        assert!(changed.is_empty(), "{when}: a second recover changed {changed:#?}");
        let next = machine.switch(&self.next);
        let expected = if bundle.as_ref() == Some(&self.next.digest) { 10 } else { 0 };
        assert_eq!(next.code, expected, "{when}: the next switch\n{}", next.stderr);
        assert_settled(machine, &format!("{when}, and then switched"));
        assert_eq!(machine.bundle().as_ref(), Some(&self.next.digest));
        is_new
    }
}

fn machine_and_bundles() -> (Profiles, Machine, Built, Built) {
    let profiles = Profiles::new();
    let first = profiles.built("first", "");
    profiles.lay("wider", WIDER);
    profiles.lock("wider");
    // More addresses in the lock do not change the first.
    let wider = profiles.build("wider");
    let machine = Machine::with_secrets();
    machine.switch(&first).ends(0);
    assert_settled(&machine, "the scene");
    (profiles, machine, first, wider)
}
