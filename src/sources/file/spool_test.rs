//! Tests of spool folders: what is removed, what is left alone, and who waits.

use super::folders::Folders;
use super::tail_test::{Rig, expected, lines};
use crate::event::Stamp;
use crate::toolkit::fake::Folder;

#[test]
fn a_spool_file_goes_when_its_writer_is_gone_and_all_is_durable() {
    let mut rig = Rig::with(Folder::new(), &["*.ndjson"], |s| {
        s.removes = true;
        s.stamps_owner = true;
    });
    let path = rig.folder.write("one.ndjson", lines(0..2));
    let writer = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&writer, rustix::fs::FlockOperation::LockShared).unwrap();
    rig.intake.hold();
    (0..3).for_each(|_| rig.later(3));
    drop(writer);
    rig.later(3);
    assert!(path.exists(), "nothing is durable yet");
    rig.intake.release();
    rig.folder.append("one.ndjson", "half");
    (0..3).for_each(|_| rig.later(1));
    assert!(!path.exists());
    assert_eq!(rig.texts(), ["line 000000", "line 000001", "half"]);
    assert_eq!(rig.intake.entries()[0].provenance.stamp.as_deref(), Some(&Stamp::user("root")));
    (0..2).for_each(|_| rig.later(1));
    assert_eq!(rig.intake.stated(), 1, "what is gone for good is forgotten");
}

#[test]
fn a_spool_folder_that_is_or_becomes_a_link_is_refused_and_nothing_behind_it_is_read_or_removed() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("victim")).unwrap();
    std::fs::create_dir(folder.path("spool")).unwrap();
    let theirs = folder.write("victim/one.ndjson", lines(90..92));
    let mut rig = Rig::with(folder, &["spool/*.ndjson"], |s| {
        s.removes = true;
        s.patterns.folders = Folders::held();
    });
    rig.folder.write("spool/one.ndjson", lines(0..2));
    rig.pass();
    rig.folder.rename("spool", "away");
    std::os::unix::fs::symlink(rig.folder.path("victim"), rig.folder.path("spool")).unwrap();
    (0..4).for_each(|_| rig.later(10));
    assert!(theirs.exists(), "a file behind the link was removed");
    assert_eq!(rig.texts(), expected(0..2));
    assert!(!rig.folder.path("away/one.ndjson").exists(), "what was read is removed where it is");
    std::fs::remove_file(rig.folder.path("spool")).unwrap();
    rig.folder.rename("away", "spool");
    rig.folder.write("spool/two.ndjson", lines(2..4));
    (0..4).for_each(|_| rig.later(10));
    assert_eq!(rig.texts(), expected(0..4), "it goes on when the folder is one again");
}

#[test]
fn a_spool_file_that_has_another_name_is_left_alone() {
    let mut rig = Rig::with(Folder::new(), &["*.ndjson"], |s| {
        s.removes = true;
        s.patterns.folders = Folders::held();
    });
    let theirs = rig.folder.write("secret", lines(90..92));
    std::fs::hard_link(&theirs, rig.folder.path("one.ndjson")).unwrap();
    (0..4).for_each(|_| rig.later(10));
    assert_eq!(rig.texts(), Vec::<String>::new());
    assert!(rig.folder.path("one.ndjson").exists());
}

#[test]
fn an_owner_who_writes_much_waits_and_the_others_do_not() {
    let mut rig = Rig::with(Folder::new(), &["*.ndjson"], |s| s.owner_rate = Some(10_000));
    for n in 0..3 {
        rig.folder.write(&format!("{n}.ndjson"), lines(0..200_000));
    }
    let other = rig.folder.write("other.ndjson", lines(900_000..900_002));
    std::os::unix::fs::chown(&other, Some(65534), None).unwrap();
    rig.pass();
    let count = |rig: &Rig| rig.texts().iter().filter(|text| *text < &"line 9".to_owned()).count();
    let first = count(&rig);
    assert!(first > 0 && first < 60_000, "{first} lines, with chunks of 256 KiB");
    assert_eq!(rig.texts().len() - first, 2, "the other's are all there");
    (0..20).for_each(|_| rig.later(1));
    assert_eq!(count(&rig), first, "more than a second's share was taken ahead");
    rig.later(1000);
    assert!(count(&rig) > first);
}
