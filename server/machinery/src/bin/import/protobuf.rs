//! `protobuf.txt` from the Go types that upstream publishes: their tags have the number of each field in protobuf and
//! its name in JSON, and their types say what no definition of the protocol does: which fields are pointers, so that
//! a zero in them was meant.
//!
//! The modules are k8s.io/api, k8s.io/apimachinery, k8s.io/apiextensions-apiserver and k8s.io/kube-aggregator.
//! Of all types those are kept that [`machinery::schema`] has, and what these need.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use machinery::schema::Schemas;

const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/protobuf.txt");

/// Types that have a form of their own in JSON; the decoder knows them.
const SPECIAL: [&str; 7] = [
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
];

/// A Go type, by its package and its name.
pub(crate) type Name = (String, String);

/// Packages by what a file calls them.
type Imports = HashMap<String, String>;

/// A type as its file declares it.
pub(crate) struct Declaration {
    pub(crate) body: Body,
    /// Go's slices that protobuf wraps in a message, so that one can be missing.
    is_nullable: bool,
    /// Its constants are all values that it may have.
    pub(crate) is_enum: bool,
    pub(crate) imports: Imports,
}

pub(crate) enum Body {
    Struct(Vec<Field>),
    /// What it is another name of.
    Other(String),
}

pub(crate) struct Field {
    /// In protobuf.
    number: u32,
    /// In JSON; in protobuf, if JSON has none.
    pub(crate) name: String,
    pub(crate) go_type: String,
    pub(crate) is_inline: bool,
    /// Left out of JSON if it is zero.
    is_omitted: bool,
    /// How many empty lines end its comment, its tags aside.
    pub(crate) empty_lines: usize,
}

/// A constant as its file declares it.
pub(crate) struct Constant {
    /// Its type, if it says one.
    pub(crate) of: Option<Name>,
    pub(crate) value: Meant,
    /// On one line.
    pub(crate) comment: String,
}

pub(crate) enum Meant {
    Text(String),
    /// As another constant.
    Same(Name),
}

/// What a Go type is in protobuf.
#[derive(Clone)]
enum Wire {
    Scalar(&'static str),
    Message(Name),
    List(Box<Wire>),
    Map(Box<Wire>),
}

pub(crate) fn import(folders: &[&str]) -> Result<(), Box<dyn Error>> {
    let types = Types::of(folders)?;
    let mut sources = Vec::new();
    for folder in folders {
        let module = module(Path::new(folder))?;
        let version = folder.rsplit('@').next().unwrap_or_default();
        sources.push(format!("{module} {version}"));
    }
    std::fs::write(TARGET, types.write(&sources)?)?;
    Ok(())
}

/// What a module calls itself.
fn module(folder: &Path) -> Result<String, Box<dyn Error>> {
    let file = folder.join("go.mod");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file:?}: {error}"))?;
    let named = text.lines().find_map(|line| line.strip_prefix("module "));
    Ok(named.ok_or("a go.mod without a module")?.trim().to_owned())
}

/// What Go modules declare.
#[derive(Default)]
pub(crate) struct Types {
    pub(crate) declared: BTreeMap<Name, Declaration>,
    pub(crate) constants: BTreeMap<Name, Constant>,
}

impl Types {
    /// Reads modules by their folders.
    pub(crate) fn of(folders: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut types = Self::default();
        for folder in folders {
            let folder = Path::new(folder);
            types.read(folder, &module(folder)?)?;
        }
        Ok(types)
    }

    fn read(&mut self, folder: &Path, package: &str) -> Result<(), Box<dyn Error>> {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or_default();
            if path.is_dir() {
                if !matches!(name, "testdata" | "vendor") {
                    self.read(&path, &format!("{package}/{name}"))?;
                }
            } else if name.ends_with(".go")
                && !name.ends_with("_test.go")
                && !name.starts_with("zz_generated")
                && !name.starts_with("generated")
            {
                self.read_file(&std::fs::read_to_string(&path)?, package);
            }
        }
        Ok(())
    }

    pub(crate) fn read_file(&mut self, text: &str, package: &str) {
        let imports = imports(text);
        let mut comment = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(text) = line.strip_prefix("//") {
                comment.push(text.trim());
                continue;
            }
            if line == "const (" {
                let mut comment = Vec::new();
                for line in lines.by_ref().take_while(|line| *line != ")") {
                    let line = line.trim();
                    if let Some(text) = line.strip_prefix("//") {
                        comment.push(text.trim());
                        continue;
                    }
                    self.add_constant(line, &comment, package, &imports);
                    comment.clear();
                }
            } else if let Some(line) = line.strip_prefix("const ") {
                self.add_constant(line, &comment, package, &imports);
            } else if let Some((name, rest)) = declaration(line) {
                let body = match rest {
                    "struct{}" | "struct {}" => Body::Struct(Vec::new()),
                    "struct {" => {
                        let lines = lines.by_ref().take_while(|line| *line != "}");
                        Body::Struct(fields(lines))
                    }
                    _ => Body::Other(rest.trim_start_matches("= ").to_owned()),
                };
                let declaration = Declaration {
                    body,
                    is_nullable: comment
                        .iter()
                        .any(|line| line.contains("+protobuf.nullable=true")),
                    is_enum: comment.contains(&"+enum"),
                    imports: imports.clone(),
                };
                let name = (package.to_owned(), name.to_owned());
                self.declared.entry(name).or_insert(declaration);
            }
            comment.clear();
        }
    }

    fn add_constant(&mut self, line: &str, comment: &[&str], package: &str, imports: &Imports) {
        let Some((declared, value)) = line.split_once('=') else {
            return;
        };
        let mut words = declared.split_whitespace();
        let (Some(name), of) = (words.next(), words.next()) else {
            return;
        };
        let value = value.trim();
        let (of, value) = match value.split_once('(') {
            Some((of, value)) if !of.contains('"') => (Some(of), value),
            _ => (of, value),
        };
        let value = match value.strip_prefix('"') {
            Some(text) => Meant::Text(text.split('"').next().unwrap_or_default().to_owned()),
            None => {
                let end = value.find([')', ' ']).unwrap_or(value.len());
                Meant::Same(full(&value[..end], package, imports))
            }
        };
        let constant = Constant {
            of: of.map(|of| full(of, package, imports)),
            value,
            comment: comment.join(" "),
        };
        let name = (package.to_owned(), name.to_owned());
        self.constants.insert(name, constant);
    }

    /// Follows a type until it is known what it is in protobuf.
    fn wire(&self, text: &str, package: &str, context: &Declaration) -> Result<Wire, String> {
        let text = text.trim_start_matches('*');
        if text == "[]byte" {
            return Ok(Wire::Scalar("bytes"));
        }
        if let Some(items) = text.strip_prefix("[]") {
            return Ok(Wire::List(Box::new(self.wire(items, package, context)?)));
        }
        if let Some(map) = text.strip_prefix("map[") {
            let (_, values) = map.split_once(']').ok_or("a map without an end")?;
            return Ok(Wire::Map(Box::new(self.wire(values, package, context)?)));
        }
        for scalar in ["bool", "int32", "int64", "float64", "string"] {
            if text == scalar {
                return Ok(Wire::Scalar(scalar));
            }
        }
        let name = full(text, package, &context.imports);
        let declared = self.declared.get(&name);
        let declared = declared.ok_or_else(|| format!("{name:?} is not declared"))?;
        match &declared.body {
            Body::Struct(_) => Ok(Wire::Message(name)),
            Body::Other(_) if declared.is_nullable => Ok(Wire::Message(name)),
            Body::Other(text) => self.wire(text, &name.0, declared),
        }
    }

    /// A type as Go prints it, if that is not what its shape says already: named text, lists and maps.
    fn printed(&self, text: &str, package: &str, context: &Declaration) -> Option<String> {
        let text = text.trim_start_matches('*');
        let text = text.strip_prefix("[]").unwrap_or(text);
        let is_name = text
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || one == '.' || one == '_');
        let (mut package, mut name) = is_name.then(|| full(text, package, &context.imports))?;
        // Go knows only what an alias stands for.
        loop {
            let declared = self.declared.get(&(package.clone(), name.clone()))?;
            match &declared.body {
                Body::Struct(_) => return None,
                Body::Other(text) if text.contains('.') && !text.contains(['[', ']']) => {
                    (package, name) = full(text, &package, &declared.imports);
                }
                Body::Other(_) => break,
            }
        }
        let short = package.rsplit('/').next().unwrap_or_default();
        Some(format!("{short}.{name}"))
    }

    fn write(&self, sources: &[String]) -> Result<String, Box<dyn Error>> {
        let schemas = Schemas::builtin();
        let mut open = Vec::new();
        for (name, declared) in &self.declared {
            // What is another name of something is never named in the table.
            let is_struct = matches!(declared.body, Body::Struct(_));
            if is_struct && schemas.named(&definition(name)).is_some() {
                open.push(name.clone());
            }
        }
        let mut written: BTreeMap<Name, String> = BTreeMap::new();
        let mut seen: BTreeSet<Name> = BTreeSet::new();
        while let Some(name) = open.pop() {
            if SPECIAL.contains(&definition(&name).as_str()) || !seen.insert(name.clone()) {
                continue;
            }
            let (text, needed) = self.message(&name)?;
            written.insert(name, text);
            open.extend(needed);
        }
        let mut table = String::new();
        writeln!(table, "# Made by `import protobuf` from the Go types of")?;
        for source in sources {
            writeln!(table, "# {source}")?;
        }
        table.push_str(
            "# which are under the Apache License, Version 2.0. `src/decode/protobuf.rs` says how it is read.\n",
        );
        let mut package = "";
        for (name, text) in &written {
            if name.0 != package {
                package = &name.0;
                let all = definition(name);
                let all = all.strip_suffix(&format!(".{}", name.1));
                writeln!(table, "package {}", all.unwrap_or_default())?;
            }
            table.push_str(text);
        }
        Ok(table)
    }

    /// The lines of a message, and the messages that these name.
    fn message(&self, name: &Name) -> Result<(String, Vec<Name>), Box<dyn Error>> {
        let declared = self.declared.get(name);
        let declared = declared.ok_or_else(|| format!("{name:?} is not declared"))?;
        let mut needed = Vec::new();
        let mut lines = String::new();
        match &declared.body {
            Body::Other(_) => writeln!(lines, "items {}", name.1)?,
            Body::Struct(fields) => {
                writeln!(lines, "message {}", name.1)?;
                for field in fields {
                    let wire = self
                        .wire(&field.go_type, &name.0, declared)
                        .map_err(|why| format!("{name:?}.{}: {why}", field.name))?;
                    let is_pointer = field.go_type.starts_with('*');
                    let (how, wire) = match wire {
                        _ if field.is_inline => ("inline", wire),
                        Wire::List(items) => ("list", *items),
                        Wire::Map(values) => ("map", *values),
                        wire if is_pointer => ("pointer", wire),
                        wire if field.is_omitted => ("value", wire),
                        wire => ("always", wire),
                    };
                    let of = match wire {
                        Wire::Scalar(scalar) => scalar.to_owned(),
                        Wire::Message(inner) => {
                            let is_near = inner.0 == name.0;
                            let text = if is_near {
                                inner.1.clone()
                            } else {
                                definition(&inner)
                            };
                            needed.push(inner);
                            text
                        }
                        _ => return Err(format!("{name:?}.{}: a list of lists", field.name).into()),
                    };
                    write!(lines, "{} {} {how} {of}", field.number, field.name)?;
                    match self.printed(&field.go_type, &name.0, declared) {
                        Some(printed) => writeln!(lines, " {printed}")?,
                        None => writeln!(lines)?,
                    }
                }
            }
        }
        Ok((lines, needed))
    }
}

/// `io.k8s.api.apps.v1.Deployment` of `k8s.io/api/apps/v1` and `Deployment`.
pub(crate) fn definition((package, name): &Name) -> String {
    let (host, path) = package.split_once('/').unwrap_or((package, ""));
    let mut parts: Vec<&str> = host.split('.').rev().collect();
    parts.extend(path.split('/'));
    parts.push(name);
    parts.join(".")
}

/// A type by the name that a file calls it.
pub(crate) fn full(text: &str, package: &str, imports: &Imports) -> Name {
    match text.split_once('.') {
        Some((alias, name)) => {
            let package = imports.get(alias).map_or(alias, String::as_str);
            (package.to_owned(), name.to_owned())
        }
        None => (package.to_owned(), text.to_owned()),
    }
}

/// The packages that a file imports, by what it calls them.
fn imports(text: &str) -> Imports {
    let lines = text.lines().map(str::trim).take_while(|line| {
        !["type ", "func ", "const ", "var "]
            .iter()
            .any(|start| line.starts_with(start))
    });
    let mut imports = HashMap::new();
    for line in lines {
        let line = line.strip_prefix("import ").unwrap_or(line);
        let mut parts = line.split('"');
        if let (Some(alias), Some(path), Some("")) = (parts.next(), parts.next(), parts.next()) {
            let alias = match alias.trim() {
                "" => path.rsplit('/').next().unwrap_or_default(),
                alias => alias,
            };
            imports.insert(alias.to_owned(), path.to_owned());
        }
    }
    imports
}

/// The name of a declared type, and what it is.
fn declaration(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("type ")?.split_once(' ')?;
    let rest = rest.split("//").next().unwrap_or_default().trim();
    let is_type = rest != "interface {" && !rest.starts_with("func");
    (is_type && !name.contains('[')).then_some((name, rest))
}

/// The fields of a struct.
fn fields<'t>(lines: impl Iterator<Item = &'t str>) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut comment = Vec::new();
    for line in lines {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("//") {
            comment.push(text.trim());
            continue;
        }
        fields.extend(field(line, &comment));
        comment.clear();
    }
    fields
}

/// A field that protobuf has.
fn field(line: &str, comment: &[&str]) -> Option<Field> {
    let mut parts = line.split('`');
    let (declared, tags) = (parts.next()?, parts.next()?);
    let mut words = declared.split_whitespace();
    let first = words.next()?;
    let go_type = words.next();
    let protobuf = tag(tags, "protobuf")?;
    let mut protobuf = protobuf.split(',');
    let number = protobuf.nth(1)?.parse().ok()?;
    let wire_name = protobuf.find_map(|part| part.strip_prefix("name="));
    let json = tag(tags, "json").unwrap_or_default();
    let mut json = json.split(',');
    let json_name = json.next().unwrap_or_default();
    let options: Vec<&str> = json.collect();
    let name = match json_name {
        "" | "-" => wire_name.unwrap_or(first),
        name => name,
    };
    Some(Field {
        number,
        name: name.to_owned(),
        is_inline: json_name.is_empty() && (go_type.is_none() || options.contains(&"inline")),
        is_omitted: options.contains(&"omitempty") || options.contains(&"omitzero"),
        go_type: go_type.unwrap_or(first).to_owned(),
        empty_lines: empty_lines(comment),
    })
}

/// Go drops those at the very end of a comment; those before tags stay.
fn empty_lines(comment: &[&str]) -> usize {
    let lines = comment.iter().rev().skip_while(|line| line.is_empty());
    lines
        .filter(|line| !line.starts_with('+') && !line.starts_with("TODO"))
        .take_while(|line| line.is_empty())
        .count()
}

/// One of the tags of a field.
fn tag<'t>(tags: &'t str, name: &str) -> Option<&'t str> {
    let behind = tags.split(&format!("{name}:\"")).nth(1)?;
    behind.split('"').next()
}
