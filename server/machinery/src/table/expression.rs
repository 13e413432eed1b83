//! What stands in a column: paths, or a function over paths.

use std::cell::OnceCell;

use serde_json::Value;

use super::functions;
use super::path::Path;
use super::tree::{is_empty, number, text};

/// How a cell is made from an object.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Paths(Vec<Path>),
    Call(Function, Vec<Argument>),
}

/// One of the functions in [`functions`].
pub(super) type Function = fn(&Call<'_>) -> Option<Value>;

/// What a function is over.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    /// Of these, the first that has something.
    Paths(Vec<Path>),
    /// A word that means something to the function.
    Word(Box<str>),
}

/// What there is to know when a cell is made.
pub(super) struct Context<'a> {
    pub(super) object: &'a Value,
    /// In seconds since 1970.
    pub(super) now: i64,
    pub(super) list: &'a List<'a>,
}

/// The list that the object is in; empty if it is on its own.
pub(super) struct List<'a> {
    pub(super) objects: &'a [Value],
    /// What is found out once for all rows: the name of the storage class that is the default.
    pub(super) default_class: OnceCell<Option<String>>,
}

/// A function at work.
pub(super) struct Call<'a> {
    pub(super) context: &'a Context<'a>,
    arguments: &'a [Argument],
}

impl Expression {
    /// Reads an expression as columns.yaml has it.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        let source = source.trim();
        if source.starts_with(['.', '[', '$']) {
            return match read_paths(source)? {
                (paths, "") => Ok(Self::Paths(paths)),
                (_, rest) => Err(format!("{rest:?} comes after the path")),
            };
        }
        let inner = source.strip_suffix(')');
        let Some((name, mut rest)) = inner.and_then(|inner| inner.split_once('(')) else {
            return Err(format!("{source:?} is neither a path nor a function"));
        };
        let function =
            functions::named(name).ok_or_else(|| format!("there is no function {name:?}"))?;
        let mut arguments = Vec::new();
        while !rest.is_empty() {
            let (argument, after) = read_argument(rest)?;
            arguments.push(argument);
            rest = match after.strip_prefix(',') {
                Some(after) => after.trim_start(),
                None if after.is_empty() => after,
                None => return Err(format!("{after:?} comes after an argument")),
            };
        }
        Ok(Self::Call(function, arguments))
    }

    /// The cell of an object, or `None` if the object has nothing for it.
    pub(super) fn evaluate(&self, context: &Context<'_>) -> Option<Value> {
        match self {
            Self::Paths(paths) => found(paths, context.object).cloned(),
            Self::Call(function, arguments) => function(&Call { context, arguments }),
        }
        .filter(|value| !is_empty(value))
    }
}

fn read_argument(source: &str) -> Result<(Argument, &str), String> {
    if source.starts_with(['.', '[', '$']) {
        let (paths, rest) = read_paths(source)?;
        return Ok((Argument::Paths(paths), rest));
    }
    let (word, rest) = source.split_at(source.find(',').unwrap_or(source.len()));
    Ok((Argument::Word(word.trim().into()), rest))
}

/// Paths with `|` between them.
fn read_paths(mut source: &str) -> Result<(Vec<Path>, &str), String> {
    let mut paths = Vec::new();
    loop {
        let (path, rest) = Path::read(source)?;
        paths.push(path);
        match rest.trim_start().strip_prefix('|') {
            Some(after) => source = after.trim_start(),
            None => return Ok((paths, rest.trim_start())),
        }
    }
}

fn found<'a>(paths: &[Path], object: &'a Value) -> Option<&'a Value> {
    paths
        .iter()
        .filter_map(|path| path.first(object))
        .find(|value| !is_empty(value))
}

impl<'a> Call<'a> {
    /// The whole object.
    pub(super) fn object(&self) -> &'a Value {
        self.context.object
    }

    /// The value of an argument, if there is any.
    pub(super) fn value(&self, place: usize) -> Option<&'a Value> {
        match self.arguments.get(place)? {
            Argument::Paths(paths) => found(paths, self.context.object),
            Argument::Word(_) => None,
        }
    }

    /// The same, `null` if there is none.
    pub(super) fn tree(&self, place: usize) -> &'a Value {
        self.value(place).unwrap_or(&Value::Null)
    }

    /// The text of an argument, or nothing.
    pub(super) fn text(&self, place: usize) -> &'a str {
        self.value(place).map(text).unwrap_or_default()
    }

    /// The number of an argument, or 0.
    pub(super) fn number(&self, place: usize) -> i64 {
        self.value(place).map(number).unwrap_or_default()
    }

    /// All values of all arguments, in their order; each argument gives those of its first path that has any.
    pub(super) fn values(&self) -> Vec<&'a Value> {
        let paths = self.arguments.iter().filter_map(|argument| match argument {
            Argument::Paths(paths) => Some(paths),
            Argument::Word(_) => None,
        });
        paths
            .filter_map(|paths| {
                let all = paths.iter().map(|path| path.all(self.context.object));
                all.map(|mut values| {
                    values.retain(|value| !is_empty(value));
                    values
                })
                .find(|values| !values.is_empty())
            })
            .flatten()
            .collect()
    }

    /// The words among the arguments.
    pub(super) fn words(&self) -> impl Iterator<Item = &'a str> {
        self.arguments.iter().filter_map(|argument| match argument {
            Argument::Word(word) => Some(word.as_ref()),
            Argument::Paths(_) => None,
        })
    }
}
