//! The lines of `holdfast dump state`.

use std::io::Write;

use serde_json::{Value, json};
use store::dump::{self, Item, Summary, Wanted};
use store::engine::Family;
use store::engine::rocks::RocksEngine;
use store::layout::{self, Op};
use store::record::Fields;

use super::{DumpError, add_bytes, member};
use crate::config::DumpStateOptions;
use crate::logging;

/// Families as they are printed: from what is short to what is long.
const ORDER: [Family; 4] = [Family::Meta, Family::Tip, Family::Kv, Family::Log];

/// Writes a database line by line.
pub(super) struct Printer<'a, W> {
    engine: &'a RocksEngine,
    options: &'a DumpStateOptions,
    output: &'a mut W,
    damages: usize,
}

impl<'a, W: Write> Printer<'a, W> {
    pub(super) fn new(
        engine: &'a RocksEngine,
        options: &'a DumpStateOptions,
        output: &'a mut W,
    ) -> Self {
        Self {
            engine,
            options,
            output,
            damages: 0,
        }
    }

    /// Prints what is wanted; tells how many damaged places there are.
    pub(super) fn print(mut self) -> Result<usize, DumpError> {
        let wanted = self.options.family.as_deref();
        let families = ORDER
            .into_iter()
            .filter(|family| wanted.is_none_or(|wanted| wanted == layout::name(*family)));
        self.summary()?;
        if self.options.limit > 0 {
            for family in families {
                self.items(family)?;
            }
        }
        Ok(self.damages)
    }

    fn summary(&mut self) -> Result<(), DumpError> {
        match dump::summary(self.engine) {
            Ok(summary) => {
                let fields = self.summary_fields(&summary);
                self.told("summary", fields)?;
            }
            Err(error) => self.damage("summary", json!({"what": logging::chain(&error)}))?,
        }
        match dump::live_keys(self.engine) {
            Ok(count) => self.told("live keys", json!({ "count": count }))?,
            Err(error) => self.damage("live keys", json!({"what": logging::chain(&error)}))?,
        }
        for family in ORDER {
            let (bytes, items) = self.engine.size_of(family);
            let fields = json!({
                "family": layout::name(family),
                "file_bytes": bytes,
                "items_estimated": items,
            });
            self.told("size", fields)?;
        }
        Ok(())
    }

    fn summary_fields(&self, summary: &Summary) -> Value {
        let mut fields = json!({ "format": summary.format });
        if let Some(state) = &summary.state {
            let id = |id: store::LogId| json!({ "term": id.term, "index": id.index });
            let membership = &state.membership.membership;
            let hex = |member: &u64| format!("{member:x}");
            fields["applied"] = id(state.applied);
            fields["revision"] = state.revision.into();
            fields["compact_revision"] = state.compact_revision.into();
            fields["retained_revision"] = state.retained_revision.into();
            fields["members"] = membership.members.iter().map(hex).collect();
            fields["later_entries"] = format!(
                "holdfast dump log --from={}",
                state.applied.index.saturating_add(1)
            )
            .into();
        }
        let alarms = summary.alarms.list(0);
        if !alarms.is_empty() {
            let alarm = |alarm: &proto::etcd::etcdserverpb::AlarmMember| json!({ "alarm": alarm.alarm().as_str_name(), "member": format!("{:x}", alarm.member_id) });
            fields["alarms"] = alarms.iter().map(alarm).collect();
        }
        let members = &summary.members;
        if !members.is_empty() {
            fields["member_table"] = json!({
                "version": members.version(),
                "members": members.iter().map(member).collect::<Vec<_>>(),
                "removed": members.removed().map(|id| format!("{id:x}")).collect::<Vec<_>>(),
            });
        }
        fields
    }

    fn items(&mut self, family: Family) -> Result<(), DumpError> {
        let wanted = Wanted {
            prefix: self.options.prefix.as_bytes(),
            from_revision: self.options.from_revision,
        };
        let mut left = self.options.limit;
        let mut output = Ok(());
        let read = dump::items(self.engine, family, &wanted, &mut |item| {
            output = match &item {
                Item::Damaged { key, value, error } => {
                    let mut fields = json!({ "what": logging::chain(error) });
                    add_bytes(&mut fields, "stored_key", key);
                    fields["stored_value_hex"] = hex(value).into();
                    self.damage(layout::name(family), fields)
                }
                item => {
                    let fields = self.fields(item);
                    self.told(layout::name(family), fields)
                }
            };
            left -= 1;
            output.is_ok() && left > 0
        });
        output?;
        if let Err(error) = read {
            // Where the engine cannot read, it cannot tell either where to go on.
            let fields =
                json!({ "what": logging::chain(&error), "rest": "of this family not read" });
            self.damage(layout::name(family), fields)?;
        }
        Ok(())
    }

    fn fields(&self, item: &Item<'_>) -> Value {
        let mut line = json!({});
        match item {
            Item::Version {
                op,
                sub,
                superseded,
                fields,
            } => {
                add_bytes(&mut line, "key", fields.key);
                line["revision"] = fields.mod_revision.into();
                line["sub"] = (*sub).into();
                line["op"] = name(*op).into();
                if *superseded {
                    line["superseded"] = true.into();
                }
                if *op == Op::Put {
                    add_tags(&mut line, fields);
                    self.add_value(&mut line, fields.value);
                }
            }
            Item::Live { fields, value_len } => {
                add_bytes(&mut line, "key", fields.key);
                line["revision"] = fields.mod_revision.into();
                add_tags(&mut line, fields);
                line["value_bytes"] = (*value_len).into();
            }
            Item::Change {
                revision,
                sub,
                op,
                key,
            } => {
                add_bytes(&mut line, "key", key);
                line["revision"] = (*revision).into();
                line["sub"] = (*sub).into();
                line["op"] = name(*op).into();
            }
            Item::Meta { name, value } => {
                add_bytes(&mut line, "name", name);
                line["value_hex"] = hex(value).into();
            }
            // Told by the caller.
            Item::Damaged { .. } => {}
        }
        line
    }

    fn add_value(&self, line: &mut Value, value: &[u8]) {
        line["value_bytes"] = value.len().into();
        if self.options.values {
            add_bytes(line, "value", value);
        }
    }

    fn damage(&mut self, kind: &str, mut fields: Value) -> Result<(), DumpError> {
        self.damages += 1;
        fields["damage"] = true.into();
        self.told(kind, fields)
    }

    /// One line: the kind, then the fields, the key first.
    fn told(&mut self, kind: &str, fields: Value) -> Result<(), DumpError> {
        let fields = fields.as_object().into_iter().flatten();
        let (first, rest): (Vec<_>, Vec<_>) =
            fields.partition(|(name, _)| ["key", "key_base64", "name"].contains(&name.as_str()));
        let fields = first.into_iter().chain(rest);
        let mut line = String::new();
        if self.options.json {
            line = json!({ "kind": kind }).to_string();
            line.pop();
            for (name, field) in fields {
                line.push_str(&format!(",{}:{field}", Value::from(name.as_str())));
            }
            line.push('}');
        } else {
            line.push_str(kind);
            for (name, field) in fields {
                line.push_str(&match field {
                    Value::Bool(true) => format!("  {name}"),
                    field => format!("  {name} {field}"),
                });
            }
        }
        line.push('\n');
        Ok(self.output.write_all(line.as_bytes())?)
    }
}

fn name(op: Op) -> &'static str {
    match op {
        Op::Put => "put",
        Op::Delete => "delete",
    }
}

fn add_tags(line: &mut Value, fields: &Fields<'_>) {
    line["create_revision"] = fields.create_revision.into();
    line["version"] = fields.version.into();
    if fields.lease != 0 {
        line["lease"] = format!("{:x}", fields.lease).into();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
