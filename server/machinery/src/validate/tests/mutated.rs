//! Objects that were changed at random: no rule panics.

use serde_json::{Value, json};

use super::*;

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most.max(1) as u64).unwrap()
    }

    fn value(&mut self) -> Value {
        let texts = [
            "",
            "a",
            "ä\u{0}",
            "-",
            "..",
            "1Gi",
            "-1",
            "9e999999999",
            "*",
            "10.0.0.0/8",
            "50%",
            "@every ",
            "/",
            "None",
        ];
        match self.below(8) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!([i64::MIN, -1, 0, 1, 70_000, i64::MAX][self.below(6)]),
            3 => json!([0.5, -1e300, 1e300][self.below(3)]),
            4 => json!([texts[self.below(texts.len())], {}]),
            5 => json!({ texts[self.below(texts.len())]: texts[self.below(texts.len())] }),
            6 => json!("x".repeat(300)),
            _ => json!(texts[self.below(texts.len())]),
        }
    }

    /// Changes something somewhere in a tree.
    fn mutate(&mut self, value: &mut Value) {
        let replacement = self.value();
        match value {
            Value::Object(fields) if !fields.is_empty() && self.below(10) > 0 => {
                let place = self.below(fields.len());
                if self.below(20) == 0 {
                    let name = fields.keys().nth(place).unwrap().clone();
                    fields.remove(&name);
                } else {
                    self.mutate(fields.values_mut().nth(place).unwrap());
                }
            }
            Value::Array(items) if !items.is_empty() && self.below(10) > 0 => {
                let place = self.below(items.len());
                match self.below(10) {
                    0 => drop(items.remove(place)),
                    1 => items.push(items[place].clone()),
                    _ => self.mutate(&mut items[place]),
                }
            }
            other => *other = replacement,
        }
    }
}

#[test]
fn no_object_makes_the_rules_panic() {
    for seed in 1..=8 {
        eprintln!("seed {seed}");
        let mut dice = Dice(seed);
        for object in good_objects() {
            let kind = kind_of(&object);
            let mut new = object.clone();
            for _ in 0..60 {
                dice.mutate(&mut new);
                created(&kind, &new);
                for part in ["", "status", "binding"] {
                    updated(&kind, &new, &object, part);
                    updated(&kind, &object, &new, part);
                }
                if !new.is_object() {
                    new = object.clone();
                }
            }
        }
    }
}
