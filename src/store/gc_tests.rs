//! Whatever the generations are: nothing that is kept loses anything, and nothing else stays.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::bundle::sample;
use crate::model::Slot;

/// One generation: which of the files it has, how it ended, and what was good before it.
#[derive(Debug, Clone)]
struct Made {
    files: u8,
    outcome: u8,
    previous: Option<u32>,
}

fn made() -> impl Strategy<Value = Made> {
    (any::<u8>(), 0..4_u8, proptest::option::of(0..12_u32)).prop_map(|(files, outcome, previous)| Made {
        files,
        outcome,
        previous,
    })
}

fn number(number: u32) -> GenerationNumber {
    number.to_string().parse().unwrap()
}

/// A manifest with some of eight files; each generation has a profile of its own, so that its manifest is its own.
fn manifest(nth: u32, files: u8) -> Manifest {
    let mut manifest = sample::bundle().manifest().clone();
    manifest.profile = format!("p{nth}").parse().unwrap();
    let pattern = manifest.artifacts[0].clone();
    manifest.artifacts = (0..8_u8)
        .filter(|bit| files & (1 << bit) != 0)
        .map(|bit| {
            let mut entry = pattern.clone();
            entry.path = format!("etc/{bit}.conf").parse().unwrap();
            entry.digest = Digest::of(&[bit]);
            entry
        })
        .collect();
    manifest
}

fn record(nth: u32, bundle: Digest, made: &Made) -> Record {
    Record {
        schema: Record::SCHEMA,
        generation: number(nth),
        bundle: Some(bundle),
        profile: None,
        source: String::new(),
        by: String::new(),
        created: 0,
        outcome: if made.outcome == 0 { Outcome::Failed("why".to_owned()) } else { Outcome::Good },
        previous: made.previous.map(number),
    }
}

fn machine(all: &[Made], current: u32, last_good: u32) -> (tempfile::TempDir, Store) {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let store = Store::new(dir.path());
    store.prepare().unwrap();
    store.ensure_bare_generation("test", 0).unwrap();
    for (nth, made) in (1..).zip(all) {
        let manifest = manifest(nth, made.files);
        for (bit, entry) in (0..8_u8).filter(|bit| made.files & (1 << bit) != 0).zip(&manifest.artifacts) {
            store.put_object(&entry.store_path(), entry.mode, &[bit]).unwrap();
        }
        let bytes = serde_json::to_vec(&manifest).unwrap();
        store.put_manifest(Digest::of(&bytes), &bytes).unwrap();
        store.create_generation(&record(nth, Digest::of(&bytes), made), Some(&manifest)).unwrap();
    }
    let view = |nth| View { generation: number(nth), slot: Slot::Blue };
    store.flip_back(view(current)).unwrap();
    store.set_last_good(view(last_good)).unwrap();
    // What a crash left behind.
    let leftover = store.at("store").join(format!(".{}.new", Digest::of(b"leftover").hex()));
    fs::create_dir(leftover).unwrap();
    // What is not ours.
    fs::write(store.at("store/README"), "mine").unwrap();
    (dir, store)
}

/// Every path below our directory.
fn everything(store: &Store) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(store.home()).sort_by_file_name();
    all.into_iter().map(|entry| entry.unwrap().into_path()).collect()
}

/// The generation is there with its manifest, and every file of it is what it was.
fn whole(store: &Store, number: GenerationNumber) {
    let generation =
        store.generation(number).unwrap().unwrap_or_else(|| panic!("generation {number} is gone"));
    for entry in generation.manifest.iter().flat_map(|manifest| &manifest.artifacts) {
        store.verify_object(&entry.store_path(), entry.mode).unwrap();
        let link = store.at(format!("generations/{number}/blue/{}", entry.path));
        assert!(link.exists(), "{} leads nowhere", link.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_kept_loses_nothing_and_nothing_else_stays(
        all in vec(made(), 1..12),
        current in any::<prop::sample::Index>(),
        last_good in any::<prop::sample::Index>(),
        keep in 1..4_usize,
    ) {
        let nth = |index: prop::sample::Index| u32::try_from(index.index(all.len())).unwrap() + 1;
        let (current, last_good) = (nth(current), nth(last_good));
        let (_dir, store) = machine(&all, current, last_good);
        let next = store.next_generation().unwrap();
        let before = everything(&store);

        let kept = store.kept(keep, &[]).unwrap();
        let garbage = store.garbage(&kept).unwrap();
        prop_assert_eq!(&before, &everything(&store), "looking changes nothing");
        for nth in [Some(current), Some(last_good), all[current as usize - 1].previous.filter(|nth| *nth <= u32::try_from(all.len()).unwrap())] {
            prop_assert!(nth.is_none_or(|nth| kept.generations.contains(&number(nth))));
        }
        let good: Vec<u32> = (1..).zip(&all).filter(|(_, made)| made.outcome != 0).map(|(nth, _)| nth).collect();
        prop_assert!(good.iter().rev().take(keep).all(|nth| kept.generations.contains(&number(*nth))));

        store.remove(&garbage).unwrap();
        for record in store.records().unwrap() {
            prop_assert!(kept.generations.contains(&record.generation) || record.generation.next() == next);
        }
        for number in &kept.generations {
            if store.at("generations").join(number.to_string()).exists() {
                whole(&store, *number);
            }
        }
        let again = store.garbage(&store.kept(keep, &[]).unwrap()).unwrap();
        prop_assert!(again.is_empty(), "{:?}", again);
        prop_assert!(store.at("store/README").exists());
        prop_assert_eq!(next, store.next_generation().unwrap(), "no number is given twice");
    }
}

#[test]
fn a_manifest_that_cannot_be_read_stops_it() {
    let made = Made { files: 3, outcome: 1, previous: None };
    let (_dir, store) = machine(&[made.clone(), made], 2, 2);
    let bundle = store.record(number(2)).unwrap().unwrap().bundle.unwrap();
    let path = store.at("bundles").join(bundle.hex());
    fs::remove_file(&path).unwrap();
    assert!(store.kept(5, &[]).is_err());
}

#[test]
fn what_runs_or_is_waited_for_stays() {
    let made = |files| Made { files, outcome: 1, previous: None };
    let (_dir, store) = machine(&[made(0b1), made(0b10), made(0b100)], 3, 3);
    let first = manifest(1, 0b1).artifacts[0].store_path();
    let kept = store.kept(1, std::slice::from_ref(&first)).unwrap();
    assert!(kept.objects.contains(&first.hash()));
    assert!(!kept.objects.contains(&manifest(2, 0b10).artifacts[0].store_path().hash()));
    assert_eq!(store_path_in(&format!("{}/", first.absolute())), Some(first.clone()));
    assert_eq!(store_path_in("/etc/passwd"), None);

    let bundle = store.record(number(2)).unwrap().unwrap().bundle;
    let waiting = crate::store::Waiting { reference: String::new(), bundle, missing: vec![], since: 0 };
    store.set_waiting(&waiting).unwrap();
    let kept = store.kept(1, &[]).unwrap();
    assert!(kept.objects.contains(&manifest(2, 0b10).artifacts[0].store_path().hash()));
}
