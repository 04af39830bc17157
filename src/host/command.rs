//! Other programs: run with a limit, and quoted as one would type them when they fail.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::activate::HostError;

/// How much of what a program said is kept.
const TAIL: usize = 2000;

/// What writes the input of a program.
type Feed<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

/// A program about to be run.
#[derive(Debug)]
pub(super) struct Program {
    argv: Vec<String>,
    limit: Duration,
    input: Option<File>,
    output: Option<File>,
    with_us: bool,
}

impl Program {
    pub(super) fn new(name: impl Into<String>) -> Self {
        let argv = vec![name.into()];
        Self { argv, limit: Duration::from_mins(5), input: None, output: None, with_us: false }
    }

    pub(super) fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// No wait without an end: after this time the program is killed.
    pub(super) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Has it end with us when somebody presses Ctrl-C: what it does is no step that must not end halfway.
    pub(super) fn with_us(mut self) -> Self {
        self.with_us = true;
        self
    }

    /// Gives it a file as its input, and one as its output, which is then not returned.
    pub(super) fn connect(mut self, input: Option<File>, output: Option<File>) -> Self {
        self.input = input;
        self.output = output;
        self
    }

    /// Runs it and returns what it printed. Anything but exit status 0 is an error that quotes the end of its output.
    pub(super) fn run(&self) -> Result<String, HostError> {
        self.run_with(None)
    }

    /// The same, with what `feed` writes as its input. The limit counts from then on, too: `timeout` (coreutils) keeps it
    /// while we write.
    pub(super) fn feed(
        &self,
        feed: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<String, HostError> {
        let limit = self.limit.as_secs().to_string();
        let argv = ["timeout".to_owned(), "--kill-after=10".to_owned()];
        // Otherwise it takes a process group of its own.
        let foreground = self.with_us.then(|| "--foreground".to_owned());
        let argv = argv.into_iter().chain(foreground).chain([limit]).chain(self.argv.iter().cloned());
        let timed = Self {
            argv: argv.collect(),
            limit: self.limit,
            input: None,
            output: None,
            with_us: self.with_us,
        };
        timed.run_with(Some(Box::new(feed)))
    }

    fn run_with(&self, feed: Option<Feed<'_>>) -> Result<String, HostError> {
        let typed = self.argv.join(" ");
        let fail = |cause: String| HostError::new(format!("`{typed}`"), cause);
        // Output goes to unlinked files: a full pipe would need threads to read it, and this process has one.
        let (out, err) = (scratch().map_err(&fail)?, scratch().map_err(&fail)?);
        let clone = |file: &std::fs::File| file.try_clone().map(Stdio::from).map_err(|e| fail(e.to_string()));
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .stdin(match &self.input {
                _ if feed.is_some() => Stdio::piped(),
                Some(input) => clone(input)?,
                None => Stdio::null(),
            })
            .stdout(clone(self.output.as_ref().unwrap_or(&out))?)
            .stderr(clone(&err)?)
            .env("LC_ALL", "C.UTF-8");
        if !self.with_us {
            // Of its own: what a terminal sends to our group when it hangs up must not end a step halfway.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|error| fail(format!("cannot be run: {error}")))?;
        let written = match (feed, child.stdin.take()) {
            (Some(feed), Some(mut stdin)) => feed(&mut stdin),
            _ => Ok(()),
        };
        let status = wait(&mut child, self.limit).map_err(&fail)?;
        if status.success() {
            written.map_err(|error| fail(format!("did not get all of its input: {error}")))?;
            Ok(content(out))
        } else {
            let said = [content(err), content(out)].join("\n");
            let said = said.trim();
            let from = said.char_indices().rev().nth(TAIL).map_or(0, |(index, _)| index);
            let said = if said.is_empty() { String::new() } else { format!(": {}", &said[from..]) };
            Err(fail(format!("ended with {status}{said}")))
        }
    }
}

fn wait(child: &mut Child, limit: Duration) -> Result<std::process::ExitStatus, String> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        if Instant::now() >= end {
            // It may have ended in this moment; then there is nothing to kill.
            let _gone = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
            drop(child.wait());
            return Err(format!("did not end within {} s", limit.as_secs()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn scratch() -> Result<std::fs::File, String> {
    let fd = rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC);
    fd.map(std::fs::File::from).map_err(|error| error.to_string())
}

fn content(mut file: std::fs::File) -> String {
    use std::io::Seek;
    let mut bytes = Vec::new();
    if file.rewind().and_then(|()| file.read_to_end(&mut bytes)).is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_quoted() {
        let error = Program::new("sh").args(["-c", "echo no such luck >&2; exit 3"]).run().unwrap_err();
        assert!(error.to_string().contains("no such luck"), "{error}");
        assert!(Program::new("no-such-program").run().unwrap_err().cause.starts_with("cannot be run"));
    }

    #[test]
    fn a_program_that_is_fed_reads_to_the_end_or_says_why_not() {
        let long = vec![b'x'; 300_000];
        assert_eq!(
            Program::new("wc").args(["-c"]).feed(|out| out.write_all(&long)).unwrap().trim(),
            "300000"
        );
        let error = Program::new("sh").args(["-c", "echo no >&2; exit 3"]).feed(|out| out.write_all(&long));
        assert!(error.unwrap_err().cause.contains("no"));
        let limit = Duration::from_secs(1);
        let error =
            Program::new("sleep").args(["30"]).limit(limit).feed(|out| out.write_all(&long)).unwrap_err();
        assert!(error.cause.contains("ended with") || error.cause.contains("did not end"), "{error}");
    }

    #[test]
    fn files_are_a_programs_input_and_output() {
        use std::io::Seek;
        let (mut input, mut output) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        input.write_all(b"abc").unwrap();
        input.rewind().unwrap();
        let ends = (Some(input), Some(output.try_clone().unwrap()));
        let said = Program::new("tr").args(["a-z", "A-Z"]).connect(ends.0, ends.1).run().unwrap();
        let mut text = String::new();
        output.rewind().unwrap();
        output.read_to_string(&mut text).unwrap();
        assert_eq!((said.as_str(), text.as_str()), ("", "ABC"));
    }

    #[test]
    fn nothing_waits_for_ever_and_no_output_is_too_long() {
        let error = Program::new("sleep").args(["10"]).limit(Duration::from_millis(50)).run().unwrap_err();
        assert!(error.cause.contains("did not end"), "{error}");
        let long = Program::new("sh").args(["-c", "head -c 300000 /dev/zero | tr '\\0' x"]).run().unwrap();
        assert_eq!(long.len(), 300_000);
    }
}
