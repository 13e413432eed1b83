//! Paths into objects, the part of JSONPath that columns are written in: `.a.b`, `['a']`, `[0]`, `[-1]`, `[*]` and
//! `[?(@.type=="Ready")]`. Custom kinds bring their own, so whatever is written here is input.

use serde_json::Value;

/// More steps than this in one path are a mistake; the bound is also that of the recursion below.
const MAX_STEPS: usize = 100;

/// A path into an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(Box<str>),
    Item(i64),
    Every,
    Matching(Filter),
}

/// Which items of a list are meant.
#[derive(Clone, Debug, PartialEq)]
struct Filter {
    path: Path,
    /// `None` asks only whether there is anything at the path.
    test: Option<(Comparison, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

impl Path {
    /// Reads a path to its end, which is that of the text or a character that no path goes on with; what is left comes
    /// back, too.
    pub(super) fn read(text: &str) -> Result<(Self, &str), String> {
        read_path(text, true)
    }

    /// Reads a text that is nothing but a path; as upstream, braces around it and `$` before it are allowed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let inner = text.trim();
        let inner = inner
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or(inner)
            .trim();
        match read_path(inner, true)? {
            (path, "") => Ok(path),
            (_, rest) => Err(format!("{rest:?} is no part of a path")),
        }
    }

    /// The first value that the path leads to.
    pub(super) fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        first(&self.0, root)
    }

    /// All values that the path leads to, in their order.
    pub(super) fn all<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        collect(&self.0, root, &mut found);
        found
    }
}

fn read_path(text: &str, may_filter: bool) -> Result<(Path, &str), String> {
    let mut steps = Vec::new();
    let mut rest = text.strip_prefix(['$', '@']).unwrap_or(text);
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            if after.starts_with('.') {
                return Err("\"..\" is not supported".to_owned());
            }
            let (name, after) = read_name(after);
            match name.as_str() {
                // `.[0]` is the same as `[0]`, and `.` alone is the whole object.
                "" => {}
                "*" => steps.push(Step::Every),
                _ => steps.push(Step::Field(name.into())),
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (step, after) = read_brackets(after, may_filter)?;
            steps.push(step);
            rest = after;
        } else if rest.len() == text.len() {
            return Err(format!("{text:?} is not a path"));
        } else {
            break;
        }
        if steps.len() > MAX_STEPS {
            return Err(format!("a path has at most {MAX_STEPS} steps"));
        }
    }
    Ok((Path(steps), rest))
}

/// The name at the beginning of a text, in which a backslash keeps what comes after it from ending the name.
fn read_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            '.' | '[' | ']' | '(' | ')' | '{' | '}' | '|' | ',' | '=' | '!' | '<' | '>' => {
                return (name, &text[place..]);
            }
            character if character.is_whitespace() => return (name, &text[place..]),
            _ => name.push(character),
        }
    }
    (name, "")
}

fn read_brackets(text: &str, may_filter: bool) -> Result<(Step, &str), String> {
    let unclosed = || format!("[{text} has no end");
    if let Some(after) = text.strip_prefix("*]") {
        return Ok((Step::Every, after));
    }
    if let Some(after) = text.strip_prefix("?(") {
        if !may_filter {
            return Err("a condition may not be within another".to_owned());
        }
        let (filter, after) = read_filter(after)?;
        return match after.trim_start().strip_prefix(")]") {
            Some(after) => Ok((Step::Matching(filter), after)),
            None => Err(unclosed()),
        };
    }
    if text.starts_with(['\'', '"']) {
        let (name, after) = read_quoted(text).ok_or_else(unclosed)?;
        let after = after.strip_prefix(']').ok_or_else(unclosed)?;
        return Ok((Step::Field(name.into()), after));
    }
    let (number, after) = text.split_once(']').ok_or_else(unclosed)?;
    let number = number.trim().parse();
    let number = number.map_err(|_| format!("[{text} names no items"))?;
    Ok((Step::Item(number), after))
}

fn read_quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next()?;
    let mut inner = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((place, character)) = characters.next() {
        match character {
            '\\' => inner.push(characters.next()?.1),
            character if character == quote => return Some((inner, &text[place + 1..])),
            _ => inner.push(character),
        }
    }
    None
}

fn read_filter(text: &str) -> Result<(Filter, &str), String> {
    let (path, rest) = read_path(text.trim_start(), false)?;
    let rest = rest.trim_start();
    let signs = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::MoreOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::More),
    ];
    for (sign, comparison) in signs {
        if let Some(after) = rest.strip_prefix(sign) {
            let (value, after) = read_literal(after.trim_start())?;
            let test = Some((comparison, value));
            return Ok((Filter { path, test }, after));
        }
    }
    Ok((Filter { path, test: None }, rest))
}

fn read_literal(text: &str) -> Result<(Value, &str), String> {
    if text.starts_with(['\'', '"']) {
        let quoted = read_quoted(text).ok_or_else(|| format!("{text} has no end"))?;
        return Ok((Value::from(quoted.0), quoted.1));
    }
    let end = text.find([')', ' ']).unwrap_or(text.len());
    let value = match &text[..end] {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        number => serde_json::from_str(number)
            .ok()
            .filter(Value::is_number)
            .ok_or_else(|| format!("{number:?} is no value to compare with"))?,
    };
    Ok((value, &text[end..]))
}

fn first<'a>(steps: &[Step], mut value: &'a Value) -> Option<&'a Value> {
    for (place, step) in steps.iter().enumerate() {
        let rest = &steps[place + 1..];
        match step {
            Step::Field(name) => value = value.get(name.as_ref())?,
            Step::Item(number) => value = item(value, *number)?,
            Step::Every => return children(value).find_map(|child| first(rest, child)),
            Step::Matching(filter) => {
                return children(value)
                    .filter(|child| filter.matches(child))
                    .find_map(|child| first(rest, child));
            }
        }
    }
    Some(value)
}

fn collect<'a>(steps: &[Step], mut value: &'a Value, found: &mut Vec<&'a Value>) {
    for (place, step) in steps.iter().enumerate() {
        let rest = &steps[place + 1..];
        let next = match step {
            Step::Field(name) => value.get(name.as_ref()),
            Step::Item(number) => item(value, *number),
            Step::Every => return children(value).for_each(|child| collect(rest, child, found)),
            Step::Matching(filter) => {
                return children(value)
                    .filter(|child| filter.matches(child))
                    .for_each(|child| collect(rest, child, found));
            }
        };
        match next {
            Some(next) => value = next,
            None => return,
        }
    }
    found.push(value);
}

/// The items of a list, or the values of an object.
fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value.as_array().into_iter().flatten();
    let fields = value.as_object().into_iter().flat_map(|map| map.values());
    items.chain(fields)
}

/// An item of a list by its number, counted from the end if negative.
fn item(value: &Value, number: i64) -> Option<&Value> {
    let items = value.as_array()?;
    let place = match number {
        0.. => usize::try_from(number).ok()?,
        _ => items
            .len()
            .checked_sub(usize::try_from(number.unsigned_abs()).ok()?)?,
    };
    items.get(place)
}

impl Filter {
    fn matches(&self, item: &Value) -> bool {
        let found = self.path.first(item);
        match (found, &self.test) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(found), Some((comparison, value))) => comparison.holds(found, value),
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (left, right) => match (left.as_f64(), right.as_f64()) {
                (Some(left), Some(right)) => left.partial_cmp(&right),
                _ => None,
            },
        };
        match self {
            Self::Equal => order.is_some_and(|order| order.is_eq()),
            Self::NotEqual => order.is_some_and(|order| order.is_ne()),
            Self::Less => order.is_some_and(|order| order.is_lt()),
            Self::LessOrEqual => order.is_some_and(|order| order.is_le()),
            Self::More => order.is_some_and(|order| order.is_gt()),
            Self::MoreOrEqual => order.is_some_and(|order| order.is_ge()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(path: &str, root: &Value) -> Value {
        let path = Path::parse(path).unwrap();
        let found = path.all(root);
        assert_eq!(path.first(root), found.first().copied());
        found.into_iter().cloned().collect()
    }

    #[test]
    fn steps_lead_to_fields_and_items() {
        let root = json!({"a": {"b.c": [1, 2, 3]}, "m": {"x": 1, "y": 2}});
        assert_eq!(all(".a['b.c'][0]", &root), json!([1]));
        assert_eq!(all(r#"$.a["b.c"][-1]"#, &root), json!([3]));
        assert_eq!(all(r"{.a.b\.c[*]}", &root), json!([1, 2, 3]));
        assert_eq!(all(".m.*", &root), json!([1, 2]));
        assert_eq!(all(".a.none[7]", &root), json!([]));
        assert_eq!(all(".a['b.c'][-4]", &root), json!([]));
    }

    #[test]
    fn conditions_choose_items() {
        let root = json!({"l": [{"t": "A", "n": 1}, {"t": "B", "n": 2, "o": true}, {"n": 3}]});
        assert_eq!(all(r#".l[?(@.t=="B")].n"#, &root), json!([2]));
        assert_eq!(all(".l[?(@.t != 'B')].n", &root), json!([1]));
        assert_eq!(all(".l[?(@.n >= 2)].n", &root), json!([2, 3]));
        assert_eq!(all(".l[?(@.o==true)].n", &root), json!([2]));
        assert_eq!(all(".l[?(@.t)].n", &root), json!([1, 2]));
        assert_eq!(all(r#".l[?(@.n=="1")].n"#, &root), json!([]));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let nested = format!(".a{}", "[?(@.b".repeat(10_000));
        let long = ".a".repeat(MAX_STEPS + 1);
        for text in [
            "",
            "a",
            ".a..b",
            ".a[",
            ".a[x]",
            ".a['b",
            ".a[?(@.b==)]",
            ".a[?(@.b=='c']",
            ".a b",
            &nested,
            &long,
        ] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }
}
