//! Which folder holds the database, and how another one takes its place.
//!
//! ```text
//! <parent>/db             the first database
//! <parent>/db-<n>         one that was received, or is being received
//! <parent>/db.current     names the database in force; absent: db
//! <parent>/checkpoint-<n> a copy by hard links that is being sent
//! ```
//!
//! A database is made ready under a name that nothing refers to; then the small file that names the one in force is
//! replaced. So a crash at any point leaves the old database or the new one, and whatever else lies there is rubbish,
//! removed at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The first database.
const FIRST: &str = "db";
/// What the names of the others begin with.
const LATER: &str = "db-";
/// Names the database in force.
const POINTER: &str = "db.current";
/// The same, not yet in force.
const NEXT_POINTER: &str = "db.current.tmp";
/// What the names of checkpoints begin with.
const CHECKPOINT: &str = "checkpoint-";
/// The file that a folder has once there is a database in it.
const PROOF: &str = "CURRENT";

/// Numbers the checkpoints of this process, whichever database they are of.
static NEXT_CHECKPOINT: AtomicU64 = AtomicU64::new(1);

/// The folder that databases lie in. One process has it.
#[derive(Debug)]
pub struct Place {
    parent: PathBuf,
    /// The number of the next database.
    next: AtomicU64,
}

impl Place {
    /// Takes the folder, which exists, and removes what an earlier process left unfinished.
    pub fn open(parent: &Path) -> io::Result<Self> {
        let current = look(parent)?;
        let mut next = 1;
        let mut is_changed = false;
        for name in names(parent)? {
            let path = parent.join(&name);
            next = next.max(number(&name, LATER).map_or(0, |number| number.saturating_add(1)));
            let is_left_over = is_database(&name) && path != current
                || name.starts_with(CHECKPOINT)
                || name == NEXT_POINTER;
            if is_left_over {
                remove(&path)?;
                is_changed = true;
            }
        }
        if is_changed {
            sync(parent)?;
        }
        Ok(Self {
            parent: parent.to_owned(),
            next: AtomicU64::new(next),
        })
    }

    /// The folder that everything lies in.
    pub fn parent(&self) -> &Path {
        &self.parent
    }

    /// The folder of the database in force. Its name is durable once a database in it is.
    pub fn current(&self) -> io::Result<PathBuf> {
        look(&self.parent)
    }

    /// A folder for another database, not made yet. Each call names another one.
    pub fn fresh(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.parent.join(format!("{LATER}{number}"))
    }

    /// Puts another database in force, durably. It is complete and durable itself.
    ///
    /// After an error either of them may be in force: nothing more may be acknowledged, and the next start goes by
    /// what it finds.
    pub fn switch(&self, folder: &Path) -> io::Result<()> {
        let name = folder
            .strip_prefix(&self.parent)
            .ok()
            .and_then(Path::to_str)
            .filter(|name| is_database(name))
            .ok_or_else(|| invalid(format!("{} is no place for a database", folder.display())))?;
        let next = self.parent.join(NEXT_POINTER);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&next)?;
        file.write_all(name.as_bytes())?;
        file.sync_all()?;
        // The folder's own name is durable before anything refers to it.
        sync(&self.parent)?;
        fs::rename(&next, self.parent.join(POINTER))?;
        sync(&self.parent)
    }

    /// Removes a database that is not in force and that nobody has open any more.
    pub fn remove(&self, folder: &Path) -> io::Result<()> {
        if folder == self.current()? {
            return Err(invalid(format!("{} is in force", folder.display())));
        }
        remove(folder)?;
        sync(&self.parent)
    }
}

/// The folder of the database in force, for who only reads; changes nothing.
///
/// An error if that cannot be told: a database that is there must never be taken for one that was not made yet.
pub fn look(parent: &Path) -> io::Result<PathBuf> {
    let pointer = parent.join(POINTER);
    let mut text = String::new();
    // A name of any length is not one of ours.
    match File::open(&pointer).and_then(|file| file.take(256).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let first = parent.join(FIRST);
            if !holds_database(&first)
                && let Some(other) = names(parent)?
                    .into_iter()
                    .find(|name| is_database(name) && holds_database(&parent.join(name)))
            {
                return Err(invalid(format!(
                    "{} is missing, and {other} may be the database that it named",
                    pointer.display()
                )));
            }
            return Ok(first);
        }
        Err(error) => return Err(in_file(&pointer, &error)),
    }
    let folder = parent.join(&text);
    if !is_database(&text) || !holds_database(&folder) {
        return Err(invalid(format!(
            "{} names {text:?}, which is not a database beside it",
            pointer.display()
        )));
    }
    Ok(folder)
}

/// Whether a name is one that databases have here.
pub fn is_database(name: &str) -> bool {
    name == FIRST || number(name, LATER).is_some()
}

/// A folder for a checkpoint beside a database, not made yet; for engines with files.
pub fn checkpoint_beside(database: &Path) -> PathBuf {
    let number = NEXT_CHECKPOINT.fetch_add(1, Ordering::Relaxed);
    database.with_file_name(format!("{CHECKPOINT}{number}"))
}

/// Removes a checkpoint, also one that was only begun: RocksDB makes it under another name first.
pub fn remove_checkpoint(folder: &Path) -> io::Result<()> {
    let mut begun = folder.as_os_str().to_owned();
    begun.push(".tmp");
    remove(Path::new(&begun)).and(remove(folder))
}

/// Makes creations, renames and removals in a folder durable.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn number(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number: u64 = digits.parse().ok()?;
    // Exactly as it is written: no sign, no zeros before it.
    (number.to_string() == digits).then_some(number)
}

fn holds_database(folder: &Path) -> bool {
    folder.join(PROOF).exists()
}

/// The names in a folder. What is not UTF-8 is not ours.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(in_file(path, &error)),
        _ => Ok(()),
    }
}

fn in_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A database, as far as this module looks at one.
    fn make(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(PROOF), "MANIFEST-000001\n").unwrap();
    }

    fn found(folder: &TempDir) -> Vec<String> {
        let mut names = names(folder.path()).unwrap();
        names.sort();
        names
    }

    #[test]
    fn a_folder_without_a_pointer_has_its_database_in_db() {
        let folder = TempDir::new().unwrap();
        let place = Place::open(folder.path()).unwrap();
        assert_eq!(place.current().unwrap(), folder.path().join("db"));
        make(&place.current().unwrap());
        let place = Place::open(folder.path()).unwrap();
        assert_eq!(place.current().unwrap(), folder.path().join("db"));
        assert_eq!(found(&folder), ["db"]);
    }

    #[test]
    fn the_new_database_is_in_force_from_the_rename_on_and_the_old_one_goes_at_the_next_start() {
        let folder = TempDir::new().unwrap();
        make(&folder.path().join("db"));
        let place = Place::open(folder.path()).unwrap();
        let (one, two) = (place.fresh(), place.fresh());
        assert_eq!(one, folder.path().join("db-1"));
        make(&one);
        make(&two);
        place.switch(&two).unwrap();
        assert_eq!(place.current().unwrap(), two);
        assert!(place.remove(&two).is_err());
        place.remove(&one).unwrap();
        assert_eq!(found(&folder), ["db", "db-2", "db.current"]);
        let place = Place::open(folder.path()).unwrap();
        assert_eq!(found(&folder), ["db-2", "db.current"]);
        assert_eq!(place.fresh(), folder.path().join("db-3"));
        make(&folder.path().join("db-3"));
        place.switch(&folder.path().join("db-3")).unwrap();
        drop(Place::open(folder.path()).unwrap());
        assert_eq!(found(&folder), ["db-3", "db.current"]);
    }

    #[test]
    fn what_was_left_unfinished_goes_and_what_is_not_ours_stays() {
        let folder = TempDir::new().unwrap();
        for name in [
            "db",
            "db-1",
            "checkpoint-4",
            "checkpoint-5.tmp",
            "db-x",
            "db-01",
            "wal",
        ] {
            make(&folder.path().join(name));
        }
        fs::write(folder.path().join(NEXT_POINTER), "db-1").unwrap();
        let place = Place::open(folder.path()).unwrap();
        assert_eq!(place.current().unwrap(), folder.path().join("db"));
        assert_eq!(found(&folder), ["db", "db-01", "db-x", "wal"]);
    }

    #[test]
    fn a_database_is_never_taken_for_one_that_was_not_made_yet() {
        let folder = TempDir::new().unwrap();
        make(&folder.path().join("db-7"));
        let lost = Place::open(folder.path()).unwrap_err().to_string();
        assert!(
            lost.contains("db.current is missing, and db-7 may be"),
            "{lost}"
        );
        // Empty folders are made before anything is in them.
        fs::create_dir(folder.path().join("db")).unwrap();
        assert!(Place::open(folder.path()).is_err());
        for text in ["db-8", "db", "", "../db-7", "db-7\n", "wal"] {
            fs::write(folder.path().join(POINTER), text).unwrap();
            let error = Place::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("names {text:?}")), "{error}");
        }
        fs::write(folder.path().join(POINTER), "db-7").unwrap();
        assert!(Place::open(folder.path()).is_ok());
        assert_eq!(found(&folder), ["db-7", "db.current"]);
    }

    #[test]
    fn only_a_name_for_databases_is_put_in_force() {
        let folder = TempDir::new().unwrap();
        let place = Place::open(folder.path()).unwrap();
        for name in ["x", "db-1/x", "../db-1", ""] {
            assert!(place.switch(&folder.path().join(name)).is_err(), "{name:?}");
        }
        assert!(found(&folder).is_empty());
    }
}
