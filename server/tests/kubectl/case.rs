//! Cases as they are written in the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The name of the file that it is from.
    #[serde(skip)]
    topic: String,
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) run: String,
    #[serde(default)]
    pub(crate) stdin: String,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) exit: i32,
    pub(crate) out: Option<String>,
    pub(crate) err: Option<String>,
    #[serde(default)]
    pub(crate) eventually: bool,
    pub(crate) save: Option<String>,
    #[serde(default, rename = "while")]
    pub(crate) meanwhile: Vec<Step>,
    #[serde(default)]
    pub(crate) ends: bool,
}

impl Case {
    pub(crate) fn title(&self) -> String {
        format!("{}: {}", self.topic, self.name)
    }
}

/// The cases of all files, in the order of their names.
pub(crate) fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl");
    let files = std::fs::read_dir(folder).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    let mut titles = BTreeSet::new();
    let mut cases = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let of_file: Vec<Case> = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let topic = path.file_stem().unwrap().to_str().unwrap();
        for mut case in of_file {
            topic.clone_into(&mut case.topic);
            let title = case.title();
            assert!(titles.insert(title.clone()), "two cases are {title:?}");
            cases.push(case);
        }
    }
    cases
}

/// A command line as words, by the rules of a shell for quotes and backslashes.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(letter) = rest.next() {
        match (quote, letter) {
            (None, ' ' | '\n') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(letter);
                // An empty word is one, too.
                word.get_or_insert_default();
            }
            (Some(open), _) if letter == open => quote = None,
            (None, '\\') => word.get_or_insert_default().extend(rest.next()),
            (Some('"'), '\\') => {
                let next = rest.next().unwrap_or('\\');
                let word = word.get_or_insert_default();
                if !matches!(next, '"' | '\\') {
                    word.push('\\');
                }
                word.push(next);
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    assert!(quote.is_none(), "a quote is open in {line:?}");
    words.extend(word);
    words
}

#[test]
fn words_are_those_of_a_shell() {
    assert_eq!(
        words(r#"a  'b c' "d \"e\" \n" f\ g --h='{"i"}' ''"#),
        ["a", "b c", r#"d "e" \n"#, "f g", r#"--h={"i"}"#, ""]
    );
}
