//! `bundle deploy`: build, push, and switch one droplet after another over SSH
//!
//! Nothing of ours runs between deploys, here or there: what a person would type is typed. All droplets are looked at
//! before the first is touched; at the first that fails, those before it are taken back, so that all of them end where
//! they were.

mod copy;
mod host;
mod look;
mod ssh;
mod table;
mod values;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::build::keep;
use super::places::Reach;
use super::profile::{ProfileArgument, refuse_placeholders};
use super::report::{Code, Failure};
use super::{Context, print, push, signals, tell};
use crate::bundle::Manifest;
use crate::registry::Repository;
use copy::Parcel;
use host::{BUSY, Host, PAUSE};
use look::{Seen, advice, look};
use ssh::{Connection, Destination, Ssh};
use table::{Outcome, Row, render};
use values::{Named, Values};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
    /// A droplet, `[USER@]HOST[:PORT]` as `ssh` knows it; once for each, in the order in which they are switched
    #[arg(long = "host", value_name = "HOST", required = true)]
    hosts: Vec<Destination>,
    /// Hand in the secret NAME, whose value FILE holds; once for each
    #[arg(long = "secret", value_name = "NAME=FILE")]
    secrets: Vec<String>,
    /// Hand in every secret of the bundle of which this directory has a file of its name
    #[arg(long = "secrets", value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Send the bundle, and the images that a droplet does not have, over the connection: it needs to reach no registry
    #[arg(long)]
    copy: bool,
    /// How long each droplet waits to be confirmed over a fresh connection before it goes back
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    confirm: u64,
    /// When one fails, leave the droplets before it where they are instead of taking them back
    #[arg(long)]
    keep: bool,
    /// An option for `ssh`, one word each: `--ssh-option=-i --ssh-option=KEY`; also in `BUNDLE_SSH`, split at blanks
    #[arg(long = "ssh-option", value_name = "WORD", allow_hyphen_values = true)]
    ssh_options: Vec<String>,
    /// Send it there instead of to the profile's registry
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<Repository>,
    /// Do not write down what the bundle is made of and how it was made
    #[arg(long)]
    no_provenance: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What is deployed to one droplet, and what came of it so far.
struct Turn<'a> {
    host: Host<'a>,
    parcel: Option<Parcel<'a>>,
    row: Row,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    each_once(&arguments.hosts)?;
    let ssh = Ssh::new(options(&arguments.ssh_options)).map_err(|why| Failure::new(Code::Refused, why))?;
    let ended = deploy(context, arguments, &ssh);
    arguments.hosts.iter().for_each(|to| ssh.hang_up(to));
    ended
}

fn deploy(context: &Context<'_>, arguments: &Arguments, ssh: &Ssh) -> Result<Code, Failure> {
    let sealed = arguments.profile.seal(context, &arguments.reach)?;
    let (resolved, bundle) = (&sealed.resolved, &sealed.bundle);
    refuse_placeholders(resolved, &arguments.profile.profile)?;
    // Not by the parser of the command line, which quotes what it refuses.
    let named: Result<Vec<Named>, _> = arguments.secrets.iter().map(|text| text.parse()).collect();
    let named = named.map_err(|why| Failure::new(Code::Input, format!("`--secret`: {why}")))?;
    let values = values::read(bundle.manifest(), &named, arguments.directory.as_deref())?;
    let layout = keep(context, bundle)?;
    let seen = look_at_all(ssh, &arguments.hosts, bundle.manifest(), &values)?;
    let mut missing = Vec::new();
    let mut images = None;
    let mut repository = None;
    if arguments.copy {
        missing = copy::ask(ssh, &arguments.hosts, &seen, bundle)?;
        let ca = resolved.spec.registry.as_ref().and_then(|registry| registry.ca.as_ref());
        images = Some(copy::gather(context, &missing, &arguments.reach.of_profile(ca))?);
    } else {
        let how = push::How {
            named: arguments.repository.as_ref(),
            provenance: Some(&arguments.profile).filter(|_| !arguments.no_provenance),
            ..push::How::default()
        };
        let sent = push::send(context, &sealed, &layout, how, &arguments.reach)?;
        repository = Some(sent.repository.to_string());
    }
    let mut missing = missing.into_iter();
    let stop = signals::listen()?;
    let mut turns: Vec<_> = arguments
        .hosts
        .iter()
        .zip(&seen)
        .map(|(to, seen)| {
            let host = Host {
                ssh,
                to,
                seen: seen.clone(),
                bundle: bundle.digest(),
                repository: repository.clone(),
                confirm: arguments.confirm,
                stop: &stop,
            };
            let before = host.before();
            let row = Row {
                host: to.clone(),
                before,
                after: Some(before),
                outcome: Outcome::NotTried,
                took: Duration::ZERO,
            };
            let parcel = images.as_ref().zip(missing.next()).map(|(images, missing)| Parcel {
                bundles: &layout,
                oci_digest: bundle.oci_digest(),
                images,
                missing,
            });
            Turn { host, parcel, row }
        })
        .collect();
    let good = one_after_another(&mut turns, &values, &stop);
    if !good && !arguments.keep {
        take_back(&mut turns);
    }
    let rows: Vec<_> = turns.into_iter().map(|turn| turn.row).collect();
    let json = json!({
        "bundle": bundle.digest(),
        "repository": repository,
        "hosts": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    print(context, json, || render(&rows));
    ended(&rows, good)
}

/// A droplet that is named twice would be taken back to what it was between the two.
fn each_once(hosts: &[Destination]) -> Result<(), Failure> {
    let mut sorted: Vec<_> = hosts.iter().collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Failure::new(Code::Input, format!("`{}` is named twice", pair[0]))),
        None => Ok(()),
    }
}

/// The operator's options for `ssh`: those of the command line first, because the first counts.
fn options(named: &[String]) -> Vec<String> {
    let environment = std::env::var("BUNDLE_SSH").unwrap_or_default();
    named.iter().cloned().chain(environment.split_whitespace().map(str::to_owned)).collect()
}

/// Looks at every droplet; what is wrong with any is said of all of them at once.
fn look_at_all(
    ssh: &Ssh,
    hosts: &[Destination],
    manifest: &Manifest,
    values: &Values,
) -> Result<Vec<Seen>, Failure> {
    let mut faults = Vec::new();
    let mut all = Vec::new();
    let mut without = Vec::new();
    for to in hosts {
        match look_patiently(ssh, to) {
            Err(why) => faults.push(format!("{to}: {why}")),
            Ok(seen) => {
                if let Some(who) = &seen.busy {
                    faults
                        .push(format!("{to}: it is busy: {who}; `bundle status` there shows how far it is"));
                } else if seen.pending {
                    faults.push(format!(
                        "{to}: a switch is under way or was interrupted; `bundle status` there says which, `bundle recover` settles it"
                    ));
                }
                let missing: Vec<_> = values::of_operator(manifest)
                    .filter(|name| !seen.secrets.contains(name) && !values.contains_key(*name))
                    .map(|name| format!("`{name}`"))
                    .collect();
                if !missing.is_empty() {
                    faults.push(format!("{to}: it does not have the secrets {}", missing.join(", ")));
                    without.extend(missing);
                }
                let bundle = seen.bundle.map_or_else(|| "-".to_owned(), |bundle| bundle.short());
                tell(&format!("{to}: {} ({bundle}) is current", seen.view));
                all.push(seen);
            }
        }
    }
    if faults.is_empty() {
        return Ok(all);
    }
    let message = format!("refused before any droplet was touched\n  - {}", faults.join("\n  - "));
    let mut hints: Vec<_> = faults.iter().filter_map(|fault| advice(fault)).collect();
    hints.sort_unstable();
    hints.dedup();
    let failure = hints.into_iter().fold(Failure::new(Code::Refused, message), Failure::hint);
    without.sort();
    without.dedup();
    Err(match without.first() {
        None => failure,
        Some(_) => failure.hint(format!(
            "hand in the values of {}: `--secret NAME=FILE`, or `--secrets DIR` with a file for each",
            without.join(", ")
        )),
    })
}

/// Looks at one droplet; if somebody is changing it, again until they have ended, within reason.
fn look_patiently(ssh: &Ssh, to: &Destination) -> Result<Seen, String> {
    let began = Instant::now();
    let mut told = None;
    loop {
        let seen = look(ssh, to, Connection::Any)?;
        if seen.busy.is_none() || began.elapsed() > BUSY {
            return Ok(seen);
        }
        if seen.busy != told {
            tell(&format!("{to}: busy, and waited for: {}", seen.busy.as_deref().unwrap_or_default()));
            told = seen.busy;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Until the first that fails, or until the operator wants to stop. Says whether all are well.
fn one_after_another(turns: &mut [Turn<'_>], values: &Values, stop: &AtomicBool) -> bool {
    for Turn { host, parcel, row } in turns {
        if stop.load(Ordering::SeqCst) {
            return false;
        }
        let began = Instant::now();
        let sent = parcel.as_ref().map_or(Ok(()), |parcel| host.send(parcel));
        let handed_in = sent.and_then(|()| host.hand_in(values));
        let (outcome, after) = match handed_in {
            Ok(()) => {
                host.catch_up();
                if stop.load(Ordering::SeqCst) {
                    return false;
                }
                host.switch()
            }
            Err(code) => (Outcome::Refused(code), Some(host.before())),
        };
        row.took = began.elapsed();
        row.before = host.before();
        row.after = after;
        row.outcome = outcome;
        if !matches!(row.outcome, Outcome::Switched | Outcome::Current) {
            return false;
        }
    }
    true
}

/// Those that were switched go back, the last first.
fn take_back(turns: &mut [Turn<'_>]) {
    for Turn { host, row, .. } in turns.iter_mut().rev() {
        if row.outcome != Outcome::Switched {
            continue;
        }
        if !host.had_something() {
            host.tell("left as it is, though another droplet failed: it had nothing before that could serve");
            row.outcome = Outcome::Kept;
            continue;
        }
        let began = Instant::now();
        let (outcome, after) = host.take_back();
        row.took += began.elapsed();
        row.outcome = outcome;
        row.after = after;
    }
}

/// The exit code of all of it: that of the worst.
fn ended(rows: &[Row], good: bool) -> Result<Code, Failure> {
    let any = |outcome: fn(&Outcome) -> bool| rows.iter().any(|row| outcome(&row.outcome));
    if good {
        let changed = any(|outcome| *outcome == Outcome::Switched);
        return Ok(if changed { Code::Done } else { Code::NothingToChange });
    }
    if any(|outcome| matches!(outcome, Outcome::Stuck | Outcome::NotTakenBack)) {
        return Err(Failure::new(Code::Stuck, "the deploy failed, and not every droplet is where it was")
            .hint("`bundle status` there says what is current and pending, `bundle recover` settles it"));
    }
    let untouched =
        |row: &Row| matches!(row.outcome, Outcome::Refused(_) | Outcome::Current | Outcome::NotTried);
    if rows.iter().all(untouched) {
        return Err(Failure::new(Code::Refused, "the deploy was refused; no droplet was switched"));
    }
    let message = if any(|outcome| *outcome == Outcome::Left) {
        "the deploy was stopped; the droplet that was under way goes back by itself, because nobody confirms"
    } else if any(|outcome| *outcome == Outcome::Switched) {
        "the deploy failed; the droplets before the one that failed keep the new bundle"
    } else if any(|outcome| *outcome == Outcome::Kept) {
        "the deploy failed; a droplet that had nothing before keeps the new bundle, the others serve what they served"
    } else {
        "the deploy failed; every droplet serves what it served before"
    };
    Err(Failure::new(Code::WentBack, message))
}

#[cfg(test)]
mod tests {
    use super::table::State;
    use super::*;
    use crate::store::View;

    fn rows(outcomes: &[Outcome]) -> Vec<Row> {
        let row = |outcome: &Outcome| {
            let before = State { view: View::BARE, bundle: None };
            let host = "web".parse().unwrap();
            Row { host, before, after: None, outcome: outcome.clone(), took: Duration::ZERO }
        };
        outcomes.iter().map(row).collect()
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        use Outcome::{
            Current, Kept, Left, NotTakenBack, NotTried, Refused, Stuck, Switched, TakenBack, WentBack,
        };
        for (outcomes, good, number) in [
            (vec![Switched, Current], true, 0),
            (vec![Current, Current], true, 10),
            (vec![Refused(21), NotTried], false, 20),
            (vec![Current, Refused(20)], false, 20),
            (vec![TakenBack, Refused(20)], false, 30),
            (vec![TakenBack, WentBack, NotTried], false, 30),
            (vec![Switched, WentBack], false, 30),
            (vec![WentBack], false, 30),
            (vec![TakenBack, Left], false, 30),
            (vec![Kept, WentBack], false, 30),
            (vec![Kept, Refused(20)], false, 30),
            (vec![NotTakenBack, WentBack], false, 31),
            (vec![TakenBack, Stuck], false, 31),
        ] {
            let code = match ended(&rows(&outcomes), good) {
                Ok(code) => code,
                Err(failure) => failure.code(),
            };
            assert_eq!(code.number(), number, "{outcomes:?}");
        }
    }

    #[test]
    fn a_droplet_that_had_nothing_keeps_what_it_got() {
        // No `ssh` is run: a way back would take everything down.
        let ssh = Ssh::new(Vec::new()).unwrap();
        let to: Destination = "web".parse().unwrap();
        let stop = AtomicBool::new(false);
        let row = rows(&[Outcome::Switched]).remove(0);
        let seen = Seen {
            sudo: false,
            view: View::BARE,
            bundle: None,
            pending: false,
            busy: None,
            first_boot: false,
            secrets: Vec::new(),
        };
        let bundle = crate::model::Digest::of(b"new");
        let host = Host { ssh: &ssh, to: &to, seen, bundle, repository: None, confirm: 1, stop: &stop };
        let mut turns = [Turn { host, parcel: None, row }];
        take_back(&mut turns);
        assert_eq!(turns[0].row.outcome, Outcome::Kept);
    }

    #[test]
    fn a_droplet_is_named_once() {
        let hosts = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
        assert!(each_once(&hosts(&["web1", "web2", "root@web1"])).is_ok());
        assert!(each_once(&hosts(&["web1", "web2", "web1"])).is_err());
    }
}
