//! Writing a bbolt file in one go, from items that come in the order of their keys.
//!
//! Pages are written one after the other, each as soon as it is full; a page of each level of one tree is in memory.
//! Only the meta pages at the front, which name the root, are written last: what a crash leaves is no database.

use std::io::{Seek, SeekFrom, Write};

use super::{
    BUCKET_FLAG, BoltError, ELEMENT, Kind, MAGIC, MAX_KEY, META_SUMMED, PAGE_HEADER, VERSION,
    checksum, write_failed,
};

/// The page size of the machines that etcd runs on; its files can be read anywhere.
pub const PAGE_SIZE: u32 = 4096;

/// The page of the freelist, behind the two meta pages. No page is free.
const FREELIST: u64 = 2;

/// A database that is being written.
pub struct Writer<W> {
    pages: Pages<W>,
    /// The bucket at work.
    tree: Option<(Vec<u8>, Tree)>,
    /// Finished buckets with their root pages.
    buckets: Vec<(Vec<u8>, u64)>,
}

struct Pages<W> {
    out: W,
    page_size: usize,
    next: u64,
    buffer: Vec<u8>,
}

/// One tree: its open leaf, and the open branch of each level above.
#[derive(Default)]
struct Tree {
    leaf: Leaf,
    branches: Vec<Branch>,
    last_key: Vec<u8>,
}

#[derive(Default)]
struct Leaf {
    /// Flags, key length, value length.
    lengths: Vec<(u32, u32, u32)>,
    /// Keys and values, behind each other.
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Branch {
    children: Vec<(Vec<u8>, u64)>,
    /// Bytes of their keys.
    key_bytes: usize,
    has_written: bool,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a database at the start of `out`, which is empty.
    pub fn new(out: W, page_size: u32) -> Result<Self, BoltError> {
        let mut pages = Pages {
            out,
            page_size: page_size as usize,
            next: 0,
            buffer: Vec::new(),
        };
        // In place of the meta pages: nothing that could be taken for one.
        let zeros = vec![0; pages.page_size * 2];
        pages.out.write_all(&zeros).map_err(write_failed)?;
        pages.next = FREELIST;
        pages.write(Kind::Freelist, 0, |_| {})?;
        Ok(Self {
            pages,
            tree: None,
            buckets: Vec::new(),
        })
    }

    /// Begins a bucket; the one before is complete.
    pub fn begin_bucket(&mut self, name: &[u8]) -> Result<(), BoltError> {
        self.end_bucket()?;
        if name.is_empty() || self.buckets.iter().any(|(other, _)| other == name) {
            let name = name.escape_ascii();
            return Err(BoltError::Unwritable(format!(
                "bucket \"{name}\" has no name or comes twice"
            )));
        }
        self.tree = Some((name.to_vec(), Tree::default()));
        Ok(())
    }

    /// Adds an item behind all that its bucket holds.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BoltError> {
        match &mut self.tree {
            Some((_, tree)) => tree.put(&mut self.pages, 0, key, value),
            None => Err(BoltError::Unwritable("it is in no bucket".to_owned())),
        }
    }

    /// Completes the database; tells its size in bytes.
    pub fn finish(mut self) -> Result<(W, u64), BoltError> {
        self.end_bucket()?;
        let Self {
            mut pages,
            mut buckets,
            ..
        } = self;
        buckets.sort_unstable();
        let mut root = Tree::default();
        for (name, page) in &buckets {
            // The root page, and a sequence number that etcd does not use.
            let value = [page.to_le_bytes(), [0; 8]].concat();
            root.put(&mut pages, BUCKET_FLAG, name, &value)?;
        }
        let root = root.finish(&mut pages)?;
        let size = pages.next * pages.page_size as u64;
        for place in 0..2 {
            let meta = pages.meta(place, root);
            let at = SeekFrom::Start(place * pages.page_size as u64);
            pages.out.seek(at).map_err(write_failed)?;
            pages.out.write_all(&meta).map_err(write_failed)?;
        }
        pages.out.flush().map_err(write_failed)?;
        Ok((pages.out, size))
    }

    fn end_bucket(&mut self) -> Result<(), BoltError> {
        if let Some((name, tree)) = self.tree.take() {
            let root = tree.finish(&mut self.pages)?;
            self.buckets.push((name, root));
        }
        Ok(())
    }
}

impl<W: Write> Pages<W> {
    /// Writes a page, as many pages long as needed; tells its id.
    fn write(
        &mut self,
        kind: Kind,
        count: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64, BoltError> {
        let id = self.next;
        let page = &mut self.buffer;
        page.clear();
        page.extend_from_slice(&id.to_le_bytes());
        page.extend_from_slice(&(kind as u16).to_le_bytes());
        let count = u16::try_from(count)
            .map_err(|_| BoltError::Unwritable("too many items in a page".to_owned()))?;
        page.extend_from_slice(&count.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        fill(page);
        let pages = page.len().div_ceil(self.page_size);
        page.resize(pages * self.page_size, 0);
        let overflow = u32::try_from(pages - 1)
            .map_err(|_| BoltError::Unwritable("a page of 16 TiB".to_owned()))?;
        page[12..PAGE_HEADER].copy_from_slice(&overflow.to_le_bytes());
        self.out.write_all(page).map_err(write_failed)?;
        self.next += pages as u64;
        Ok(id)
    }

    /// A meta page; its place is its transaction, too, so that the second one counts.
    fn meta(&self, place: u64, root: u64) -> Vec<u8> {
        let mut meta = Vec::with_capacity(META_SUMMED + 8);
        let page_size = u32::try_from(self.page_size).unwrap_or(PAGE_SIZE);
        for number in [MAGIC, VERSION, page_size, 0] {
            meta.extend_from_slice(&number.to_le_bytes());
        }
        for number in [root, 0, FREELIST, self.next, place] {
            meta.extend_from_slice(&number.to_le_bytes());
        }
        meta.extend_from_slice(&checksum(&meta).to_le_bytes());
        let mut page = Vec::with_capacity(PAGE_HEADER + meta.len());
        page.extend_from_slice(&place.to_le_bytes());
        page.extend_from_slice(&(Kind::Meta as u16).to_le_bytes());
        page.extend_from_slice(&[0; 6]);
        page.extend_from_slice(&meta);
        page
    }
}

impl Tree {
    fn put<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), BoltError> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(BoltError::Unwritable(format!(
                "its key has {} bytes",
                key.len()
            )));
        }
        if key <= self.last_key.as_slice() {
            return Err(BoltError::Unwritable(
                "its key is not above the one before".to_owned(),
            ));
        }
        let value_len = u32::try_from(value.len()).ok().filter(|&len| len < 1 << 31);
        let value_len = value_len
            .ok_or_else(|| BoltError::Unwritable(format!("its value has {} bytes", value.len())))?;
        let len = self.leaf.len() + ELEMENT + key.len() + value.len();
        if len > pages.page_size && !self.leaf.lengths.is_empty() {
            self.write_leaf(pages)?;
        }
        let key_len = u32::try_from(key.len()).unwrap_or(u32::MAX);
        self.leaf.lengths.push((flags, key_len, value_len));
        self.leaf.bytes.extend_from_slice(key);
        self.leaf.bytes.extend_from_slice(value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// Writes what is open; tells the root page.
    fn finish<W: Write>(mut self, pages: &mut Pages<W>) -> Result<u64, BoltError> {
        if !self.leaf.lengths.is_empty() || self.branches.is_empty() {
            self.write_leaf(pages)?;
        }
        let mut height = 0;
        loop {
            let branch = &mut self.branches[height];
            if let ([(_, root)], false) = (branch.children.as_slice(), branch.has_written) {
                return Ok(*root);
            }
            let count = branch.children.len();
            if branch.len(count) > pages.page_size && count >= 4 {
                self.write_branch(pages, height, count / 2)?;
            }
            let count = self.branches[height].children.len();
            self.write_branch(pages, height, count)?;
            height += 1;
        }
    }

    fn write_leaf<W: Write>(&mut self, pages: &mut Pages<W>) -> Result<(), BoltError> {
        let Leaf { lengths, bytes } = &self.leaf;
        let id = pages.write(Kind::Leaf, lengths.len(), |page| {
            // Positions are counted from the element itself.
            let mut position = lengths.len() * ELEMENT;
            for (place, &(flags, key_len, value_len)) in lengths.iter().enumerate() {
                let own = u32::try_from(position - place * ELEMENT).unwrap_or(u32::MAX);
                for number in [flags, own, key_len, value_len] {
                    page.extend_from_slice(&number.to_le_bytes());
                }
                position += key_len as usize + value_len as usize;
            }
            page.extend_from_slice(bytes);
        })?;
        let first_key = lengths
            .first()
            .map_or(0, |&(_, key_len, _)| key_len as usize);
        let first_key = bytes[..first_key].to_vec();
        self.leaf.lengths.clear();
        self.leaf.bytes.clear();
        self.push_child(pages, 0, first_key, id)
    }

    fn push_child<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        height: usize,
        key: Vec<u8>,
        id: u64,
    ) -> Result<(), BoltError> {
        if self.branches.len() == height {
            self.branches.push(Branch::default());
        }
        let branch = &mut self.branches[height];
        branch.key_bytes += key.len();
        branch.children.push((key, id));
        // Two are held back: etcd, when it deletes, relies on every branch to have two children.
        let count = branch.children.len();
        if count >= 4 && branch.len(count - 1) > pages.page_size {
            self.write_branch(pages, height, count - 2)?;
        }
        Ok(())
    }

    /// Writes the first children of a branch as a page of their own.
    fn write_branch<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        height: usize,
        count: usize,
    ) -> Result<(), BoltError> {
        let branch = &mut self.branches[height];
        let children: Vec<_> = branch.children.drain(..count).collect();
        branch.key_bytes -= children.iter().map(|(key, _)| key.len()).sum::<usize>();
        branch.has_written = true;
        let id = pages.write(Kind::Branch, count, |page| {
            let mut position = count * ELEMENT;
            for (place, (key, child)) in children.iter().enumerate() {
                let own = u32::try_from(position - place * ELEMENT).unwrap_or(u32::MAX);
                page.extend_from_slice(&own.to_le_bytes());
                page.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
                page.extend_from_slice(&child.to_le_bytes());
                position += key.len();
            }
            for (key, _) in &children {
                page.extend_from_slice(key);
            }
        })?;
        let first_key = children
            .into_iter()
            .next()
            .map(|(key, _)| key)
            .unwrap_or_default();
        self.push_child(pages, height + 1, first_key, id)
    }
}

impl Leaf {
    fn len(&self) -> usize {
        PAGE_HEADER + self.lengths.len() * ELEMENT + self.bytes.len()
    }
}

impl Branch {
    /// Bytes of a page of the first so many children, all but the last one or two of them.
    fn len(&self, count: usize) -> usize {
        let left_out: usize = self.children[count..]
            .iter()
            .map(|(key, _)| key.len())
            .sum();
        PAGE_HEADER + count * ELEMENT + self.key_bytes - left_out
    }
}
