//! One bit of one file, at random: it is detected, or it changes nothing.
//!
//! `SEED` replays a run, `FLIPS` sets how many.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::template::{Outcome, Template, files, flip, name_of, outcome};

/// What a file is, for choosing and counting.
fn kind(file: &Path) -> &'static str {
    let name = name_of(file);
    match &*name {
        "identity.json" | "lock" | "CURRENT" | "IDENTITY" | "LOCK" => match &*name {
            "identity.json" => "identity.json",
            "CURRENT" => "CURRENT",
            _ => "lock or name",
        },
        "ballast" => "ballast",
        _ if name.ends_with(".wal") => "log segment",
        _ if name.ends_with(".sst") => "table",
        _ if name.starts_with("MANIFEST") => "manifest",
        _ if name.starts_with("OPTIONS") => "options",
        _ => "text log",
    }
}

/// One behind the last byte that is not zero.
fn written(file: &Path) -> u64 {
    let bytes = fs::read(file).unwrap();
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flipped_bit_in_any_file_is_detected_or_harmless() {
    let from_env = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = from_env("SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()));
    let flips = from_env("FLIPS").unwrap_or(200);
    eprintln!("bit flips: SEED={seed}, {flips} flips");
    let template = Arc::new(Template::new().await);
    // The same choices whatever the machine's timing: what is flipped is drawn before anything runs.
    let mut rng = StdRng::seed_from_u64(seed);
    let mut kinds: BTreeMap<&'static str, Vec<_>> = BTreeMap::new();
    for file in files(&template.data()) {
        let size = fs::metadata(&file).unwrap().len();
        // Of zeros behind the records a few are enough.
        let size = size.min(written(&file) + 64);
        if size > 0 {
            let path = file.strip_prefix(template.data()).unwrap().to_owned();
            kinds.entry(kind(&file)).or_default().push((path, size));
        }
    }
    for needed in [
        "log segment",
        "table",
        "manifest",
        "CURRENT",
        "options",
        "identity.json",
    ] {
        assert!(kinds.contains_key(needed), "{needed}: {kinds:?}");
    }
    let names: Vec<&str> = kinds.keys().copied().collect();
    let cases: Vec<_> = (0..flips)
        .map(|case| {
            // Tables and segments have the most to lose.
            let kind = match case % 3 {
                0 => "table",
                1 => "log segment",
                _ => names[rng.random_range(0..names.len())],
            };
            let of_kind = &kinds[kind];
            let (path, size) = &of_kind[rng.random_range(0..of_kind.len())];
            (kind, path.clone(), rng.random_range(0..size * 8))
        })
        .collect();

    let cases = Arc::new(std::sync::Mutex::new(cases));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (cases, template) = (cases.clone(), template.clone());
            tokio::spawn(async move {
                let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
                loop {
                    let Some((kind, path, bit)) = cases.lock().unwrap().pop() else {
                        return counts;
                    };
                    let copy = template.copy();
                    flip(&copy.path().join(&path), bit);
                    let found = outcome(copy.path(), &template.expected).await;
                    let place = format!("{} bit {bit} (SEED={seed})", path.display());
                    let what = match &found {
                        Outcome::Harmless => "harmless",
                        Outcome::Refused(_) => "refused at the start",
                        Outcome::Stopped(_) => "stopped when met",
                        Outcome::Wrong => panic!("{place}: a wrong answer"),
                    };
                    if let Some(message) = found.message() {
                        // Damage in a file that names another may show at that one.
                        let folder = path.parent().unwrap().to_string_lossy();
                        assert!(message.contains(&*folder), "{place}: {message}");
                    }
                    *counts.entry((kind, what)).or_default() += 1;
                }
            })
        })
        .collect();
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for worker in workers {
        for (what, count) in worker.await.unwrap() {
            *counts.entry(what).or_default() += count;
        }
    }
    eprintln!("{flips} flips: {counts:#?}");
    let detected = |kind: &str| -> u64 {
        let of_kind = counts
            .iter()
            .filter(|((k, what), _)| *k == kind && *what != "harmless");
        of_kind.map(|(_, count)| count).sum()
    };
    assert!(
        flips < 100 || (detected("table") > 0 && detected("log segment") > 0),
        "flips that nobody notices prove nothing"
    );
}
