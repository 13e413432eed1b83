//! The bbolt format: what is written is read back, what etcd wrote is read, and no bytes make the reader panic or loop.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fuzz;

use std::cell::Cell;
use std::io::Cursor;

use fuzz::fuzz_made;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::bolt::BoltError;
use store::bolt::read::{Bucket, Database, Seen};
use store::bolt::write::Writer;

type Items = Vec<(Vec<u8>, Vec<u8>)>;

/// A snapshot that etcd 3.7.3 made, with its digest behind.
const OF_ETCD: &[u8] = include_bytes!("files/etcd-3.7.3.snapshot");

fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or_else(
        |_| rand::random::<u32>().into(),
        |seed| seed.parse().unwrap(),
    );
    eprintln!("SEED={seed}");
    seed
}

fn written(page_size: u32, buckets: &[(&str, Items)]) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), page_size).unwrap();
    for (name, items) in buckets {
        writer.begin_bucket(name.as_bytes()).unwrap();
        for (key, value) in items {
            writer.put(key, value).unwrap();
        }
    }
    let (file, size) = writer.finish().unwrap();
    let file = file.into_inner();
    assert_eq!(file.len() as u64, size);
    file
}

fn items_of(bucket: &Bucket<'_>, seen: &mut Seen) -> Result<Items, BoltError> {
    let mut items = bucket.items(seen);
    let mut found = Vec::new();
    while let Some(item) = items.next()? {
        found.push((item.key.to_vec(), item.value.to_vec()));
    }
    Ok(found)
}

/// Everything in a file, with every check there is.
fn read(file: &[u8]) -> Result<Vec<(String, Items)>, BoltError> {
    let database = Database::open(&file)?;
    let mut seen = database.seen();
    let mut found = Vec::new();
    for (name, bucket) in database.buckets(&mut seen)? {
        let name = String::from_utf8_lossy(&name).into_owned();
        found.push((name, items_of(&bucket, &mut seen)?));
    }
    database.check_free(&mut seen)?;
    Ok(found)
}

fn random_items(random: &mut StdRng, count: usize, longest: usize) -> Items {
    let mut items = std::collections::BTreeMap::new();
    for _ in 0..count {
        let key: Vec<u8> = (0..random.random_range(1..20))
            .map(|_| random.random())
            .collect();
        let len = match random.random_range(0..50) {
            0 => random.random_range(0..longest),
            _ => random.random_range(0..100),
        };
        items.insert(key, vec![random.random(); len]);
    }
    items.into_iter().collect()
}

#[test]
fn what_is_written_is_read_back_at_every_page_size_and_height() {
    let mut random = StdRng::seed_from_u64(seed());
    for page_size in [512, 1024, 4096, 16384, 65536] {
        for count in [0, 1, 2, 3, 10, 200, 20_000] {
            let longest = page_size as usize * 5;
            let buckets = [
                ("b", random_items(&mut random, count, longest)),
                ("a", Vec::new()),
                ("c", random_items(&mut random, 1, longest)),
            ];
            let file = written(page_size, &buckets);
            let mut expected: Vec<_> = buckets
                .into_iter()
                .map(|(name, items)| (name.to_owned(), items))
                .collect();
            expected.sort_unstable();
            assert!(read(&file).unwrap() == expected, "{page_size} {count}");
        }
    }
}

#[test]
fn every_branch_has_two_children_whatever_the_keys() {
    let mut random = StdRng::seed_from_u64(seed());
    for round in 0..60_u32 {
        let count = 2 + round * 7;
        let longest_key = [4, 300, 3000][round as usize % 3];
        let mut keys: Vec<Vec<u8>> = (0..count)
            .map(|place: u32| {
                let mut key = place.to_be_bytes().to_vec();
                key.resize(4 + random.random_range(0..longest_key), 7);
                key
            })
            .collect();
        keys.sort_unstable();
        let items: Items = keys.into_iter().map(|key| (key, vec![1; 300])).collect();
        let file = written(1024, &[("b", items.clone())]);
        assert!(read(&file).unwrap() == [("b".to_owned(), items)]);
        for page in file.chunks(1024) {
            let (flags, count) = (page[8], u16::from_le_bytes([page[10], page[11]]));
            // Overflow pages have anything there, so only pages that carry their own number are looked at.
            let id = u64::from_le_bytes(page[..8].try_into().unwrap());
            let own = (page.as_ptr() as usize - file.as_ptr() as usize) / 1024;
            assert!(
                id != own as u64 || flags != 1 || count >= 2,
                "page {id} has {count}"
            );
        }
    }
}

#[test]
fn a_snapshot_of_etcd_is_read_with_its_inline_buckets_and_overflow_pages() {
    let found = read(OF_ETCD).unwrap();
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "alarm",
        "auth",
        "authRoles",
        "authUsers",
        "cluster",
        "key",
        "lease",
        "members",
        "members_removed",
        "meta",
    ];
    assert_eq!(names, expected);
    let keys = &found[5].1;
    // The deletion at 5 is above the compacted revision 4, so it and what it deleted stay.
    let revisions: Vec<u8> = keys.iter().map(|(key, _)| key[7]).collect();
    assert_eq!(revisions, [2, 3, 4, 5, 6, 7]);
    assert!(keys[5].1.len() > 9000);
    let file = OF_ETCD;
    let database = Database::open(&file).unwrap();
    assert_eq!(database.size() + 32, OF_ETCD.len() as u64);
    let lease = database.bucket(b"lease").unwrap().unwrap();
    assert_eq!(items_of(&lease, &mut database.seen()).unwrap().len(), 1);
    assert!(database.bucket(b"nothing").unwrap().is_none());
}

#[test]
fn what_cannot_be_in_a_file_is_not_written() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), 4096).unwrap();
    assert!(writer.put(b"k", b"").is_err());
    writer.begin_bucket(b"b").unwrap();
    writer.put(b"k", b"").unwrap();
    for key in [&b"k"[..], b"a", b"", &[b'z'; 40_000]] {
        assert!(matches!(
            writer.put(key, b""),
            Err(BoltError::Unwritable(_))
        ));
    }
    assert!(writer.begin_bucket(b"b").is_err());
}

#[test]
fn a_file_that_is_cut_off_or_no_database_is_refused_in_words() {
    let file = written(4096, &[("b", vec![(b"k".to_vec(), vec![0; 10_000])])]);
    let text = |file: &[u8]| read(file).unwrap_err().to_string();
    assert!(text(&file[..file.len() - 1]).starts_with("the file is cut off"));
    assert!(text(&[]).starts_with("this is not an etcd database"));
    assert!(text(&[0; 10_000]).starts_with("this is not an etcd database"));
    let mut one_meta = file.clone();
    one_meta[60] ^= 1;
    assert_eq!(read(&one_meta).unwrap(), read(&file).unwrap());
    one_meta[4096 + 60] ^= 1;
    assert!(text(&one_meta).contains("checksum"));
    let mut wrong_page = file;
    wrong_page[3 * 4096] ^= 1;
    assert_eq!(
        text(&wrong_page),
        "the file is damaged at page 3: it says that it is page 2"
    );
}

/// FNV-1a, so that damage gets past the checksum.
fn repair_metas(file: &mut [u8], page_size: usize) {
    for at in [0, page_size] {
        let Some(page) = file.get_mut(at..at + 80) else {
            return;
        };
        let sum = page[16..72]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        page[72..80].copy_from_slice(&sum.to_le_bytes());
    }
}

#[test]
fn no_bytes_make_the_reader_panic_or_loop() {
    // The cases alone depend on the seed.
    let mut random = StdRng::seed_from_u64(1);
    let mut small = || random_items(&mut random, 60, 2000);
    let files = [
        (4096, OF_ETCD.to_vec()),
        (512, written(512, &[("a", small()), ("b", small())])),
        (1024, written(1024, &[("key", small())])),
    ];
    let damaged =
        |random: &mut StdRng| {
            let (page_size, original) = &files[random.random_range(0..files.len())];
            let mut file = original.clone();
            for _ in 0..random.random_range(1..4) {
                // Heads of pages and their elements are where it hurts most.
                let page = random.random_range(0..file.len().div_ceil(*page_size)) * page_size;
                let heads = if random.random_bool(0.7) {
                    96
                } else {
                    *page_size
                };
                let near = random.random_range(0..heads);
                let at = (page + near).min(file.len() - 8);
                match random.random_range(0..5) {
                    0 => file[at] ^= 1 << random.random_range(0..8),
                    1 => file[at..at + 8].fill(0xff),
                    2 => file[at..at + 4]
                        .copy_from_slice(&random.random_range(0..40_u32).to_le_bytes()),
                    3 => file[at..at + 8]
                        .copy_from_slice(&random.random_range(0..40_u64).to_le_bytes()),
                    _ => {
                        let from = random.random_range(0..file.len() - 64);
                        let part = file[from..from + 64].to_vec();
                        let end = (at + 64).min(file.len());
                        file[at..end].copy_from_slice(&part[..end - at]);
                    }
                }
            }
            if random.random_bool(0.1) {
                file.truncate(random.random_range(0..file.len()));
            }
            repair_metas(&mut file, *page_size);
            file
        };
    let refused = Cell::new(0);
    let cases = fuzz_made("bolt", 30_000, damaged, |file| match read(file) {
        Ok(found) => {
            let items = found.iter().flat_map(|(_, items)| items);
            items.map(|(key, value)| key.len() + value.len()).sum()
        }
        Err(_) => {
            refused.set(refused.get() + 1);
            0
        }
    });
    eprintln!("{} refused of {cases}", refused.get());
    assert!(refused.get() >= cases / 3 || cases < 1000);
}
