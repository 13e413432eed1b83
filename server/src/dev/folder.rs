//! The folder of `holdfast dev`: what was made in it, and that nothing else is removed.
//!
//! A file says that the nodes' folders were made here, and for which ports. It is written before the first of them is
//! made, and only where none of them was there; it is locked while the nodes run.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::config::DevOptions;
use crate::data_dir;

/// The file's name.
const MARKER: &str = "holdfast-dev.json";

/// How many nodes there are, and on which ports: fixed at the first start, because the members know each other by their
/// addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) nodes: u16,
    pub(super) base_port: u16,
}

impl Plan {
    fn asked(options: &DevOptions) -> Self {
        Self {
            nodes: options.nodes.unwrap_or(3),
            base_port: options.base_port.unwrap_or(2379),
        }
    }

    /// Whether a command line could have asked for it.
    fn is_possible(&self) -> bool {
        (1..=5).contains(&self.nodes) && (1..=65_000).contains(&self.base_port)
    }

    /// The names of the nodes: `n1`, `n2`, ..
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        (1..=self.nodes).map(|number| format!("n{number}"))
    }

    /// A node's port for clients, the one for peers and that of the resource API, by its place from 0.
    pub(super) fn ports(self, place: u16) -> [u16; 3] {
        let client = self.base_port + 10 * place;
        [client, client + 1, client + 2]
    }
}

/// The folder, locked.
pub(super) struct Folder {
    path: PathBuf,
    marker: File,
    plan: Plan,
    has_nodes: bool,
}

impl Folder {
    /// Makes or opens the folder, and says which nodes it is for. Removes nothing yet.
    pub(super) fn open(options: &DevOptions) -> Result<Self, Failure> {
        let path = options.data_dir.clone();
        fs::create_dir_all(&path)
            .map_err(|error| format!("cannot make the folder {}: {error}", path.display()))?;
        let asked = Plan::asked(options);
        let marker = path.join(MARKER);
        if !marker.exists() {
            // Nor is anything written where it would be refused.
            refuse_what_is_not_ours(&path, asked.names())?;
        }
        let mut marker = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&marker)
            .map_err(|error| format!("cannot write {}: {error}", marker.display()))?;
        match marker.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "another holdfast dev runs the nodes in {}; give this one a --data-dir and a --base-port of its own",
                    path.display()
                )
                .into());
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut text = String::new();
        marker.read_to_string(&mut text)?;
        let has_nodes = !text.trim().is_empty();
        let known: Plan = if has_nodes {
            let plan = serde_json::from_str(&text).ok();
            plan.filter(Plan::is_possible)
                .ok_or_else(|| format!("{} is damaged", path.join(MARKER).display()))?
        } else {
            refuse_what_is_not_ours(&path, asked.names())?;
            asked
        };
        let plan = Plan {
            nodes: options.nodes.unwrap_or(known.nodes),
            base_port: options.base_port.unwrap_or(known.base_port),
        };
        if has_nodes && !options.is_fresh && plan != known {
            let Plan { nodes, base_port } = known;
            return Err(format!(
                "{} has a cluster with --nodes {nodes} --base-port {base_port}; go on with these (or without them), \
                 begin anew with --fresh, or choose another --data-dir",
                path.display()
            )
            .into());
        }
        let folder = Self {
            path,
            marker,
            plan: known,
            has_nodes,
        };
        Ok(folder)
    }

    /// Whether there are nodes to go on with.
    pub(super) fn has_nodes(&self) -> bool {
        self.has_nodes
    }

    /// Which nodes.
    pub(super) fn plan(&self) -> Plan {
        self.plan
    }

    /// A node's data folder.
    pub(super) fn data_dir(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The certificates of the resource API, for all nodes.
    pub(super) fn certificates(&self) -> PathBuf {
        self.path.join("pki")
    }

    /// The file that a node logs to.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }

    /// Removes the nodes that were made here, and nothing else. None of them may run.
    pub(super) fn clear(&mut self, options: &DevOptions) -> Result<(), Failure> {
        let asked = Plan::asked(options);
        if self.has_nodes {
            let more = asked.names().skip(self.plan.nodes.into());
            refuse_what_is_not_ours(&self.path, more)?;
            for name in self.plan.names() {
                let data_dir = self.data_dir(&name);
                if let Some(holder) = data_dir::holder(&data_dir) {
                    return Err(format!(
                        "{} is in use by {holder}; nothing is removed",
                        data_dir.display()
                    )
                    .into());
                }
            }
            for name in self.plan.names() {
                absent_is_well(fs::remove_dir_all(self.data_dir(&name)), &name)?;
                absent_is_well(fs::remove_file(self.log(&name)), &name)?;
            }
            self.marker.set_len(0)?;
            self.has_nodes = false;
        }
        self.plan = asked;
        Ok(())
    }

    /// Writes down that the nodes are made from here on.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        if self.has_nodes {
            return Ok(());
        }
        self.marker.rewind()?;
        serde_json::to_writer(&self.marker, &self.plan)?;
        self.marker.write_all(b"\n")?;
        self.marker.sync_all()?;
        self.has_nodes = true;
        Ok(())
    }
}

fn refuse_what_is_not_ours(
    path: &Path,
    mut names: impl Iterator<Item = String>,
) -> Result<(), Failure> {
    names.try_for_each(|name| {
        for found in [path.join(&name), path.join(format!("{name}.log"))] {
            if found.symlink_metadata().is_ok() {
                return Err(format!(
                    "{} is there, but holdfast dev did not make it and leaves it alone; choose another --data-dir",
                    found.display()
                )
                .into());
            }
        }
        Ok(())
    })
}

fn absent_is_well(removed: io::Result<()>, name: &str) -> Result<(), Failure> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {name}: {error}").into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn options(folder: &TempDir, nodes: Option<u16>, is_fresh: bool) -> DevOptions {
        DevOptions {
            nodes,
            data_dir: folder.path().to_owned(),
            base_port: None,
            is_fresh,
        }
    }

    fn made(folder: &TempDir, nodes: u16) {
        let mut made = Folder::open(&options(folder, Some(nodes), false)).unwrap();
        made.begin().unwrap();
        for name in made.plan().names() {
            fs::create_dir(made.data_dir(&name)).unwrap();
            fs::write(made.log(&name), "line").unwrap();
        }
    }

    fn refusal(options: &DevOptions) -> String {
        match Folder::open(options) {
            Ok(_) => panic!("taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn ports_are_ten_apart_and_peers_come_after_clients() {
        let plan = Plan {
            nodes: 3,
            base_port: 2379,
        };
        assert_eq!(plan.ports(0), [2379, 2380, 2381]);
        assert_eq!(plan.ports(2), [2399, 2400, 2401]);
    }

    #[test]
    fn a_folder_goes_on_with_what_it_was_made_for() {
        let folder = TempDir::new().unwrap();
        made(&folder, 5);
        let opened = Folder::open(&options(&folder, None, false)).unwrap();
        assert_eq!(opened.plan().nodes, 5);
        assert!(opened.has_nodes());
        drop(opened);
        let text = refusal(&options(&folder, Some(3), false));
        assert!(text.contains("--nodes 5 --base-port 2379"), "{text}");
    }

    #[test]
    fn fresh_removes_what_was_made_here_and_nothing_else() {
        let folder = TempDir::new().unwrap();
        made(&folder, 3);
        fs::create_dir(folder.path().join("n4")).unwrap();
        fs::write(folder.path().join("notes"), "mine").unwrap();
        let options = options(&folder, Some(1), true);
        let mut opened = Folder::open(&options).unwrap();
        opened.clear(&options).unwrap();
        opened.begin().unwrap();
        assert_eq!(opened.plan().nodes, 1);
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [MARKER, "n4", "notes"]);
    }

    #[test]
    fn what_somebody_else_made_is_left_alone() {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("n2")).unwrap();
        for is_fresh in [false, true] {
            let text = refusal(&options(&folder, None, is_fresh));
            assert!(text.contains("did not make it"), "{text}");
        }
        assert!(folder.path().join("n2").exists());
    }

    #[test]
    fn a_start_that_came_to_nothing_binds_nobody() {
        let folder = TempDir::new().unwrap();
        drop(Folder::open(&options(&folder, Some(5), false)).unwrap());
        let opened = Folder::open(&options(&folder, Some(3), false)).unwrap();
        assert!(!opened.has_nodes());
        assert_eq!(opened.plan().nodes, 3);
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = TempDir::new().unwrap();
        let options = options(&folder, None, true);
        let _opened = Folder::open(&options).unwrap();
        let text = refusal(&options);
        assert!(text.contains("another holdfast dev"), "{text}");
    }
}
