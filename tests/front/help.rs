//! The help: every line fits a terminal, every command that people call is in README.md.

use super::{bundle, file};

fn help(arguments: &[&str]) -> String {
    let root = tempfile::tempdir().unwrap();
    let output = bundle(root.path(), &[arguments, &["-h"]].concat());
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that `bundle -h` lists.
fn commands() -> Vec<String> {
    let text = help(&[]);
    let (_, listed) = text.split_once("Commands:\n").unwrap();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let words = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    words
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|word| word != "help")
        .collect()
}

#[test]
fn every_line_of_the_help_fits_a_terminal() {
    let commands = commands();
    assert!(commands.len() >= 13, "{commands:?}");
    fits(&[]);
    fits(&["secrets", "set"]);
    for command in &commands {
        fits(&[command]);
    }
}

fn fits(command: &[&str]) {
    let text = help(command);
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(wide.is_empty(), "`bundle {} -h`: {wide:#?}", command.join(" "));
    assert!(!text.trim().is_empty());
}

#[test]
fn every_command_is_in_the_readme() {
    let readme = file("README.md");
    let shown = |command: &str| {
        let mut lines = readme.lines().filter(|line| line.contains("bundle"));
        lines.any(|line| line.split(['`', ' ']).any(|word| word == command))
    };
    let missing: Vec<_> = commands().into_iter().filter(|command| !shown(command)).collect();
    assert!(missing.is_empty(), "README.md does not show {missing:?}");
}
