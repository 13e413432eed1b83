//! The engines under test, and how each of them restarts and crashes.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use store::engine::StateEngine;
use store::engine::memory::MemoryEngine;

/// An engine that can be taken down.
pub(crate) trait Bench {
    /// The engine, until the next restart.
    fn engine(&self) -> Arc<dyn StateEngine>;
    /// Closes and opens; no handle to the engine is left elsewhere.
    fn restart(&mut self);
    /// Falls back to what was durable.
    fn crash(&mut self);
    /// Has the engine rewrite some of what it keeps, as it may at any time.
    fn rewrite(&self, random: &mut StdRng);
    /// Whether a rewrite leaves alone what is not flushed.
    fn is_memory(&self) -> bool {
        false
    }
}

pub(crate) struct Memory(pub(crate) Arc<MemoryEngine>);

impl Bench for Memory {
    fn engine(&self) -> Arc<dyn StateEngine> {
        self.0.clone()
    }

    fn restart(&mut self) {
        self.0.flush().unwrap();
    }

    fn crash(&mut self) {
        self.0.crash();
    }

    fn rewrite(&self, random: &mut StdRng) {
        let share = random.random_range(0.2..1.0);
        self.0.compact(&mut |_| random.random_bool(share));
    }

    fn is_memory(&self) -> bool {
        true
    }
}

#[cfg(feature = "rocksdb")]
pub(crate) use rocks::Rocks;

#[cfg(feature = "rocksdb")]
mod rocks {
    use std::collections::BTreeSet;
    use std::fs;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use rand::rngs::StdRng;
    use store::engine::StateEngine;
    use store::engine::rocks::{RocksEngine, RocksOptions};
    use tempfile::TempDir;

    use super::Bench;

    pub(crate) struct Rocks {
        folder: TempDir,
        opened: u32,
        engine: Option<Arc<RocksEngine>>,
    }

    impl Rocks {
        pub(crate) fn new() -> Self {
            let mut rocks = Self {
                folder: TempDir::new().unwrap(),
                opened: 0,
                engine: None,
            };
            rocks.open();
            rocks
        }

        pub(crate) fn database(&self) -> PathBuf {
            self.folder.path().join(self.opened.to_string())
        }

        fn open(&mut self) {
            let engine = RocksEngine::open(&self.database(), &RocksOptions::default()).unwrap();
            self.engine = Some(Arc::new(engine));
        }
    }

    impl Bench for Rocks {
        fn engine(&self) -> Arc<dyn StateEngine> {
            self.engine.clone().unwrap()
        }

        fn restart(&mut self) {
            assert_eq!(Arc::strong_count(self.engine.as_ref().unwrap()), 1);
            self.engine = None;
            self.open();
        }

        /// The files as they are while the database is open are what a killed process leaves behind.
        fn crash(&mut self) {
            let before = self.database();
            self.opened += 1;
            // Files came or went meanwhile: the moment of the crash is a little later.
            while !copy(&before, &self.database()) {
                fs::remove_dir_all(self.database()).unwrap();
            }
            self.engine = None;
            fs::remove_dir_all(before).unwrap();
            self.open();
        }

        fn rewrite(&self, _: &mut StdRng) {
            self.engine().compact_all().unwrap();
        }
    }

    /// False if the copy may be of no single moment: a file came or went under it. With the same
    /// files before and after, whatever the manifest names was there whole when the manifest was
    /// copied, so that one goes first: a table still being written then is not named by it.
    fn copy(from: &Path, to: &Path) -> bool {
        fs::create_dir(to).unwrap();
        let names = names(from);
        let (first, rest): (Vec<_>, Vec<_>) = names
            .iter()
            .partition(|name| name.starts_with("CURRENT") || name.starts_with("MANIFEST"));
        let copied = first.into_iter().chain(rest).all(|name| {
            match fs::copy(from.join(name), to.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                copied => {
                    copied.unwrap();
                    true
                }
            }
        });
        copied && names == self::names(from)
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}
