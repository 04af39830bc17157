//! Arguments in, exit code out. Each command is a file: its arguments, and a `run` that calls the rooms in their order
//! and prints what came of it. Results go to stdout, everything else to stderr.
#![expect(
    clippy::disallowed_methods,
    reason = "the environment and the profiles are read here and handed on"
)]

mod activator;
mod backup;
mod boot;
mod build;
mod cache;
mod carried;
mod certs;
mod check;
mod cloud_init;
mod confirm;
mod deploy;
mod first_boot;
mod gc;
mod generations;
mod hand_over;
mod image;
mod init;
mod lint;
mod lock;
mod machine;
mod own_images;
mod places;
mod plan;
mod profile;
mod progress;
mod provenance;
mod pull;
mod push;
mod receive;
mod recover;
mod renew;
mod report;
mod schema;
mod secrets;
mod show;
mod signals;
mod status;
mod switch;
mod unpack;
mod verify;
mod why;

use std::cell::OnceCell;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};

use crate::activate::Host;
use crate::store::Store;
pub use report::Code;
use report::Failure;

/// Reproducible, content-addressed deployments: one digest is the whole machine.
#[derive(Debug, Parser)]
#[command(name = "bundle", version, about, max_term_width = 100)]
struct Arguments {
    /// Act below this directory instead of `/`; on a droplet's side nothing is started then
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first profile: a small one, or one made of a Compose project
    Init(init::Arguments),
    /// Say whether a profile is right, and everything that is wrong with it at once
    Check(check::Arguments),
    /// Print the JSON Schema of a profile, by which editors complete and check it
    Schema(schema::Arguments),
    /// Say what is allowed in a profile and still probably wrong, or list everything that is looked for
    Lint(lint::Arguments),
    /// Pin every image of a profile by digest, and give every service its addresses
    Lock(lock::Arguments),
    /// Build a profile's bundle and print its digest
    Build(build::Arguments),
    /// Build one of a profile's own images and print its digest
    Image(image::Arguments),
    /// Show what is in a bundle or a profile
    Show(show::Arguments),
    /// Name the lines of a profile that stand behind a generated file
    Why(why::Arguments),
    /// Send a profile's bundle to its registry
    Push(push::Arguments),
    /// Print the user-data from which a fresh machine boots into a profile's bundle
    CloudInit(cloud_init::Arguments),
    /// Fetch a bundle from a registry, verified
    Pull(pull::Arguments),
    /// Put an image's layers into a directory, verified, as a runtime would see them
    Unpack(unpack::Arguments),
    /// Check every digest of what a reference leads to, or build it again and compare
    Verify(verify::Arguments),
    /// Build and push, then switch one droplet after another over SSH
    Deploy(deploy::Arguments),
    /// Say what a switch would do, and touch nothing
    Plan(plan::Arguments),
    /// Make a bundle, or an earlier generation, the current one
    Switch(switch::Arguments),
    /// Say, over a fresh connection, that a switch that waits for it has not shut you out
    Confirm(confirm::Arguments),
    /// Go back to the generation that was good before the current one
    Rollback(switch::RollbackArguments),
    /// List the generations of this machine
    Generations,
    /// Say what is current, what is pending, and what is wrong
    Status(status::Arguments),
    /// Remove what no generation needs any more: old generations, files, images; or clear the builder's cache
    Gc(gc::Arguments),
    /// Copy the databases now, as a timer does every day
    Backup,
    /// List the copies of the databases
    Backups,
    /// Say which certificates serve, and until when
    Certs(certs::Arguments),
    /// Settle a switch that was interrupted
    Recover(recover::Arguments),
    /// Keep the secrets that only an operator has
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// Take a bundle and its images from stdin, as `bundle deploy --copy` sends them
    #[command(hide = true)]
    Receive(receive::Arguments),
    /// What the units of a bundle call at boot
    #[command(hide = true)]
    Boot(boot::Arguments),
}

/// What every command is given.
pub(crate) struct Context<'a> {
    root: Option<PathBuf>,
    json: bool,
    machine: &'a Machine<'a>,
    /// The lock on the builder's cache, from when it is first needed.
    cache: OnceCell<Option<File>>,
}

/// Makes the host of the machine whose disk is this store.
pub type Machine<'a> = dyn Fn(&Store) -> Box<dyn Host> + 'a;

impl Context<'_> {
    /// The machine's disk.
    fn store(&self) -> Store {
        Store::new(self.root.clone().unwrap_or_else(|| PathBuf::from("/")))
    }

    fn host(&self, store: &Store) -> Box<dyn Host> {
        (self.machine)(store)
    }
}

/// The host that fits the disk: the running system itself, or none.
pub fn machine(store: &Store) -> Box<dyn Host> {
    if store.is_running_system() {
        Box::new(crate::host::Droplet::default())
    } else {
        tell(&format!(
            "note: `{}` is not the running system: nothing is started or asked there",
            store.root().display()
        ));
        Box::new(crate::host::Offline::default())
    }
}

/// Whether a result could not be printed.
static LOST: AtomicBool = AtomicBool::new(false);

/// Runs the program with the arguments of this process. `machine` is [`machine`] except in tests.
pub fn main(machine: &Machine<'_>) -> ExitCode {
    // A pipe that was closed, or a terminal that was, must not end a switch in the middle; Rust ignores SIGPIPE.
    let arguments = Arguments::parse();
    // Absolute, because some paths are handed on to others: a path that cannot be made so has no parent either.
    let root = arguments.root.map(|root| std::path::absolute(&root).unwrap_or(root));
    let context = Context { root, json: arguments.json, machine, cache: OnceCell::new() };
    // What has changed a machine has done so, whoever listens; of the others the result is all there is.
    let changes = matches!(
        arguments.command,
        Command::Switch(_)
            | Command::Rollback(_)
            | Command::Confirm(_)
            | Command::Deploy(_)
            | Command::Recover(_)
            | Command::Receive(_)
            | Command::Secrets(_)
            | Command::Gc(_)
            | Command::Backup
            | Command::Boot(_)
    );
    match run(&context, arguments.command) {
        Ok(_) if !changes && LOST.load(Ordering::SeqCst) => Code::Refused.into(),
        Ok(code) => code.into(),
        Err(failure) => {
            tell(&failure.render());
            failure.code().into()
        }
    }
}

fn run(context: &Context<'_>, command: Command) -> Result<Code, Failure> {
    match command {
        Command::Init(arguments) => init::run(context, &arguments),
        Command::Check(arguments) => check::run(context, &arguments),
        Command::Schema(arguments) => Ok(schema::run(context, &arguments)),
        Command::Lint(arguments) => lint::run(context, &arguments),
        Command::Lock(arguments) => lock::run(context, &arguments),
        Command::Build(arguments) => build::run(context, &arguments),
        Command::Image(arguments) => image::run(context, &arguments),
        Command::Show(arguments) => show::run(context, &arguments),
        Command::Why(arguments) => why::run(context, &arguments),
        Command::Push(arguments) => push::run(context, &arguments),
        Command::CloudInit(arguments) => cloud_init::run(context, &arguments),
        Command::Pull(arguments) => pull::run(context, &arguments),
        Command::Unpack(arguments) => unpack::run(context, &arguments),
        Command::Verify(arguments) => verify::run(context, &arguments),
        Command::Deploy(arguments) => deploy::run(context, &arguments),
        Command::Plan(arguments) => plan::run(context, &arguments),
        Command::Switch(arguments) => switch::run(context, &arguments),
        Command::Confirm(arguments) => confirm::run(context, &arguments),
        Command::Rollback(arguments) => switch::rollback(context, &arguments),
        Command::Generations => generations::run(context),
        Command::Status(arguments) => status::run(context, &arguments),
        Command::Gc(arguments) => gc::run(context, &arguments),
        Command::Backup => backup::make(context),
        Command::Backups => backup::list(context),
        Command::Certs(arguments) => certs::run(context, &arguments),
        Command::Recover(arguments) => recover::run(context, &arguments),
        Command::Secrets(command) => secrets::run(context, &command),
        Command::Receive(arguments) => receive::run(context, &arguments),
        Command::Boot(arguments) => boot::run(context, &arguments),
    }
}

/// Prints a result: as JSON with the schema's version, or as `text` says.
fn print(context: &Context<'_>, json: serde_json::Value, text: impl FnOnce() -> String) {
    use std::io::Write;
    let line = if context.json {
        let mut json = json;
        if let Some(object) = json.as_object_mut() {
            object.insert("schema_version".to_owned(), 1.into());
        }
        json.to_string()
    } else {
        text()
    };
    // A reader who went away does not make a failure of what was done.
    if let Err(error) = writeln!(std::io::stdout(), "{}", line.trim_end_matches('\n')) {
        tell(&format!("error: cannot print the result: {error}"));
        LOST.store(true, Ordering::SeqCst);
    }
}

/// Says something on stderr; a reader who went away is no reason to stop.
fn tell(line: &str) {
    use std::io::Write;
    progress::erase();
    drop(writeln!(std::io::stderr(), "{line}"));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Arguments::command().debug_assert();
    }
}
