//! Label selectors: from the text of a request, and from a `LabelSelector` in an object.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::syntax::{key_faults, value_faults};
use crate::status::{Fault, FieldError, Status};

/// A label selector: requirements that must all hold. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// By key, so that equal selectors read alike.
    requirements: Vec<Requirement>,
    /// Where an object may have a selector and has none, it selects nothing.
    is_nothing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: Box<str>,
    operator: Operator,
    /// In order, each once.
    values: Vec<Box<str>>,
    /// The value as a number, where the operator compares numbers.
    bound: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl Labels {
    /// Reads the `labelSelector` of a request.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or names impossible keys or values: 400.
    pub fn read(text: &str) -> Result<Self, Status> {
        let requirements = Tokens { rest: text }
            .selector()
            .map_err(Status::bad_request)?;
        Ok(Self::of(requirements))
    }

    /// Reads a `LabelSelector` of an object: `matchLabels` and `matchExpressions`. Null selects nothing.
    ///
    /// # Errors
    ///
    /// If it is none, or names impossible keys or values: 400.
    pub fn of_object(selector: &Value) -> Result<Self, Status> {
        if selector.is_null() {
            return Ok(Self {
                is_nothing: true,
                ..Self::default()
            });
        }
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let values = BTreeSet::from([text(value)?]);
            requirements.push(Requirement::new(key, Operator::Equals, values));
        }
        for expression in selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let message = format!("{other:?} is not a valid label selector operator");
                    return Err(Status::bad_request(message));
                }
            };
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.map(text).collect::<Result<_, _>>()?;
            requirements.push(Requirement::new(
                text(&expression["key"])?,
                operator,
                values,
            ));
        }
        let requirements: Result<Vec<_>, String> = requirements.into_iter().collect();
        Ok(Self::of(requirements.map_err(Status::bad_request)?))
    }

    fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|one, other| one.key.cmp(&other.key));
        Self {
            requirements,
            is_nothing: false,
        }
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        !self.is_nothing && self.requirements.is_empty()
    }

    /// Whether the labels of an object match.
    pub fn matches(&self, object: &Value) -> bool {
        self.is_everything() || self.matches_labels(&object["metadata"]["labels"])
    }

    /// Whether a map of labels matches; null is an empty one.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        let labels = labels.as_object();
        !self.is_nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.holds(labels))
    }
}

impl fmt::Display for Labels {
    /// As upstream writes it: `a=b,c in (d,e),!f`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, requirement) in self.requirements.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(out, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl Requirement {
    fn new(key: &str, operator: Operator, values: BTreeSet<&str>) -> Result<Self, String> {
        let mut errors = Vec::new();
        let faults = key_faults(key);
        if !faults.is_empty() {
            errors.push(FieldError::new("key", Fault::Invalid, faults.join("; ")).of(key));
        }
        let is_set = matches!(operator, Operator::In | Operator::NotIn);
        let is_unary = matches!(operator, Operator::Exists | Operator::DoesNotExist);
        let list: Value = values.iter().copied().collect();
        if is_set && values.is_empty() {
            let detail = "for 'in', 'notin' operators, values set can't be empty";
            errors.push(FieldError::new("values", Fault::Invalid, detail).of(list));
        } else if is_unary && !values.is_empty() {
            let detail = "values set must be empty for exists and does not exist";
            errors.push(FieldError::new("values", Fault::Invalid, detail).of(list));
        }
        let mut bound = 0;
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            for (place, value) in values.iter().enumerate() {
                match value.parse() {
                    Ok(number) => bound = number,
                    Err(_) => {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        let field = format!("values[{place}]");
                        errors.push(FieldError::new(field, Fault::Invalid, detail).of(*value));
                    }
                }
            }
        }
        for (place, value) in values.iter().enumerate() {
            let faults = value_faults(value);
            if !faults.is_empty() {
                let field = format!("values[{place}][{key}]");
                errors.push(FieldError::new(field, Fault::Invalid, faults.join("; ")).of(*value));
            }
        }
        let lines: Vec<String> = errors.iter().map(line).collect();
        match &lines[..] {
            [] => Ok(Self {
                key: key.into(),
                operator,
                values: values.into_iter().map(Into::into).collect(),
                bound,
            }),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }

    fn holds(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels
            .and_then(|labels| labels.get(&*self.key))
            .map(|value| value.as_str().unwrap_or_default());
        let is_listed = |value: &str| self.values.iter().any(|one| &**one == value);
        let is_number = |fits: fn(i64, i64) -> bool| {
            value
                .and_then(|value| value.parse().ok())
                .is_some_and(|number| fits(number, self.bound))
        };
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => {
                value.is_some_and(is_listed)
            }
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(is_listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => is_number(|number, bound| number > bound),
            Operator::LessThan => is_number(|number, bound| number < bound),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, between, after) = match self.operator {
            Operator::Equals => ("", "=", ""),
            Operator::DoubleEquals => ("", "==", ""),
            Operator::NotEquals => ("", "!=", ""),
            Operator::In => ("", " in (", ")"),
            Operator::NotIn => ("", " notin (", ")"),
            Operator::Exists => ("", "", ""),
            Operator::DoesNotExist => ("!", "", ""),
            Operator::GreaterThan => ("", ">", ""),
            Operator::LessThan => ("", "<", ""),
        };
        let values = self.values.join(",");
        write!(out, "{before}{}{between}{values}{after}", self.key)
    }
}

fn line(error: &FieldError) -> String {
    format!("{}: {}", error.field, error.body())
}

fn text(value: &Value) -> Result<&str, Status> {
    let wrong = || Status::bad_request(format!("labels are text, not {value}"));
    value.as_str().ok_or_else(wrong)
}

/// What is left of a selector's text. A token is its text: empty at the end, an operator or a parenthesis, or anything
/// else, which is then an identifier. Whether `in` and `notin` are operators depends on where they are.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> &'a str {
        let rest = self.rest.trim_start_matches(is_blank);
        let length = if rest.starts_with("==") || rest.starts_with("!=") {
            2
        } else if rest.starts_with(is_symbol) {
            1
        } else {
            rest.find(|letter| is_symbol(letter) || is_blank(letter))
                .unwrap_or(rest.len())
        };
        &rest[..length]
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.rest = &self.rest.trim_start_matches(is_blank)[token.len()..];
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                "" => return Ok(requirements),
                token if token == "!" || is_identifier(token) => {}
                other => {
                    return Err(format!(
                        "found '{other}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
            let requirement = self.requirement();
            requirements.push(
                requirement.map_err(|fault| format!("unable to parse requirement: {fault}"))?,
            );
            match (self.next(), self.peek()) {
                ("", _) => return Ok(requirements),
                (",", next) if next == "!" || is_identifier(next) => {}
                (",", next) => {
                    return Err(format!("found '{next}', expected: identifier after ','"));
                }
                (other, _) => {
                    return Err(format!("found '{other}', expected: ',' or 'end of string'"));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut key = self.next();
        let is_absent = key == "!";
        if is_absent {
            key = self.next();
        }
        if !is_identifier(key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let faults = key_faults(key);
        if !faults.is_empty() {
            // Upstream has no path to the key here, and prints that.
            return Err(line(
                &FieldError::new("<nil>", Fault::Invalid, faults.join("; ")).of(key),
            ));
        }
        if is_absent {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.peek(), "" | ",") {
            return Requirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let operator = match self.next() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            "=" => Operator::Equals,
            "==" => Operator::DoubleEquals,
            "!=" => Operator::NotEquals,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            other => {
                return Err(format!(
                    "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                ));
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => BTreeSet::from([self.value()?]),
        };
        Requirement::new(key, operator, values)
    }

    /// The value after an operator; nothing there is the empty value.
    fn value(&mut self) -> Result<&'a str, String> {
        match self.peek() {
            "" | "," => Ok(""),
            token if is_identifier(token) => Ok(self.next()),
            other => Err(format!("found '{other}', expected: identifier")),
        }
    }

    /// Values in parentheses; nothing between two commas, or between one and a parenthesis, is the empty value.
    fn set(&mut self) -> Result<BTreeSet<&'a str>, String> {
        match self.next() {
            "(" => {}
            other => return Err(format!("found '{other}' expected: '('")),
        }
        match self.peek() {
            ")" | "," => {}
            token if is_identifier(token) => {}
            other => return Err(format!("found '{other}', expected: ',', ')' or identifier")),
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match self.peek() {
                token if is_identifier(token) => self.next(),
                "," | ")" => "",
                other => return Err(format!("found '{other}', expected: ',', or identifier")),
            };
            values.insert(value);
            match self.next() {
                ")" => return Ok(values),
                "," => {}
                other => return Err(format!("found '{other}', expected: ',' or ')'")),
            }
        }
    }
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

fn is_symbol(letter: char) -> bool {
    matches!(letter, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_identifier(token: &str) -> bool {
    !token.is_empty() && !token.starts_with(is_symbol)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn matches(selector: &str, labels: &Value) -> bool {
        let object = json!({"metadata": {"labels": labels}});
        Labels::read(selector).unwrap().matches(&object)
    }

    #[test]
    fn every_operator_selects() {
        let labels = json!({"a": "b", "empty": "", "n": "10", "in": "x", "example.com/k": "v"});
        for selector in [
            "a",
            "a=b",
            "a==b",
            "a!=c",
            "none!=c",
            "a in (b)",
            "a in (c, b)",
            "a notin (c)",
            "none notin (b)",
            "!none",
            "empty",
            "empty=",
            "empty==",
            "a!=",
            "empty in ()",
            "empty in (b,)",
            "empty in (,b)",
            "a in (b,,c)",
            "n>9",
            "n<11",
            "n > 9, n < 11",
            "in",
            "in=x",
            "in in (x)",
            "example.com/k=v",
            " a = b , ! none ",
            "a=b,",
            "a,!none",
        ] {
            let selector = selector.trim_end_matches(',');
            assert!(matches(selector, &labels), "{selector}");
        }
        for selector in [
            "none",
            "a=c",
            "a!=b",
            "none=b",
            "a in (c,d)",
            "none in (b)",
            "a notin (b,c)",
            "!a",
            "none=",
            "empty!=",
            "a in ()",
            "empty notin (,x)",
            "n>10",
            "n<10",
            "a>1",
            "none<1",
            "a=b,a=c",
        ] {
            assert!(!matches(selector, &labels), "{selector}");
        }
        assert!(!matches("a", &json!(null)));
        assert!(matches("!a", &json!(null)));
    }

    #[test]
    fn keywords_may_be_keys_and_values() {
        assert!(matches("notin notin (in)", &json!({"notin": "x"})));
        assert!(!matches("x in (in,notin)", &json!({"x": "y"})));
        assert!(matches("x=in", &json!({"x": "in"})));
    }

    #[test]
    fn selectors_that_cannot_be_read_are_refused_in_upstreams_words() {
        for (selector, message) in [
            (
                "=",
                "found '=', expected: !, identifier, or 'end of string'",
            ),
            (
                ",a",
                "found ',', expected: !, identifier, or 'end of string'",
            ),
            ("a,", "found '', expected: identifier after ','"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("a=b)", "found ')', expected: ',' or 'end of string'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            (
                "!",
                "unable to parse requirement: found '', expected: identifier",
            ),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a (b)",
                "unable to parse requirement: found '(', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a===b",
                "unable to parse requirement: found '=', expected: identifier",
            ),
            (
                "a in b",
                "unable to parse requirement: found 'b' expected: '('",
            ),
            (
                "a in (=)",
                "unable to parse requirement: found '=', expected: ',', ')' or identifier",
            ),
            (
                "a in (b",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            (
                "a in (b c)",
                "unable to parse requirement: found 'c', expected: ',' or ')'",
            ),
            (
                "a in (b,=)",
                "unable to parse requirement: found '=', expected: ',', or identifier",
            ),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value \
                 must be an integer",
            ),
            (
                "a/b/c=d",
                "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of \
                 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
                 (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                 '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')",
            ),
            (
                "app=a/b",
                "unable to parse requirement: values[0][app]: Invalid value: \"a/b\": a valid label must be an empty \
                 string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                 '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
        ] {
            let status = Labels::read(selector).unwrap_err();
            assert_eq!(status.reason.code(), 400);
            assert_eq!(status.message, message, "{selector}");
        }
    }

    #[test]
    fn several_faults_are_told_together() {
        let status = Labels::read("a>-").unwrap_err();
        let message = status.message;
        let start = "unable to parse requirement: [values[0]: Invalid value: \"-\": for 'Gt'";
        assert!(message.starts_with(start), "{message}");
        assert!(
            message.contains(", values[0][a]: Invalid value: \"-\": a valid label must be"),
            "{message}"
        );
        assert!(message.ends_with(']'), "{message}");
    }

    #[test]
    fn no_text_makes_it_panic() {
        let letters = [
            "a", "=", "!", "(", ")", ",", ">", "<", " ", "in", "ä", "\0", "-",
        ];
        for seed in 0..letters.len().pow(4) {
            let text: String = (0..4_u32)
                .map(|place| letters[seed / letters.len().pow(place) % letters.len()])
                .collect();
            if let Ok(labels) = Labels::read(&text) {
                // What is printed reads as the same.
                assert_eq!(
                    Labels::read(&labels.to_string()).as_ref(),
                    Ok(&labels),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn selectors_are_printed_by_key() {
        for (selector, printed) in [
            ("", ""),
            ("b==c , a", "a,b==c"),
            (
                "!z,x in (c,a,,b),y notin (q)",
                "x in (,a,b,c),y notin (q),!z",
            ),
            ("a>1,b<2,c!=d,e=", "a>1,b<2,c!=d,e="),
        ] {
            assert_eq!(Labels::read(selector).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn selectors_of_objects_select() {
        let of = |selector: Value| Labels::of_object(&selector).unwrap();
        assert!(!of(json!(null)).matches(&json!({})));
        assert!(!of(json!(null)).is_everything());
        assert!(of(json!({})).is_everything());
        assert!(of(json!({})).matches(&json!({})));
        let labels = of(json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "track", "operator": "NotIn", "values": ["canary"]},
                {"key": "owner", "operator": "Exists"},
                {"key": "old", "operator": "DoesNotExist", "values": []},
            ],
        }));
        assert_eq!(
            labels.to_string(),
            "app=web,!old,owner,tier in (back,front),track notin (canary)"
        );
        assert!(labels.matches_labels(&json!({"app": "web", "tier": "back", "owner": "me"})));
        assert!(
            !labels
                .matches_labels(&json!({"app": "web", "tier": "back", "owner": "me", "old": ""}))
        );
        assert!(!labels.matches_labels(&json!({"app": "web", "tier": "mid", "owner": "me"})));
    }

    #[test]
    fn selectors_of_objects_are_checked() {
        for (selector, message) in [
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}),
                "\"Near\" is not a valid label selector operator",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
                "values: Invalid value: [\"b\"]: values set must be empty for exists and does not exist",
            ),
            (json!({"matchLabels": {"a": 1}}), "labels are text, not 1"),
        ] {
            assert_eq!(Labels::of_object(&selector).unwrap_err().message, message);
        }
        let status = Labels::of_object(&json!({"matchLabels": {"a/": "b"}})).unwrap_err();
        assert!(status.message.starts_with(
            "key: Invalid value: \"a/\": name part must be non-empty; name part must"
        ));
    }
}
