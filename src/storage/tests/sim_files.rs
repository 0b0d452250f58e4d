//! The simulated disk itself: what it keeps, and what it forgets.

use crate::random::Random;
use crate::storage::files::{Files, Shortage, read_all};
use crate::storage::sim_files::SimFiles;

fn content(files: &SimFiles, path: &str) -> Vec<u8> {
    read_all(&*files.open(path).unwrap()).unwrap()
}

#[test]
fn what_was_synced_survives_and_the_rest_may_not() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..64 {
        let files = SimFiles::new();
        let handle = files.create("a").unwrap();
        handle.write_at(0, &[1; 2048]).unwrap();
        handle.sync_data().unwrap();
        files.sync_directory("").unwrap();
        handle.write_at(1024, &[2; 1024]).unwrap();
        files.crash(&Random::seeded(seed));
        let bytes = content(&files, "a");
        assert_eq!(bytes[..1024], [1; 1024]);
        match (bytes[1024], bytes[1536]) {
            (1, 1) => lost += 1,
            (2, 2) => kept += 1,
            _ => torn += 1,
        }
        assert!(handle.sync_data().is_err(), "a handle from before the crash is dead");
    }
    assert!(lost > 0 && kept > 0 && torn > 0, "{lost} {kept} {torn}");
}

#[test]
fn a_name_needs_its_directory_synced() {
    let (mut gone, mut there) = (0, 0);
    for seed in 0..32 {
        let files = SimFiles::new();
        files.create("a").unwrap().sync_data().unwrap();
        files.crash(&Random::seeded(seed));
        if files.open("a").is_ok() { there += 1 } else { gone += 1 }
    }
    assert!(gone > 0 && there > 0);
}

#[test]
fn a_directory_that_is_not_durable_takes_its_files_with_it() {
    let lost = (0..32).any(|seed| {
        let files = SimFiles::new();
        files.create_directory("d").unwrap();
        files.create("d/a").unwrap().sync_data().unwrap();
        files.sync_directory("d").unwrap();
        files.crash(&Random::seeded(seed));
        files.open("d/a").is_err()
    });
    assert!(lost);
}

#[test]
fn a_second_sync_after_a_failed_one_lies() {
    let files = SimFiles::new();
    let handle = files.create("a").unwrap();
    files.sync_directory("").unwrap();
    handle.write_at(0, &[7; 512]).unwrap();
    files.fail_sync_after(0);
    assert!(handle.sync_data().is_err());
    handle.sync_data().unwrap();
    files.crash(&Random::seeded(1));
    assert!(content(&files, "a").iter().all(|byte| *byte == 0));
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let files = SimFiles::new();
    let handle = files.create("a").unwrap();
    files.set_space_bytes(Some(1000));
    handle.write_at(0, &[1; 1000]).unwrap();
    handle.write_at(0, &[2; 1000]).unwrap();
    assert_eq!(Shortage::of(&handle.write_at(1000, &[1]).unwrap_err()), Some(Shortage::Space));
    files.remove("a").unwrap();
    files.create("b").unwrap().write_at(0, &[1; 1000]).unwrap();
}

#[test]
fn the_power_goes_off_at_a_sync() {
    let files = SimFiles::new();
    let handle = files.create("a").unwrap();
    files.sync_directory("").unwrap();
    files.power_off_after_syncs(1);
    handle.write_at(0, &[1; 10]).unwrap();
    handle.sync_data().unwrap();
    assert!(handle.sync_data().is_err());
    assert!(files.open("a").is_err());
    files.crash(&Random::seeded(3));
    assert_eq!(content(&files, "a"), [1; 10]);
}
