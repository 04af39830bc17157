//! Killed, or refused by the kernel, at random system calls.

use std::time::Instant;

use crate::scene::Scene;
use crate::settled::damage;
use crate::strace::{self, Point, Random};

/// All calls of a run that nobody disturbs.
fn points(scene: &Scene) -> Vec<Point> {
    let machine = scene.machine();
    let (run, points) = strace::points(&machine, &scene.arguments());
    run.ends(0);
    points
}

fn killed_at(scene: &Scene, count: usize) {
    let start = Instant::now();
    let mut random = Random::seeded(scene.name);
    let all = points(scene);
    let total = all.len();
    let mut outcomes = [0, 0];
    // A window between two names is one call wide and chance would miss it: around those that everything hangs on,
    // every call that changes a name.
    let names = ["rename", "symlink", "link", "unlink"];
    let pivots = ["bundle/current", "bundle/last-good", "bundle/ledger", "/record.json"];
    let (always, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|point: &Point| {
        names.iter().any(|name| point.call.starts_with(name)) && pivots.iter().any(|p| point.line.contains(p))
    });
    println!("{}: {} calls change a name that everything hangs on", scene.name, always.len());
    let mut chosen = random.some(others, count);
    chosen.extend(always);
    for point in &chosen {
        let machine = scene.machine();
        let run = strace::killed(&machine, point, &scene.arguments());
        assert_eq!(run.code, -9, "{point:?} was not reached: {}", run.stderr);
        let is_new = scene.settles(&machine, &run, &format!("killed at {point:?}"));
        outcomes[usize::from(is_new)] += 1;
    }
    let [old, new] = outcomes;
    println!(
        "{}: killed at {} of {total} calls, {old} times old, {new} times new, {:.1} s",
        scene.name,
        chosen.len(),
        start.elapsed().as_secs_f32()
    );
    assert!(total > 100 && old > 0);
}

/// How many points; all with `BUNDLE_EXHAUSTIVE=1`.
fn many(usual: usize) -> usize {
    if std::env::var_os("BUNDLE_EXHAUSTIVE").is_some() { usize::MAX } else { usual }
}

#[test]
fn a_switch_killed_at_a_hundred_system_calls_is_old_or_new() {
    killed_at(&Scene::switch(), many(100));
}

#[test]
fn a_rollback_killed_at_random_system_calls_is_old_or_new() {
    killed_at(&Scene::rollback(), many(40));
}

#[test]
fn a_first_switch_killed_at_random_system_calls_is_old_or_new() {
    killed_at(&Scene::first(), many(40));
}

/// The calls from which on there is something to recover.
fn under_way(points: Vec<Point>) -> Vec<Point> {
    let begin = points.iter().position(|point| point.line.contains("/journal>") && point.call == "pwrite64");
    points.into_iter().skip(begin.unwrap() + 1).collect()
}

#[test]
fn a_recovery_that_is_killed_too_is_finished_by_the_next() {
    let scene = Scene::switch();
    let mut random = Random::seeded("killed twice");
    let mut killed = 0;
    let chosen = random.some(under_way(points(&scene)), many(15));
    for point in &chosen {
        let machine = scene.machine();
        let run = strace::killed(&machine, point, &scene.arguments());
        let (_, of_recovery) = strace::points(&machine.copy(), &["recover"]);
        for second in random.some(of_recovery, 2) {
            // Three attempts at going back are made without being forced; two of them may die.
            let recover = strace::killed(&machine, &second, &["recover"]);
            killed += usize::from(recover.code == -9);
        }
        scene.settles(&machine, &run, &format!("killed at {point:?} and again in recovery"));
    }
    println!("killed twice: {killed} recoveries of {} switches", chosen.len());
    assert!(killed >= chosen.len(), "{killed}");
}

/// One call fails. What the exit code says is true, and a recovery settles what is left.
fn fails(scene: &Scene, point: &Point, errno: &str, for_good: bool) -> i32 {
    let machine = scene.machine();
    let run = strace::failing(&machine, point, errno, for_good, &scene.arguments());
    let on = if for_good { " and after" } else { "" };
    let when = format!("{errno} at{on} {point:?}, exit {}\n{}", run.code, run.stderr);
    assert!(!run.stderr.contains("panicked"), "{when}");
    let bundle =
        || machine.path("var/lib/bundle/current").symlink_metadata().ok().and_then(|_| machine.bundle());
    match run.code {
        0 => {
            // What did not go well after the commit is said, if anything can be, and is pending; anything else is done.
            let said =
                run.stderr.contains("clearing up has not ended") || (for_good && point.call == "write");
            let unfinished = said && machine.status()["pending"]["committed"] == true;
            assert!(unfinished || damage(&machine).is_empty(), "done, {:?}, {when}", damage(&machine));
            assert_eq!(bundle(), scene.new, "{when}");
        }
        1 | 20 => assert_eq!(bundle(), scene.old, "nothing was started, {when}"),
        30 => {
            assert_eq!(damage(&machine), Vec::<String>::new(), "the last good one serves, {when}");
            assert_eq!(bundle(), scene.old, "{when}");
        }
        31 => {}
        _ => panic!("not an exit code of a failed switch: {when}"),
    }
    scene.settles(&machine, &run, &when);
    run.code
}

#[test]
fn a_system_call_that_fails_is_a_clean_failure() {
    let start = Instant::now();
    let mut random = Random::seeded("errors");
    let mut codes = std::collections::BTreeMap::<i32, usize>::new();
    for scene in [Scene::switch(), Scene::rollback()] {
        let all = points(&scene);
        for (index, point) in random.some(all, many(30)).iter().enumerate() {
            let errno = ["ENOSPC", "EIO"][index % 2];
            *codes.entry(fails(&scene, point, errno, index % 3 == 2)).or_default() += 1;
        }
    }
    println!("errors: exit codes {codes:?}, {:.1} s", start.elapsed().as_secs_f32());
    assert!(codes.len() > 1, "{codes:?}");
}
