//! Which packages are needed: those asked for, and what they depend on, and so on. Nothing recommended, and nothing only
//! because it is essential: what an image needs, its packages say or its profile lists.
//!
//! No search: a dependency that is fulfilled already adds nothing; else the first alternative that can be had is taken,
//! a package of that name before those that provide it, and of those the one of the highest priority. Dependencies
//! without a choice are followed first, so what they bring decides the others. Where that leads to two packages that
//! conflict, the answer is who they are; naming the right alternative in the profile settles it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::DebianError;
use super::control::Relation;
use super::universe::{Candidate, Universe};

/// Always there: it has `/etc`, `/tmp`, `/usr` and the links of the merged `/usr` without which no program starts.
const ALWAYS: &str = "base-files";

/// Chooses; `suites` and `architecture` are for messages.
pub(crate) fn solve<'u>(
    universe: &'u Universe,
    wanted: &BTreeSet<&str>,
    suites: &str,
    architecture: &str,
) -> Result<Vec<Candidate<'u>>, DebianError> {
    let mut solution = Solution { universe, chosen: BTreeMap::new(), plain: Vec::new(), choices: Vec::new() };
    for name in wanted.iter().copied().chain([ALWAYS]) {
        match universe.get(name) {
            Some(candidate) => solution.choose(candidate, None),
            None if universe.providers(name).next().is_none() => {
                return Err(DebianError::NoPackage {
                    name: name.to_owned(),
                    architecture: architecture.to_owned(),
                    suites: suites.to_owned(),
                    near: near(universe, name),
                });
            }
            None => {
                let providers =
                    universe.providers(name).map(|(provider, _)| format!("`{}`", provider.name()));
                let providers = providers.take(8).collect::<Vec<_>>().join(", ");
                return Err(DebianError::Virtual { name: name.to_owned(), providers });
            }
        }
    }
    solution.follow(suites)?;
    solution.conflicts()?;
    Ok(solution.chosen.values().map(|(candidate, _)| *candidate).collect())
}

struct Solution<'u> {
    universe: &'u Universe,
    /// By name, with who brought it in.
    chosen: BTreeMap<&'u str, (Candidate<'u>, Option<&'u str>)>,
    /// Dependencies still to be looked at: who has it, and its alternatives.
    plain: Vec<(Candidate<'u>, Vec<Relation<'u>>)>,
    choices: Vec<(Candidate<'u>, Vec<Relation<'u>>)>,
}

impl<'u> Solution<'u> {
    fn choose(&mut self, candidate: Candidate<'u>, by: Option<&'u str>) {
        let name = candidate.name();
        if self.chosen.contains_key(name) {
            return;
        }
        self.chosen.insert(name, (candidate, by));
        for group in Relation::parse(candidate.depends()) {
            let plain = group.len() == 1 && self.universe.get(group[0].name).is_some();
            let list = if plain { &mut self.plain } else { &mut self.choices };
            list.push((candidate, group));
        }
    }

    /// Whether a chosen package fulfils it.
    fn fulfilled(&self, relation: &Relation<'_>) -> bool {
        self.universe.fulfilling(relation).iter().any(|one| self.chosen.contains_key(one.name()))
    }

    /// A dependency without a choice, or the first by name, so that nothing depends on the order in which they were found.
    fn next(&mut self) -> Option<(Candidate<'u>, Vec<Relation<'u>>)> {
        self.plain.pop().or_else(|| {
            let first = (0..self.choices.len()).min_by_key(|&at| {
                let (package, group) = &self.choices[at];
                (package.name(), group.iter().map(Relation::to_string).collect::<Vec<_>>())
            });
            first.map(|at| self.choices.swap_remove(at))
        })
    }

    fn follow(&mut self, suites: &str) -> Result<(), DebianError> {
        loop {
            let Some((package, group)) = self.next() else { return Ok(()) };
            if group.iter().any(|relation| self.fulfilled(relation)) {
                continue;
            }
            let universe = self.universe;
            let found = group.iter().flat_map(|relation| universe.fulfilling(relation));
            let mut found = found.filter(|candidate| !self.forbidden(*candidate));
            let Some(candidate) = found.next() else {
                let dependency = group.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ");
                return Err(DebianError::Unmet {
                    package: package.name().to_owned(),
                    dependency,
                    suites: suites.to_owned(),
                    chain: self.chain(package.name()),
                });
            };
            drop(found);
            self.choose(candidate, Some(package.name()));
        }
    }

    /// Whether a chosen package will not have this one beside it, where there is a choice.
    fn forbidden(&self, candidate: Candidate<'_>) -> bool {
        self.chosen
            .values()
            .any(|(chosen, _)| against(*chosen, candidate).or(against(candidate, *chosen)).is_some())
    }

    fn conflicts(&self) -> Result<(), DebianError> {
        for (first, _) in self.chosen.values() {
            for (second, _) in self.chosen.values() {
                if let Some((field, relation)) = against(*first, *second) {
                    return Err(DebianError::Conflict {
                        first: first.name().to_owned(),
                        second: second.name().to_owned(),
                        field,
                        relation,
                    });
                }
            }
        }
        Ok(())
    }

    /// `a, which b needs, which was asked for`.
    fn chain(&self, name: &str) -> String {
        let mut text = format!("`{name}`");
        let mut at = name;
        while let Some((_, Some(by))) = self.chosen.get(at) {
            let _ = write!(text, " is needed by `{by}`");
            at = by;
        }
        text + " was asked for"
    }
}

/// What the first says against the second, if anything. Nobody conflicts with itself (Debian Policy, 7.4).
fn against(first: Candidate<'_>, second: Candidate<'_>) -> Option<(&'static str, String)> {
    if first.name() == second.name() {
        return None;
    }
    let hits = |field: &str| {
        Relation::list(field)
            .find(|relation| {
                let own = relation.name == second.name() && relation.admits(second.version());
                own || Relation::list(second.provides()).any(|provided| {
                    provided.name == relation.name
                        && match provided.version {
                            Some((_, version)) => relation.admits(version),
                            None => relation.version.is_none(),
                        }
                })
            })
            .map(|relation| relation.to_string())
    };
    hits(first.conflicts())
        .map(|said| ("Conflicts", said))
        .or_else(|| hits(first.breaks()).map(|said| ("Breaks", said)))
}

/// `; did you mean …`.
fn near(universe: &Universe, name: &str) -> String {
    let mut names: Vec<_> = universe
        .names()
        .filter(|known| known.len().abs_diff(name.len()) <= 2)
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    names.sort_unstable();
    match names.first() {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name version; Field: value; …`
    fn universe(packages: &[&str]) -> Universe {
        let mut universe = Universe::default();
        let sum = "0".repeat(64);
        for package in packages {
            let mut parts = package.split("; ");
            let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
            let mut text =
                format!("Package: {name}\nVersion: {version}\nArchitecture: all\nSize: 1\nSHA256: {sum}\n");
            let _ = writeln!(text, "Filename: pool/{name}.deb");
            for field in parts {
                let _ = writeln!(text, "{field}");
            }
            universe.read(text.as_bytes(), "s", "u").unwrap();
        }
        universe.complete()
    }

    fn solved(packages: &[&str], wanted: &[&str]) -> Result<String, String> {
        let mut all = vec!["base-files 1"];
        all.extend(packages);
        let universe = universe(&all);
        let wanted = wanted.iter().copied().collect();
        let chosen = solve(&universe, &wanted, "s", "amd64").map_err(|error| error.to_string())?;
        let names = chosen.iter().map(|one| format!("{} {}", one.name(), one.version()));
        Ok(names.filter(|name| name != "base-files 1").collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn what_is_needed_comes_and_nothing_else() {
        let all = [
            "a 1; Depends: b (>= 2); Recommends: c",
            "b 1",
            "b 2~x",
            "b 2; Pre-Depends: d",
            "c 1",
            "d 1; Depends: a",
        ];
        assert_eq!(solved(&all, &["a"]).unwrap(), "a 1, b 2, d 1");
    }

    #[test]
    fn of_alternatives_the_first_that_can_be_had_or_the_one_that_is_there() {
        let all = ["a 1; Depends: x | y | z", "y 1", "z 1", "b 1; Depends: z"];
        assert_eq!(solved(&all, &["a"]).unwrap(), "a 1, y 1");
        assert_eq!(solved(&all, &["a", "b"]).unwrap(), "a 1, b 1, z 1");
    }

    #[test]
    fn who_provides_a_name_is_chosen_by_priority() {
        let all = ["a 1; Depends: awk", "gawk 1; Provides: awk", "mawk 1; Provides: awk; Priority: required"];
        assert_eq!(solved(&all, &["a"]).unwrap(), "a 1, mawk 1");
        let versions = ["a 1; Depends: v (>= 2)", "p 1; Provides: v", "q 1; Provides: v (= 2)"];
        assert_eq!(solved(&versions, &["a"]).unwrap(), "a 1, q 1");
        assert_eq!(solved(&all, &["awk"]).unwrap_err().matches('`').count(), 6);
    }

    #[test]
    fn what_cannot_be_is_said_in_clear_words() {
        let all = ["abc 1; Depends: b", "b 1; Depends: c (>= 2)", "c 1", "d 1; Conflicts: c (<< 2)"];
        let unmet = solved(&all, &["abc"]).unwrap_err();
        assert!(unmet.contains("`b` needs `c (>= 2)`") && unmet.contains("needed by `abc`"), "{unmet}");
        let missing = solved(&all, &["abd"]).unwrap_err();
        assert!(missing.contains("no package `abd`") && missing.contains("did you mean `abc`"), "{missing}");
        let conflict = solved(&all, &["c", "d"]).unwrap_err();
        assert!(conflict.contains("`d` says `Conflicts: c (<< 2)`"), "{conflict}");
        let chosen =
            solved(&["a 1; Depends: x | y", "x 1; Conflicts: b", "y 1", "b 1"], &["a", "b"]).unwrap();
        assert_eq!(chosen, "a 1, b 1, y 1");
    }
}
