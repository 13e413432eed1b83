//! What a snapshot consists of, as its sender describes it before the first byte of it.

use std::collections::BTreeSet;

use super::SnapshotName;
use super::receiver::ReceiveError;
use crate::layout::{self, varint};

/// The form in which manifests are encoded.
const FORMAT: u64 = 1;
/// Files of one snapshot. RocksDB's are of 64 MiB, most of them: this is 6 TiB and more.
pub const MAX_FILES: usize = 100_000;
/// Bytes of a file's name.
const MAX_NAME: usize = 64;
/// Bytes of an encoded manifest: every file with the longest name, and room for a membership.
pub const MAX_ENCODED: usize = MAX_FILES * (MAX_NAME + 12) + (1 << 20);

/// The file that a database cannot be without.
const PROOF: &str = "CURRENT";
/// The one file of an image.
pub(super) const IMAGE: &str = "image";

/// What the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a RocksDB database.
    Database,
    /// All items of an engine that keeps no files.
    Image,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name, without a folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A snapshot's state and files. They are numbered as they stand here, and sent in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the files are.
    pub kind: Kind,
    /// Which state is in them, by their own account.
    pub name: SnapshotName,
    /// The files.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        // Nobody can have as many as would overflow; who says so is refused for want of space.
        let sizes = self.files.iter().map(|file| file.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// The form that goes over the wire. Its length is at most [`MAX_ENCODED`] if the manifest is valid.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put(&mut out, FORMAT);
        varint::put(
            &mut out,
            match self.kind {
                Kind::Database => 0,
                Kind::Image => 1,
            },
        );
        let mut name = Vec::new();
        layout::put_name(&mut name, &self.name);
        put_bytes(&mut out, &name);
        varint::put(&mut out, self.files.len() as u64);
        for FileEntry { name, size } in &self.files {
            put_bytes(&mut out, name.as_bytes());
            varint::put(&mut out, *size);
        }
        out
    }

    /// Reads what a peer sent, and refuses what cannot be meant.
    pub fn decode(encoded: &[u8]) -> Result<Self, ReceiveError> {
        if encoded.len() > MAX_ENCODED {
            return Err(invalid("it is too long"));
        }
        let mut rest = encoded;
        if varint::take(&mut rest) != Some(FORMAT) {
            return Err(invalid("its format is not known"));
        }
        let manifest = parse(&mut rest)
            .filter(|_| rest.is_empty())
            .ok_or_else(|| invalid("it cannot be read"))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether it can be meant: a name that a peer sends becomes the name of a file here.
    pub(super) fn check(&self) -> Result<(), ReceiveError> {
        if self.files.len() > MAX_FILES {
            return Err(invalid("there are too many files"));
        }
        let mut known = BTreeSet::new();
        for FileEntry { name, .. } in &self.files {
            if !is_plain(name) {
                return Err(invalid(format!("{name:?} is no name for a file")));
            }
            if !known.insert(name.as_str()) {
                return Err(invalid(format!("{name} is there twice")));
            }
        }
        let is_whole = match self.kind {
            Kind::Database => known.contains(PROOF),
            Kind::Image => known.len() == 1 && known.contains(IMAGE),
        };
        if !is_whole {
            return Err(invalid("it lacks the file that the others hang on"));
        }
        Ok(())
    }
}

fn parse(rest: &mut &[u8]) -> Option<Manifest> {
    let kind = match varint::take(rest)? {
        0 => Kind::Database,
        1 => Kind::Image,
        _ => return None,
    };
    let name = layout::state(take_bytes(rest)?).ok()?;
    let count = usize::try_from(varint::take(rest)?).ok()?;
    // Each takes two bytes at least: the count alone does not have memory taken.
    if count > rest.len() / 2 {
        return None;
    }
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        files.push(FileEntry {
            name: std::str::from_utf8(take_bytes(rest)?).ok()?.to_owned(),
            size: varint::take(rest)?,
        });
    }
    Some(Manifest { kind, name, files })
}

/// Letters, digits and the marks between them: no separator, nothing hidden, no way up.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with('.')
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint::take(rest)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(bytes)
}

fn invalid(why: impl Into<String>) -> ReceiveError {
    ReceiveError::Manifest(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{LogId, Membership};
    use crate::snapshot::StoredMembership;

    fn manifest(names: &[&str]) -> Manifest {
        let applied = LogId { term: 3, index: 40 };
        Manifest {
            kind: Kind::Database,
            name: SnapshotName {
                applied,
                membership: StoredMembership {
                    log_id: Some(LogId { term: 1, index: 2 }),
                    membership: Membership {
                        voters: vec![[1, 2].into()],
                        members: [1, 2, 3].into(),
                    },
                },
                revision: 17,
                compact_revision: -1,
                retained_revision: -1,
            },
            files: names
                .iter()
                .map(|&name| FileEntry {
                    name: name.to_owned(),
                    size: 1 << 40,
                })
                .collect(),
        }
    }

    fn refusal(manifest: &Manifest) -> String {
        Manifest::decode(&manifest.encode())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_encoded_is_decoded_and_every_cut_is_refused() {
        let manifest = manifest(&["CURRENT", "MANIFEST-000005", "000012.sst"]);
        let encoded = manifest.encode();
        assert_eq!(Manifest::decode(&encoded).unwrap(), manifest);
        for len in 0..encoded.len() {
            assert!(Manifest::decode(&encoded[..len]).is_err());
        }
        assert!(Manifest::decode(&[&*encoded, &[0]].concat()).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "", ".", "..", "../x", "a/b", "/a", ".hidden", "a\0", "a b", "ä", "a\\b",
        ] {
            let text = refusal(&manifest(&["CURRENT", name]));
            assert!(text.contains("is no name for a file"), "{name:?}: {text}");
        }
        refusal(&manifest(&["CURRENT", &"a".repeat(65)]));
        Manifest::decode(&manifest(&["CURRENT", &"a".repeat(64)]).encode()).unwrap();
    }

    #[test]
    fn a_manifest_that_cannot_be_a_whole_snapshot_is_refused() {
        assert!(refusal(&manifest(&["CURRENT", "a", "a"])).contains("twice"));
        assert!(refusal(&manifest(&["000001.sst"])).contains("lacks"));
        assert!(refusal(&manifest(&[])).contains("lacks"));
        let mut image = manifest(&["image"]);
        image.kind = Kind::Image;
        Manifest::decode(&image.encode()).unwrap();
        image.files.push(image.files[0].clone());
        image.files[1].name = "other".to_owned();
        assert!(refusal(&image).contains("lacks"));
    }

    #[test]
    fn a_count_alone_takes_no_memory() {
        let mut encoded = manifest(&[]).encode();
        assert_eq!(encoded.pop(), Some(0));
        varint::put(&mut encoded, u64::MAX / 2);
        assert!(Manifest::decode(&encoded).is_err());
    }
}
