//! `bundle why`

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::profile::ProfileArgument;
use super::report::{Code, Failure};
use super::{Context, print};
use crate::artifacts::KINDS;
use crate::profile::{Decides, Line, Why, WhyError, why};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
    /// A file of its bundle, as `bundle show` lists it or as it lies on the droplet
    #[arg(value_name = "PATH")]
    path: String,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let why = why(&arguments.profile.sources(), KINDS, &arguments.path)
        .map_err(|error| failure(&error, &arguments.profile.profile))?;
    print(context, json!(why), || render(&why));
    Ok(Code::Done)
}

fn failure(error: &WhyError, profile: &str) -> Failure {
    let failure = match error {
        WhyError::Profile(faults) => return Failure::diagnostics(faults.render(false)),
        other => Failure::of(Code::Input, other),
    };
    let WhyError::NoFile { meant, .. } = error else { return failure };
    let failure = match meant {
        Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
        None => failure,
    };
    failure.hint(format!(
        "`bundle show {profile}` lists its files; a file of another version of it lies elsewhere in the store"
    ))
}

/// The headings, in the order in which they are printed.
const HEADINGS: [(Decides, &str); 3] = [
    (Decides::Existence, "these lines make it be there"),
    (Decides::Content, "these lines decide what is in it"),
    (Decides::Reference, "these lines decide what is in files that it names by their content"),
];

fn render(why: &Why) -> String {
    let mut text = format!("{}  made by `{}`\n", why.path, why.kind);
    for store in &why.store {
        let _ = writeln!(text, "  {store}");
    }
    for (decides, heading) in HEADINGS {
        let lines: Vec<&Line> = why.lines.iter().filter(|line| line.decides == decides).collect();
        section(&mut text, heading, &lines);
    }
    section(
        &mut text,
        "of these lines it is not known, because no other value would be right by itself",
        &why.open.iter().collect::<Vec<_>>(),
    );
    if why.lines.is_empty() && why.open.is_empty() {
        text.push_str("\nno line decides anything about it: it is the same for every profile that has it\n");
    }
    text
}

fn section(text: &mut String, heading: &str, lines: &[&Line]) {
    if lines.is_empty() {
        return;
    }
    let _ = write!(text, "\n{heading}\n");
    let places: Vec<String> = lines.iter().map(|line| place(line)).collect();
    let width = places.iter().map(String::len).max().unwrap_or_default();
    for (line, place) in lines.iter().zip(places) {
        let value = if line.value.is_empty() { String::new() } else { format!(" = {}", line.value) };
        let through =
            if line.through.is_empty() { String::new() } else { format!("  ({})", line.through.join(", ")) };
        let _ = writeln!(text, "  {place:<width$}  {}{value}{through}", line.key);
    }
}

fn place(line: &Line) -> String {
    match line.place.line {
        Some(number) => format!("{}:{number}", line.place.path),
        None => line.place.path.clone(),
    }
}
