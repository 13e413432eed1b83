//! What is refused, what is kept, and what a crash leaves.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

const IDENTITY: Identity = Identity {
    cluster_id: 0xcdf8_1819_4e3a_8c32,
    member_id: 0x8e9e_05c5_2164_694d,
};

fn open(path: &Path) -> Result<DataDir, DataDirError> {
    DataDir::open(path, None, || Ok(IDENTITY))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_new_folder_belongs_to_its_owner_alone_and_keeps_its_identity() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/default.etcd");

    let first = open(&path).unwrap();
    assert!(first.is_new() && first.boot() == 1 && first.warning().is_none());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(path.join("member/wal").is_dir() && first.database().is_dir());
    drop(first);

    let second = DataDir::open(&path, None, || -> Result<_, DataDirError> {
        panic!("it is there")
    })
    .unwrap();
    assert!(!second.is_new());
    assert_eq!((second.identity(), second.boot()), (IDENTITY, 2));
}

#[test]
fn a_folder_in_use_names_the_process_that_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let held = open(&path).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(
        error.contains(&format!("in use by process {}", std::process::id())),
        "{error}"
    );
    assert_eq!(
        holder(&path),
        Some(format!("process {}", std::process::id()))
    );
    drop(held);
    assert_eq!(holder(&path), None);
    assert_eq!(
        open(&path).unwrap().boot(),
        2,
        "the refused start does not count"
    );
}

#[test]
fn a_folder_that_others_can_write_is_refused_and_one_they_can_read_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    fs::create_dir(&path).unwrap();
    set_mode(&path, 0o775);
    let error = open(&path).unwrap_err().to_string();
    assert!(
        error.contains("mode 0775") && error.contains(&format!("chmod 700 {}", path.display())),
        "{error}"
    );
    set_mode(&path, 0o755);
    assert!(
        open(&path)
            .unwrap()
            .warning()
            .unwrap()
            .contains("mode 0755")
    );
}

#[test]
fn a_newer_format_is_refused_whatever_else_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    fs::write(
        folder.path().join("member/identity.json"),
        r#"{"format": 7, "new": []}"#,
    )
    .unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("newer Holdfast (format 7, this one knows 2)"),
        "{error}"
    );
}

#[test]
fn a_damaged_or_lost_identity_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let path = folder.path().join("member/identity.json");
    for text in [
        "",
        "{",
        r#"{"format":1,"cluster_id":"x","member_id":"1","boot":1,"wal_dir":"wal"}"#,
    ] {
        fs::write(&path, text).unwrap();
        assert!(
            matches!(open(folder.path()), Err(DataDirError::Damaged { .. })),
            "{text:?}"
        );
    }
    fs::remove_file(&path).unwrap();
    drop(open(folder.path()).expect("nothing was kept yet"));
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("member/wal/0001.wal"), "x").unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("wal/ beside it has data"), "{error}");
}

#[test]
fn the_database_is_the_one_that_was_put_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path()).unwrap();
    let member = folder.path().join("member");
    assert_eq!(opened.database(), member.join("db"));
    let other = opened.place().fresh();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("CURRENT"), "").unwrap();
    opened.place().switch(&other).unwrap();
    drop(opened);
    assert_eq!(existing_database(folder.path()).unwrap(), other);
    assert_eq!(open(folder.path()).unwrap().database(), other);
    assert!(!member.join("db").exists());

    // Without the file that names it, it is not taken for rubbish, nor a new one made.
    fs::remove_file(member.join("db.current")).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("db.current is missing"), "{error}");
    fs::write(member.join("db.current"), "db-1").unwrap();
    fs::remove_file(member.join("identity.json")).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("db-1/ beside it has data"), "{error}");
    assert!(other.join("CURRENT").exists());
}

#[test]
fn etcds_own_folder_and_strangers_are_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("member/snap")).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("etcd's database"), "{error}");
    assert!(!folder.path().join("member/lock").exists());

    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(open(&file).is_err());
}

#[test]
fn a_refused_bootstrap_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let refuse = || Err(DataDirError::Missing(PathBuf::new()));
    assert!(DataDir::open(&path, None, refuse).is_err());
    assert!(!path.exists());
}

#[test]
fn the_log_is_looked_for_where_it_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let (data, wal) = (folder.path().join("data"), folder.path().join("wal"));
    let open = |wal_dir| DataDir::open(&data, wal_dir, || Ok::<_, DataDirError>(IDENTITY));
    assert_eq!(open(Some(&wal)).unwrap().wal(), wal);
    assert_eq!(existing_wal(&data, None).unwrap(), wal);
    let error = open(None).unwrap_err().to_string();
    assert!(
        error.contains(&format!("kept in {}", wal.display())),
        "{error}"
    );
}

#[test]
fn a_restore_that_begins_anew_empties_the_folders_and_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let (data, wal) = (folder.path().join("data"), folder.path().join("wal"));
    fs::create_dir(&wal).unwrap();
    // Of a folder that was removed and made again it would be another one.
    set_mode(&wal, 0o750);
    for _ in 0..2 {
        let restoring = Restoring::begin(&data, Some(&wal), IDENTITY).unwrap();
        assert_eq!(restoring.wal(), wal);
        for folder in [restoring.wal(), restoring.database()] {
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
            fs::create_dir_all(folder.join("a/b")).unwrap();
            fs::write(folder.join("half"), "x").unwrap();
        }
        // It is killed here.
    }
    let mode = fs::metadata(&wal).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
}

#[test]
fn a_missing_folder_has_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let error = existing_wal(&folder.path().join("no"), None)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("no data folder at "), "{error}");
}
