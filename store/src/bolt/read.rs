//! Reading a bbolt file that nobody is writing: one page in memory for each level of a tree.
//!
//! No byte of the file is trusted: every offset, length, count and depth is checked, and a page that is reached a
//! second time is damage, so that no file makes a reader loop. Keys must ascend through a whole tree.

use std::fs::File;
use std::io;

use super::{
    BUCKET_FLAG, BUCKET_HEADER, BoltError, ELEMENT, Kind, LONG_FREELIST, MAGIC, MAX_KEY,
    META_SUMMED, NO_FREELIST, PAGE_HEADER, VERSION, checksum, read_failed,
};

/// The largest page with its overflow. Values have at most a few MiB, and a leaf page few of those.
const MAX_PAGE_BYTES: u64 = 1 << 30;

/// Two children a branch at least: no tree that fits on a disk is higher.
const MAX_DEPTH: usize = 48;

/// Where bytes are read from.
pub trait ReadAt {
    /// How many there are.
    fn size(&self) -> io::Result<u64>;
    /// Fills the whole buffer.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for &[u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let part = from
            .and_then(|from| self.get(from..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

/// An open database file.
pub struct Database<'a> {
    file: &'a dyn ReadAt,
    meta: Meta,
}

/// What a meta page says.
#[derive(Clone, Copy, Debug)]
struct Meta {
    page_size: u32,
    root: u64,
    freelist: u64,
    /// Pages from here on are not part of the database.
    end: u64,
    transaction: u64,
}

/// Which pages a walk has come by.
pub struct Seen {
    bits: Vec<u64>,
}

/// A tree of items, within a database.
pub struct Bucket<'a> {
    database: &'a Database<'a>,
    root: Root,
}

enum Root {
    Page(u64),
    /// A leaf page in the value of an item; the page that holds it.
    Inline(Vec<u8>, u64),
}

/// Goes through a bucket in the order of its keys.
pub struct Items<'a, 'b> {
    bucket: &'b Bucket<'a>,
    seen: &'b mut Seen,
    is_begun: bool,
    stack: Vec<Level>,
    last_key: Vec<u8>,
}

struct Level {
    page: Page,
    next: u16,
}

/// A key and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; of a bucket, what leads to it.
    pub value: &'a [u8],
    /// Whether it names a bucket.
    pub is_bucket: bool,
}

/// A page in memory, with its overflow.
struct Page {
    id: u64,
    kind: Kind,
    count: u16,
    bytes: Vec<u8>,
}

impl<'a> Database<'a> {
    /// Reads the meta pages. Bytes behind the database, such as a snapshot's digest, do not matter.
    pub fn open(file: &'a dyn ReadAt) -> Result<Self, BoltError> {
        let size = file.size().map_err(read_failed)?;
        let first = Meta::read(file, 0)?;
        let second = match &first {
            Ok(first) => Meta::read(file, u64::from(first.page_size))?,
            // Where the second one is depends on the page size, which the first one would have told.
            Err(_) => second_meta(file)?,
        };
        let meta = match (first, second) {
            (Ok(first), Ok(second)) if second.page_size == first.page_size => {
                if second.transaction > first.transaction {
                    second
                } else {
                    first
                }
            }
            (Ok(meta), _) | (Err(_), Ok(meta)) => meta,
            (Err(reason), Err(_)) => return Err(BoltError::NotBolt(reason)),
        };
        let expected = u128::from(meta.end) * u128::from(meta.page_size);
        if expected > u128::from(size) {
            return Err(BoltError::CutOff {
                expected: u64::try_from(expected).unwrap_or(u64::MAX),
                found: size,
            });
        }
        let database = Self { file, meta };
        if meta.end < 3 {
            return Err(damaged(0, format!("it has {} pages only", meta.end)));
        }
        Ok(database)
    }

    /// Bytes of all its pages.
    pub fn size(&self) -> u64 {
        self.meta.end * u64::from(self.meta.page_size)
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// To note which pages were seen, for walks that together must not see one twice.
    pub fn seen(&self) -> Seen {
        let words = self.meta.end.div_ceil(64);
        Seen {
            bits: vec![0; usize::try_from(words).unwrap_or(usize::MAX)],
        }
    }

    /// The tree whose items are the buckets.
    pub fn root(&'a self) -> Bucket<'a> {
        Bucket {
            database: self,
            root: Root::Page(self.meta.root),
        }
    }

    /// The names of all buckets.
    pub fn names(&'a self) -> Result<Vec<Vec<u8>>, BoltError> {
        let buckets = self.buckets(&mut self.seen())?;
        Ok(buckets.into_iter().map(|(name, _)| name).collect())
    }

    /// All buckets, in the order of their names.
    pub fn buckets(&'a self, seen: &mut Seen) -> Result<Vec<(Vec<u8>, Bucket<'a>)>, BoltError> {
        let root = self.root();
        let mut items = root.items(seen);
        let mut buckets = Vec::new();
        while let Some(item) = items.next()? {
            let (name, value, is_bucket) = (item.key.to_vec(), item.value.to_vec(), item.is_bucket);
            if !is_bucket {
                return Err(damaged(items.page(), "an item is in no bucket"));
            }
            buckets.push((name, root.open(&value, items.page())?));
        }
        Ok(buckets)
    }

    /// The bucket of a name, if it is there.
    pub fn bucket(&'a self, name: &[u8]) -> Result<Option<Bucket<'a>>, BoltError> {
        self.root().bucket(name)
    }

    /// Reads the freelist, if the file has one, and tells of a page that `seen`, which must have come by all that is
    /// used, has and the freelist has as well, or neither.
    pub fn check_free(&self, seen: &mut Seen) -> Result<(), BoltError> {
        seen.mark(0)?;
        seen.mark(1)?;
        if self.meta.freelist == NO_FREELIST {
            return Ok(());
        }
        let page = self.page(self.meta.freelist, seen)?;
        if page.kind != Kind::Freelist {
            return Err(damaged(
                page.id,
                format!("it is no freelist but {:?}", page.kind),
            ));
        }
        let mut ids = page.bytes[PAGE_HEADER..]
            .chunks_exact(8)
            .map(|id| u64_at(id, 0));
        let count = match page.count {
            LONG_FREELIST => ids.next().unwrap_or(u64::MAX),
            count => u64::from(count),
        };
        if count > ids.len() as u64 {
            return Err(damaged(
                page.id,
                format!("it cannot name {count} free pages"),
            ));
        }
        for id in ids.take(usize::try_from(count).unwrap_or(usize::MAX)) {
            if id >= self.meta.end {
                return Err(damaged(
                    page.id,
                    format!("the free page {id} is not in the file"),
                ));
            }
            seen.mark(id)
                .map_err(|_| damaged(id, "it is used, or free twice"))?;
        }
        match (0..self.meta.end).find(|&id| !seen.has(id)) {
            Some(id) => Err(damaged(id, "it is neither used nor free")),
            None => Ok(()),
        }
    }

    /// Reads a page with its overflow.
    fn page(&self, id: u64, seen: &mut Seen) -> Result<Page, BoltError> {
        let page_size = u64::from(self.meta.page_size);
        if id < 2 || id >= self.meta.end {
            return Err(damaged(
                id,
                format!("it is not one of the {} in the file", self.meta.end),
            ));
        }
        seen.mark(id)?;
        let mut header = [0; PAGE_HEADER];
        let read = |buffer: &mut [u8], offset| {
            self.file.read_exact_at(buffer, offset).map_err(read_failed)
        };
        read(&mut header, id * page_size)?;
        let (own, flags, count, overflow) = (
            u64_at(&header, 0),
            u16_at(&header, 8),
            u16_at(&header, 10),
            u32_at(&header, 12),
        );
        if own != id {
            return Err(damaged(id, format!("it says that it is page {own}")));
        }
        let kinds = [Kind::Branch, Kind::Leaf, Kind::Freelist];
        let Some(kind) = kinds.into_iter().find(|&kind| kind as u16 == flags) else {
            return Err(damaged(id, format!("it is of no known kind ({flags:#x})")));
        };
        let pages = u64::from(overflow) + 1;
        if pages > self.meta.end - id || pages * page_size > MAX_PAGE_BYTES {
            return Err(damaged(id, format!("it cannot go on for {overflow} pages")));
        }
        for part in id + 1..id + pages {
            seen.mark(part)?;
        }
        let mut bytes = vec![0; usize::try_from(pages * page_size).unwrap_or(usize::MAX)];
        read(&mut bytes, id * page_size)?;
        Page::new(id, kind, count, bytes)
    }
}

/// Finds the second meta page without the first: it tells its own offset.
fn second_meta(file: &dyn ReadAt) -> Result<Result<Meta, String>, BoltError> {
    for shift in 9..=16 {
        if let Ok(meta) = Meta::read(file, 1 << shift)?
            && meta.page_size == 1 << shift
        {
            return Ok(Ok(meta));
        }
    }
    Ok(Err(String::new()))
}

impl Meta {
    /// `Err` within says why it is not one; the one around it is the disk's.
    fn read(file: &dyn ReadAt, offset: u64) -> Result<Result<Self, String>, BoltError> {
        let size = file.size().map_err(read_failed)?;
        let mut page = [0; PAGE_HEADER + META_SUMMED + 8];
        if size < offset + page.len() as u64 {
            return Ok(Err(format!("it is too short ({size} bytes)")));
        }
        file.read_exact_at(&mut page, offset).map_err(read_failed)?;
        let meta = &page[PAGE_HEADER..];
        let (magic, version, page_size) = (u32_at(meta, 0), u32_at(meta, 4), u32_at(meta, 8));
        if magic != MAGIC {
            return Ok(Err("it does not begin with a page that says so".to_owned()));
        }
        if version != VERSION {
            return Ok(Err(format!(
                "its format is {version}, and only {VERSION} is known"
            )));
        }
        if checksum(&meta[..META_SUMMED]) != u64_at(meta, META_SUMMED) {
            return Ok(Err(
                "neither of its two first pages has the right checksum".to_owned()
            ));
        }
        if !page_size.is_power_of_two() || !(512..=1 << 16).contains(&page_size) {
            return Ok(Err(format!("its pages cannot have {page_size} bytes")));
        }
        Ok(Ok(Self {
            page_size,
            root: u64_at(meta, 16),
            freelist: u64_at(meta, 32),
            end: u64_at(meta, 40),
            transaction: u64_at(meta, 48),
        }))
    }
}

impl Seen {
    fn has(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64)
            .ok()
            .and_then(|word| self.bits.get(word));
        word.is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    fn mark(&mut self, page: u64) -> Result<(), BoltError> {
        if self.has(page) {
            return Err(damaged(page, "it is used twice"));
        }
        if let Some(word) = usize::try_from(page / 64)
            .ok()
            .and_then(|word| self.bits.get_mut(word))
        {
            *word |= 1 << (page % 64);
        }
        Ok(())
    }
}

impl<'a> Bucket<'a> {
    /// Its items, from the least key on.
    pub fn items<'b>(&'b self, seen: &'b mut Seen) -> Items<'a, 'b> {
        Items {
            bucket: self,
            seen,
            is_begun: false,
            stack: Vec::new(),
            last_key: Vec::new(),
        }
    }

    /// The bucket of a name within this one. For trees of a few items: all of them are looked at.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'a>>, BoltError> {
        let mut seen = self.database.seen();
        let mut items = self.items(&mut seen);
        while let Some(item) = items.next()? {
            if item.key == name && item.is_bucket {
                let value = item.value.to_vec();
                return self.open(&value, items.page()).map(Some);
            }
        }
        Ok(None)
    }

    /// Opens the bucket that an item names; `page` is where the item is.
    pub fn open(&self, value: &[u8], page: u64) -> Result<Bucket<'a>, BoltError> {
        if value.len() < BUCKET_HEADER {
            return Err(damaged(page, "a bucket in it has no root"));
        }
        let root = match u64_at(value, 0) {
            0 => Root::Inline(value[BUCKET_HEADER..].to_vec(), page),
            id => Root::Page(id),
        };
        Ok(Bucket {
            database: self.database,
            root,
        })
    }
}

impl Items<'_, '_> {
    /// The next item; none at the end.
    #[allow(
        clippy::should_implement_trait,
        reason = "the item borrows from the page in memory"
    )]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, BoltError> {
        if !self.is_begun {
            self.is_begun = true;
            let page = match &self.bucket.root {
                Root::Page(id) => self.bucket.database.page(*id, self.seen)?,
                Root::Inline(bytes, page) => Page::inline(bytes, *page)?,
            };
            self.stack.push(Level { page, next: 0 });
        }
        loop {
            let depth = self.stack.len();
            let Some(level) = self.stack.last_mut() else {
                return Ok(None);
            };
            let (place, id) = (level.next, level.page.id);
            if place >= level.page.count {
                self.stack.pop();
                continue;
            }
            level.next += 1;
            match level.page.kind {
                Kind::Leaf => break,
                _ if depth >= MAX_DEPTH => return Err(damaged(id, "the tree is too high")),
                _ => {
                    let child = level.page.child(place)?;
                    let page = self.bucket.database.page(child, self.seen)?;
                    // Only a tree that is empty as a whole has an empty page.
                    if page.count == 0 || page.kind == Kind::Freelist {
                        return Err(damaged(
                            child,
                            "it is no part of a tree, but is used as one",
                        ));
                    }
                    self.stack.push(Level { page, next: 0 });
                }
            }
        }
        let Some(Level { page, next }) = self.stack.last() else {
            return Ok(None);
        };
        let item = page.item(next - 1)?;
        if item.key <= self.last_key.as_slice() {
            return Err(damaged(page.id, "its keys are not in order"));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(item.key);
        Ok(Some(item))
    }

    /// The page that holds the last item.
    pub fn page(&self) -> u64 {
        self.stack.last().map_or(0, |level| level.page.id)
    }
}

impl Page {
    fn new(id: u64, kind: Kind, count: u16, bytes: Vec<u8>) -> Result<Self, BoltError> {
        let room = (bytes.len().saturating_sub(PAGE_HEADER)) / ELEMENT;
        if kind != Kind::Freelist && usize::from(count) > room {
            return Err(damaged(id, format!("it cannot hold {count} items")));
        }
        if kind == Kind::Branch && count == 0 {
            return Err(damaged(id, "it leads nowhere"));
        }
        Ok(Self {
            id,
            kind,
            count,
            bytes,
        })
    }

    /// A bucket's page in the value of an item; the page's own id there means nothing.
    fn inline(bytes: &[u8], holder: u64) -> Result<Self, BoltError> {
        if bytes.len() < PAGE_HEADER || u16_at(bytes, 8) != Kind::Leaf as u16 {
            return Err(damaged(holder, "a bucket inside it cannot be read"));
        }
        Self::new(holder, Kind::Leaf, u16_at(bytes, 10), bytes.to_vec())
    }

    fn child(&self, place: u16) -> Result<u64, BoltError> {
        Ok(u64_at(self.element(place)?.1, 8))
    }

    fn item(&self, place: u16) -> Result<Item<'_>, BoltError> {
        let (at, element) = self.element(place)?;
        let (flags, position) = (u32_at(element, 0), u32_at(element, 4) as usize);
        let (key_len, value_len) = (u32_at(element, 8) as usize, u32_at(element, 12) as usize);
        let outside = || damaged(self.id, format!("item {place} lies outside of it"));
        // None of these sums can overflow: a usize has 64 bits, each of its parts 32.
        let key_at = at + position;
        let value_at = key_at + key_len;
        let key = self.bytes.get(key_at..value_at).ok_or_else(outside)?;
        let value = self
            .bytes
            .get(value_at..value_at + value_len)
            .ok_or_else(outside)?;
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(damaged(
                self.id,
                format!("item {place} has a key of {key_len} bytes"),
            ));
        }
        Ok(Item {
            key,
            value,
            is_bucket: flags & BUCKET_FLAG != 0,
        })
    }

    fn element(&self, place: u16) -> Result<(usize, &[u8]), BoltError> {
        let at = PAGE_HEADER + ELEMENT * usize::from(place);
        let element = self.bytes.get(at..at + ELEMENT);
        let element =
            element.ok_or_else(|| damaged(self.id, format!("item {place} lies outside of it")))?;
        Ok((at, element))
    }
}

fn damaged(page: u64, what: impl Into<String>) -> BoltError {
    BoltError::Damaged {
        page,
        what: what.into(),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
