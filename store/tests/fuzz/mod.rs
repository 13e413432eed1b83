//! Fuzzing on the stable toolchain: files of a corpus, changed in every way that breaks decoders, and random bytes.
//!
//! A case is a function of seed and number, so a failure is replayed by its seed. `SEED` sets it, else each run has its
//! own; `ITERATIONS` sets how many cases there are. A case that panics is saved and named; one that does not end, or that wants gigabytes,
//! ends the process.
#![allow(
    clippy::disallowed_methods,
    reason = "whoever waits for the store to end needs a clock"
)]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How long one case may take, on the slowest of machines.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory that a test may take beyond what it has at its start.
const MEMORY: u64 = 4 << 30;
/// What a decoder may give out, for each byte it is given.
const GROWTH: usize = 64;
const LONGEST_RANDOM: usize = 300;

/// Numbers at which lengths, shifts and signs go wrong.
const INTERESTING: [u64; 16] = [
    0,
    1,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x10000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The files of `tests/corpus/<name>` of the package under test.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name)
}

/// The files of a corpus.
pub(crate) fn files(name: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder(name)).expect("the corpus is there");
    let mut paths: Vec<_> = files
        .map(|file| file.expect("it is a file").path())
        .collect();
    paths.sort();
    let corpus: Vec<_> = paths
        .iter()
        .map(|path| std::fs::read(path).expect("it can be read"))
        .collect();
    assert!(!corpus.is_empty(), "no corpus for {name}");
    corpus
}

/// Replaces the corpus of a decoder.
pub(crate) fn write_corpus(name: &str, files: &[Vec<u8>]) {
    let folder = folder(name);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    for (nth, file) in files.iter().enumerate() {
        std::fs::write(folder.join(format!("{nth:02}")), file).expect("the file can be written");
    }
}

/// Runs `decode` over `executions` cases of the corpus `name`. It answers how many bytes it gave out.
pub(crate) fn fuzz(name: &str, executions: u64, decode: impl Fn(&[u8]) -> usize) {
    let corpus = files(name);
    let make = |seed, number| case(seed, number, &corpus);
    run(name, executions, &make, decode);
}

/// The same over cases that `make` makes: of files with checksums, say, most changes only test the checksum. Answers
/// how many there were.
pub(crate) fn fuzz_made(
    name: &str,
    executions: u64,
    make: impl Fn(&mut StdRng) -> Vec<u8> + Sync,
    decode: impl Fn(&[u8]) -> usize,
) -> u64 {
    let make = |seed, number| make(&mut random_of(seed, number));
    run(name, executions, &make, decode)
}

/// Makes the case of a seed and a number.
type Make<'a> = dyn Fn(u64, u64) -> Vec<u8> + Sync + 'a;

fn run(name: &str, executions: u64, make: &Make<'_>, decode: impl Fn(&[u8]) -> usize) -> u64 {
    limit_memory();
    let seed = from_env("SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let executions = from_env("ITERATIONS").unwrap_or(executions);
    eprintln!("{name}: SEED={seed}, {executions} cases");
    let (number, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            watch(name, &number, &is_over, &|number| make(seed, number));
        });
        for nth in 0..executions {
            number.store(nth, Ordering::Relaxed);
            let input = make(seed, nth);
            let given = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decode(&input)));
            let is_fine = given
                .as_ref()
                .is_ok_and(|given| *given <= (1 << 16) + GROWTH * input.len());
            if !is_fine {
                is_over.store(true, Ordering::Relaxed);
                let saved = save(name, nth, &input);
                panic!(
                    "{name}: SEED={seed}, case {nth} gave {given:?}; it is in {}",
                    saved.display()
                );
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    executions
}

fn save(name: &str, number: u64, input: &[u8]) -> PathBuf {
    let folder = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("{name}-{number}"));
    std::fs::write(&path, input).expect("the case can be saved");
    path
}

/// Ends the process if a case does not end.
fn watch(name: &str, number: &AtomicU64, is_over: &AtomicBool, case: &dyn Fn(u64) -> Vec<u8>) {
    let mut last = (u64::MAX, Instant::now());
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        let now = number.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > PATIENCE {
            let saved = save(name, now, &case(now));
            eprintln!(
                "{name}: case {now} does not end; it is in {}",
                saved.display()
            );
            std::process::abort();
        }
    }
}

/// An allocation far beyond any input fails, and that ends the process. Unit tests share theirs with others.
fn limit_memory() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if option_env!("CARGO_TARGET_TMPDIR").is_none() {
        return;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm
            .split(' ')
            .next()
            .and_then(|pages| pages.parse::<u64>().ok());
        let limit = pages.unwrap_or(0) * 4096 + MEMORY;
        let maximum = getrlimit(Resource::As).maximum;
        let current = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
        setrlimit(Resource::As, Rlimit { current, maximum }).expect("a lower limit is allowed");
    });
}

fn random_of(seed: u64, number: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The case of a number: first the corpus as it is, then changes of it.
fn case(seed: u64, number: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    if let Some(file) = usize::try_from(number).ok().and_then(|nth| corpus.get(nth)) {
        return file.clone();
    }
    let mut random = random_of(seed, number);
    if random.random_ratio(1, 20) {
        let length = random.random_range(0..LONGEST_RANDOM);
        return (0..length).map(|_| random.random()).collect();
    }
    let mut bytes = corpus[random.random_range(0..corpus.len())].clone();
    let most = [2, 4, 12][random.random_range(0..3)];
    for _ in 0..random.random_range(1..most) {
        change(&mut bytes, corpus, &mut random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut StdRng) {
    let length = bytes.len();
    let at = random.random_range(0..=length);
    // Most fields are short, and so are most useful changes.
    let longest = [2, 9, 64, 4096][random.random_range(0..4)].min(length - at + 1);
    let end = at + random.random_range(0..longest);
    match random.random_range(0..10) {
        0 if length > 0 => bytes[at % length] ^= 1 << random.random_range(0..8),
        1 if length > 0 => bytes[at % length] = random.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let copy = bytes[at..end].to_vec();
            let to = random.random_range(0..=length);
            bytes.splice(to..to, copy);
        }
        5 => {
            let other = &corpus[random.random_range(0..corpus.len())];
            let from = random.random_range(0..=other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
        6 => {
            let filling = [0, 0xff, b'9', b'{', random.random()][random.random_range(0..5)];
            let count = random.random_range(0..40);
            bytes.splice(at..at, std::iter::repeat_n(filling, count));
        }
        7 if length > 0 => {
            let step = random.random_range(1..5);
            let byte = &mut bytes[at % length];
            *byte = if random.random() {
                byte.wrapping_add(step)
            } else {
                byte.wrapping_sub(step)
            };
        }
        _ => {
            // In place of a field, or before it.
            let new = number(random);
            let replaced = if random.random() {
                new.len().min(length - at)
            } else {
                0
            };
            bytes.splice(at..at + replaced, new);
        }
    }
}

/// An interesting number, in one of the forms in which numbers are written.
fn number(random: &mut StdRng) -> Vec<u8> {
    let near = random.random_range(0..3_u64).wrapping_sub(1);
    let number = INTERESTING[random.random_range(0..INTERESTING.len())].wrapping_add(near);
    let width = [1, 2, 4, 8][random.random_range(0..4)];
    match random.random_range(0..4) {
        0 => number.to_le_bytes()[..width].to_vec(),
        1 => number.to_be_bytes()[8 - width..].to_vec(),
        2 => number.to_string().into_bytes(),
        _ => {
            let (mut rest, mut varint) = (number, Vec::new());
            while rest >= 0x80 {
                varint.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            varint.push((rest & 0x7f) as u8);
            varint
        }
    }
}
